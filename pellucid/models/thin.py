"""A step of a Llama-like model over few rows, compiled by numba; a row's result does not depend on the others.

Writing token by token multiplies every weight by a handful of activations, and is as fast as weights can be
read. General matrix products are made for many rows, and add up in another order for another number of rows,
so that an answer could change with the company it is written in. Here each row is summed by itself, in one fixed
order (`tiles`).

Weights are float32 (`float32`), bfloat16 to be widened (`uint16`, their bits), or bfloat16 for the tile unit
(`int16`, the same bits): the dtype says which arithmetic is compiled.

    M rows, D width, F width of the hidden layer, K inputs, N outputs; H heads, G groups, E a head's width
    x [M, K] float32; packed weights [N / 16, K / 2, …], see `tiles.packed`
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange, types
from numba.extending import overload

from pellucid.models import tiles
from pellucid.models.tiles import (
    CONFIGURATIONS,
    DEPTH,
    LANES,
    PART,
    ROWS,
    VECTORS,
    configured,
    halves,
    released,
    widened,
)

# Sums may be reordered within a row, to be vectorised: the compiled order is the same for every row.
_MATH = {"reassoc", "contract", "nsz"}


class Layers(NamedTuple):
    """The weights of all layers, the first axis of each array."""

    before_attention: np.ndarray
    """[layers, D]"""
    qkv: np.ndarray
    """Packed (H + 2·G)·E outputs."""
    bias: np.ndarray
    """[layers, (H + 2·G)·E], or [0, 0] where there is none."""
    query_norm: np.ndarray
    """[layers, E], or [0, 0]."""
    key_norm: np.ndarray
    out: np.ndarray
    """Packed D outputs."""
    before_mlp: np.ndarray
    """[layers, D]"""
    gate_up: np.ndarray
    """Packed 2·F outputs, the gates first."""
    down: np.ndarray
    """Packed D outputs."""


class Cache(NamedTuple):
    """What was read, for attention: packed weights, float32 or bfloat16 as uint16."""

    keys: np.ndarray
    """[layers, slots, G, room / 16, E / 2, …]: places are the outputs."""
    values: np.ndarray
    """[layers, slots, G, E / 16, room / 2, …]: places are the inputs."""


class Place(NamedTuple):
    """Where each of the M tokens stands; those of a slot come in order, without gaps."""

    slots: np.ndarray
    """[M]"""
    places: np.ndarray
    """[M]"""
    cosines: np.ndarray
    """[M, E] of the rotation at its place (Su et al. 2021, arXiv 2104.09864)."""
    sines: np.ndarray
    """[M, E]"""


class Work(NamedTuple):
    """Room for what is computed in a layer; columns are padded as packed weights are, with zeros."""

    normal: np.ndarray
    """[M, D]"""
    qkv: np.ndarray
    """[M, (H + 2·G)·E]"""
    read: np.ndarray
    """[M, H·E]"""
    gate_up: np.ndarray
    """[M, 2·F]"""
    hidden: np.ndarray
    """[M, F]"""
    added: np.ndarray
    """[M, D]"""
    split: np.ndarray
    """[2, M · the most inputs] uint16, for the tile unit."""


def work_of(rows: int, width: int, qkv: int, read: int, hidden: int) -> Work:
    """Room for so many rows of the model."""
    p = tiles.padded
    shapes = (width, qkv, read, 2 * hidden, hidden, width)
    split = np.empty((2, rows * p(max(shapes))), np.uint16)
    return Work(*(np.zeros((rows, p(s)), np.float32) for s in shapes), split)


_MANY = [widened(rows, VECTORS, True) for rows in (ROWS, 4, 2, 1)]
_ONE = [widened(rows, 1, True) for rows in (ROWS, 4, 2, 1)]
_MANY_WHOLE = [widened(rows, VECTORS, False) for rows in (ROWS, 4, 2, 1)]
_ONE_WHOLE = [widened(rows, 1, False) for rows in (ROWS, 4, 2, 1)]


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


def _product_of(many: list, one: list):  # type: ignore[no-untyped-def,type-arg]
    """The product by tiles that widen."""
    over_many, over_one = _rows_of(many), _rows_of(one)

    @njit(parallel=True, nogil=True)
    def product(x, weights, out, _split):  # type: ignore[no-untyped-def]
        rows, vectors, pairs = x.shape[0], weights.shape[0], weights.shape[1]
        block = pairs * 2 * LANES * weights.itemsize
        x_at, weights_at, out_at = x.ctypes.data, weights.ctypes.data, out.ctypes.data
        x_step, out_step = x.strides[0], out.strides[0]
        for job in prange((vectors + VECTORS - 1) // VECTORS):
            first = job * VECTORS
            if first + VECTORS <= vectors:
                at, to = weights_at + first * block, out_at + first * 4 * LANES
                over_many(x_at, x_step, rows, at, pairs, block, to, out_step)
            else:
                for n in range(first, vectors):
                    at, to = weights_at + n * block, out_at + n * 4 * LANES
                    over_one(x_at, x_step, rows, at, pairs, block, to, out_step)

    return product


_by_halves_widened = _product_of(_MANY, _ONE)
_by_floats = _product_of(_MANY_WHOLE, _ONE_WHOLE)
_TWO_BLOCKS, _BLOCK = halves(2), halves(1)
_PAIRS_AT_ONCE = 4
"""Pairs of vectors of outputs that a thread multiplies before it sets the tile unit up for other rows."""


@njit(nogil=True, inline="always")
def _nearest(value: np.float32) -> np.uint32:
    """The bits of the nearest bfloat16; of those that are equally near, the even one."""
    bits = np.float32(value).view(np.uint32)
    return np.uint32((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@njit(nogil=True, inline="always")
def _parted(x: np.ndarray, high: np.ndarray, low: np.ndarray) -> None:
    """A row as the sum of two of bfloat16, as bits: the nearest, and the nearest to what is left."""
    for k in range(len(x)):
        rounded = _nearest(x[k])
        left = np.float32(x[k] - np.uint32(rounded << np.uint32(16)).view(np.float32))
        high[k] = np.uint16(rounded)
        low[k] = np.uint16((left.view(np.uint32) + np.uint32(0x8000)) >> np.uint32(16))


@njit(parallel=True, nogil=True)
def _by_tile_unit(x, weights, out, split):  # type: ignore[no-untyped-def]
    rows, inputs = x.shape
    depths = inputs // DEPTH
    high, low = split[0, : rows * inputs].reshape(rows, inputs), split[1, : rows * inputs].reshape(rows, inputs)
    if rows < 4:
        for m in range(rows):
            _parted(x[m], high[m], low[m])
    else:
        for m in prange(rows):
            _parted(x[m], high[m], low[m])
    block, step, out_step = depths * PART, 2 * inputs, out.strides[0]
    high_at, low_at, weights_at, out_at = high.ctypes.data, low.ctypes.data, weights.ctypes.data, out.ctypes.data
    setups = CONFIGURATIONS.ctypes.data
    pairs = weights.shape[0] // 2
    for job in prange((pairs + _PAIRS_AT_ONCE - 1) // _PAIRS_AT_ONCE):
        first, last = job * _PAIRS_AT_ONCE, min(pairs, job * _PAIRS_AT_ONCE + _PAIRS_AT_ONCE)
        m = 0
        while m < rows:
            left = rows - m
            configured(setups + 64 * min(left, 16))
            for pair in range(first, last):
                at, to = weights_at + pair * 2 * block, out_at + m * out_step + pair * 8 * LANES
                if left >= 32:
                    _TWO_BLOCKS(
                        high_at + m * step, low_at + m * step, step, at, depths, block, to, out_step
                    )
                else:
                    _BLOCK(high_at + m * step, low_at + m * step, step, at, depths, block, to, out_step)
            m += 32 if left >= 32 else 16
        released()


def _product(x, weights, out, split):  # type: ignore[no-untyped-def]
    raise NotImplementedError("compiled only")


@overload(_product, inline="always")
def _product_compiled(x, weights, out, split):  # type: ignore[no-untyped-def]
    chosen = {types.float32: _by_floats, types.uint16: _by_halves_widened, types.int16: _by_tile_unit}[weights.dtype]
    return lambda x, weights, out, split: chosen(x, weights, out, split)


@njit(nogil=True, cache=True)
def product(x: np.ndarray, weights: np.ndarray, out: np.ndarray, split: np.ndarray) -> None:
    """Write x · weightsᵀ to out [M, N].

    Args:
        x: [M, K], padded as the weights are.
        weights: packed; the dtype says how to multiply.
        out: [M, N], padded as the weights are.
        split: [2, M · K] uint16, room for the tile unit.
    """
    _product(x, weights, out, split)


@njit(nogil=True, inline="always")
def _exp(x: np.float32) -> np.float32:
    """e^x of a float32 to about two units in the last place, in instructions that vectorise.

    x = n · ln 2 + r, and a polynomial for e^r (Cephes, expf.c); outside ±87 it is that of ±87.
    """
    x = np.float32(min(max(x, np.float32(-87)), np.float32(87)))
    n = np.float32(np.floor(x * np.float32(1.44269504) + np.float32(0.5)))
    r = np.float32(np.float32(x - n * np.float32(0.693359375)) + n * np.float32(2.12194440e-4))
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + np.float32(1)
    return np.float32(p * np.uint32(np.uint32(np.int32(n) + np.int32(127)) << np.uint32(23)).view(np.float32))


@njit(nogil=True, inline="always", fastmath=_MATH)
def _normed_row(x: np.ndarray, gain: np.ndarray, epsilon: float, out: np.ndarray) -> None:
    width = len(gain)
    total = np.float32(0)
    for k in range(width):
        total += x[k] * x[k]
    scale = np.float32(1 / np.sqrt(total / width + epsilon))
    for k in range(width):
        out[k] = x[k] * scale * gain[k]


@njit(parallel=True, fastmath=_MATH, nogil=True, cache=True)
def normed(x: np.ndarray, gain: np.ndarray, epsilon: float, out: np.ndarray) -> None:
    """Each row over its root mean square, times gain [D] (Zhang and Sennrich 2019, arXiv 1910.07467)."""
    if len(x) == 1:
        _normed_row(x[0], gain, epsilon, out[0])
    else:
        for m in prange(len(x)):
            _normed_row(x[m], gain, epsilon, out[m])


@njit(parallel=True, fastmath=_MATH, nogil=True, cache=True)
def gated(gate_up: np.ndarray, width: int, out: np.ndarray) -> None:
    """silu(gate) · up (Shazeer 2020, arXiv 2002.05202), of gates and ups [M, 2·F] side by side, to [M, F]."""
    parts = 4 if len(out) == 1 else 1
    for job in prange(len(out) * parts):
        m, part = job // parts, job % parts
        row, to = gate_up[m], out[m]
        for k in range(width * part // parts, width * (part + 1) // parts):
            to[k] = row[k] / (np.float32(1) + _exp(-row[k])) * row[width + k]


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


_several_halves, _several_floats = _several_of(_MANY, _ONE), _several_of(_MANY_WHOLE, _ONE_WHOLE)


def _several(kept, x, x_step, rows, weights, vectors, pairs, block, out, out_step):  # type: ignore[no-untyped-def]
    raise NotImplementedError("compiled only")


@overload(_several, inline="always")
def _several_compiled(kept, x, x_step, rows, weights, vectors, pairs, block, out, out_step):  # type: ignore[no-untyped-def]
    chosen = _several_floats if kept.dtype == types.float32 else _several_halves
    return lambda kept, x, x_step, rows, weights, vectors, pairs, block, out, out_step: chosen(
        x, x_step, rows, weights, vectors, pairs, block, out, out_step
    )


def _keep(vector, number, lane, value):  # type: ignore[no-untyped-def]
    """Set an input of an output of a vector of packed weights."""
    raise NotImplementedError("compiled only")


@overload(_keep, inline="always")
def _keep_compiled(vector, number, lane, value):  # type: ignore[no-untyped-def]
    if vector.dtype == types.float32:

        def keep(vector, number, lane, value):  # type: ignore[no-untyped-def]
            vector[number // 2, number % 2, lane] = value
    else:

        def keep(vector, number, lane, value):  # type: ignore[no-untyped-def]
            vector[number // 2, lane, number % 2] = np.uint16(_nearest(value))

    return keep


@njit(nogil=True, inline="always")
def _rotated(x, at, width, cosines, sines, e):  # type: ignore[no-untyped-def]
    """Number e of a head that begins at `at`, rotated to its place."""
    half = width // 2
    other = -x[at + half + e] if e < half else x[at + e - half]
    return x[at + e] * cosines[e] + other * sines[e]


@njit(nogil=True)
def _stored(m, g, qkv, place, keys, values, heads):  # type: ignore[no-untyped-def]
    """Store the key and the value of a token in a group."""
    rows, groups, width = len(place.slots), keys.shape[1], place.cosines.shape[1]
    slot, t = place.slots[m], place.places[m]
    key, value = keys[slot, g, t // LANES], values[slot, g]
    at = (heads + g) * width
    for e in range(width):
        _keep(key, e, t % LANES, _rotated(qkv[m], at, width, place.cosines[m], place.sines[m], e))
    at = (heads + groups + g) * width
    # What is read goes in pairs of places: beside the last there must be a number to multiply by zero.
    alone = t % 2 == 0 and (m + 1 == rows or place.slots[m + 1] != slot)
    for e in range(width):
        _keep(value[e // LANES], t, e % LANES, qkv[m, at + e])
        if alone:
            _keep(value[e // LANES], t + 1, e % LANES, np.float32(0))


@njit(parallel=True, fastmath=_MATH, nogil=True, cache=True)
def attended(
    qkv: np.ndarray, place: Place, keys: np.ndarray, values: np.ndarray, heads: int, out: np.ndarray
) -> None:
    """Rotate queries and keys, store keys and values, and attend to what a token's slot holds up to it.

    Args:
        qkv: [M, (H + 2·G)·E] queries of H heads, keys and values of G groups.
        place: where the tokens stand.
        keys: of the layer, see `Cache`; written at (slot, place).
        values: the same.
        heads: H.
        out: [M, H·E] what each head read.
    """
    rows, groups, width = len(place.slots), keys.shape[1], place.cosines.shape[1]
    per_group, wide = heads // groups, values.shape[2] * LANES
    if rows < 4:
        for job in range(rows * groups):
            _stored(job // groups, job % groups, qkv, place, keys, values, heads)
    else:
        for job in prange(rows * groups):
            _stored(job // groups, job % groups, qkv, place, keys, values, heads)
    scale = np.float32(1 / np.sqrt(width))
    for job in prange(rows * groups):
        m, g = job // groups, job % groups
        slot, length = place.slots[m], place.places[m] + 1
        key, value = keys[slot, g], values[slot, g]
        query = np.empty((per_group, width), np.float32)
        first = g * per_group * width
        for h in range(per_group):
            for e in range(width):
                found = _rotated(qkv[m], first + h * width, width, place.cosines[m], place.sines[m], e)
                query[h, e] = found * scale
        vectors = (length + LANES - 1) // LANES
        share = np.empty((per_group, vectors * LANES), np.float32)
        step = 4 * vectors * LANES
        _several(
            keys, query.ctypes.data, 4 * width, per_group, key.ctypes.data, vectors, width // 2, key.strides[0],
            share.ctypes.data, step,
        )
        for h in range(per_group):
            row = share[h]
            most = np.float32(-np.inf)
            for t in range(length):
                most = max(most, row[t])
            total = np.float32(0)
            for t in range(length):
                weight = _exp(row[t] - most)
                row[t] = weight
                total += weight
            for t in range(length):
                row[t] /= total
            if length % 2:
                row[length] = np.float32(0)
        read = np.empty((per_group, wide), np.float32)
        _several(
            values, share.ctypes.data, step, per_group, value.ctypes.data, wide // LANES, (length + 1) // 2,
            value.strides[0], read.ctypes.data, 4 * wide,
        )
        for h in range(per_group):
            for e in range(width):
                out[m, first + h * width + e] = read[h, e]


@njit(nogil=True, cache=True)
def attention(
    layer: int, x: np.ndarray, place: Place, layers: Layers, cache: Cache, heads: int, epsilon: float, work: Work
) -> None:
    """What the attention of a layer adds to x [M, D], to `work.added`."""
    normed(x, layers.before_attention[layer], epsilon, work.normal)
    product(work.normal, layers.qkv[layer], work.qkv, work.split)
    width = place.cosines.shape[1]
    if len(layers.bias):
        for m in range(len(x)):
            for n in range(layers.bias.shape[1]):
                work.qkv[m, n] += layers.bias[layer, n]
    if len(layers.query_norm):
        for m in range(len(x)):
            for h in range(heads + cache.keys.shape[2]):
                gain = layers.query_norm[layer] if h < heads else layers.key_norm[layer]
                head = work.qkv[m, h * width : (h + 1) * width]
                _normed_row(head, gain, epsilon, head)
    attended(work.qkv, place, cache.keys[layer], cache.values[layer], heads, work.read)
    product(work.read, layers.out[layer], work.added, work.split)


@njit(nogil=True, cache=True)
def mlp(layer: int, width: int, layers: Layers, work: Work) -> None:
    """What the hidden layer of that `width` adds for `work.normal`, to `work.added`."""
    product(work.normal, layers.gate_up[layer], work.gate_up, work.split)
    gated(work.gate_up, width, work.hidden)
    product(work.hidden, layers.down[layer], work.added, work.split)


@njit(nogil=True, cache=True)
def add(x: np.ndarray, added: np.ndarray) -> None:
    """Add to x [M, D] the columns of `added` that it has."""
    for m in range(x.shape[0]):
        for k in range(x.shape[1]):
            x[m, k] += added[m, k]


@njit(nogil=True, cache=True)
def through(
    first: int,
    last: int,
    x: np.ndarray,
    place: Place,
    layers: Layers,
    cache: Cache,
    heads: int,
    hidden: int,
    epsilon: float,
    work: Work,
) -> None:
    """Take x [M, D] through layers, from the first to before the last."""
    for layer in range(first, last):
        attention(layer, x, place, layers, cache, heads, epsilon, work)
        add(x, work.added)
        normed(x, layers.before_mlp[layer], epsilon, work.normal)
        mlp(layer, hidden, layers, work)
        add(x, work.added)


@njit(parallel=True, nogil=True, cache=True, fastmath=_MATH)
def likeliest(logits: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The likeliest of the first `size` tokens of each row of [M, V], its logit, and the log of all exponents' sum.

    The lowest of tokens that tie. A row with a NaN has a logit that is none.
    """
    rows = len(logits)
    tokens, most, sums = np.zeros(rows, np.int64), np.empty(rows, np.float32), np.empty(rows, np.float32)
    for m in prange(rows):
        row = logits[m]
        best, sound = np.float32(-np.inf), np.float32(0)
        for n in range(size):
            best = max(best, row[n])
            sound += row[n] * np.float32(0)
        total = np.float32(0)
        for n in range(size):
            total += _exp(row[n] - best)
        for n in range(size):
            if row[n] == best:
                tokens[m] = n
                break
        most[m] = best + sound
        sums[m] = best + np.log(total)
    return tokens, most, sums
