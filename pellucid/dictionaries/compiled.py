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


_MOST_COLUMNS = 2**14  # so that they can be counted in int16


@njit(parallel=True, cache=True)
def select_per_row(bits: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Counts [B], features [B, k] (unused places undefined).

    A row is dealt out to columns like cards, and the largest of each column found: whole registers are
    compared at once. The k-th largest of these maxima bounds the k-th largest entry from below, and leaves a
    few dozen candidates in little more than k columns. Ties at the bar go to the lower feature number.
    """
    rows, num = bits.shape
    # Finding the bar takes a few steps a column, and looking for candidates one a number in k of them.
    columns = 64
    while columns < 2 * k or columns * columns < k * num // 3:
        columns *= 2
    columns = min(columns, num, _MOST_COLUMNS)
    features = np.empty((rows, k), np.int32)
    counts = np.zeros(rows, np.int64)
    for b in prange(rows):
        row = bits[b]
        maxima = row[:columns].copy()
        for start in range(columns, num, columns):
            part = row[start : start + columns]
            for c in range(len(part)):
                maxima[c] = max(maxima[c], part[c])
        bar = _kth_largest(maxima, k)
        kept_bits = np.empty(k, np.int16)
        kept = features[b]
        size = 0
        for c in range(columns):
            if maxima[c] < bar:
                continue
            for j in range(c, num, columns):
                value = row[j]
                if value < bar:
                    continue
                if size == k and not _before(value, j, kept_bits[k - 1], kept[k - 1]):
                    continue
                at = size if size < k else k - 1
                while at > 0 and _before(value, j, kept_bits[at - 1], kept[at - 1]):
                    kept_bits[at] = kept_bits[at - 1]
                    kept[at] = kept[at - 1]
                    at -= 1
                kept_bits[at] = value
                kept[at] = j
                if size < k:
                    size += 1
        counts[b] = size
    return counts, features


@njit(cache=True)
def _kth_largest(numbers: np.ndarray, k: int) -> int:
    """The k-th largest of int16 numbers, or 1 if fewer are positive: bit by bit from the top."""
    found = np.int16(0)
    for bit in range(14, -1, -1):
        tried = np.int16(found + (1 << bit))
        count = np.int16(0)
        for number in numbers:
            count += np.int16(number >= tried)
        if count >= k:
            found = tried
    return max(found, np.int16(1))


@njit(cache=True, inline="always")
def _before(value: int, feature: int, other_value: int, other: int) -> bool:
    """Whether an entry comes before another: the larger, or of equal ones the one of lower number."""
    return value > other_value or (value == other_value and feature < other)


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


@njit(cache=True, fastmath=True, inline="always")
def _add_four(
    out: np.ndarray,
    factors: tuple[float, float, float, float],
    rows: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Add four rows times their factors to `out`, which is read and written once for the four."""
    f0, f1, f2, f3 = factors
    r0, r1, r2, r3 = rows
    for d in range(len(out)):
        out[d] += f0 * r0[d] + f1 * r1[d] + f2 * r2[d] + f3 * r3[d]


@njit(cache=True, fastmath=True, inline="always")
def _add(out: np.ndarray, factor: float, row: np.ndarray) -> None:
    """Add a row times its factor to `out`."""
    for d in range(len(out)):
        out[d] += factor * row[d]


@njit(cache=True, fastmath=True)
def _add_entries(
    out: np.ndarray,
    b: int,
    places: tuple[int, int],
    features: np.ndarray,
    values: np.ndarray,
    decoder: np.ndarray,
    group: np.ndarray,
    start: np.ndarray,
) -> None:
    """Add the entries from one place to another to row b of [G, B, D], each to its group."""
    e, last = places
    while e < last:
        i = features[e]
        g, first = group[i], start[i]
        alike = e + 4 <= last
        if alike:
            for f in range(e + 1, e + 4):
                alike = alike and group[features[f]] == g and start[features[f]] == first
        # Slices begin at zero, which spares the compiler the question of negative indices.
        sums = out[g, b, first:]
        if alike:
            i1, i2, i3 = features[e + 1], features[e + 2], features[e + 3]
            _add_four(
                sums,
                (values[e], values[e + 1], values[e + 2], values[e + 3]),
                (decoder[i, first:], decoder[i1, first:], decoder[i2, first:], decoder[i3, first:]),
            )
            e += 4
        else:
            _add(sums, values[e], decoder[i, first:])
            e += 1


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
    out = np.empty((groups, rows, width), np.float32)
    for b in prange(rows):
        out[0, b, :] = bias
        out[1:, b, :] = 0
        _add_entries(out, b, (offsets[b], offsets[b + 1]), features, values, decoder, group, start)
        for g in range(1, groups):
            for d in range(width):
                out[g, b, d] += out[g - 1, b, d]
    return out


@njit(parallel=True, cache=True, fastmath=True)
def miss(
    offsets: np.ndarray,
    features: np.ndarray,
    values: np.ndarray,
    decoder: np.ndarray,
    bias: np.ndarray,
    group: np.ndarray,
    start: np.ndarray,
    aim: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors [1, B, D], their squared lengths [B], and along each entry's decoder row [E].

    The rows that a token decodes with are still near when its error is known.
    """
    rows, width = aim.shape
    out = np.empty((1, rows, width), np.float32)
    squares, along = np.empty(rows, np.float32), np.empty(len(features), np.float32)
    for b in prange(rows):
        error = out[0, b]
        for d in range(width):
            error[d] = bias[d] - aim[b, d]
        _add_entries(out, b, (offsets[b], offsets[b + 1]), features, values, decoder, group, start)
        total = np.float32(0)
        for d in range(width):
            total += error[d] * error[d]
        squares[b] = total
        for e in range(offsets[b], offsets[b + 1]):
            row = decoder[features[e]]
            total = np.float32(0)
            for d in range(width):
                total += error[d] * row[d]
            along[e] = total
    return out, squares, along


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


@njit(parallel=True, cache=True)
def sums(starts: np.ndarray, order: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """[N], each added up in the order of the entries."""
    out = np.empty(len(starts) - 1, np.float32)
    for i in prange(len(out)):
        total = 0.0
        for e in order[starts[i] : starts[i + 1]]:
            total += numbers[e]
        out[i] = total
    return out


@njit(parallel=True, cache=True)
def tally(
    starts: np.ndarray,
    order: np.ndarray,
    values: np.ndarray,
    rows: int,
    silent_for: np.ndarray,
    peak: np.ndarray,
    fired: np.ndarray,
) -> None:
    """In place."""
    for i in prange(len(peak)):
        active, largest = 0, peak[i]
        for e in order[starts[i] : starts[i + 1]]:
            active += values[e] > 0
            largest = max(largest, values[e])
        silent_for[i] = 0 if active else silent_for[i] + rows
        fired[i] += active
        peak[i] = largest


@njit(cache=True, fastmath=True, inline="always")
def _gather(
    out: np.ndarray,
    entries: np.ndarray,
    rows: np.ndarray,
    factors: np.ndarray,
    matrix: np.ndarray,
    first: int,
) -> None:
    """Write the sum of factor · matrix[row], from a column on, over some entries to `out`."""
    out[:] = 0
    at, last = 0, len(entries)
    while at + 4 <= last:
        e0, e1, e2, e3 = entries[at], entries[at + 1], entries[at + 2], entries[at + 3]
        _add_four(
            out,
            (factors[e0], factors[e1], factors[e2], factors[e3]),
            (
                matrix[rows[e0], first:],
                matrix[rows[e1], first:],
                matrix[rows[e2], first:],
                matrix[rows[e3], first:],
            ),
        )
        at += 4
    for e in entries[at:]:
        _add(out, factors[e], matrix[rows[e], first:])


@njit(cache=True, fastmath=True, inline="always")
def _adam(
    row: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    gradient: np.ndarray,
    adam: tuple[float, float, float, float],
    step: int,
) -> None:
    """One step of a row, in place."""
    rate, beta1, beta2, epsilon = (
        np.float32(adam[0]),
        np.float32(adam[1]),
        np.float32(adam[2]),
        np.float32(adam[3]),
    )
    # exp, because a power of a whole number calls for a symbol that the compiler does not have.
    correct1 = np.float32(1 / (1 - np.exp(np.log(adam[1]) * step)))
    correct2 = np.float32(1 / (1 - np.exp(np.log(adam[2]) * step)))
    one = np.float32(1)
    for d in range(len(row)):
        g = gradient[d]
        mean = beta1 * first[d] + (one - beta1) * g
        square = beta2 * second[d] + (one - beta2) * g * g
        first[d], second[d] = mean, square
        row[d] -= rate * mean * correct1 / (np.sqrt(square * correct2) + epsilon)


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
    """Feature by feature, in one pass over each matrix and in place; `sorted_entries` is by `by_feature`.

    With clocks of their own, rows without a gradient are passed over, and the others count their steps.
    """
    encoder, decoder = weights
    rows, values, pre_slopes = entries
    starts, order = sorted_entries
    reads, group, start = wiring
    place, extra_encoder, extra_decoder = extra
    features, one = len(encoder), np.float32(1)
    # In blocks, which share a buffer; encoder and decoder apart, so that each pass gathers from one matrix.
    blocks = (features + _BLOCK - 1) // _BLOCK
    for block in prange(blocks):
        gradient = np.empty(encoder.shape[1], np.float32)
        for i in range(block * _BLOCK, min(features, (block + 1) * _BLOCK)):
            mine = order[starts[i] : starts[i + 1]]
            if own_clock and len(mine) == 0 and place[i] < 0:
                continue
            clock[i] = clock[i] + 1 if own_clock else step
            _gather(gradient, mine, rows, pre_slopes, x[reads[i]], 0)
            if place[i] >= 0:
                _add(gradient, one, extra_encoder[place[i]])
            _adam(encoder[i], encoder_moments[0][i], encoder_moments[1][i], gradient, adam, clock[i])
    for block in prange(blocks):
        whole = np.empty(decoder.shape[1], np.float32)
        for i in range(block * _BLOCK, min(features, (block + 1) * _BLOCK)):
            mine = order[starts[i] : starts[i + 1]]
            if own_clock and len(mine) == 0 and place[i] < 0:
                continue
            first = start[i]
            gradient, row = whole[first:], decoder[i, first:]
            _gather(gradient, mine, rows, values, slopes[group[i]], first)
            if place[i] >= 0:
                _add(gradient, one, extra_decoder[place[i], first:])
            along = np.float32(0)
            for d in range(len(row)):
                along += gradient[d] * row[d]
            _add(gradient, -along, row)
            firsts, seconds = decoder_moments[0][i, first:], decoder_moments[1][i, first:]
            _adam(row, firsts, seconds, gradient, adam, clock[i])
            norm = np.float32(0)
            for d in range(len(row)):
                norm += row[d] * row[d]
            scale = one / np.sqrt(norm)
            for d in range(len(row)):
                row[d] *= scale
