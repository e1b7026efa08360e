from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pellucid.activations.text import TextSource
from pellucid.activations.tokens import TokenStore
from pellucid.testing import WORDS, tiny_model

CHILD = Path(__file__).with_name("build_child.py")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    dice = random.Random(0)
    for number in range(80):
        (folder / f"{number}.txt").write_text(" ".join(dice.choices(WORDS, k=40)))
    source = TextSource.parse(str(folder))
    model = tiny_model(layers=2, width=16)
    return TokenStore.build(model, [source], length=32, folder=folder / "store").folder


def sittings(store: Path, whole: Path, killed: Path, kills: list[int]) -> list[int]:
    done = subprocess.run(
        [sys.executable, str(CHILD), str(store), str(whole), str(killed), json.dumps(kills)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [int(line) for line in done.stdout.split()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.timeout(900)  # a busy machine is not a failure
def test_a_build_killed_again_and_again_ends_in_the_same_bytes(store: Path, tmp_path: Path) -> None:
    # Each sitting gets a little further than the one before: through segments, merge, effects and records.
    codes = sittings(store, tmp_path / "whole", tmp_path / "killed", [1, *range(4, 400, 44)])
    assert codes[-1] == 0
    assert codes[:-1] == [-signal.SIGKILL] * (len(codes) - 1)
    assert len(codes) > 4
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
