"""Compiled kernels of what lies near what: estimates by signs, the best of a product, firing together.

Loops are shared out over threads by features, so that the results do not depend on how many there are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange, types
from numba.extending import intrinsic


@intrinsic
def popcount(_context: Any, _word: Any) -> Any:
    """How many bits of a uint64 are set: one instruction."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.int64(types.uint64), generate


@njit(parallel=True, cache=True)
def signs(turned: np.ndarray, codes: np.ndarray, scale: np.ndarray) -> None:
    """Signs of rows [N, D] as bits [N, W], and the scale of each row [N]: one over the sum of its sizes."""
    for i in prange(len(turned)):
        total = np.float32(0)
        for j in range(turned.shape[1]):
            value = turned[i, j]
            total += abs(value)
            if value > 0:
                codes[i, j // 64] |= np.uint64(1) << np.uint64(j % 64)
        scale[i] = np.float32(1) / max(total, np.float32(1e-12))


@njit(parallel=True, cache=True)
def estimate(
    codes: np.ndarray,
    scale: np.ndarray,
    planes: np.ndarray,
    lowest: np.float32,
    step: np.float32,
    total: np.float32,
    found: np.ndarray,
) -> None:
    """Estimates of the cosines of N directions with a query of which bit planes are given.

    The product of signs with the query is 2 · (sum of its coordinates where a sign is +) − their sum.
    """
    for i in prange(len(codes)):
        positive, ones, twos, fours, eights = 0, 0, 0, 0, 0
        for w in range(codes.shape[1]):
            code = codes[i, w]
            positive += popcount(code)
            ones += popcount(code & planes[0, w])
            twos += popcount(code & planes[1, w])
            fours += popcount(code & planes[2, w])
            eights += popcount(code & planes[3, w])
        levels = np.float32(ones + 2 * twos + 4 * fours + 8 * eights)
        found[i] = scale[i] * (2 * (lowest * np.float32(positive) + step * levels) - total)


@njit(parallel=True, cache=True)
def keep_best(
    products: np.ndarray, columns: np.ndarray, rows: np.ndarray, values: np.ndarray, ids: np.ndarray
) -> None:
    """Take products [Q, C] into the best of each row, descending; of equals the lower number is first.

    Args:
        products: of some rows with the features `columns`.
        columns: [C] numbers of features.
        rows: [Q] the number of the feature that each row is, which is no neighbour of itself, or -1.
        values: [Q, K], changed.
        ids: [Q, K], changed.
    """
    room = values.shape[1]
    for q in prange(len(products)):
        for c in range(len(columns)):
            value = products[q, c]
            if value < values[q, room - 1] or columns[c] == rows[q]:
                continue
            place = room
            while place > 0 and (
                values[q, place - 1] < value
                or (values[q, place - 1] == value and ids[q, place - 1] > columns[c])
            ):
                place -= 1
            for j in range(room - 1, place, -1):
                values[q, j] = values[q, j - 1]
                ids[q, j] = ids[q, j - 1]
            if place < room:
                values[q, place] = value
                ids[q, place] = columns[c]


@njit(parallel=True, cache=True)
def fire_together(
    bounds: np.ndarray,
    starts: np.ndarray,
    tokens: np.ndarray,
    offsets: np.ndarray,
    features: np.ndarray,
    own: np.ndarray,
    counts: np.ndarray,
    others: np.ndarray,
    least: int,
    found: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """For each of F features, the K features that fire with it most, by the cosine of their firing.

    Args:
        bounds: [G + 1] features are shared out over threads by these.
        starts: [F + 1] where the tokens of each begin.
        tokens: the tokens each is active on; -1 for one that is not looked at.
        offsets: [T + 1] where the features of each token begin.
        features: the features active on each token.
        own: [F] the number of each feature among those counted, or -1: it is no neighbour of itself.
        counts: [N] on how many tokens each of the features counted is active.
        others: [F] on how many each of the F is.
        least: tokens that two must share.
        found: ids [F, K], cosines [F, K] and tokens shared [F, K]; changed.
    """
    ids, cosines, shared = found
    room = ids.shape[1]
    for g in prange(len(bounds) - 1):
        met = np.zeros(len(counts), np.int32)
        touched = np.empty(len(counts), np.int32)
        for f in range(bounds[g], bounds[g + 1]):
            many = 0
            for at in range(starts[f], starts[f + 1]):
                t = tokens[at]
                if t < 0:
                    continue
                for e in range(offsets[t], offsets[t + 1]):
                    j = features[e]
                    if met[j] == 0:
                        touched[many] = j
                        many += 1
                    met[j] += 1
            for m in range(many):
                j = touched[m]
                n = met[j]
                met[j] = 0
                if n < least or j == own[f]:
                    continue
                cosine = np.float32(n / np.sqrt(np.float64(counts[j]) * np.float64(others[f])))
                if cosine < cosines[f, room - 1]:
                    continue
                place = room
                while place > 0 and (
                    cosines[f, place - 1] < cosine
                    or (cosines[f, place - 1] == cosine and (ids[f, place - 1] > j or ids[f, place - 1] < 0))
                ):
                    place -= 1
                for k in range(room - 1, place, -1):
                    ids[f, k], cosines[f, k], shared[f, k] = (
                        ids[f, k - 1],
                        cosines[f, k - 1],
                        shared[f, k - 1],
                    )
                if place < room:
                    ids[f, place], cosines[f, place], shared[f, place] = j, cosine, n
