"""Products of rows with the groups that each visits, in bfloat16, by the tile unit of a processor.

One product a group, of few rows: a general product spends more on laying the group's weights out than on
multiplying. Here a thread takes a group, lays it out in its own cache, and takes all its rows through.

    B rows of a batch, D width, G groups of S features, P groups visited by a row, T = B · P
"""

from __future__ import annotations

import numpy as np
import torch
from numba import get_num_threads, njit, prange
from torch import Tensor

from pellucid.models import tiles
from pellucid.models.products import nearest, turns
from pellucid.models.tiles import (
    CONFIGURATIONS,
    DEPTH,
    LANES,
    address,
    configured,
    counted,
    released,
)

_TWO_BLOCKS, _BLOCK = tiles.halves(2, 1), tiles.halves(1, 1)
_ROWS = 64
"""Rows of a group that are laid out together."""


def laid_out(weights: Tensor) -> np.ndarray:
    """Weights [G, S, D] that stay as they are, as a thread would lay out one group after the other."""
    groups, size, width = weights.shape
    found = _room(groups, size, width)
    _lay_out(get_num_threads(), weights.contiguous().numpy(), _room_to_round(width), found)
    return found


def products(
    x: Tensor, weights: Tensor, bias: Tensor, order: Tensor, starts: Tensor, laid: np.ndarray | None = None
) -> Tensor:
    """[T, S] bfloat16: the product of each row with the groups it visits, and their bias.

    Args:
        x: [B, D] float32, on the processor.
        weights: [G, S, D] float32.
        bias: [G, S] float32.
        order: [T] int64 visits, group after group; visit t is of row t // P.
        starts: [G + 1] int64 the first visit of each group, and their number.
        laid: the weights as `laid_out` has them, if they are.
    """
    _, size, width = weights.shape
    threads, depths, lanes = get_num_threads(), tiles.padded(width) // DEPTH, tiles.padded(size, 2 * LANES)
    out = torch.empty(len(order), size, dtype=torch.int16)
    halves = torch.zeros(len(x), depths * DEPTH, dtype=torch.bfloat16)
    halves[:, :width] = x
    _products(
        threads,
        halves.view(torch.int32).numpy(),
        weights.contiguous().numpy(),
        bias.contiguous().numpy(),
        order.numpy(),
        starts.numpy(),
        len(order) // max(1, len(x)),
        _room_to_round(width),
        _room(threads, size, width),
        _room(0, size, width) if laid is None else laid,
        tiles.aligned((threads, depths, _ROWS, DEPTH // 2), np.int32),
        tiles.aligned((threads, 2 * LANES, lanes), np.float32),
        out.numpy(),
    )
    return out.view(torch.bfloat16)


def _room(groups: int, size: int, width: int) -> np.ndarray:
    """[groups, S / 16, D / 2, 16] words, padded as tiles are."""
    shape = groups, tiles.padded(size, 2 * LANES) // LANES, tiles.padded(width) // 2, LANES
    return tiles.aligned(shape, np.uint32, zeros=True)


def _room_to_round(width: int) -> np.ndarray:
    """[threads, 16, D / 2] words."""
    return tiles.aligned((get_num_threads(), LANES, tiles.padded(width) // 2), np.uint32, zeros=True)


@njit(nogil=True, parallel=True, cache=True)
def _lay_out(threads: int, weights: np.ndarray, halves: np.ndarray, laid: np.ndarray) -> None:
    counts = turns(1)
    for thread in prange(threads):
        group = counted(address(counts))
        while group < len(weights):
            _pack(weights[group], halves[thread], laid[group])
            group = counted(address(counts))


@njit(nogil=True, parallel=True, cache=True)
def _products(
    threads: int,
    x: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray,
    order: np.ndarray,
    starts: np.ndarray,
    visits: int,
    halves: np.ndarray,
    packed: np.ndarray,
    laid: np.ndarray,
    rows: np.ndarray,
    sums: np.ndarray,
    out: np.ndarray,
) -> None:
    counts = turns(1)
    for thread in prange(threads):
        group = counted(address(counts))
        while group < len(weights):
            start, stop = starts[group], starts[group + 1]
            mine = laid[group] if len(laid) else packed[thread]
            if start < stop and not len(laid):
                _pack(weights[group], halves[thread], mine)
            for at in range(start, stop, _ROWS):
                some = order[at : min(at + _ROWS, stop)]
                _gather(x, some, visits, rows[thread])
                _multiply(rows[thread], mine, bias[group], some, sums[thread], out)
            group = counted(address(counts))


@njit(nogil=True)
def _pack(weights: np.ndarray, halves: np.ndarray, packed: np.ndarray) -> None:
    """Lay [S, D] out as tiles read weights; what is beyond both stays zero.

    Sixteen rows are rounded, two numbers to a word, and then turned; both at once would be slower.
    """
    size, width = weights.shape
    pairs = width // 2
    for first in range(0, size, LANES):
        count, to = min(LANES, size - first), packed[first // LANES]
        for lane in range(count):
            row, words = weights[first + lane], halves[lane]
            for k in range(pairs):
                words[k] = nearest(row[2 * k]) | np.uint32(nearest(row[2 * k + 1]) << np.uint32(16))
            if width % 2:
                words[pairs] = nearest(row[width - 1])
        for k in range(len(to)):
            for lane in range(count):
                to[k, lane] = halves[lane, k]


@njit(nogil=True)
def _gather(x: np.ndarray, visits_of: np.ndarray, visits: int, rows: np.ndarray) -> None:
    """Lay out the rows of some visits; two numbers are a word."""
    for m in range(len(visits_of)):
        row = x[visits_of[m] // visits]
        for part in range(len(rows)):
            to, words = rows[part, m], row[part * (DEPTH // 2) : (part + 1) * (DEPTH // 2)]
            for k in range(DEPTH // 2):
                to[k] = words[k]


@njit(nogil=True)
def _multiply(
    rows: np.ndarray,
    packed: np.ndarray,
    bias: np.ndarray,
    places: np.ndarray,
    sums: np.ndarray,
    out: np.ndarray,
) -> None:
    """The products of the rows laid out, to their places in out."""
    depths, step, block, size = len(rows), rows.strides[0], packed.strides[0], len(bias)
    m = 0
    while m < len(places):
        left = len(places) - m
        taken = 32 if left >= 32 else min(left, 16)
        configured(address(CONFIGURATIONS) + 64 * min(left, 16))
        at = address(rows) + m * 2 * DEPTH
        for pair in range(len(packed) // 2):
            weights, to = address(packed) + 2 * pair * block, address(sums) + pair * 8 * LANES
            if taken == 32:
                _TWO_BLOCKS(at, 0, step, weights, depths, block, to, sums.strides[0])
            else:
                _BLOCK(at, 0, step, weights, depths, block, to, sums.strides[0])
        released()
        for row in range(taken):
            found, to_row = sums[row], out[places[m + row]]
            for s in range(size):
                to_row[s] = np.int16(nearest(found[s] + bias[s]))
        m += taken
