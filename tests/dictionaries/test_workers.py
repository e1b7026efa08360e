"""Crews of several processes beside one; the processes are in `workers_child.py`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file

from pellucid.activations.text import TextSource
from pellucid.activations.tokens import TokenStore
from pellucid.core.runs import RunFolder
from pellucid.dictionaries.settings import Architecture
from pellucid.testing import WORDS, tiny_model

CHILD = Path(__file__).with_name("workers_child.py")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers")
    dice = random.Random(1)
    for n in range(300):
        path = folder / "text" / f"{n}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{n} " + " ".join(dice.choices(WORDS, k=dice.randint(3, 25))))
    model = tiny_model(layers=2, width=16)
    store = TokenStore.build(
        model, [TextSource.parse(str(folder / "text"))], length=16, folder=folder / "store"
    )
    paths = os.pathsep.join(p for p in sys.path if p)
    done = subprocess.run(
        [sys.executable, str(CHILD), str(store.folder), str(folder)],
        env={**os.environ, "PYTHONPATH": paths, "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    dead = str(int(-signal.SIGKILL))
    expected = ["0 0 0 0", f"1 {dead}", f"{dead} 1", "0 0"]
    assert done.stdout.splitlines() == expected, done.stderr
    return folder


def curve(run: Path) -> list[float]:
    return [event["fvu"] for event in RunFolder(run).events()]


NAMES = [*get_args(Architecture), "topk-layered"]


@pytest.mark.parametrize("name", NAMES)
def test_two_workers_come_to_what_one_comes_to(runs: Path, name: str) -> None:
    _close(runs / f"{name}-two", runs / f"{name}-one")


def test_four_workers_with_two_halves_of_features_and_of_rows_come_to_what_one_comes_to(runs: Path) -> None:
    _close(runs / "batchtopk-four", runs / "batchtopk-one")


def _close(mine: Path, other: Path) -> None:
    assert curve(mine) == pytest.approx(curve(other), rel=1e-5)
    found, expected = (load_file(run / "weights.safetensors") for run in (mine, other))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        # Adam takes a step of full length where a gradient is nothing but rounding.
        close = torch.isclose(found[name], tensor, rtol=1e-3, atol=1e-3 * float(tensor.abs().max()))
        assert float(close.float().mean()) > 0.99, name


@pytest.mark.parametrize(("mine", "other"), [("rows", "one"), ("killed", "two")])
def test_the_same_bits(runs: Path, mine: str, other: str) -> None:
    """Rows shared out change nothing; nor does a worker that was killed, between batches or in a write."""
    found, expected = (load_file(runs / f"batchtopk-{n}" / "weights.safetensors") for n in (mine, other))
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_one_process_goes_on_where_two_were_killed(runs: Path) -> None:
    events = RunFolder(runs / "batchtopk-resharded").events()
    assert [event["step"] for event in events] == [24]
    _close(runs / "batchtopk-resharded", runs / "batchtopk-one")
