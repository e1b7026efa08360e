"""Products of few rows, compiled by numba, in which a row's result does not depend on the other rows.

Writing token by token multiplies every weight by a handful of activations, and is as fast as weights can be
read. General matrix products are made for many rows: with 8 rows of SmolLM2 on two AVX2 cores MKL took seven
times as long as with one, these kernels twice (benchmarks/LOG.md). They also add up in another order for
another number of rows, so that an answer could change with the company it is written in; here each row is
summed by itself, in one fixed order.

Weights are float32, or bfloat16 given as the uint16 of its bits: read at half the bytes, widened in the
register, summed in float32.

    M rows, K inputs, N outputs; x [M, K] float32, weights [N, K]
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange, types
from numba.extending import overload

# Sums may be reordered within a row, to be vectorised: the compiled order is the same for every row.
_MATH = {"reassoc", "contract", "nsz"}
_OUTPUTS = 16
"""Outputs whose weights stay in the nearest cache while four rows at a time pass over them."""


def _widened(weight):  # type: ignore[no-untyped-def]  # numba compares signatures, annotations included
    """A weight as float32."""
    raise NotImplementedError("compiled only")


@overload(_widened, inline="always")
def _widened_compiled(weight):  # type: ignore[no-untyped-def]
    if isinstance(weight, types.Integer):
        return lambda weight: np.uint32(np.uint32(weight) << np.uint32(16)).view(np.float32)
    return lambda weight: weight


@njit(parallel=True, fastmath=_MATH, cache=True, nogil=True)
def product(x: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """Write x · weightsᵀ to out [M, N]."""
    rows, inputs = x.shape
    outputs = weights.shape[0]
    for block in prange((outputs + _OUTPUTS - 1) // _OUTPUTS):
        first, last = block * _OUTPUTS, min(outputs, block * _OUTPUTS + _OUTPUTS)
        for m in range(0, rows, 4):
            # Where fewer than four rows are left, the last stands in for the others.
            m1, m2, m3 = min(m + 1, rows - 1), min(m + 2, rows - 1), min(m + 3, rows - 1)
            x0, x1, x2, x3 = x[m], x[m1], x[m2], x[m3]
            for n in range(first, last):
                w = weights[n]
                s0 = s1 = s2 = s3 = np.float32(0)
                for k in range(inputs):
                    v = _widened(w[k])
                    s0 += v * x0[k]
                    s1 += v * x1[k]
                    s2 += v * x2[k]
                    s3 += v * x3[k]
                out[m, n] = s0
                if m1 > m:
                    out[m1, n] = s1
                if m2 > m1:
                    out[m2, n] = s2
                if m3 > m2:
                    out[m3, n] = s3


@njit(parallel=True, fastmath=_MATH, cache=True, nogil=True)
def normed(x: np.ndarray, gain: np.ndarray, epsilon: float, out: np.ndarray) -> None:
    """Each row over its root mean square, times gain [K] (Zhang and Sennrich 2019, arXiv 1910.07467)."""
    rows, width = x.shape
    for m in prange(rows):
        total = np.float32(0)
        for k in range(width):
            total += x[m, k] * x[m, k]
        scale = np.float32(1 / np.sqrt(total / width + epsilon))
        for k in range(width):
            out[m, k] = x[m, k] * scale * gain[k]


@njit(parallel=True, fastmath=_MATH, cache=True, nogil=True)
def gated(gate: np.ndarray, up: np.ndarray, out: np.ndarray) -> None:
    """silu(gate) · up, all [M, F] (Shazeer 2020, arXiv 2002.05202)."""
    rows, width = out.shape
    for m in prange(rows):
        for k in range(width):
            out[m, k] = gate[m, k] / (np.float32(1) + np.exp(-gate[m, k])) * up[m, k]


@njit(parallel=True, fastmath=_MATH, cache=True, nogil=True)
def attended(
    qkv: np.ndarray,
    cosines: np.ndarray,
    sines: np.ndarray,
    slots: np.ndarray,
    places: np.ndarray,
    keys: np.ndarray,
    values: np.ndarray,
    out: np.ndarray,
) -> None:
    """Rotate queries and keys, store keys and values, and attend to what a token's slot holds up to it.

    Args:
        qkv: [M, (H + 2·G)·E] queries of H heads, keys and values of G groups; E a head's width.
        cosines: [M, E] of the rotation at each token's place (Su et al. 2021, arXiv 2104.09864).
        sines: [M, E].
        slots: [M] the slot of each token.
        places: [M] its place in the slot; tokens of a slot come in order, without gaps.
        keys: [slots, G, room, E]; written at (slot, place).
        values: the same.
        out: [M, H·E] what each head read.
    """
    rows = qkv.shape[0]
    groups, width = keys.shape[1], keys.shape[3]
    heads = qkv.shape[1] // width - 2 * groups
    half, per_group = width // 2, heads // groups
    for job in prange(rows * groups):
        m, g = job // groups, job % groups
        slot, place = slots[m], places[m]
        at_key, at_value = (heads + g) * width, (heads + groups + g) * width
        for e in range(half):
            low, high = qkv[m, at_key + e], qkv[m, at_key + half + e]
            keys[slot, g, place, e] = low * cosines[m, e] - high * sines[m, e]
            keys[slot, g, place, half + e] = high * cosines[m, half + e] + low * sines[m, half + e]
        for e in range(width):
            values[slot, g, place, e] = qkv[m, at_value + e]
    scale = np.float32(1 / np.sqrt(width))
    for job in prange(rows * heads):
        m, h = job // heads, job % heads
        g, slot, length = h // per_group, slots[m], places[m] + 1
        key, value = keys[slot, g], values[slot, g]
        query = np.empty(width, np.float32)
        at = h * width
        for e in range(half):
            low, high = qkv[m, at + e], qkv[m, at + half + e]
            query[e] = (low * cosines[m, e] - high * sines[m, e]) * scale
            query[half + e] = (high * cosines[m, half + e] + low * sines[m, half + e]) * scale
        weights = np.empty(length, np.float32)
        most = np.float32(-np.inf)
        for t in range(length):
            score = np.float32(0)
            for e in range(width):
                score += query[e] * key[t, e]
            weights[t] = score
            most = max(most, score)
        total = np.float32(0)
        for t in range(length):
            weights[t] = np.exp(weights[t] - most)
            total += weights[t]
        read = np.zeros(width, np.float32)
        for t in range(length):
            share = weights[t] / total
            for e in range(width):
                read[e] += share * value[t, e]
        for e in range(width):
            out[m, at + e] = read[e]
