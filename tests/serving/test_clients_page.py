"""The page of clients is run as it stands, against a server over the tiny model."""

from __future__ import annotations

import gc
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pellucid.serving.served import Served

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/use-chat-clients.md"


def blocks(language: str, address: str, served: Served) -> list[str]:
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [
        b.replace("http://127.0.0.1:8600", address).replace('"smollm2"', f'"{served.model.name}"')
        for b in found
    ]


def run(sources: list[str]) -> None:
    namespace: dict[str, Any] = {}
    for number, source in enumerate(sources):
        exec(compile(source, f"block {number} of {PAGE.name}", "exec"), namespace)
    namespace.clear()
    gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it closes no client
def test_its_python_runs(mapped_address: str, mapped: Served, capsys: pytest.CaptureFixture[str]) -> None:
    run([b for b in blocks("py", mapped_address, mapped) if "langchain" not in b])
    printed = capsys.readouterr().out
    assert "'kl'" in printed  # a receipt
    assert "rain and snow" in printed
    assert printed.rstrip().endswith("304")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_its_langchain_runs(mapped_address: str, mapped: Served, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("langchain_openai", "langchain_anthropic"):
        pytest.importorskip(name, reason="LangChain's clients are not installed")
    sources = [b for b in blocks("py", mapped_address, mapped) if "langchain" in b]
    assert len(sources) == 2
    run(sources)
    assert "'output_tokens'" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_its_calls_of_curl_run(mapped_address: str, mapped: Served) -> None:
    (block,) = blocks("console", mapped_address, mapped)
    calls = [shlex.split(call) for call in re.split(r"^\$ ", block, flags=re.MULTILINE) if call.strip()]
    assert len(calls) == 3
    answers = [
        subprocess.run(["curl", "-s", *call[1:]], check=True, capture_output=True, text=True).stdout
        for call in calls
    ]
    assert json.loads(answers[0])["usage"]["completion_tokens"] > 0  # drawn: it may be the end alone
    assert "event: message_stop" in answers[1]
    assert json.loads(answers[2])["tokens"]
