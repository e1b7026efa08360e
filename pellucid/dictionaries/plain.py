"""The reference of every kernel, in a few lines of dense PyTorch.

Slow, plain, and what the tests hold the kernels to.
"""

from __future__ import annotations

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
    encoder: Tensor,
    encoder_bias: Tensor,
    decoder: Tensor,
    decoder_bias: Tensor,
    active: Tensor,
    variance: float,
) -> Tensor:
    """The fraction of variance unexplained, through autograd, with the active entries as a mask [B, N]."""
    codes = torch.where(active, x @ encoder.T + encoder_bias, 0)
    error = codes @ decoder + decoder_bias - x
    return error.square().sum(1).mean() / variance
