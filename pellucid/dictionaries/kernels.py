"""Compiled kernels for the processor: what is sparse stays sparse. The reference beside each is in `plain`.

B rows of a batch, D width, N features, E entries (about B·k). Entries lie in compressed rows: `offsets`
[B+1], `features` [E], `values` [E]. Nothing here allocates [B, N] or [N, D]: the one dense product,
x @ encoder.T, is the caller's.

Selection reads that product as bf16 bits: the bits of positive bf16 numbers, taken as int16, sort as the
numbers do, and every negative number sorts below them. Selected values are then recomputed in fp32.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

_BLOCK = 64  # a block whose maximum is below the bar is skipped: one vectorised pass over the product


@njit(cache=True, inline="always")
def _block_max(row: np.ndarray, start: int, stop: int) -> int:
    best = np.int16(-32768)
    for j in range(start, stop):
        best = max(best, row[j])
    return best


@njit(parallel=True, cache=True)
def select_per_row(bits: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest positive entries of each row: counts [B], features [B, k] (unused places undefined).

    The k-th largest block maximum bounds the k-th largest entry from below, so one pass over the blocks
    leaves a few dozen candidates. Ties at the bar go to the lower feature number.
    """
    rows, num = bits.shape
    blocks = (num + _BLOCK - 1) // _BLOCK
    features = np.empty((rows, k), np.int32)
    counts = np.zeros(rows, np.int64)
    for b in prange(rows):
        row = bits[b]
        maxima = np.empty(blocks, np.int16)
        for c in range(blocks):
            maxima[c] = _block_max(row, c * _BLOCK, min(num, (c + 1) * _BLOCK))
        bar = np.int16(1)
        if blocks > k:
            bar = max(bar, np.partition(maxima, blocks - k)[blocks - k])
        kept_bits = np.empty(k, np.int16)
        kept = features[b]
        size = 0
        for c in range(blocks):
            if maxima[c] < bar:
                continue
            for j in range(c * _BLOCK, min(num, (c + 1) * _BLOCK)):
                value = row[j]
                if value < bar:
                    continue
                if size == k and value <= kept_bits[k - 1]:
                    continue
                at = size if size < k else k - 1
                while at > 0 and kept_bits[at - 1] < value:
                    kept_bits[at] = kept_bits[at - 1]
                    kept[at] = kept[at - 1]
                    at -= 1
                kept_bits[at] = value
                kept[at] = j
                if size < k:
                    size += 1
        counts[b] = size
    return counts, features


