"""The compiled kernels of the atlas: placing postings, and the statistics of features from them.

Tokens of a feature ascend. A row of text is token // length, a position token % length.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def place(
    features: np.ndarray,
    tokens: np.ndarray,
    values: np.ndarray,
    first: int,
    cursor: np.ndarray,
    out_tokens: np.ndarray,
    out_values: np.ndarray,
) -> None:
    """Put each posting behind those of its feature that are there; `cursor` [features] moves on."""
    for e in range(len(features)):
        i = features[e] - first
        at = cursor[i]
        out_tokens[at] = tokens[e]
        out_values[at] = values[e]
        cursor[i] = at + 1


@njit(nogil=True, cache=True)
def summarise(
    starts: np.ndarray,
    tokens: np.ndarray,
    values: np.ndarray,
    ids: np.ndarray,
    sources: np.ndarray,
    span: tuple[int, int, int],
    length: int,
    vocabulary: int,
    thousandths: np.ndarray,
    bands: int,
    found: tuple[np.ndarray, ...],
) -> None:
    """All statistics of some features from their postings, into the arrays of `found`; see `statistics`.

    Args:
        starts: [F + 1] where the postings of each begin.
        tokens: [postings] int64.
        values: [postings] float32.
        ids: [postings] the token id of each.
        sources: [postings] the text source of each.
        span: number of the first feature; then, counted from it, which one to begin with and to end before.
        length: tokens in a row.
        vocabulary: one more than the largest id.
        thousandths: [Q] which quantiles.
        bands: B.
        found: mean, quantiles [F, Q], histogram [F, H], example values and tokens [F, E], band values and
            tokens [F, B·K], counts by source [F, S], by position [F, P], commonest ids and counts [F, C].
    """
    first, begin, end = span
    seen = np.zeros(vocabulary, np.int32)
    for i in range(begin, end):
        low, high = starts[i], starts[i + 1]
        if high > low:
            mine, at = values[low:high], tokens[low:high]
            ranked = _ranked(mine)
            _spread(ranked, mine, thousandths, found[0], found[1][i], found[2][i], i)
            _best(mine, at, length, found[3][i], found[4][i])
            _drawn(ranked, mine, at, first + i, length, bands, found[4][i], found[5][i], found[6][i])
            _tallied(at, sources[low:high], length, found[7][i], found[8][i])
            _commonest(ids[low:high], seen, found[9][i], found[10][i])


@njit(cache=True)
def _ranked(values: np.ndarray) -> np.ndarray:
    """Numbers of the postings from the weakest to the strongest; of equals the earlier first."""
    bits = values.view(np.uint32)
    keys = np.empty(len(values), np.uint64)
    for e in range(len(values)):
        keys[e] = (np.uint64(bits[e]) << np.uint64(32)) | np.uint64(e)
    keys.sort()
    ranked = np.empty(len(values), np.uint32)
    for e in range(len(values)):
        ranked[e] = np.uint32(keys[e] & np.uint64(0xFFFFFFFF))
    return ranked


@njit(cache=True)
def _spread(
    ranked: np.ndarray,
    values: np.ndarray,
    thousandths: np.ndarray,
    mean: np.ndarray,
    quantiles: np.ndarray,
    histogram: np.ndarray,
    i: int,
) -> None:
    n = len(values)
    total = 0.0
    top = np.float64(values[ranked[n - 1]])
    bins = len(histogram)
    for e in range(n):
        value = np.float64(values[e])
        total += value
        histogram[min(bins - 1, int(np.ceil(value * bins / top)) - 1)] += np.uint32(1)
    mean[i] = total / n
    for q in range(len(thousandths)):
        quantiles[q] = values[ranked[(n * thousandths[q] + 999) // 1000 - 1]]


@njit(cache=True)
def _best(
    values: np.ndarray, tokens: np.ndarray, length: int, best: np.ndarray, best_tokens: np.ndarray
) -> None:
    """The strongest posting of each row, of those the strongest; of equals the earlier."""
    room = len(best)
    n = len(values)
    e = 0
    while e < n:
        row = tokens[e] // length
        peak = e
        e += 1
        while e < n and tokens[e] // length == row:
            if values[e] > values[peak]:
                peak = e
            e += 1
        if best_tokens[room - 1] >= 0 and values[peak] <= best[room - 1]:
            continue
        at = room - 1
        while at > 0 and (best_tokens[at - 1] < 0 or best[at - 1] < values[peak]):
            best[at], best_tokens[at] = best[at - 1], best_tokens[at - 1]
            at -= 1
        best[at], best_tokens[at] = values[peak], tokens[peak]


@njit(cache=True)
def _lot(feature: int, token: int) -> int:
    """A number drawn for a posting: the mixing function of SplitMix64 (Steele, Lea and Flood 2014)."""
    z = np.uint64(token) + np.uint64(feature) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True)
def _holds_row(tokens: np.ndarray, token: int, length: int) -> bool:
    for other in tokens:  # noqa: SIM110  numba has no any()
        if other >= 0 and other // length == token // length:
            return True
    return False


@njit(cache=True)
def _holds(tokens: np.ndarray, token: int) -> bool:
    for other in tokens:  # noqa: SIM110  numba has no any()
        if other == token:
            return True
    return False


@njit(cache=True)
def _drawn(
    ranked: np.ndarray,
    values: np.ndarray,
    tokens: np.ndarray,
    feature: int,
    length: int,
    bands: int,
    best_tokens: np.ndarray,
    out: np.ndarray,
    out_tokens: np.ndarray,
) -> None:
    """Of each band the postings with the smallest lots, of rows not shown yet while there are any."""
    n = len(values)
    each = len(out) // bands
    for band in range(bands):
        low, high = band * n // bands, (band + 1) * n // bands
        slot = band * each
        for strict in (True, False):
            while slot < (band + 1) * each:
                chosen = -1
                least = np.uint64(0)
                for r in range(low, high):
                    e = ranked[r]
                    lot = _lot(feature, tokens[e])
                    if chosen >= 0 and lot >= least:
                        continue
                    if strict:
                        shown = _holds_row(best_tokens, tokens[e], length)
                        shown = shown or _holds_row(out_tokens, tokens[e], length)
                    else:
                        shown = _holds(out_tokens, tokens[e])
                    if not shown:
                        chosen, least = e, lot
                if chosen < 0:
                    break
                out[slot], out_tokens[slot] = values[chosen], tokens[chosen]
                slot += 1


@njit(cache=True)
def _tallied(
    tokens: np.ndarray,
    sources: np.ndarray,
    length: int,
    by_source: np.ndarray,
    by_position: np.ndarray,
) -> None:
    for e in range(len(tokens)):
        by_source[sources[e]] += 1
        by_position[tokens[e] % length * len(by_position) // length] += 1


@njit(cache=True)
def _commonest(ids: np.ndarray, seen: np.ndarray, best: np.ndarray, counts: np.ndarray) -> None:
    """The ids that occur most often, of equals the smaller; `seen` is all zero before and after."""
    for e in range(len(ids)):
        seen[ids[e]] += 1
    room = len(best)
    for e in range(len(ids)):
        which, times = ids[e], seen[ids[e]]
        seen[ids[e]] = 0
        last = room - 1
        if times == 0 or times < counts[last] or (times == counts[last] and which > best[last]):
            continue
        at = last
        while at > 0 and (counts[at - 1] < times or (counts[at - 1] == times and best[at - 1] > which)):
            best[at], counts[at] = best[at - 1], counts[at - 1]
            at -= 1
        best[at], counts[at] = which, times
