"""The layers of a Llama-like model over few rows, compiled by numba; a row does not depend on the others.

Writing token by token multiplies every weight by a handful of activations, and is as fast as weights can be
read. How products are computed, and how threads share the work, is in `products`.

    M rows, D width, F width of the hidden layer, K inputs, N outputs; H heads, G groups, E a head's width
    x [M, K] float32; packed weights [N / 16, K / 2, …], see `tiles.packed`
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from pellucid.models.distributions import exp, shares
from pellucid.models.products import (
    REORDERED,
    done,
    following,
    keep,
    multiplied,
    parted,
    several,
    split_out,
    turns,
)
from pellucid.models.tiles import DEPTH, LANES, address, aligned, counted, padded

_COLUMNS = 256
"""Columns of the hidden layer in a job."""


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


class Sizes(NamedTuple):
    """Of the model."""

    heads: int
    """H"""
    hidden: int
    """F"""
    epsilon: float
    """What norms add."""


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
    """[2, most inputs / 32, M, 32] uint16: a factor as the sum of two of bfloat16, for the tile unit."""


class Kept(NamedTuple):
    """What x is before some layers, for those that only look."""

    number: np.ndarray
    """[layers] the place of each in `found`, or -1."""
    found: np.ndarray
    """[K, M, D]"""


def kept_of(x: np.ndarray, count: int, before: list[int]) -> Kept:
    """Room for what x [M, D] will be before some of `count` layers."""
    number = np.full(count, -1)
    number[before] = np.arange(len(before))
    return Kept(number, np.empty((len(before), *x.shape), np.float32))


def work_of(rows: int, width: int, qkv: int, read: int, hidden: int) -> Work:
    """Room for so many rows of the model."""

    def room(columns: int) -> np.ndarray:
        return aligned((rows, padded(columns)), np.float32, zeros=True)

    return Work(
        normal=room(width),
        qkv=room(qkv),
        read=room(read),
        gate_up=room(2 * hidden),
        hidden=room(hidden),
        added=room(width),
        split=aligned((2, padded(max(width, read, hidden)) // DEPTH, rows, DEPTH), np.uint16),
    )


@njit(nogil=True, fastmath=REORDERED, error_model="numpy")
def _normed_row(x: np.ndarray, gain: np.ndarray, epsilon: float, out: np.ndarray) -> None:
    """A row over its root mean square, times gain (Zhang and Sennrich 2019, arXiv 1910.07467)."""
    width = len(gain)
    total = np.float32(0)
    for k in range(width):
        total += x[k] * x[k]
    scale = np.float32(1 / np.sqrt(total / width + epsilon))
    for k in range(width):
        out[k] = x[k] * scale * gain[k]


@njit(nogil=True)
def _normed(turn, x, added, adding, gain, epsilon, weights, out, split, kept):  # type: ignore[no-untyped-def]
    """Add to x what is to be added, and norm it for the product with these weights; the next turn.

    What x is then is kept, if `kept` has rows.
    """
    rows, width = x.shape
    m = counted(turn)
    while m < rows:
        row, more = x[m], added[m]
        if adding:
            for k in range(width):
                row[k] += more[k]
        if len(kept):
            kept[m] = row
        _normed_row(row, gain, epsilon, out[m])
        parted(weights, out, split, m, 0, out.shape[1])
        done(turn)
        m = counted(turn)
    return following(turn, rows)


@njit(nogil=True, fastmath=REORDERED, error_model="numpy")
def _gated(turn, gate_up, width, weights, out, split):  # type: ignore[no-untyped-def]
    """silu(gate) · up (Shazeer 2020, arXiv 2002.05202), of gates and ups [M, 2·F] side by side, to [M, F]."""
    parts = (width + _COLUMNS - 1) // _COLUMNS
    jobs = len(out) * parts
    job = counted(turn)
    while job < jobs:
        m, start = job // parts, job % parts * _COLUMNS
        stop = min(width, start + _COLUMNS)
        gate, up, to = gate_up[m, start:stop], gate_up[m, width + start : width + stop], out[m, start:stop]
        for k in range(stop - start):
            to[k] = gate[k] / (np.float32(1) + exp(-gate[k])) * up[k]
        parted(weights, out, split, m, start, stop)
        done(turn)
        job = counted(turn)
    return following(turn, jobs)


@njit(nogil=True, fastmath=REORDERED, error_model="numpy")
def _rotate(head: np.ndarray, cosines: np.ndarray, sines: np.ndarray, scale: np.float32) -> None:
    """Rotate a head [E] to its place, in place, and scale it."""
    half = len(head) // 2
    low, high, low_cosines, high_cosines = head[:half], head[half:], cosines[:half], cosines[half:]
    low_sines, high_sines = sines[:half], sines[half:]
    for e in range(half):
        one, other = low[e] * scale, high[e] * scale
        low[e] = one * low_cosines[e] - other * low_sines[e]
        high[e] = other * high_cosines[e] + one * high_sines[e]


@njit(nogil=True)
def _prepared(turn, layer, place, layers, cache, sizes, work):  # type: ignore[no-untyped-def]
    """Queries and keys as they are compared; keys and values are stored. The next turn."""
    rows, groups, width = len(place.slots), cache.keys.shape[2], place.cosines.shape[1]
    heads, one = sizes.heads, np.float32(1)
    scale = np.float32(1 / np.sqrt(width))
    m = counted(turn)
    while m < rows:
        row, slot, t = work.qkv[m], place.slots[m], place.places[m]
        if len(layers.bias):
            bias = layers.bias[layer]
            for n in range(len(bias)):
                row[n] += bias[n]
        # What is read goes in pairs of places: beside the last there must be a number to multiply by zero.
        alone = t % 2 == 0 and (m + 1 == rows or place.slots[m + 1] != slot)
        for h in range(heads + groups):
            head = row[h * width : (h + 1) * width]
            if len(layers.query_norm):
                _normed_row(
                    head,
                    layers.query_norm[layer] if h < heads else layers.key_norm[layer],
                    sizes.epsilon,
                    head,
                )
            _rotate(head, place.cosines[m], place.sines[m], scale if h < heads else one)
            if h >= heads:
                key = cache.keys[layer, slot, h - heads, t // LANES]
                for e in range(width):
                    keep(key, e, t % LANES, head[e])
        for g in range(groups):
            at = (heads + groups + g) * width
            value, kept = row[at : at + width], cache.values[layer, slot, g]
            for e in range(width):
                keep(kept[e // LANES], t, e % LANES, value[e])
                if alone:
                    keep(kept[e // LANES], t + 1, e % LANES, np.float32(0))
        done(turn)
        m = counted(turn)
    return following(turn, rows)


@njit(nogil=True)
def _attended(turn, layer, place, layers, cache, sizes, work):  # type: ignore[no-untyped-def]
    """What each head reads of what its token's slot holds up to it; the next turn."""
    groups, width = cache.keys.shape[2], place.cosines.shape[1]
    per_group, wide = sizes.heads // groups, cache.values.shape[3] * LANES
    jobs = len(place.slots) * groups
    room = (cache.keys.shape[3] + 1) * LANES
    scores, read = np.empty((per_group, room), np.float32), np.empty((per_group, wide), np.float32)
    job = counted(turn)
    while job < jobs:
        m, g = job // groups, job % groups
        slot, length = place.slots[m], place.places[m] + 1
        key, value = cache.keys[layer, slot, g], cache.values[layer, slot, g]
        first, vectors = g * per_group * width, (length + LANES - 1) // LANES
        query = work.qkv[m, first:]
        several(
            key,
            address(query),
            4 * width,
            per_group,
            address(key),
            vectors,
            width // 2,
            key.strides[0],
            address(scores),
            scores.strides[0],
        )
        for h in range(per_group):
            shares(scores[h, :length])
            scores[h, length] = np.float32(0)
        several(
            value,
            address(scores),
            scores.strides[0],
            per_group,
            address(value),
            wide // LANES,
            (length + 1) // 2,
            value.strides[0],
            address(read),
            read.strides[0],
        )
        out = work.read[m, first : first + per_group * width]
        for h in range(per_group):
            for e in range(width):
                out[h * width + e] = read[h, e]
        done(turn)
        job = counted(turn)
    return following(turn, jobs)


