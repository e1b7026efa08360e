"""Products of groups by the tile unit are those of numbers rounded to bfloat16, wherever rows go."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import get_num_threads, set_num_threads

from pellucid.dictionaries import grouped
from pellucid.models.tiles import has_tile_unit

pytestmark = pytest.mark.skipif(not has_tile_unit(), reason="this processor multiplies no tiles of bfloat16")


@given(
    rows=st.integers(0, 150),
    groups=st.integers(1, 7),
    size=st.sampled_from([1, 8, 31, 32, 48, 96]),
    width=st.sampled_from([1, 7, 32, 65]),
    visits=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
@settings(max_examples=30, deadline=None)
def test_each_visit_gets_its_own_product(
    rows: int, groups: int, size: int, width: int, visits: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    visits = min(visits, groups)
    x = torch.randn(rows, width, generator=generator)
    weights, bias = (torch.randn(groups, size, *more, generator=generator) for more in ((width,), ()))
    visited = torch.rand(rows, groups, generator=generator).topk(visits, dim=1).indices.sort(dim=1).values
    order = visited.flatten().argsort(stable=True)
    starts = torch.nn.functional.pad(torch.bincount(visited.flatten(), minlength=groups).cumsum(0), (1, 0))
    found = grouped.products(x, weights, bias, order, starts)
    wanted = (
        torch.einsum(
            "td,tsd->ts",
            *(t.bfloat16().double() for t in (x.repeat_interleave(visits, 0), weights[visited.flatten()])),
        )
        + bias[visited.flatten()]
    )
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), wanted, rtol=2**-8, atol=1e-4)
    laid = grouped.laid_out(weights)
    assert torch.equal(grouped.products(x, weights, bias, order, starts, laid), found)
    threads = get_num_threads()
    set_num_threads(1)
    try:
        assert torch.equal(grouped.products(x, weights, bias, order, starts), found)
    finally:
        set_num_threads(threads)
