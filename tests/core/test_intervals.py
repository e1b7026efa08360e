from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.core.intervals import wilson


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    [(15, 148, 0.0624, 0.1605), (81, 263, 0.2553, 0.3662), (0, 20, 0.0, 0.1611)],
)
def test_published_values(hits: int, total: int, low: float, high: float) -> None:
    # Newcombe (1998), Statistics in Medicine 17: 857-872, table I.
    assert wilson(hits / total, total) == pytest.approx((low, high), abs=1e-4)


@given(hits=st.integers(0, 200), more=st.integers(0, 200))
def test_an_interval_holds_its_share(hits: int, more: int) -> None:
    share = hits / max(1, hits + more)
    low, high = wilson(share, max(1, hits + more))
    assert 0 <= low <= share <= high <= 1
