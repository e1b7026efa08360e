from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import get_num_threads

from pellucid.models import distributions, products, thin, tiles

KINDS = [
    pytest.param(np.float32, id="fp32"),
    pytest.param(np.uint16, id="bf16-widened"),
    pytest.param(
        np.int16,
        id="bf16-tile-unit",
        marks=pytest.mark.skipif(not tiles.has_tile_unit(), reason="this processor has no AMX"),
    ),
]


def product(x: np.ndarray, packed: np.ndarray) -> np.ndarray:
    wide = np.zeros((len(x), 2 * packed.shape[1]), np.float32)
    wide[:, : x.shape[1]] = x
    out = np.full((len(x), packed.shape[0] * tiles.LANES), np.nan, np.float32)
    products.product(get_num_threads(), wide, packed, out)
    return out


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(rows=st.integers(1, 70), inputs=st.integers(1, 70), outputs=st.integers(1, 150))
def test_a_product_is_the_product_and_a_row_knows_no_other(
    kind: type, rows: int, inputs: int, outputs: int
) -> None:
    g = torch.Generator().manual_seed(rows * 1009 + inputs)
    x, weights = torch.randn(rows, inputs, generator=g).numpy(), torch.randn(outputs, inputs, generator=g)
    half = weights.bfloat16()
    array = weights.numpy() if kind is np.float32 else half.view(torch.int16).numpy().view(kind)
    packed = tiles.packed(array)
    out = product(x, packed)
    wanted = x.astype(float) @ (weights if kind is np.float32 else half).double().numpy().T
    sizes = np.abs(x).astype(float) @ weights.abs().double().numpy().T
    assert np.all(np.abs(out[:, :outputs] - wanted) <= 2e-5 * sizes)
    assert not out[:, outputs:].any(), "what is padded is zero"
    for row in range(rows):
        np.testing.assert_array_equal(product(x[row : row + 1], packed)[0], out[row])
        some = np.roll(x, -row, axis=0)[: 1 + row % 40]
        np.testing.assert_array_equal(product(some, packed)[0], out[row])


def test_a_norm_equals_its_formula() -> None:
    rng = np.random.default_rng(0)
    x, gain = rng.normal(size=(5, 33)).astype(np.float32), rng.normal(size=33).astype(np.float32)
    out = np.empty_like(x)
    thin.normed(x, gain, 1e-5, out)
    np.testing.assert_allclose(
        out, x / np.sqrt((x.astype(float) ** 2).mean(1, keepdims=True) + 1e-5) * gain, rtol=1e-5
    )


def test_the_likeliest_token_and_the_sum_of_all() -> None:
    logits = np.random.default_rng(0).normal(scale=5, size=(4, 999)).astype(np.float32)
    logits[1, 7] = logits[1, 3] = 40
    logits[2, 5], logits[3, 9] = np.nan, -np.inf
    tokens, most, sums = distributions.likeliest(logits)
    wanted = torch.from_numpy(logits)
    assert tokens[1] == 3
    for row in (0, 1, 3):
        assert tokens[row] == wanted[row].argmax()
        assert most[row] == wanted[row].max()
        assert sums[row] == pytest.approx(float(wanted[row].double().logsumexp(0)), abs=1e-5)
    assert not np.isfinite(most[2])
