"""Triton's kernels are those of the processor: on an accelerator where there is one, else in the interpreter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed")

from pellucid.dictionaries import kernels, plain, triton_kernels
from pellucid.dictionaries.codes import Codes
from pellucid.dictionaries.kernels import Adam, Extra, Wiring

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
few = settings(max_examples=12)


@pytest.fixture
def triton_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kernels._MODULES, "cpu", "triton_kernels")


CASES = {
    "rows": st.integers(1, 5),
    "features": st.sampled_from([1, 2, 63, 200, 700, 2048, 2049, 4500]),
    "k": st.sampled_from([1, 2, 5, 32, 300]),
    "seed": st.integers(0, 2**16),
    "kind": st.sampled_from(["ties", "spread", "tiny", "huge"]),
}


def bits_of(rows: int, features: int, seed: int, kind: str) -> Tensor:
    """bf16 scores as bits; few levels make ties, and some rows have nothing positive."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "ties":
        scores = torch.randint(-2, 4, (rows, features), generator=generator).float()
    else:
        scale = {"spread": 1.0, "tiny": 1e-37, "huge": 1e37}[kind]
        scores = torch.randn(rows, features, generator=generator) * scale
    scores[::3] = -scores[::3].abs()
    return scores.bfloat16().view(torch.int16)


@few
@given(**CASES)
@example(rows=3, features=4500, k=5, seed=0, kind="ties")
def test_the_same_entries_are_selected_in_the_same_order(
    rows: int, features: int, k: int, seed: int, kind: str
) -> None:
    product = bits_of(rows, features, seed, kind).view(torch.bfloat16)
    pairs = [
        (kernels.select_per_row(product, k), select_per_row(product, k)),
        (kernels.select_in_batch(product, k), kernels_on_device("select_in_batch", product, k)),
        (kernels.positive(product), kernels_on_device("positive", product)),
    ]