@njit(nogil=True)
def _attention(turn, layer, x, adding, kept, place, layers, cache, sizes, work):  # type: ignore[no-untyped-def]
    """What the attention of a layer adds to x [M, D], to `work.added`, after what is there; the next turn."""
    gain, qkv = layers.before_attention[layer], layers.qkv[layer]
    turn = _normed(turn, x, work.added, adding, gain, sizes.epsilon, qkv, work.normal, work.split, kept)
    turn = multiplied(turn, work.normal, qkv, work.qkv, work.split)
    turn = _prepared(turn, layer, place, layers, cache, sizes, work)
    turn = _attended(turn, layer, place, layers, cache, sizes, work)
    turn = split_out(turn, work.read, layers.out[layer], work.split)
    return multiplied(turn, work.read, layers.out[layer], work.added, work.split)


@njit(nogil=True)
def _mlp(turn, layer, layers, sizes, work):  # type: ignore[no-untyped-def]
    """What the hidden layer adds for `work.normal`, to `work.added`; the next turn."""
    turn = multiplied(turn, work.normal, layers.gate_up[layer], work.gate_up, work.split)
    turn = _gated(turn, work.gate_up, sizes.hidden, layers.down[layer], work.hidden, work.split)
    return multiplied(turn, work.hidden, layers.down[layer], work.added, work.split)


