from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from pellucid.cli import demo, main
from pellucid.models.model import Model
from tests.models.conftest import save
from tests.studio.conftest import pages  # noqa: F401 (a fixture)


def test_the_demonstration_shows_what_is_shipped_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["studio", "somewhere", "--demo"])
    assert "--demo" in capsys.readouterr().err


def test_pages_and_api_come_from_one_process(tiny: Model, tmp_path: Path, pages: Path) -> None:  # noqa: F811
    folder = save(tiny, tmp_path / "tiny")
    command = [sys.executable, "-u", "-m", "pellucid", "studio", str(folder), "--port", "0", "--room", "64"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        assert process.stderr is not None
        lines = (process.stderr.readline(), process.stderr.readline())
        found = re.search(r"The studio: (http://127\.0\.0\.1:\d+)/", lines[1])
        assert found, lines
        page = httpx.get(found[1], timeout=60)
        assert page.content == (pages / "index.html").read_bytes()
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert httpx.get(f"{found[1]}/v1/dictionaries").json() == []
        assert httpx.get(f"{found[1]}/studio.json").json() == {"demo": None}
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)


@pytest.mark.parametrize(
    ("called", "found", "dictionary", "told"),
    [
        ("/usr/bin/pellucid", "/usr/bin/pellucid", "smollm2", "pellucid studio --demo"),
        (".venv/bin/pellucid", None, "smollm2", ".venv/bin/pellucid studio --demo"),
        ("/x/pellucid/__main__.py", None, "demo/run/result", "pellucid studio --dictionary demo/run/result"),
    ],
)
def test_the_demonstration_names_what_opens_it(
    called: str, found: str | None, dictionary: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", [called, "demo"])
    monkeypatch.setattr("shutil.which", lambda _name: found)
    assert demo.opening(dictionary) == told
