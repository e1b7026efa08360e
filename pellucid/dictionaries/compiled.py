"""The kernels of `kernels` for processors, compiled by numba, on numpy arrays.

Selection reads the dense product as bf16 bits: the bits of positive bf16 numbers, taken as int16, sort as the
numbers do, and every negative number sorts below them.
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
    """Counts [B], features [B, k] (unused places undefined).

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
    """The histogram of a sample of rows bounds the bar from below; the entries above that give it exactly."""
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


def positive(bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All positive entries: counts [B], features [E], ascending within a row."""
    room = min(bits.shape[1], 256)
    while True:
        counts, features = candidates(bits, 1, room)
        most = int(counts.max(initial=0))
        if most <= room:
            return counts, features[np.arange(room)[None] < counts[:, None]]
        room = most


@njit(cache=True)
def histogram(bits: np.ndarray) -> np.ndarray:
    """[32768] how often each positive bf16 number occurs."""
    counts = np.zeros(32768, np.int64)
    for value in bits.ravel():
        if value > 0:
            counts[value] += 1
    return counts


@njit(parallel=True, cache=True, fastmath=True)
def dots_by_group(
    x: np.ndarray, group: np.ndarray, matrix: np.ndarray, offsets: np.ndarray, features: np.ndarray
) -> np.ndarray:
    """[E] a dot product an entry."""
    out = np.empty(len(features), np.float32)
    width = x.shape[2]
    for b in prange(x.shape[1]):
        for e in range(offsets[b], offsets[b + 1]):
            i = features[e]
            g = group[i]
            total = np.float32(0)
            for d in range(width):
                total += x[g, b, d] * matrix[i, d]
            out[e] = total
    return out


@njit(parallel=True, cache=True, fastmath=True)
def decode_prefixes(
    offsets: np.ndarray,
    features: np.ndarray,
    values: np.ndarray,
    decoder: np.ndarray,
    bias: np.ndarray,
    group: np.ndarray,
    groups: int,
    start: np.ndarray,
) -> np.ndarray:
    """[G, B, D]: row by row, first each group by itself, then summed."""
    rows, width = len(offsets) - 1, decoder.shape[1]
    out = np.zeros((groups, rows, width), np.float32)
    for b in prange(rows):
        for d in range(width):
            out[0, b, d] = bias[d]
        for e in range(offsets[b], offsets[b + 1]):
            i, value = features[e], values[e]
            g = group[i]
            for d in range(start[i], width):
                out[g, b, d] += value * decoder[i, d]
        for g in range(1, groups):
            for d in range(width):
                out[g, b, d] += out[g - 1, b, d]
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
    weights: tuple[np.ndarray, np.ndarray],
    encoder_moments: tuple[np.ndarray, np.ndarray],
    decoder_moments: tuple[np.ndarray, np.ndarray],
    entries: tuple[np.ndarray, np.ndarray, np.ndarray],
    sorted_entries: tuple[np.ndarray, np.ndarray],
    x: np.ndarray,
    slopes: np.ndarray,
    wiring: tuple[np.ndarray, np.ndarray, np.ndarray],
    extra: tuple[np.ndarray, np.ndarray, np.ndarray],
    adam: tuple[float, float, float, float],
    step: int,
    clock: np.ndarray,
    own_clock: bool,
) -> None:
    """Feature by feature, in one pass over the matrices and in place; `sorted_entries` is by `by_feature`.

    With clocks of their own, rows without a gradient are passed over, and the others count their steps.
    """
    encoder, decoder = weights
    encoder_first, encoder_second = encoder_moments
    decoder_first, decoder_second = decoder_moments
    rows, values, pre_slopes = entries
    starts, order = sorted_entries
    reads, group, start = wiring
    place, extra_encoder, extra_decoder = extra
    rate, beta1, beta2, epsilon = adam
    inner, outer = encoder.shape[1], decoder.shape[1]
    log1, log2 = np.log(beta1), np.log(beta2)
    rate32, b1, b2, eps = np.float32(rate), np.float32(beta1), np.float32(beta2), np.float32(epsilon)
    one = np.float32(1)
    for i in prange(len(encoder)):
        if own_clock and starts[i] == starts[i + 1] and place[i] < 0:
            continue
        clock[i] = clock[i] + 1 if own_clock else step
        # exp, because a power of a whole number calls for a symbol that the compiler does not have.
        correct1 = np.float32(1 / (1 - np.exp(log1 * clock[i])))
        correct2 = np.float32(1 / (1 - np.exp(log2 * clock[i])))
        gradient_e = np.zeros(inner, np.float32)
        gradient_d = np.zeros(outer, np.float32)
        r_of, g_of, first = reads[i], group[i], start[i]
        for at in range(starts[i], starts[i + 1]):
            e = order[at]
            b, value, pre_slope = rows[e], values[e], pre_slopes[e]
            for d in range(inner):
                gradient_e[d] += pre_slope * x[r_of, b, d]
            for d in range(first, outer):
                gradient_d[d] += value * slopes[g_of, b, d]
        m = place[i]
        if m >= 0:
            for d in range(inner):
                gradient_e[d] += extra_encoder[m, d]
            for d in range(first, outer):
                gradient_d[d] += extra_decoder[m, d]
        for d in range(inner):
            g = gradient_e[d]
            mean = b1 * encoder_first[i, d] + (one - b1) * g
            square = b2 * encoder_second[i, d] + (one - b2) * g * g
            encoder_first[i, d], encoder_second[i, d] = mean, square
            encoder[i, d] -= rate32 * mean * correct1 / (np.sqrt(square * correct2) + eps)
        along = np.float32(0)
        for d in range(first, outer):
            along += gradient_d[d] * decoder[i, d]
        norm = np.float32(0)
        for d in range(first, outer):
            g = gradient_d[d] - along * decoder[i, d]
            mean = b1 * decoder_first[i, d] + (one - b1) * g
            square = b2 * decoder_second[i, d] + (one - b2) * g * g
            decoder_first[i, d], decoder_second[i, d] = mean, square
            moved = decoder[i, d] - rate32 * mean * correct1 / (np.sqrt(square * correct2) + eps)
            decoder[i, d] = moved
            norm += moved * moved
        scale = one / np.sqrt(norm)
        for d in range(first, outer):
            decoder[i, d] *= scale


@njit(parallel=True, cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def active(
    x: np.ndarray,
    product: np.ndarray,
    slack: np.ndarray,
    encoder: np.ndarray,
    bias: np.ndarray,
    bar: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts [B], features and values [B, N] above their bars, strongest first (unused places undefined).

    Args:
        x: [B, D] activations.
        product: [B, ≥ N] x · encoderᵀ, wrong by less than |x| · slack.
        slack: [N].
        encoder: [N, D].
        bias: [N].
        bar: [N], not negative.
    """
    rows, num = len(x), len(bar)
    counts = np.zeros(rows, np.int64)
    features, values = np.empty((rows, num), np.int32), np.empty((rows, num), np.float32)
    for b in prange(rows):
        row, near = x[b], product[b]
        length = np.float32(0)
        for d in range(len(row)):
            length += row[d] * row[d]
        length = np.sqrt(length)
        found, strengths = np.empty(num, np.int32), np.empty(num, np.float32)
        size = 0
        for start in range(0, num, _BLOCK):
            stop = min(num, start + _BLOCK)
            hopeful = 0
            for j in range(start, stop):
                hopeful += near[j] + length * slack[j] > bar[j] - bias[j]
            if not hopeful:
                continue
            for j in range(start, stop):
                if near[j] + length * slack[j] > bar[j] - bias[j]:
                    weights, value = encoder[j], np.float32(0)
                    for d in range(len(row)):
                        value += row[d] * weights[d]
                    value += bias[j]
                    if value > bar[j]:
                        found[size], strengths[size] = j, value
                        size += 1
        order = np.argsort(-strengths[:size], kind="mergesort")
        for place in range(size):
            features[b, place], values[b, place] = found[order[place]], strengths[order[place]]
        counts[b] = size
    return counts, features, values
