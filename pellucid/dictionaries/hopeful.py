"""Which features could be active on few tokens, by a product with a rounded encoder.

By how much such a product can be wrong is bounded (Cauchy-Schwarz), so that no feature is missed. Those that
are left, hardly more than are active, are for `few` to compute in fp32. Reading the encoder is nearly all of
the work, and what is rounded is fewer bytes:

    `Bytes`   a quarter of them, where the tile unit multiplies int8. Weights are whole numbers times a scale
              for each feature. Activations are large in few columns, and one such number would leave too much
              of the others: a row x times a factor is q₁ + q₂ / 254 and what is left.
    `Halves`  half of them, in bfloat16, everywhere

    B tokens, D width, N features; P = N / 32, rounded up, words of 32 bits
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from torch import Tensor

from pellucid.models import products, tiles
from pellucid.models.products import REORDERED, done, following, turns
from pellucid.models.tiles import (
    BYTES,
    CONFIGURATIONS,
    LANES,
    address,
    aligned,
    bytewise,
    configured,
    counted,
    padded,
    released,
)

WORD = 32
"""Features in a word: a bit each."""
_WORDS_AT_ONCE = 4
"""In a job of threads."""
_ROWS = 16
"""Rows that the tile unit takes at a time."""
_ROUNDING = 2.0**-12
"""Of |x| · |w|: more than all that sums in float32 change, here and where it is computed again."""
_LEAST = np.float32(2.0**-100)
"""What the largest activation of a row counts as at least, so that one over it is a number."""


class Hopeful(Protocol):
    """A dictionary's encoder, rounded and laid out."""

    def __init__(self, encoder: Tensor, bias: Tensor, bar: Tensor) -> None:
        """Of encoder [N, D], bias [N], and what an activation must exceed [N]."""

    def among(self, x: np.ndarray) -> np.ndarray:
        """[P, B] uint32 of x [B, D]: bit j of word p is set if feature 32 · p + j could be above its bar."""


