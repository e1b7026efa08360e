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
    assert float(plain.loss(x, x, eye, zero, 2.5)) == 0
    assert float(plain.loss(x, 0 * x, eye, zero, 2.5)) == pytest.approx((1 + 4) / 2 / 2.5)
    # The first feature alone leaves the second row; both leave nothing; the loss is the mean of the two.
    assert float(plain.loss(x, x, eye, zero, 2.5, (1, 2))) == pytest.approx((4 / 2 / 2.5 + 0) / 2)


def test_a_jump_keeps_what_exceeds_its_bar_and_learns_from_what_is_near() -> None:
    pre = torch.tensor([[0.9, 1.2, 3.0, 0.2]], requires_grad=True)
    bar = torch.full((4,), 1.0, requires_grad=True)
    values = plain.jump(pre, bar, 0.5)
    assert values[0].detach().tolist() == pytest.approx([0, 1.2, 3.0, 0])
    values.sum().backward()  # type: ignore[no-untyped-call]
    assert pre.grad is not None
    assert bar.grad is not None
    assert pre.grad.tolist() == [[0, 1, 1, 0]]
    assert bar.grad.tolist() == [-2, -2, 0, 0]  # −θ/ε within half of ε = 0.5
    bar.grad.zero_()
    count = plain.jump_count(pre, bar, 0.5)
    assert count.item() == 2
    count.backward()  # type: ignore[no-untyped-call]
    assert bar.grad.tolist() == [-2, -2, 0, 0]


def test_a_gate_decides_whether_and_the_magnitude_how_much() -> None:
    x, eye = torch.tensor([[1.0, 2.0]]), torch.eye(2)
    values, gate = plain.gated(
        x, eye, torch.tensor([-0.5, -3.0]), torch.tensor([0.0, 1.0]), torch.tensor([0.25, 0.0])
    )
    assert values.tolist() == [[1.25, 0]]
    assert gate.tolist() == [[0.5, 0]]
