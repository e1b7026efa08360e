"""The compiled kernels of search: adding up postings, and scanning quantised vectors."""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(cache=True, fastmath=True)
def add_weights(scores: np.ndarray, features: np.ndarray, weights: np.ndarray, factor: np.float32) -> None:
    """Add to the scores [N] of features [P] their weights [P], of 255, times a factor."""
    scale = factor / np.float32(255)
    for i in range(len(features)):
        scores[features[i]] += scale * np.float32(weights[i])


@njit(parallel=True, cache=True)
def products(vectors: np.ndarray, query: np.ndarray, out: np.ndarray) -> None:
    """The products [N] of int8 vectors [N, D] with an int16 query [D], in int32."""
    for i in prange(len(vectors)):
        total = np.int32(0)
        for j in range(vectors.shape[1]):
            total += np.int32(vectors[i, j]) * np.int32(query[j])
        out[i] = total


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