class Bytes:
    """As int8."""

    def __init__(self, encoder: Tensor, bias: Tensor, bar: Tensor) -> None:
        assert tiles.has_tile_unit("int8"), "see `fastest`"
        tiny = torch.finfo(torch.float32).tiny
        scales = (encoder.abs().amax(1) / 127).clamp_(min=tiny)
        rounded = (encoder / scales[:, None]).round_()
        self._packed = tiles.packed_bytes(rounded)
        lengths = _lengths(rounded.mul_(scales[:, None]))
        slack = _lengths(rounded.sub_(encoder)) + _lengths(encoder) * _ROUNDING
        self._facts = _by_word(scales, lengths, slack, bar - bias)

    def among(self, x: np.ndarray) -> np.ndarray:
        """[P, B]: see `Hopeful`."""
        words, depths = self._packed.shape[:2]
        hopeful = np.empty((words, len(x)), np.uint32)
        parts = aligned((padded(len(x), _ROWS) // _ROWS, depths, 2, _ROWS, BYTES), np.int8)
        sums = aligned((get_num_threads(), _ROWS, 2, WORD), np.int32)
        _among_bytes(x, self._packed, self._facts, parts, sums, hopeful)
        return hopeful


class Halves:
    """As bfloat16."""

    def __init__(self, encoder: Tensor, bias: Tensor, bar: Tensor) -> None:
        self._packed = tiles.packed_half(encoder)
        slack = _lengths(encoder - encoder.bfloat16()) + _lengths(encoder) * _ROUNDING
        self._facts = _by_word(slack, bar - bias)

    def among(self, x: np.ndarray) -> np.ndarray:
        """[P, B]: see `Hopeful`."""
        scaled = np.zeros((len(x), 2 * self._packed.shape[1]), np.float32)
        told = _scaled(x, scaled)
        product = np.empty((len(x), self._packed.shape[0] * LANES), np.float32)
        products.product(get_num_threads(), scaled, self._packed, product)
        hopeful: np.ndarray = _among_halves(product, told, self._facts)
        return hopeful


def fastest(width: int) -> type[Hopeful]:
    """The one to take on this processor."""
    return Bytes if tiles.has_tile_unit("int8") and width <= tiles.WIDEST else Halves


def _lengths(rows: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.float64)
    return lengths


def _by_word(*facts: Tensor) -> np.ndarray:
    """[P, facts, 32] float32: what is known of each feature, its bar last. Padding never exceeds it."""
    num = len(facts[0])
    laid = np.zeros((len(facts), padded(num, WORD)), np.float32)
    laid[-1] = np.inf
    for row, fact in zip(laid, facts, strict=True):
        row[:num] = fact.float().numpy()
    return np.ascontiguousarray(laid.reshape(len(facts), -1, WORD).swapaxes(0, 1))


@njit(nogil=True, fastmath=REORDERED | {"nnan"})
def _size(row: np.ndarray) -> np.float32:
    """What the largest activation [D] is."""
    largest = _LEAST
    for d in range(len(row)):
        largest = max(largest, np.abs(row[d]))
    return largest


@njit(nogil=True, fastmath=REORDERED)
def _cut(row: np.ndarray, parts: np.ndarray) -> tuple[np.float32, np.float32, np.float32]:
    """Set a row [D] out as two whole numbers each, to [D / 64, 2, 64].

    What is padded may hold anything: there weights are zero.

    Returns:
        In what unit, as a factor; in that unit the length of the row, and of what is left of it.
    """
    factor = np.float32(127) / _size(row)
    length, left = np.float32(0), np.float32(0)
    for depth in range(len(parts)):
        some = row[depth * BYTES : depth * BYTES + BYTES]
        first, second = parts[depth, 0], parts[depth, 1]
        for k in range(len(some)):
            value = some[k] * factor
            whole = np.rint(value)
            rest = value - whole
            fine = np.rint(rest * np.float32(254))
            first[k], second[k] = np.int8(whole), np.int8(fine)
            rest -= fine * np.float32(1 / 254)
            length += value * value
            left += rest * rest
    return factor, np.sqrt(length), np.sqrt(left)


@njit(nogil=True, fastmath=REORDERED)
def _word(sums: np.ndarray, told: np.ndarray, facts: np.ndarray) -> np.uint32:
    """The word of a row: of sums [2, 32], what `_cut` told of the row, and facts [4, 32] of the features."""
    word = np.uint32(0)
    first, second = sums[0], sums[1]
    scales, lengths, slack, bars = facts[0], facts[1], facts[2], facts[3]
    for j in range(WORD):
        score = (np.float32(first[j]) + np.float32(second[j]) * np.float32(1 / 254)) * scales[j]
        most = score + told[1] * slack[j] + told[2] * lengths[j]
        above = not most <= bars[j] * told[0]  # also where it overflowed, and is no number
        word = np.uint32(word | np.uint32(np.uint32(above) << np.uint32(j)))
    return word


@njit(nogil=True, parallel=True, cache=True)
def _among_bytes(
    x: np.ndarray,
    packed: np.ndarray,
    facts: np.ndarray,
    parts: np.ndarray,
    sums: np.ndarray,
    hopeful: np.ndarray,
) -> None:
    """Write what is hopeful [P, B], by `bytewise`, 16 rows and 32 features at a time.

    Args:
        x: [B, D] activations.
        packed: [P, D / 64, …], see `packed_bytes`.
        facts: [P, 4, 32] scales, lengths, slack, bars.
        parts: [B / 16, D / 64, 2, 16, 64] room for what `_cut` sets out.
        sums: [threads, 16, 2, 32] room for a tile in each thread.
        hopeful: [P, B].
    """
    rows, words, depths = len(x), packed.shape[0], packed.shape[1]
    told = np.empty((rows, 3), np.float32)
    jobs = (words + _WORDS_AT_ONCE - 1) // _WORDS_AT_ONCE
    counts = turns(2)
    for thread in prange(len(sums)):
        turn, mine = address(counts), sums[thread]
        m = counted(turn)
        while m < rows:
            told[m] = _cut(x[m], parts[m // _ROWS, :, :, m % _ROWS])
            done(turn)
            m = counted(turn)
        turn = following(turn, rows)
        job = counted(turn)
        while job < jobs:
            configured(address(CONFIGURATIONS) + 64 * _ROWS)
            for block in range(len(parts)):
                start = block * _ROWS
                for word in range(job * _WORDS_AT_ONCE, min(words, (job + 1) * _WORDS_AT_ONCE)):
                    bytewise(address(parts[block]), address(packed[word]), depths, address(mine))
                    for m in range(start, min(rows, start + _ROWS)):
                        hopeful[word, m] = _word(mine[m - start], told[m], facts[word])
            released()
            done(turn)
            job = counted(turn)
        following(turn, jobs)


@njit(nogil=True, cache=True, fastmath=REORDERED)
def _scaled(x: np.ndarray, scaled: np.ndarray) -> np.ndarray:
    """Write rows x [B, D] over their sizes; [B, 2] by what factors, and the lengths of what is written."""
    told = np.empty((len(x), 2), np.float32)
    for m in range(len(x)):
        row, out = x[m], scaled[m]
        factor, length = np.float32(1) / _size(row), np.float32(0)
        for d in range(len(row)):
            out[d] = row[d] * factor
            length += out[d] * out[d]
        told[m, 0], told[m, 1] = factor, np.sqrt(length)
    return told


@njit(nogil=True, parallel=True, cache=True, fastmath=REORDERED)
def _among_halves(product: np.ndarray, told: np.ndarray, facts: np.ndarray) -> np.ndarray:
    """[P, B] of a product [B, 32 · P] of what `_scaled` wrote and told [B, 2]; facts [P, 2, 32]."""
    hopeful = np.empty((len(facts), len(product)), np.uint32)
    for word in prange(len(facts)):
        slack, bars = facts[word, 0], facts[word, 1]
        for m in range(len(product)):
            scores, bits = product[m, word * WORD : (word + 1) * WORD], np.uint32(0)
            for j in range(WORD):
                above = not scores[j] + told[m, 1] * slack[j] <= bars[j] * told[m, 0]
                bits = np.uint32(bits | np.uint32(np.uint32(above) << np.uint32(j)))
            hopeful[word, m] = bits
    return hopeful
