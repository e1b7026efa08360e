"""A short turn of `benchmarks/schema.py`: the server keeps to its document."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pellucid.serving.served import Served
from tests.serving.conftest import running

pytest.importorskip("schemathesis", reason="the extra `bench` is not installed")


def command() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "benchmarks/schema.py"
    spec = importlib.util.spec_from_file_location("schema", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_whatever_is_sent_is_answered_as_the_document_says(
    mapped: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(mapped, room=48) as address:
        found = command().examine(address, cases=3, seed=1)
    assert found.violations == {}
    assert not [key for key in found.statuses if key[1] >= 500]
    assert len({operation for operation, _ in found.statuses}) >= 15
