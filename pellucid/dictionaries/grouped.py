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
    halves,
    released,
)

_TWO_BLOCKS, _BLOCK = halves(2, 1), halves(1, 1)
_ROWS = 64
"""Rows of a group that are laid out together."""


def products(x: Tensor, weights: Tensor, bias: Tensor, order: Tensor, counts: Tensor) -> Tensor:
    """[T, S] bfloat16: the product of each row with the groups it visits, and their bias.

    Args:
        x: [B, D] float32, on the processor.
        weights: [G, S, D] float32.
        bias: [G, S] float32.
        order: [T] int64 visits, group after group; visit t is of row t // P.
        counts: [G] int64 visits of each group.
    """
    _, size, width = weights.shape
    threads, depths, lanes = get_num_threads(), tiles.padded(width) // DEPTH, tiles.padded(size, 2 * LANES)
    out = torch.empty(len(order), size, dtype=torch.int16)
    _products(
        threads,
        x.contiguous().numpy(),
        weights.contiguous().numpy(),
        bias.contiguous().numpy(),
        order.numpy(),
        np.concatenate([[0], np.cumsum(counts.numpy())]),
        len(order) // max(1, len(x)),
        tiles.aligned((threads, lanes // LANES, depths * DEPTH // 2, LANES, 2), np.uint16, zeros=True),
        tiles.aligned((threads, depths, _ROWS, DEPTH), np.uint16, zeros=True),
        tiles.aligned((threads, 2 * LANES, lanes), np.float32),
        out.numpy(),
    )
    return out.view(torch.bfloat16)


@njit(nogil=True, parallel=True, cache=True)
def _products(
    threads: int,
    x: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray,
    order: np.ndarray,
    starts: np.ndarray,
    visits: int,
    packed: np.ndarray,
    rows: np.ndarray,
    sums: np.ndarray,
    out: np.ndarray,
) -> None:
    counts = turns(1)
    for thread in prange(threads):
        group = counted(address(counts))
        while group < len(weights):
            start, stop = starts[group], starts[group + 1]
            if start < stop:
                _pack(weights[group], packed[thread])
            for at in range(start, stop, _ROWS):
                mine = order[at : min(at + _ROWS, stop)]
                _gather(x, mine, visits, rows[thread])
                _multiply(rows[thread], packed[thread], bias[group], mine, sums[thread], out)
            group = counted(address(counts))


@njit(nogil=True)
def _pack(weights: np.ndarray, packed: np.ndarray) -> None:
    """Lay [S, D] out as tiles read weights; what is beyond both stays zero."""
    size, width = weights.shape
    for s in range(size):
        row, to = weights[s], packed[s // LANES]
        lane = s % LANES
        for k in range(width // 2):
            to[k, lane, 0] = np.uint16(nearest(row[2 * k]))
            to[k, lane, 1] = np.uint16(nearest(row[2 * k + 1]))
        if width % 2:
            to[width // 2, lane, 0] = np.uint16(nearest(row[width - 1]))


@njit(nogil=True)
def _gather(x: np.ndarray, visits_of: np.ndarray, visits: int, rows: np.ndarray) -> None:
    """Lay out the rows of some visits."""
    width = x.shape[1]
    for m in range(len(visits_of)):
        row = x[visits_of[m] // visits]
        for part in range(len(rows)):
            to, first = rows[part, m], part * DEPTH
            for k in range(min(DEPTH, width - first)):
                to[k] = np.uint16(nearest(row[first + k]))


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
