from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import httpx
import pytest

from pellucid.cli import main
from pellucid.core.errors import InputError, IntegrityError, UnknownNameError
from pellucid.models.steps import steps_of
from pellucid.serving import keys
from pellucid.serving.app import application
from pellucid.serving.engine import Engine
from pellucid.serving.keys import ForbiddenError, Keys, RateError, UnauthorisedError
from pellucid.serving.served import Served
from tests.serving.conftest import running

CHAT = [{"role": "user", "content": "Hello"}]


def test_a_key_is_kept_as_a_digest_that_its_owner_alone_may_read(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    secret = keys.add("ada", ["chat"], 10, file)
    assert secret not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    known = Keys(keys.load(file))
    known.check(secret, "chat")
    for wrong in (None, "", "plk_other", secret[:-1], secret + "x", keys.load(file)[0].digest):
        with pytest.raises(UnauthorisedError):
            known.check(wrong, "chat")
    with pytest.raises(ForbiddenError, match="may not steer"):
        known.check(secret, "steer")
    keys.remove("ada", file)
    assert keys.load(file) == []


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    keys.add("ada", ["chat"], 10, file)
    with pytest.raises(InputError, match="taken"):
        keys.add("ada", ["chat"], 10, file)
    with pytest.raises(UnknownNameError, match="chat"):
        keys.add("bob", ["chatt"], 10, file)
    with pytest.raises(InputError, match="request a minute"):
        keys.add("bob", ["chat"], 0, file)
    with pytest.raises(UnknownNameError, match="ada"):
        keys.remove("ad", file)
    file.write_text('[{"name": "eve"}]')
    with pytest.raises(IntegrityError, match="damaged"):
        keys.load(file)


def test_a_rate_fills_up_again(tmp_path: Path) -> None:
    now = [0.0]
    file = tmp_path / "keys.json"
    secret = keys.add("ada", ["chat"], 3, file)
    known = Keys(keys.load(file), clock=lambda: now[0])
    for _ in range(3):
        known.check(secret, "chat")
    with pytest.raises(RateError, match="20 s") as caught:
        known.check(secret, "chat")
    assert caught.value.seconds == 20
    now[0] = 20.0
    known.check(secret, "chat")
    with pytest.raises(RateError):
        known.check(secret, "chat")
    now[0] = 10_000.0
    for _ in range(3):
        known.check(secret, "chat")
    with pytest.raises(RateError):
        known.check(secret, "chat")


def test_a_server_with_keys_asks_for_them(served: Served, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    scopes = {
        "talker": ["chat"],
        "watcher": ["chat", "watch"],
        "steerer": ["chat", "steer"],
        "boss": ["admin"],
    }
    secrets = {name: keys.add(name, given, 600, file) for name, given in scopes.items()}
    slow = keys.add("slow", ["chat"], 1, file)
    edits = {"edits": [{"feature": 1, "strength": 1.0}]}

    def ask(who: str | None, extension: Any = None, path: str = "/v1/chat/completions") -> httpx.Response:
        body: dict[str, Any] = {"model": served.model.name, "messages": CHAT, "max_tokens": 2}
        if extension:
            body["pellucid"] = extension
        name = "x-api-key" if path == "/v1/messages" else "authorization"
        given = {} if who is None else {name: who if name == "x-api-key" else f"Bearer {who}"}
        return httpx.post(address + path, json=body, headers=given)

    with running(served, keys=Keys(keys.load(file))) as address:
        for path in ("/v1/chat/completions", "/v1/messages"):
            assert ask(None, path=path).status_code == 401
            assert ask("plk_wrong", path=path).status_code == 401
            assert ask(secrets["talker"], path=path).status_code == 200
            assert ask(secrets["talker"], {"watch": [{}]}, path).status_code == 403
            assert ask(secrets["watcher"], {"watch": [{}]}, path).status_code == 200
            assert ask(secrets["watcher"], edits, path).status_code == 403
            assert ask(secrets["steerer"], edits, path).status_code == 200
            assert ask(secrets["boss"], path=path).status_code == 403
        assert ask(slow).status_code == 200
        limited = ask(slow)
        assert limited.status_code == 429
        assert int(limited.headers["retry-after"]) > 1
        assert httpx.get(f"{address}/v1/dictionaries").status_code == 401
        assert httpx.get(f"{address}/metrics").status_code == 401
        told = httpx.get(f"{address}/metrics", headers={"x-api-key": secrets["boss"]}).text
        assert 'pellucid_requests_total{route="/v1/chat/completions",status="401"} 2.0' in told
        assert 'pellucid_tokens_total{kind="answer"}' in told
        assert httpx.get(f"{address}/healthz").status_code == 200


def test_keys_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PELLUCID_HOME", str(tmp_path))

    def call(*words: str) -> None:
        with pytest.raises(SystemExit) as caught:
            main(["keys", *words])
        assert caught.value.code == 0

    call("add", "ada", "--scopes", "chat", "watch")
    secret = capsys.readouterr().out.strip()
    Keys(keys.load()).check(secret, "watch")
    call("list")
    listed = capsys.readouterr().out
    assert "ada" in listed
    assert secret not in listed
    call("remove", "ada")
    assert keys.load() == []


@pytest.mark.parametrize(
    ("named", "status"),
    [
        ("127.0.0.1:8600", 200),
        ("localhost", 200),
        ("LocalHost.:1", 200),
        ("pellucid.localhost:8600", 200),
        ("[::1]:8600", 200),
        ("studio.example:8600", 200),  # the address that was bound
        ("evil.example", 400),
        ("evil.example:8600", 400),
        ("127.0.0.1.evil.example", 400),
        ("localhost.evil.example", 400),
        ("evillocalhost", 400),
        ("10.0.0.7:8600", 400),
        ("[::1].evil.example", 400),
    ],
)
def test_without_keys_another_host_is_refused(served: Served, named: str, status: int) -> None:
    from starlette.testclient import TestClient

    engine = Engine(steps_of(served.model, slots=1, room=64))
    with TestClient(application(served, engine, host="studio.example")) as client:
        for path in ("/v1/models", "/healthz"):
            answer = client.get(path, headers={"host": named})
            assert answer.status_code == status
            assert answer.headers["x-content-type-options"] == "nosniff"
        if status == 400:
            assert (
                "pellucid keys add"
                in client.get("/v1/models", headers={"host": named}).json()["error"]["message"]
            )
            told = client.post("/v1/messages", json={}, headers={"host": named}).json()
            assert (told["type"], told["error"]["type"]) == ("error", "invalid_request_error")


def test_with_keys_any_host_may_be_named(served: Served, tmp_path: Path) -> None:
    from starlette.testclient import TestClient

    secret = keys.add("ada", ["chat"], 10, tmp_path / "keys.json")
    known = Keys(keys.load(tmp_path / "keys.json"))
    engine = Engine(steps_of(served.model, slots=1, room=64))
    with TestClient(application(served, engine, known, host="0.0.0.0")) as client:
        given = {"host": "chat.example", "x-api-key": secret}
        assert client.get("/v1/models", headers=given).status_code == 200
