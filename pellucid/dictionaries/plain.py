"""The reference of every kernel, in a few lines of dense PyTorch.

Slow, plain, and what the tests hold the kernels to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pellucid.dictionaries.codes import Codes


def select_per_row(scores: Tensor, k: int) -> Codes:
    """The k largest positive entries of each row of [B, N]."""
    values, features = scores.topk(min(k, scores.shape[1]), dim=1)
    dense = torch.zeros_like(scores).scatter_(1, features, values.clamp(min=0))
    return Codes.from_dense(dense)


def select_in_batch(scores: Tensor, k: int) -> Codes:
    """The B·k largest positive entries of [B, N] taken together, and any that tie with the last of them."""
    flat = scores.flatten()
    bar = flat.topk(min(k * len(scores), len(flat))).values[-1]
    return Codes.from_dense(torch.where(scores >= bar, scores, 0).clamp(min=0))


def decode(codes: Codes, decoder: Tensor, bias: Tensor) -> Tensor:
    """[B, D] bias + codes @ decoder."""
    return codes.dense() @ decoder + bias


def loss(
    x: Tensor,
    codes: Tensor,
    decoder: Tensor,
    decoder_bias: Tensor,
    variance: float,
    prefixes: Sequence[int] = (),
) -> Tensor:
    """The fraction of variance unexplained, through autograd; with prefixes of the features, their mean."""
    ends = prefixes or (codes.shape[1],)
    parts = [codes[:, :end] @ decoder[:end] + decoder_bias - x for end in ends]
    return torch.stack([error.square().sum(1).mean() / variance for error in parts]).mean()


class _Jump(torch.autograd.Function):
    """p where it exceeds θ (or 1 there), with the pseudo-derivatives by θ of arXiv 2407.14435, section 3."""

    @staticmethod
    def forward(ctx: Any, p: Tensor, bar: Tensor, bandwidth: float, count: bool) -> Tensor:
        ctx.save_for_backward(p, bar)
        ctx.bandwidth, ctx.count = bandwidth, count
        active = (p > bar).to(p.dtype)
        return active if count else p * active

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (gradient,) = gradients
        p, bar = ctx.saved_tensors
        near = ((p - bar).abs() < ctx.bandwidth / 2) / ctx.bandwidth
        by_bar = -near * gradient * (1 if ctx.count else bar)
        return gradient * (0 if ctx.count else (p > bar)), by_bar.sum(0), None, None


def jump(p: Tensor, bar: Tensor, bandwidth: float) -> Tensor:
    """JumpReLU's values [B, N] of pre-activations and thresholds [N]."""
    found: Tensor = _Jump.apply(p, bar, bandwidth, False)  # type: ignore[no-untyped-call]
    return found


def jump_count(p: Tensor, bar: Tensor, bandwidth: float) -> Tensor:
    """The mean number of active features of [B, N], differentiable by the thresholds."""
    found: Tensor = _Jump.apply(p, bar, bandwidth, True)  # type: ignore[no-untyped-call]
    return found.sum(1).mean()


def gated(
    x: Tensor, encoder: Tensor, gate_bias: Tensor, stretch: Tensor, magnitude_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """The values [B, N] of a gated dictionary and its open gates max(p, 0) [B, N]."""
    raw = x @ encoder.T
    gate = raw + gate_bias
    return (gate > 0) * (stretch.exp() * raw + magnitude_bias).relu(), gate.relu()
