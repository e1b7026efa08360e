"""The compiled kernels of search: adding up postings, and scanning quantised vectors."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

_STEP, _SPARE = 32, 32
"""`top` looks at every 32nd score, and takes in as many more as chance could miss."""


@njit(cache=True, fastmath=True)
def add_weights(scores: np.ndarray, features: np.ndarray, weights: np.ndarray, factor: np.float32) -> None:
    """Add to the scores [N] of features [P] their weights [P], of 255, times a factor."""
    scale = factor / np.float32(255)
    for i in range(len(features)):
        scores[features[i]] += scale * np.float32(weights[i])


@njit(parallel=True, cache=True, fastmath=True)
def products(vectors: np.ndarray, query: np.ndarray, scales: np.ndarray, out: np.ndarray) -> None:
    """The products [N] of int8 vectors [N, D] with a query [D], each times its scale, in float32."""
    for i in prange(len(vectors)):
        total = np.float32(0)
        for j in range(vectors.shape[1]):
            total += np.float32(vectors[i, j]) * query[j]
        out[i] = total * scales[i]


def top(scores: np.ndarray, count: int) -> np.ndarray:
    """Numbers of the `count` largest of scores [N], in no order; all where there are no more.

    A sample says how large they about are, so that one pass is left with few. numpy's `argpartition` of a
    million takes as long as scanning their vectors.
    """
    if len(scores) <= count:
        return np.arange(len(scores))
    sample = scores[::_STEP]
    if (room := 2 * count // _STEP + _SPARE) < len(sample):
        few = np.flatnonzero(scores >= np.partition(sample, -room)[-room])
        if len(few) >= count:
            chosen: np.ndarray = few[np.argpartition(scores[few], -count)[-count:]]
            return chosen
    best: np.ndarray = np.argpartition(scores, -count)[-count:]
    return best


@njit(cache=True)
def largest(scores: np.ndarray, count: int) -> np.ndarray:
    """Numbers of the largest scores [N], descending, the first of equal ones first."""
    best = np.empty(min(count, len(scores)), np.int64)
    kept = 0
    for i in range(len(scores)):
        if kept == len(best):
            if kept == 0 or not scores[i] > scores[best[kept - 1]]:
                continue
            place = kept - 1
        else:
            place = kept
            kept += 1
        while place > 0 and scores[i] > scores[best[place - 1]]:
            best[place] = best[place - 1]
            place -= 1
        best[place] = i
    return best
