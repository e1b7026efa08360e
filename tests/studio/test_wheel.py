"""A wheel that was built where npm is has the pages, and serves them where it is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.studio.conftest import STUDIO

ROOT = STUDIO.parent
SERVES = """
from fastapi import FastAPI
from starlette.testclient import TestClient
from pellucid.serving import built
from pellucid.serving.pages import mount

app = FastAPI()
mount(app, built.pages())
client = TestClient(app)
page = client.get("/")
assert "<title>Pellucid studio</title>" in page.text
import re
for path in re.findall(r'"(/assets/[^"]+)"', page.text):
    assert client.get(path).status_code == 200
print(built.STATIC)
"""


@pytest.mark.net  # pip fetches what builds wheels
def test_a_wheel_serves_the_same_pages_without_npm(pages: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    # Without the weights, which take long to pack, and without the pages: the wheel's own build makes them.
    shutil.copytree(
        ROOT / "pellucid",
        tree / "pellucid",
        ignore=shutil.ignore_patterns("static", "shipped", "__pycache__"),
    )
    shutil.copytree(STUDIO, tree / "studio", ignore=shutil.ignore_patterns("node_modules"))
    (tree / "studio/node_modules").symlink_to(STUDIO / "node_modules")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, tree], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    elsewhere = tmp_path / "elsewhere"
    subprocess.run([*pip, "install", "--no-deps", "--target", elsewhere, wheel], check=True)
    environment = {**os.environ, "PYTHONPATH": str(elsewhere), "PATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SERVES],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert str(elsewhere) in done.stdout
    for path in sorted(pages.rglob("*")):
        if path.is_file():
            copy = elsewhere / "pellucid/serving/static" / path.relative_to(pages)
            assert copy.read_bytes() == path.read_bytes(), path.name
