"""Products of few rows, compiled by numba, in which a row's result does not depend on the other rows.

General matrix products are made for many rows, and add up in another order for another number of rows, so
that an answer could change with the company it is written in. Here each row is summed by itself, in one fixed
order (`tiles`).

Every thread goes through the whole of what is to be done, turn by turn. A turn is cut into jobs, which
threads take as they come, and the next turn waits for the jobs, not for the threads: where one is held up by
other work on the machine, the others take its share.

Weights are float32 (`float32`), bfloat16 to be widened (`uint16`, their bits), or bfloat16 for the tile unit
(`int16`, the same bits): the dtype says which arithmetic is compiled.

    M rows, K inputs, N outputs; x [M, K] float32; packed weights [N / 16, K / 2, …], see `tiles.packed`
"""

from __future__ import annotations

import sys

import numpy as np
from numba import njit, prange, types
from numba.extending import overload

from pellucid.models.tiles import (
    CONFIGURATIONS,
    DEPTH,
    LANES,
    ROWS,
    VECTORS,
    address,
    aligned,
    configured,
    counted,
    halves,
    looked,
    released,
    widened,
)

# Sums may be reordered within a row, to be vectorised: the compiled order is the same for every row.
REORDERED = {"reassoc", "contract", "nsz"}
_PAIRS_AT_ONCE = 2
"""Pairs of vectors of outputs in a job of the tile unit."""
_APART = 64
"""Bytes between two numbers that threads count on, so that they lie in two lines of the cache."""
_LOOKS = 100_000
"""How often a thread looks whether the others are done, some tenth of a millisecond, before it rests."""

if sys.platform == "win32":

    @njit(nogil=True)
    def _rest() -> None:
        """Look again at once."""
else:
    _sleep = types.ExternalFunction("usleep", types.int32(types.uint32))

    @njit(nogil=True)
    def _rest() -> None:
        """Leave the processor for a moment: to whom the others wait for, where others work on the machine."""
        _sleep(np.uint32(1))


