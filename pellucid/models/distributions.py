"""Exponentials and what is made of them: shares, the likeliest token, how far predictions are apart.

Each row is computed by itself, as in `products`.

    M rows, V vocabulary
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from pellucid.models.products import REORDERED


@njit(nogil=True, forceinline=True, fastmath=False)
def exp(x: np.float32) -> np.float32:
    """e^x of a float32 to about two units in the last place, in instructions that vectorise.

    x = n · ln 2 + r, and a polynomial for e^r (Cephes, expf.c); outside ±87 it is that of ±87.
    """
    x = np.float32(min(max(x, np.float32(-87)), np.float32(87)))
    # Said above, as numba would else take over what the caller allows, and this must not be reordered.
    # Beyond 1.5 · 2^23 a float32 has no fraction: its lowest bits are the whole number.
    shifted = np.float32(x * np.float32(1.44269504) + np.float32(12582912))
    n = np.float32(shifted - np.float32(12582912))
    r = np.float32(np.float32(x - n * np.float32(0.693359375)) + n * np.float32(2.12194440e-4))
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + np.float32(1)
    power = np.uint32(np.uint32(shifted.view(np.uint32) + np.uint32(127)) << np.uint32(23))
    return np.float32(p * power.view(np.float32))


@njit(nogil=True, forceinline=True, fastmath={"reassoc", "nsz", "nnan"})
def most_of(numbers: np.ndarray) -> np.float32:
    """The largest, where none is NaN."""
    most = np.float32(-np.inf)
    for n in range(len(numbers)):
        most = max(most, numbers[n])
    return most


@njit(nogil=True, fastmath=REORDERED, error_model="numpy")
def shares(scores: np.ndarray) -> None:
    """Their softmax, in place."""
    most, total = most_of(scores), np.float32(0)
    for t in range(len(scores)):
        weight = exp(scores[t] - most)
        scores[t] = weight
        total += weight
    share = np.float32(1) / total
    for t in range(len(scores)):
        scores[t] *= share


@njit(parallel=True, nogil=True, cache=True, fastmath=REORDERED)
def likeliest(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The likeliest token of each row of [M, V], its logit, and the logarithm of the sum of all e^logit.

    The lowest of tokens that tie. The logit of a row with a NaN is NaN.
    """
    rows = len(logits)
    tokens, most, sums = np.zeros(rows, np.int64), np.empty(rows, np.float32), np.empty(rows, np.float32)
    for m in prange(rows):
        row = logits[m]
        best, total, unsound = most_of(row), np.float32(0), 0
        for n in range(len(row)):
            unsound += row[n] != row[n]
            total += exp(row[n] - best)
        for n in range(len(row)):
            if row[n] == best:
                tokens[m] = n
                break
        most[m] = np.float32(np.nan) if unsound else best
        sums[m] = best + np.log(total)
    return tokens, most, sums


@njit(parallel=True, nogil=True, cache=True, fastmath=REORDERED)
def divergences(plain: np.ndarray, edited: np.ndarray, size: int) -> np.ndarray:
    """[M] KL(plain ‖ edited), nats, of what the first `size` logits of rows [M, V] stand for."""
    found = np.empty(len(plain), np.float64)
    for m in prange(len(plain)):
        p, q = plain[m, :size], edited[m, :size]
        most_p, most_q = most_of(p), most_of(q)
        total_p, total_q, mean = np.float32(0), np.float32(0), np.float32(0)
        for n in range(size):
            weight = exp(p[n] - most_p)
            total_p += weight
            total_q += exp(q[n] - most_q)
            mean += weight * ((p[n] - most_p) - (q[n] - most_q))
        found[m] = np.float64(mean / total_p) - np.log(np.float64(total_p)) + np.log(np.float64(total_q))
    return found
