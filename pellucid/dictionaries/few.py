"""The codes of tokens of which few features are active: what could be is found first, with less.

A rounded encoder tells what could be active (`hopeful`). That is computed again in fp32, and what is told is
exact. A token's codes do not depend on the others.

    B tokens, D width, N features; P = N / 32, rounded up
"""

from __future__ import annotations

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from torch import Tensor

from pellucid.dictionaries.codes import Codes
from pellucid.dictionaries.hopeful import WORD, Hopeful, fastest
from pellucid.models.products import REORDERED, turns
from pellucid.models.tiles import address, counted

_ALL = np.uint32(2**32 - 1)


class Few:
    """A dictionary's encoder, laid out for a processor."""

    def __init__(
        self, encoder: Tensor, bias: Tensor, bar: Tensor, *, rounded: type[Hopeful] | None = None
    ) -> None:
        """Lay it out.

        Args:
            encoder: [N, D].
            bias: [N].
            bar: [N] what an activation must exceed, not negative.
            rounded: how what could be active is found; what is fastest here if not given.
        """
        self._hopeful = (rounded or fastest(encoder.shape[1]))(encoder, bias, bar)
        self._exact = encoder.numpy(), bias.numpy(), bar.numpy()

    def encode(self, x: Tensor) -> Codes:
        """The codes of [B, D]."""
        rows = x.contiguous().numpy()
        found = _active(get_num_threads(), rows, self._hopeful.among(rows), *self._exact)
        offsets, features, values = map(torch.from_numpy, found)
        return Codes(offsets, features, values, len(self._exact[0]))


@njit(nogil=True, cache=True)
def _active(
    threads: int,
    x: np.ndarray,
    hopeful: np.ndarray,
    encoder: np.ndarray,
    bias: np.ndarray,
    bar: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The features above their bars among those that could be, strongest first, as the arrays of `Codes`.

    Args:
        threads: how many share the work.
        x: [B, D] activations.
        hopeful: [P, B] words of bits.
        encoder: [N, D].
        bias: [N].
        bar: [N], not negative.
    """
    rows = len(x)
    starts, sizes = np.zeros(rows + 1, np.int64), np.zeros(rows, np.int64)
    for word in range(len(hopeful)):
        for m in range(rows):
            bits = hopeful[word, m]
            while bits:
                bits &= bits - np.uint32(1)
                starts[m + 1] += 1
    for m in range(rows):
        starts[m + 1] += starts[m]
    found = np.empty(starts[rows], np.uint64)
    if rows > 1:
        _together(threads, x, hopeful, encoder, bias, bar, starts, found, sizes)
    else:
        sizes[0] = _strongest(x[0], hopeful[:, 0], encoder, bias, bar, found)
    offsets = np.zeros(rows + 1, np.int64)
    for m in range(rows):
        offsets[m + 1] = offsets[m] + sizes[m]
    features, values = np.empty(offsets[rows], np.int32), np.empty(offsets[rows], np.float32)
    for m in range(rows):
        for place in range(sizes[m]):
            one = found[starts[m] + place]
            features[offsets[m] + place] = np.uint32(one)
            values[offsets[m] + place] = np.uint32(np.uint32(one >> np.uint64(32)) ^ _ALL).view(np.float32)
    return offsets, features, values


@njit(nogil=True, parallel=True, cache=True)
def _together(threads, x, hopeful, encoder, bias, bar, starts, found, sizes):  # type: ignore[no-untyped-def]
    """Set the sizes of rows, and what is found of each from where it starts, in threads."""
    turn = turns(1)
    for _ in prange(threads):
        m = counted(address(turn))
        while m < len(x):
            mine = found[starts[m] : starts[m + 1]]
            sizes[m] = _strongest(x[m], hopeful[:, m], encoder, bias, bar, mine)
            m = counted(address(turn))


@njit(nogil=True, fastmath=REORDERED)
def _strongest(
    row: np.ndarray,
    hopeful: np.ndarray,
    encoder: np.ndarray,
    bias: np.ndarray,
    bar: np.ndarray,
    found: np.ndarray,
) -> int:
    """How many features of a row are active; `found` begins with them, strongest first.

    Each is one number, and they come in its order: the bits of the value turned over, below them the feature.
    """
    active = 0
    for word in range(len(hopeful)):
        bits, j = hopeful[word], word * WORD
        while bits:
            if bits & np.uint32(1):
                weights, value = encoder[j], np.float32(0)
                for d in range(len(row)):
                    value += row[d] * weights[d]
                value = np.float32(value + bias[j])
                if value > bar[j]:
                    turned = np.uint32(value.view(np.uint32) ^ _ALL)
                    found[active] = np.uint64(turned) << np.uint64(32) | np.uint64(j)
                    active += 1
            bits >>= np.uint32(1)
            j += 1
    found[:active].sort()
    return active