@njit(nogil=True)
def turns(number: int) -> np.ndarray:
    """[number, 2, 8] for so many turns: how many jobs were taken, and how many are done.

    Compiled by itself, lest numba give it threads of its own.
    """
    return np.zeros((number, 2, _APART // 8), np.int64)


@njit(nogil=True)
def done(turn: int) -> None:
    """Count a job as done; `counted(turn)` takes one, or a number past the last."""
    counted(turn + _APART)


@njit(nogil=True)
def following(turn: int, jobs: int) -> int:
    """Wait until all jobs of a turn are done; the next turn."""
    looks = 0
    while looked(turn + _APART) < jobs:
        looks += 1
        if looks > _LOOKS:
            _rest()
    return turn + 2 * _APART


_MANY = [widened(rows, VECTORS, True) for rows in (ROWS, 4, 2, 1)]
_ONE = [widened(rows, 1, True) for rows in (ROWS, 4, 2, 1)]
_MANY_WHOLE = [widened(rows, VECTORS, False) for rows in (ROWS, 4, 2, 1)]
_ONE_WHOLE = [widened(rows, 1, False) for rows in (ROWS, 4, 2, 1)]
_TWO_BLOCKS, _BLOCK = halves(2), halves(1)


def _rows_of(found: list):  # type: ignore[no-untyped-def,type-arg]
    """All rows by tiles of some: `over(x, x_step, rows, weights, pairs, block, out, out_step)`."""
    most, four, two, one = found

    @njit(nogil=True)
    def over(x, x_step, rows, weights, pairs, block, out, out_step):  # type: ignore[no-untyped-def]
        m = 0
        while m + ROWS <= rows:
            most(x + m * x_step, x_step, weights, pairs, block, out + m * out_step, out_step)
            m += ROWS
        if m + 4 <= rows:
            four(x + m * x_step, x_step, weights, pairs, block, out + m * out_step, out_step)
            m += 4
        if m + 2 <= rows:
            two(x + m * x_step, x_step, weights, pairs, block, out + m * out_step, out_step)
            m += 2
        if m < rows:
            one(x + m * x_step, x_step, weights, pairs, block, out + m * out_step, out_step)

    return over


def _several_of(many: list, one: list):  # type: ignore[no-untyped-def,type-arg]
    """A product in one thread."""
    over_many, over_one = _rows_of(many), _rows_of(one)

    @njit(nogil=True)
    def several(x, x_step, rows, weights, vectors, pairs, block, out, out_step):  # type: ignore[no-untyped-def]
        n = 0
        while n + VECTORS <= vectors:
            to = out + n * 4 * LANES
            over_many(x, x_step, rows, weights + n * block, pairs, block, to, out_step)
            n += VECTORS
        while n < vectors:
            over_one(x, x_step, rows, weights + n * block, pairs, block, out + n * 4 * LANES, out_step)
            n += 1

    return several


several_halves, several_floats = _several_of(_MANY, _ONE), _several_of(_MANY_WHOLE, _ONE_WHOLE)


def several(kept, x, x_step, rows, weights, vectors, pairs, block, out, out_step):  # type: ignore[no-untyped-def]
    """A product in one thread, all by addresses and bytes; `kept` is an array of the weights' dtype."""
    raise NotImplementedError("compiled only")


@overload(several, inline="always")
def _several(kept, x, x_step, rows, weights, vectors, pairs, block, out, out_step):  # type: ignore[no-untyped-def]
    chosen = several_floats if kept.dtype == types.float32 else several_halves
    return lambda kept, x, x_step, rows, weights, vectors, pairs, block, out, out_step: chosen(
        x, x_step, rows, weights, vectors, pairs, block, out, out_step
    )


@njit(nogil=True, forceinline=True)
def nearest(value: np.float32) -> np.uint32:
    """The bits of the nearest bfloat16; of those that are equally near, the even one."""
    bits = np.float32(value).view(np.uint32)
    return np.uint32((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


def parted(weights, x, split, m, start, stop):  # type: ignore[no-untyped-def]
    """Set out columns of row m of x, if it is the tile unit that multiplies them by these weights.

    As the sum of two numbers of bfloat16: the nearest, and the nearest to what is left.
    """
    raise NotImplementedError("compiled only")


@overload(parted)
def _parted(weights, x, split, m, start, stop):  # type: ignore[no-untyped-def]
    if weights.dtype != types.int16:
        return lambda weights, x, split, m, start, stop: None

    def parted(weights, x, split, m, start, stop):  # type: ignore[no-untyped-def]
        for part in range(start // DEPTH, (stop + DEPTH - 1) // DEPTH):
            row = x[m, part * DEPTH : part * DEPTH + DEPTH]
            high, low = split[0, part, m], split[1, part, m]
            for k in range(DEPTH):
                rounded = nearest(row[k])
                left = np.float32(row[k] - np.uint32(rounded << np.uint32(16)).view(np.float32))
                high[k] = np.uint16(rounded)
                low[k] = np.uint16((left.view(np.uint32) + np.uint32(0x8000)) >> np.uint32(16))

    return parted


def multiplied(turn, x, weights, out, split):  # type: ignore[no-untyped-def]
    """Write x · weightsᵀ to out [M, N]; the next turn. `parted` has seen all of x."""
    raise NotImplementedError("compiled only")


@overload(multiplied)
def _multiplied(turn, x, weights, out, split):  # type: ignore[no-untyped-def]
    several = several_floats if weights.dtype == types.float32 else several_halves

    def by_vectors(turn, x, weights, out, split):  # type: ignore[no-untyped-def]
        rows, vectors, pairs = x.shape[0], weights.shape[0], weights.shape[1]
        block = weights.strides[0]
        jobs = (vectors + VECTORS - 1) // VECTORS
        job = counted(turn)
        while job < jobs:
            first = job * VECTORS
            at, to = address(weights) + first * block, address(out) + first * 4 * LANES
            count = min(VECTORS, vectors - first)
            several(address(x), x.strides[0], rows, at, count, pairs, block, to, out.strides[0])
            done(turn)
            job = counted(turn)
        return following(turn, jobs)

    def by_tile_unit(turn, x, weights, out, split):  # type: ignore[no-untyped-def]
        rows, depths, pairs = x.shape[0], x.shape[1] // DEPTH, weights.shape[0] // 2
        low, step, block, out_step = split.strides[0], split.strides[1], weights.strides[0], out.strides[0]
        jobs = (pairs + _PAIRS_AT_ONCE - 1) // _PAIRS_AT_ONCE
        job = counted(turn)
        while job < jobs:
            first, last = job * _PAIRS_AT_ONCE, min(pairs, job * _PAIRS_AT_ONCE + _PAIRS_AT_ONCE)
            m = 0
            while m < rows:
                left = rows - m
                configured(address(CONFIGURATIONS) + 64 * min(left, 16))
                x_at = address(split) + m * 2 * DEPTH
                for pair in range(first, last):
                    at = address(weights) + pair * 2 * block
                    to = address(out) + m * out_step + pair * 8 * LANES
                    if left >= 32:
                        _TWO_BLOCKS(x_at, low, step, at, depths, block, to, out_step)
                    else:
                        _BLOCK(x_at, low, step, at, depths, block, to, out_step)
                m += 32 if left >= 32 else 16
            released()
            done(turn)
            job = counted(turn)
        return following(turn, jobs)

    return by_tile_unit if weights.dtype == types.int16 else by_vectors


def keep(vector, number, lane, value):  # type: ignore[no-untyped-def]
    """Set an input of an output of a vector of packed weights."""
    raise NotImplementedError("compiled only")


@overload(keep, inline="always")
def _keep(vector, number, lane, value):  # type: ignore[no-untyped-def]
    if vector.dtype == types.float32:

        def keep(vector, number, lane, value):  # type: ignore[no-untyped-def]
            vector[number // 2, number % 2, lane] = value
    else:

        def keep(vector, number, lane, value):  # type: ignore[no-untyped-def]
            vector[number // 2, lane, number % 2] = np.uint16(nearest(value))

    return keep


@njit(nogil=True)
def split_out(turn, x, weights, split):  # type: ignore[no-untyped-def]
    """Set x out for the product with these weights; the next turn."""
    m = counted(turn)
    while m < len(x):
        parted(weights, x, split, m, 0, x.shape[1])
        done(turn)
        m = counted(turn)
    return following(turn, len(x))


def product(threads: int, x: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """Write x · weightsᵀ to out [M, N].

    Args:
        threads: how many share the work.
        x: [M, K], padded as the weights are.
        weights: packed; the dtype says how to multiply.
        out: [M, N], padded as the weights are.
    """
    _product(threads, x, weights, out, aligned((2, x.shape[1] // DEPTH, len(x), DEPTH), np.uint16))


@njit(nogil=True, parallel=True, cache=True)
def _product(threads: int, x: np.ndarray, weights: np.ndarray, out: np.ndarray, split: np.ndarray) -> None:
    counts = turns(2)
    for _ in prange(threads):
        turn = split_out(address(counts), x, weights, split)
        multiplied(turn, x, weights, out, split)
