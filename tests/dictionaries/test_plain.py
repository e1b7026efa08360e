"""The reference itself, on cases small enough to work by hand."""

from __future__ import annotations

import pytest
import torch

from pellucid.dictionaries import plain

SCORES = torch.tensor([[3.0, 1.0, -2.0, 2.0], [-1.0, -2.0, -3.0, -4.0], [5.0, 5.0, 0.0, 1.0]])


def test_the_largest_of_each_row() -> None:
    assert plain.select_per_row(SCORES, 2).dense().tolist() == [[3, 0, 0, 2], [0, 0, 0, 0], [5, 5, 0, 0]]
    assert torch.equal(plain.select_per_row(SCORES, 9).dense(), SCORES.clamp(min=0))


def test_the_largest_of_the_batch_with_ties() -> None:
    assert plain.select_in_batch(SCORES, 1).dense().tolist() == [[3, 0, 0, 0], [0, 0, 0, 0], [5, 5, 0, 0]]
    tied = torch.tensor([[2.0, 2.0, 1.0], [2.0, 0.0, 0.0]])
    assert plain.select_in_batch(tied, 1).dense().tolist() == [[2, 2, 0], [2, 0, 0]]


def test_decoding_adds_directions_to_the_bias() -> None:
    decoder, bias = (
        torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.0, -1.0]]),
        torch.tensor([10.0, 20.0]),
    )
    codes = plain.select_per_row(SCORES, 2)
    assert plain.decode(codes, decoder, bias).tolist() == [[13, 18], [10, 20], [15, 25]]


def test_the_loss_is_the_share_of_the_variance_left_over() -> None:
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    eye, zero = torch.eye(2), torch.zeros(2)
    everything, nothing = torch.ones(2, 2, dtype=torch.bool), torch.zeros(2, 2, dtype=torch.bool)
    assert float(plain.loss(x, eye, zero, eye, zero, everything, 2.5)) == 0
    assert float(plain.loss(x, eye, zero, eye, zero, nothing, 2.5)) == pytest.approx((1 + 4) / 2 / 2.5)
