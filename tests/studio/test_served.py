"""What is sent beside the API: the pages, their policy, and nothing else."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from pellucid.serving import built
from pellucid.serving.pages import Demo, mount

DIRECTIVES = {"default-src 'none'", "script-src 'self'", "trusted-types 'none'", "frame-ancestors 'none'"}


@pytest.fixture
def client(tmp_path: Path) -> httpx.Client:
    from starlette.testclient import TestClient

    folder = tmp_path / "static"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html><title>Studio</title>")
    (folder / "assets" / "a.js").write_text("let a = 1;" * 200)
    (folder / "built.json").write_text("{}")
    (tmp_path / "secret.txt").write_text("secret")
    app = FastAPI()
    mount(app, folder, demo=Demo(7, "music", 0.8))
    return TestClient(app)


@pytest.mark.parametrize("path", ["/", "/map", "/inspect", "/features/some-dictionary/12"])
def test_every_page_is_the_document_under_a_strict_policy(client: httpx.Client, path: str) -> None:
    found = client.get(path)
    assert "<title>Studio</title>" in found.text
    policy = found.headers["content-security-policy"]
    assert set(policy.split("; ")) >= DIRECTIVES
    assert "unsafe" not in policy
    assert "http" not in policy


def test_assets_are_compressed_and_kept(client: httpx.Client) -> None:
    found = client.get("/assets/a.js")
    assert found.headers["content-encoding"] == "gzip"
    assert found.headers["content-type"].startswith("text/javascript")
    assert "immutable" in found.headers["cache-control"]
    again = client.get("/assets/a.js", headers={"If-None-Match": found.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "content-encoding" not in client.get("/assets/a.js", headers={"Accept-Encoding": ""}).headers


@pytest.mark.parametrize(
    "path",
    ["/assets/../secret.txt", "/assets/..%2f..%2fsecret.txt", "/built.json", "/index.html", "/secret.txt"],
)
def test_no_address_reaches_another_file(client: httpx.Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_what_is_offered_is_told(client: httpx.Client) -> None:
    assert client.get("/studio.json").json() == {"demo": {"feature": 7, "name": "music", "strength": 0.8}}


def test_without_npm_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(built, "STATIC", tmp_path / "static")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(built.InputError, match=r"Node\.js 20\.19"):
        built.pages()
    monkeypatch.setattr(built, "SOURCES", tmp_path / "none")
    with pytest.raises(built.InputError, match="wheel"):
        built.pages()
