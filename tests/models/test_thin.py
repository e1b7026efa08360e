from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.models import thin


def made(rows: int, inputs: int, outputs: int, kind: str) -> tuple[np.ndarray, np.ndarray, torch.Tensor]:
    g = torch.Generator().manual_seed(rows * 1009 + inputs)
    x = torch.randn(rows, inputs, generator=g)
    weights = torch.randn(outputs, inputs, generator=g).bfloat16()
    array = weights.view(torch.int16).numpy().view(np.uint16) if kind == "bf16" else weights.float().numpy()
    return x.numpy(), array, x.double() @ weights.double().T


@pytest.mark.parametrize("kind", ["fp32", "bf16"])
@settings(max_examples=25)
@given(rows=st.integers(1, 11), inputs=st.integers(1, 70), outputs=st.integers(1, 40))
def test_a_product_is_the_product_and_a_row_knows_no_other(
    kind: str, rows: int, inputs: int, outputs: int
) -> None:
    x, weights, wanted = made(rows, inputs, outputs, kind)
    out = np.full((rows, outputs), np.nan, np.float32)
    thin.product(x, weights, out)
    np.testing.assert_allclose(out, wanted.numpy(), rtol=1e-4, atol=1e-4)
    for row in range(rows):
        alone = np.empty((1, outputs), np.float32)
        thin.product(x[row : row + 1], weights, alone)
        np.testing.assert_array_equal(alone[0], out[row])


def test_norm_and_gate_equal_their_formulas() -> None:
    x, gain = np.random.default_rng(0).normal(size=(2, 5, 33)).astype(np.float32)
    out = np.empty_like(x)
    thin.normed(x, gain[0], 1e-5, out)
    np.testing.assert_allclose(
        out, x / np.sqrt((x.astype(float) ** 2).mean(1, keepdims=True) + 1e-5) * gain[0], rtol=1e-5
    )
    thin.gated(x, gain, out)
    np.testing.assert_allclose(out, x / (1 + np.exp(-x.astype(float))) * gain, rtol=1e-5)
