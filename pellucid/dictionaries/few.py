"""The codes of few tokens, as while a model writes: then reading the encoder is nearly all of the work.

It is read at half its bytes. By how much a product with rounded weights can be wrong is known, so what could
be active is too; that is computed again in fp32, and what is told is exact. A token's codes do not depend on
the others.

    B tokens, D width, N features
"""

from __future__ import annotations

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from torch import Tensor

from pellucid.dictionaries.codes import Codes
from pellucid.models import products, tiles

_BLOCK = 64


class Few:
    """A dictionary's encoder, laid out for few tokens on a processor."""

    def __init__(self, encoder: Tensor, bias: Tensor, bar: Tensor) -> None:
        """Lay it out.

        Args:
            encoder: [N, D].
            bias: [N].
            bar: [N] what an activation must exceed, not negative.
        """
        # What rounding a weight can change (Cauchy-Schwarz); and sums, and activations of the tile unit.
        slack = torch.linalg.vector_norm(encoder - encoder.bfloat16(), dim=1)
        slack += torch.linalg.vector_norm(encoder, dim=1) / 4096
        self._packed = tiles.packed_half(encoder)
        self._exact = encoder.numpy(), bias.numpy(), bar.numpy(), slack.numpy()

    def encode(self, x: Tensor) -> Codes:
        """The codes of [B, D]."""
        encoder, bias, bar, slack = self._exact
        inputs = np.zeros((len(x), 2 * self._packed.shape[1]), np.float32)
        inputs[:, : x.shape[1]] = x.numpy()
        product = np.empty((len(x), self._packed.shape[0] * tiles.LANES), np.float32)
        products.product(get_num_threads(), inputs, self._packed, product)
        counts, features, values = _active(np.ascontiguousarray(x), product, slack, encoder, bias, bar)
        offsets = np.concatenate([[0], counts.cumsum()])
        entries = [
            np.concatenate([row[:c] for row, c in zip(rows, counts, strict=True)])
            for rows in (features, values)
        ]
        return Codes(*(torch.from_numpy(part) for part in (offsets, *entries)), len(bar))


@njit(parallel=True, cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _active(
    x: np.ndarray,
    product: np.ndarray,
    slack: np.ndarray,
    encoder: np.ndarray,
    bias: np.ndarray,
    bar: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts [B], features and values [B, N] above their bars, strongest first (unused places undefined).

    Args:
        x: [B, D] activations.
        product: [B, ≥ N] x · encoderᵀ, wrong by less than |x| · slack.
        slack: [N].
        encoder: [N, D].
        bias: [N].
        bar: [N], not negative.
    """
    rows, num = len(x), len(bar)
    counts = np.zeros(rows, np.int64)
    features, values = np.empty((rows, num), np.int32), np.empty((rows, num), np.float32)
    for b in prange(rows):
        row, near = x[b], product[b]
        length = np.float32(0)
        for d in range(len(row)):
            length += row[d] * row[d]
        length = np.sqrt(length)
        found, strengths = np.empty(num, np.int32), np.empty(num, np.float32)
        size = 0
        for start in range(0, num, _BLOCK):
            scores, doubts = near[start : start + _BLOCK], slack[start : start + _BLOCK]
            bars, shifts = bar[start : start + _BLOCK], bias[start : start + _BLOCK]
            hopeful = 0
            for j in range(len(bars)):
                hopeful += scores[j] + length * doubts[j] > bars[j] - shifts[j]
            if not hopeful:
                continue
            for j in range(start, start + len(bars)):
                if near[j] + length * slack[j] > bar[j] - bias[j]:
                    weights, value = encoder[j], np.float32(0)
                    for d in range(len(row)):
                        value += row[d] * weights[d]
                    value += bias[j]
                    if value > bar[j]:
                        found[size], strengths[size] = j, value
                        size += 1
        order = np.argsort(-strengths[:size], kind="mergesort")
        for place in range(size):
            features[b, place], values[b, place] = found[order[place]], strengths[order[place]]
        counts[b] = size
    return counts, features, values
