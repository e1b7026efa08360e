from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from pellucid.cli import main
from pellucid.models.model import Model
from tests.models.conftest import save


def test_a_server_without_keys_listens_on_this_machine_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PELLUCID_HOME", str(tmp_path))
    with pytest.raises(SystemExit):
        main(["serve", "--host", "0.0.0.0"])
    assert "pellucid keys add" in capsys.readouterr().err


def test_the_command_serves_until_it_is_stopped(tiny: Model, tmp_path: Path) -> None:
    folder = save(tiny, tmp_path / "tiny")
    command = [
        sys.executable,
        "-m",
        "pellucid",
        "serve",
        str(folder),
        "--port",
        "0",
        "--slots",
        "2",
        "--room",
        "64",
    ]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/v1", line)
        assert found, line
        address = found[0]
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0}
        answer = httpx.post(f"{address}/chat/completions", json=body, timeout=120)
        assert answer.status_code == 200
        assert answer.json()["usage"]["completion_tokens"] > 0
        process.send_signal(signal.SIGINT)
        assert process.wait(60) in (0, 130)