@njit(parallel=True, cache=True)
def candidates(bits: np.ndarray, bar: int, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Entries of at least `bar` (bf16 bits): how many each row has [B], its first `room` [B, room]."""
    rows, num = bits.shape
    counts = np.zeros(rows, np.int64)
    features = np.empty((rows, room), np.int32)
    for b in prange(rows):
        row = bits[b]
        size = 0
        for start in range(0, num, _BLOCK):
            stop = min(num, start + _BLOCK)
            if _block_max(row, start, stop) >= bar:
                for j in range(start, stop):
                    if row[j] >= bar:
                        if size < room:
                            features[b, size] = j
                        size += 1
        counts[b] = size
    return counts, features


def select_in_batch(bits: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The B·k largest positive entries of the batch, and ties with the last: counts [B], features [E].

    A histogram of a sample of rows estimates the bar from below; the entries above the estimate give it
    exactly.
    """
    rows, num = bits.shape
    wanted = rows * k
    sample = bits[:: max(1, rows // 128)]
    above = histogram(sample)[::-1].cumsum()[::-1]
    # The highest bar that would leave a tenth more than is wanted, if all rows were like the sample.
    bar = max(1, int((above >= 1.1 * k * len(sample)).sum()) - 1)
    room = min(num, 4 * k)
    while True:
        counts, features = candidates(bits, bar, room)
        if counts.max(initial=0) > room:
            room = int(counts.max())
        elif counts.sum() < wanted and bar > 1:
            bar = max(1, bar - 128)  # half the value
        else:
            break
    present = np.arange(room)[None] < counts[:, None]
    rows_of = np.repeat(np.arange(rows), counts)
    chosen = features[present]
    found = bits[rows_of, chosen]
    if len(found) > wanted:
        keep = found >= np.partition(found, len(found) - wanted)[len(found) - wanted]
        chosen, counts = chosen[keep], np.bincount(rows_of[keep], minlength=rows)
    return counts.astype(np.int64), chosen


@njit(cache=True)
def histogram(bits: np.ndarray) -> np.ndarray:
    """[32768] how often each positive bf16 number occurs."""
    counts = np.zeros(32768, np.int64)
    for value in bits.ravel():
        if value > 0:
            counts[value] += 1
    return counts


@njit(parallel=True, cache=True, fastmath=True)
def dots(x: np.ndarray, matrix: np.ndarray, offsets: np.ndarray, features: np.ndarray) -> np.ndarray:
    """[E] x[b] · matrix[feature] for every entry, in fp32."""
    out = np.empty(len(features), np.float32)
    width = x.shape[1]
    for b in prange(len(x)):
        for e in range(offsets[b], offsets[b + 1]):
            i = features[e]
            total = np.float32(0)
            for d in range(width):
                total += x[b, d] * matrix[i, d]
            out[e] = total
    return out


@njit(parallel=True, cache=True, fastmath=True)
def decode(
    offsets: np.ndarray, features: np.ndarray, values: np.ndarray, decoder: np.ndarray, bias: np.ndarray
) -> np.ndarray:
    """[B, D] bias + Σ value · decoder[feature]."""
    rows, width = len(offsets) - 1, decoder.shape[1]
    out = np.empty((rows, width), np.float32)
    for b in prange(rows):
        for d in range(width):
            out[b, d] = bias[d]
        for e in range(offsets[b], offsets[b + 1]):
            i, value = features[e], values[e]
            for d in range(width):
                out[b, d] += value * decoder[i, d]
    return out


@njit(cache=True)
def by_feature(features: np.ndarray, num_features: int) -> tuple[np.ndarray, np.ndarray]:
    """A counting sort of the entries by feature: starts [N+1], entry numbers [E] (ascending in a feature)."""
    starts = np.zeros(num_features + 1, np.int64)
    for i in features:
        starts[i + 1] += 1
    for i in range(num_features):
        starts[i + 1] += starts[i]
    at = starts[:-1].copy()
    order = np.empty(len(features), np.int64)
    for e in range(len(features)):
        i = features[e]
        order[at[i]] = e
        at[i] += 1
    return starts, order


@njit(parallel=True, cache=True, fastmath=True)
def update(
    weights: tuple[np.ndarray, np.ndarray, np.ndarray],
    first: tuple[np.ndarray, np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray, np.ndarray],
    entries: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    sorted_entries: tuple[np.ndarray, np.ndarray],
    x: np.ndarray,
    slope: np.ndarray,
    extra: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    adam: tuple[float, float, float, float],
    step: int,
) -> None:
    """Gradient, Adam and renormalisation, feature by feature, in one pass over the weights and in place.

    Args:
        weights: encoder [N, D], encoder bias [N], decoder [N, D] with unit rows.
        first: Adam's first moments of the three.
        second: Adam's second moments.
        entries: row of each entry [E], its feature [E], its value [E], and slope · decoder [E].
        sorted_entries: `by_feature` of the entries.
        x: [B, D] the batch.
        slope: [B, D] the gradient of the loss by the reconstruction.
        extra: where feature i has further gradients: place [N] (-1 for none), and those of encoder [M, D],
            encoder bias [M] and decoder [M, D].
        adam: learning rate, β₁, β₂, ε (Kingma and Ba 2015, with bias correction).
        step: from 1.
    """
    encoder, _, decoder = weights
    rows, _, values, value_slopes = entries
    starts, order = sorted_entries
    place, extra_encoder, extra_bias, extra_decoder = extra
    rate, beta1, beta2, epsilon = adam
    width = encoder.shape[1]
    correct1 = np.float32(1 / (1 - beta1**step))
    correct2 = np.float32(1 / (1 - beta2**step))
    rate32, b1, b2, eps = np.float32(rate), np.float32(beta1), np.float32(beta2), np.float32(epsilon)
    one = np.float32(1)
    for i in prange(len(encoder)):
        gradient_e = np.zeros(width, np.float32)
        gradient_d = np.zeros(width, np.float32)
        gradient_b = np.float32(0)
        for at in range(starts[i], starts[i + 1]):
            e = order[at]
            b, value, value_slope = rows[e], values[e], value_slopes[e]
            gradient_b += value_slope
            for d in range(width):
                gradient_e[d] += value_slope * x[b, d]
                gradient_d[d] += value * slope[b, d]
        m = place[i]
        if m >= 0:
            gradient_b += extra_bias[m]
            for d in range(width):
                gradient_e[d] += extra_encoder[m, d]
                gradient_d[d] += extra_decoder[m, d]
        along = np.float32(0)
        for d in range(width):
            along += gradient_d[d] * decoder[i, d]
        norm = np.float32(0)
        for d in range(width):
            g = gradient_e[d]
            mean = b1 * first[0][i, d] + (one - b1) * g
            square = b2 * second[0][i, d] + (one - b2) * g * g
            first[0][i, d], second[0][i, d] = mean, square
            encoder[i, d] -= rate32 * mean * correct1 / (np.sqrt(square * correct2) + eps)
            g = gradient_d[d] - along * decoder[i, d]
            mean = b1 * first[2][i, d] + (one - b1) * g
            square = b2 * second[2][i, d] + (one - b2) * g * g
            first[2][i, d], second[2][i, d] = mean, square
            moved = decoder[i, d] - rate32 * mean * correct1 / (np.sqrt(square * correct2) + eps)
            decoder[i, d] = moved
            norm += moved * moved
        scale = one / np.sqrt(norm)
        for d in range(width):
            decoder[i, d] *= scale
        mean = b1 * first[1][i] + (one - b1) * gradient_b
        square = b2 * second[1][i] + (one - b2) * gradient_b * gradient_b
        first[1][i], second[1][i] = mean, square
        # Through the tuple: numba 0.68 loses `bias[i] -= …` in a parallel loop when `bias` was unpacked from
        # an argument (expected the array to change, got it unchanged); the test in
        # tests/dictionaries/test_kernels.py holds the update to Adam.
        weights[1][i] -= rate32 * mean * correct1 / (np.sqrt(square * correct2) + eps)
