from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.atlas.scans import products, top


@given(
    seed=st.integers(0, 1000),
    length=st.integers(1, 5000),
    count=st.integers(1, 300),
    kind=st.sampled_from(["drawn", "sorted", "equal", "few above -inf"]),
)
def test_the_largest_are_those_of_a_sort(seed: int, length: int, count: int, kind: str) -> None:
    scores = np.random.default_rng(seed).standard_normal(length).astype(np.float32)
    if kind == "sorted":
        scores.sort()
    elif kind == "equal":
        scores = np.round(scores)
    elif kind == "few above -inf":
        scores[10:] = -np.inf
    found = top(scores, count)
    assert len(np.unique(found)) == min(count, length)
    np.testing.assert_array_equal(np.sort(scores[found]), np.sort(scores)[-count:])


@pytest.mark.parametrize("period", [32, 64])
def test_the_largest_are_found_where_the_sample_misses_them(period: int) -> None:
    scores = np.where(np.arange(100_000) % period == 1, 1, 0).astype(np.float32)
    assert (scores[top(scores, 50)] == 1).all()


def test_products_are_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.integers(-127, 128, (300, 70)).astype(np.int8)
    query, scales = rng.standard_normal(70).astype(np.float32), rng.random(300).astype(np.float32)
    out = np.empty(300, np.float32)
    products(vectors, query, scales, out)
    np.testing.assert_allclose(out, (vectors @ query.astype(np.float64)) * scales, rtol=1e-4, atol=1e-3)
