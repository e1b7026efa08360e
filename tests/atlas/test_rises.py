from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pellucid.atlas import rises


@given(
    openings=st.integers(1, 4),
    features=st.integers(1, 5),
    vocabulary=st.sampled_from([5, 63, 64, 65, 300, 1000]),
    count=st.integers(1, 5),
    spread=st.sampled_from([0.1, 3.0, 100.0]),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    seed=st.integers(0, 2**16),
)
def test_the_kernel_finds_what_the_plain_lines_find(
    openings: int, features: int, vocabulary: int, count: int, spread: float, dtype: torch.dtype, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    before = [spread * torch.randn(1, vocabulary, generator=draw) for _ in range(openings)]
    after = [each + torch.randn(features, vocabulary, generator=draw) for each in before]
    before, after = ([each.to(dtype) for each in logits] for logits in (before, after))
    wanted, found = (find(before, after, count) for find in (rises.plain, rises.compiled))
    of_all = torch.stack(
        [
            ((a.float().softmax(-1) + rises.FLOOR) / (b.float().softmax(-1) + rises.FLOOR)).log()
            for a, b in zip(after, before, strict=True)
        ]
    ).mean(0)
    for place in (0, 2):
        assert found[place + 1].numpy() == pytest.approx(wanted[place + 1].numpy(), abs=1e-4)
        # Of tokens that tie, either may be found.
        assert of_all.gather(1, found[place]).numpy() == pytest.approx(found[place + 1].numpy(), abs=1e-4)
        assert all(len(set(row)) == count for row in found[place].tolist())


def test_a_token_that_doubles_rises_by_the_logarithm_of_two() -> None:
    before = torch.tensor([[0.2, 0.3, 0.5]])
    after = torch.tensor([[0.4, 0.35, 0.25]])
    most, risen, least, fallen = rises.strongest([before.log()], [after.log()], 1)
    assert (most.item(), least.item()) == (0, 2)
    assert risen.item() == pytest.approx(0.6931, abs=5e-4)
    assert fallen.item() == pytest.approx(-0.6931, abs=5e-4)