@njit(nogil=True, parallel=True, cache=True)
def through(
    threads: int,
    first: int,
    last: int,
    x: np.ndarray,
    place: Place,
    layers: Layers,
    cache: Cache,
    sizes: Sizes,
    work: Work,
    kept: Kept,
) -> None:
    """Take x [M, D] through layers, from the first to before the last."""
    counts = turns(10 * (last - first) + 1)
    nothing = x[:0]
    for _ in prange(threads):
        turn = address(counts)
        for layer in range(first, last):
            number = kept.number[layer]
            before = kept.found[number] if number >= 0 else nothing
            turn = _attention(turn, layer, x, layer > first, before, place, layers, cache, sizes, work)
            gain, weights, normal = layers.before_mlp[layer], layers.gate_up[layer], work.normal
            turn = _normed(
                turn, x, work.added, True, gain, sizes.epsilon, weights, normal, work.split, nothing
            )
            turn = _mlp(turn, layer, layers, sizes, work)
    if first < last:
        add(x, work.added)


@njit(nogil=True, parallel=True, cache=True)
def attention(
    threads: int,
    layer: int,
    x: np.ndarray,
    place: Place,
    layers: Layers,
    cache: Cache,
    sizes: Sizes,
    work: Work,
) -> None:
    """What the attention of a layer adds to x [M, D], to `work.added`."""
    counts = turns(10)
    for _ in prange(threads):
        _attention(address(counts), layer, x, False, x[:0], place, layers, cache, sizes, work)


@njit(nogil=True, parallel=True, cache=True)
def mlp(threads: int, layer: int, layers: Layers, sizes: Sizes, work: Work) -> None:
    """What the hidden layer adds for `work.normal`, to `work.added`."""
    counts = turns(10)
    for _ in prange(threads):
        turn = split_out(address(counts), work.normal, layers.gate_up[layer], work.split)
        _mlp(turn, layer, layers, sizes, work)


@njit(nogil=True, cache=True)
def add(x: np.ndarray, added: np.ndarray) -> None:
    """Add to x [M, D] the columns of `added` that it has."""
    for m in range(x.shape[0]):
        row, more = x[m], added[m]
        for k in range(len(row)):
            row[k] += more[k]


@njit(nogil=True, cache=True)
def normed(x: np.ndarray, gain: np.ndarray, epsilon: float, out: np.ndarray) -> None:
    """Each row over its root mean square, times gain [D]."""
    for m in range(len(x)):
        _normed_row(x[m], gain, epsilon, out[m])
