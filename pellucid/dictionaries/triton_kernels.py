"""The kernels of `kernels` for accelerators, in Triton: one program a row of the batch, or a feature.

What a function must give, and its axes, stand in `kernels`; `compiled` does the same on processors. Nothing
is added up by atomics, so that the same call gives the same bits. How far this code has been run is said in
docs/explanation/accelerators.md.

Selection reads the product as bf16 bits, which sort as positive numbers do, and reads it once: for the
largest entry of each chunk of columns. The k largest of a row lie in the k chunks with the largest maxima,
the B·k largest of a batch in chunks whose maximum reaches the (B·k)-th largest of the maxima; only those are
looked at closely. Within a row the bar is found bit by bit, by counting what reaches it. Entries are kept
sorted by feature for the update, as OpenAI's kernels do (Gao et al. 2024, arXiv 2406.04093, appendix D), but
a program owns its feature.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_ENTRIES = 16  # entries whose matrix rows are on their way at the same time
_COLUMNS = 128
_SCAN = 2048  # columns of the product that a program looks at in one go
_FEWEST_COLUMNS = 16  # of a chunk
_MOST_AT_ONCE = 2**15  # numbers of a row that one program can hold


@triton.jit
def _maxima(product, num, chunks, out, CHUNK: tl.constexpr, CHUNKS: tl.constexpr):
    """The largest entry of each chunk of a row, as bits."""
    b = tl.program_id(0).to(tl.int64)
    chunk = tl.program_id(1) * CHUNKS + tl.arange(0, CHUNKS)
    place = chunk[:, None] * CHUNK + tl.arange(0, CHUNK)[None, :]
    bits = tl.load(product + b * num + place, mask=place < num, other=0).to(tl.int32)
    tl.store(out + b * chunks + chunk, tl.max(bits, 1).to(tl.int16), mask=chunk < chunks)


@triton.jit
def _largest_of_row(
    numbers,
    num,
    k,
    chunks,
    of_chunks,
    counts,
    out,
    SIZE: tl.constexpr,
    CHUNK: tl.constexpr,
    ALL: tl.constexpr,
):
    """The places of the k largest positive numbers of a row, ascending; ties go to the lower place.

    Of all its numbers, or of those in the `of_chunks[b]` chunks named by `chunks[b]`.
    """
    b = tl.program_id(0).to(tl.int64)
    index = tl.arange(0, SIZE)
    if ALL:
        place, there = index, index < num
    else:
        which = index // CHUNK
        held = which < tl.load(of_chunks + b)
        place = tl.load(chunks + b * k + which, mask=held, other=0) * CHUNK + index % CHUNK
        there = held & (place < num)
    bits = tl.load(numbers + b * num + place, mask=there, other=0).to(tl.int32)
    bar = 0
    for power in tl.static_range(15):
        tried = bar + (1 << (14 - power))
        bar = tl.where(tl.sum((bits >= tried).to(tl.int32), 0) >= k, tried, bar)
    above = bits > bar
    equal = ((bits == bar) & (bits > 0)).to(tl.int32)
    ties = k - tl.sum(above.to(tl.int32), 0)
    kept = above | ((equal > 0) & (tl.cumsum(equal, 0) <= ties))
    tl.store(out + b * k + tl.cumsum(kept.to(tl.int32), 0) - 1, place, mask=kept)
    tl.store(counts + b, tl.sum(kept.to(tl.int32), 0).to(tl.int64))


@triton.jit
def _positive_of_row(product, num, offsets, features, BLOCK: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    out = features + tl.load(offsets + b)
    for at in range(0, num, BLOCK):
        place = at + tl.arange(0, BLOCK)
        kept = tl.load(product + b * num + place, mask=place < num, other=0) > 0
        tl.store(out + tl.cumsum(kept.to(tl.int32), 0) - 1, place, mask=kept)
        out += tl.sum(kept.to(tl.int32), 0)


@triton.jit
def _dots(x, part, matrix, offsets, features, out, rows, width, ENTRIES: tl.constexpr, COLUMNS: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    stop = tl.load(offsets + b + 1)
    for at in range(tl.load(offsets + b), stop, ENTRIES):
        entry = at + tl.arange(0, ENTRIES)
        real = entry < stop
        feature = tl.load(features + entry, mask=real, other=0).to(tl.int64)
        source = tl.load(part + feature).to(tl.int64) * rows + b
        total = tl.zeros([ENTRIES, COLUMNS], tl.float32)
        for column in range(0, width, COLUMNS):
            d = column + tl.arange(0, COLUMNS)[None, :]
            inside = real[:, None] & (d < width)
            weights = tl.load(matrix + feature[:, None] * width + d, mask=inside, other=0.0)
            total += tl.load(x + source[:, None] * width + d, mask=inside, other=0.0) * weights
        tl.store(out + entry, tl.sum(total, 1), mask=real)


@triton.jit
def _decode(
    offsets,
    features,
    values,
    decoder,
    bias,
    group,
    start,
    out,
    rows,
    width,
    groups,
    GROUPS: tl.constexpr,
    ENTRIES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    b = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    which = tl.arange(0, GROUPS)[:, None]
    total = tl.zeros([GROUPS, COLUMNS], tl.float32)
    stop = tl.load(offsets + b + 1)
    for at in range(tl.load(offsets + b), stop, ENTRIES):
        entry = at + tl.arange(0, ENTRIES)
        real = entry < stop
        feature = tl.load(features + entry, mask=real, other=0).to(tl.int64)
        value = tl.load(values + entry, mask=real, other=0.0)
        inside = real[:, None] & (d < width) & (d >= tl.load(start + feature)[:, None])
        written = tl.load(decoder + feature[:, None] * width + d, mask=inside, other=0.0)
        mine = tl.where(which == tl.load(group + feature)[None, :], value[None, :], 0.0)
        total += tl.sum(mine[:, :, None] * written[None], 1)
    total = tl.cumsum(total, 0) + tl.load(bias + d, mask=d < width, other=0.0)
    tl.store(out + (which * rows + b) * width + d, total, mask=(which < groups) & (d < width))


@triton.jit
def _adam(weights, first, second, gradient, inside, rate, beta1, beta2, epsilon, correct1, correct2):
    """The moved weights; the moments are written."""
    mean = beta1 * tl.load(first, mask=inside, other=0.0) + (1 - beta1) * gradient
    square = beta2 * tl.load(second, mask=inside, other=0.0) + (1 - beta2) * gradient * gradient
    tl.store(first, mean, mask=inside)
    tl.store(second, square, mask=inside)
    return weights - rate * mean * correct1 / (tl.sqrt(square * correct2) + epsilon)


@triton.jit
def _update(
    encoder,
    encoder_first,
    encoder_second,
    decoder,
    decoder_first,
    decoder_second,
    starts,
    of_row,
    values,
    pre_slopes,
    x,
    slopes,
    reads,
    group,
    start,
    place,
    extra_encoder,
    extra_decoder,
    touched,
    corrections,
    rows,
    inner,
    outer,
    rate,
    beta1,
    beta2,
    epsilon,
    ENTRIES: tl.constexpr,
    INNER: tl.constexpr,
    OUTER: tl.constexpr,
    ALL: tl.constexpr,
):
    i = tl.program_id(0).to(tl.int64)
    own = i * 0 if ALL else i
    correct1, correct2 = tl.load(corrections + 2 * own), tl.load(corrections + 2 * own + 1)
    i = i if ALL else tl.load(touched + i)
    into, out = tl.arange(0, INNER), tl.arange(0, OUTER)
    within, written = into < inner, (out < outer) & (out >= tl.load(start + i))
    read = tl.load(reads + i).to(tl.int64) * rows
    slope_of = tl.load(group + i).to(tl.int64) * rows
    m = tl.load(place + i).to(tl.int64)
    by_encoder = tl.load(extra_encoder + m * inner + into, mask=within & (m >= 0), other=0.0)
    by_decoder = tl.load(extra_decoder + m * outer + out, mask=written & (m >= 0), other=0.0)
    stop = tl.load(starts + i + 1)
    for at in range(tl.load(starts + i), stop, ENTRIES):
        entry = at + tl.arange(0, ENTRIES)
        real = entry < stop
        b = tl.load(of_row + entry, mask=real, other=0)[:, None]
        value = tl.load(values + entry, mask=real, other=0.0)[:, None]
        pre_slope = tl.load(pre_slopes + entry, mask=real, other=0.0)[:, None]
        seen = tl.load(x + (read + b) * inner + into, mask=real[:, None] & within[None], other=0.0)
        by_encoder += tl.sum(pre_slope * seen, 0)
        missed = tl.load(slopes + (slope_of + b) * outer + out, mask=real[:, None] & written[None], other=0.0)
        by_decoder += tl.sum(value * missed, 0)
    at = i * inner + into
    weights = tl.load(encoder + at, mask=within, other=0.0)
    moved = _adam(
        weights,
        encoder_first + at,
        encoder_second + at,
        by_encoder,
        within,
        rate,
        beta1,
        beta2,
        epsilon,
        correct1,
        correct2,
    )
    tl.store(encoder + at, moved, mask=within)
    at = i * outer + out
    weights = tl.load(decoder + at, mask=written, other=0.0)
    by_decoder -= tl.sum(by_decoder * weights, 0) * weights
    moved = _adam(
        weights,
        decoder_first + at,
        decoder_second + at,
        by_decoder,
        written,
        rate,
        beta1,
        beta2,
        epsilon,
        correct1,
        correct2,
    )
    moved = tl.where(written, moved, 0.0)
    tl.store(decoder + at, moved / tl.sqrt(tl.sum(moved * moved, 0)), mask=written)


def select_per_row(bits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Counts [B], features [B, k] (unused places undefined): the product is read once."""
    num = bits.shape[1]
    chunk = _chunk_of(num, k)
    if max(triton.cdiv(num, chunk), k * chunk) > _MOST_AT_ONCE:
        strengths, order = bits.clamp(min=0).sort(dim=1, descending=True, stable=True)
        unused = max(0, k - num)
        return (strengths[:, :k] > 0).sum(1), torch.nn.functional.pad(order[:, :k].int(), (0, unused))
    of_chunks, picked = _largest(_maxima_of(bits, chunk), k, None, chunk)
    counts, features = _largest(bits, k, (of_chunks, picked), chunk)
    # Strongest first, the lower feature number first among equals, and what is no entry last.
    present = torch.arange(k, device=bits.device) < counts[:, None]
    strength = torch.where(present, bits.gather(1, features.long()), 0)
    order = strength.sort(dim=1, descending=True, stable=True).indices
    return counts, features.gather(1, order)


def select_in_batch(bits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The product is read once, and what of it may be among the largest once more."""
    rows, num = bits.shape
    wanted = rows * k
    chunk = _chunk_of(num, k)
    maxima = _maxima_of(bits, chunk)
    bar = _bar_of(maxima.flatten(), wanted)
    near = (maxima >= bar).flatten().nonzero()[:, 0]
    whole = torch.nn.functional.pad(bits, (0, -num % chunk)) if num % chunk else bits
    strengths = whole.view(-1, chunk)[near]
    which, column = (strengths >= bar).nonzero(as_tuple=True)
    found = strengths[which, column]
    kept = (found >= _bar_of(found, wanted)).nonzero()[:, 0]
    which = near[which[kept]]
    counts = torch.bincount(which // maxima.shape[1], minlength=rows)
    return counts, (which % maxima.shape[1] * chunk + column[kept]).int()


def positive(bits: Tensor) -> tuple[Tensor, Tensor]:
    """Two passes over the product."""
    counts = (bits > 0).sum(1)
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    features = bits.new_empty(int(offsets[-1]), dtype=torch.int32)
    _run(_positive_of_row, (len(bits),), bits, bits.shape[1], offsets, features, BLOCK=_SCAN)
    return counts, features


def _chunk_of(num: int, k: int) -> int:
    """Columns of a chunk, so that there are about as many maxima in a row as columns in k chunks."""
    return int(max(_FEWEST_COLUMNS, triton.next_power_of_2(max(1, math.isqrt(num // k)))))


def _maxima_of(bits: Tensor, chunk: int) -> Tensor:
    """[B, chunks], 0 at least."""
    rows, num = bits.shape
    out = bits.new_empty(rows, triton.cdiv(num, chunk))
    sizes = {"CHUNK": chunk, "CHUNKS": max(1, _SCAN // chunk)}
    grid = rows, triton.cdiv(out.shape[1], sizes["CHUNKS"])
    _run(_maxima, grid, bits, num, out.shape[1], out, **sizes)
    return out


def _largest(
    numbers: Tensor, k: int, chosen: tuple[Tensor, Tensor] | None, chunk: int
) -> tuple[Tensor, Tensor]:
    """Counts [B], places [B, k] of the largest of [B, num], or of the chunks chosen, [B] and [B, k]."""
    rows, num = numbers.shape
    counts = numbers.new_empty(rows, dtype=torch.int64)
    places = numbers.new_zeros(rows, k, dtype=torch.int32)
    of_chunks, picked = chosen or (counts, places)
    size = triton.next_power_of_2(num if chosen is None else k * chunk)
    sizes = {"SIZE": size, "CHUNK": chunk, "ALL": chosen is None}
    arguments = numbers, num, k, picked, of_chunks, counts, places
    _run(_largest_of_row, (rows,), *arguments, **sizes, num_warps=max(4, min(16, size // 1024)))
    return counts, places


def _bar_of(bits: Tensor, wanted: int) -> Tensor:
    """The number that `wanted` of [E] reach, or the least positive one if they are fewer."""
    if len(bits) < wanted:
        return bits.new_ones(())
    return bits.topk(wanted, sorted=False).values.min().clamp(min=1)


def dots_by_group(x: Tensor, group: Tensor, matrix: Tensor, offsets: Tensor, features: Tensor) -> Tensor:
    """A row of the matrix is read once for each entry."""
    out = matrix.new_empty(len(features))
    _, rows, width = x.shape
    sizes = {"ENTRIES": _ENTRIES, "COLUMNS": _COLUMNS}
    _run(_dots, (rows,), x.contiguous(), group, matrix, offsets, features, out, rows, width, **sizes)
    return out


def decode_prefixes(
    offsets: Tensor,
    features: Tensor,
    values: Tensor,
    decoder: Tensor,
    bias: Tensor,
    group: Tensor,
    groups: int,
    start: Tensor,
) -> Tensor:
    """A row of the decoder is read once for each entry, however many groups there are."""
    rows, width = len(offsets) - 1, decoder.shape[1]
    out = decoder.new_empty(groups, rows, width)
    sizes = {"GROUPS": triton.next_power_of_2(groups), "ENTRIES": _ENTRIES, "COLUMNS": _COLUMNS}
    entries = offsets, features, values
    wired = decoder, bias, group, start
    grid = rows, triton.cdiv(width, _COLUMNS)
    _run(_decode, grid, *entries, *wired, out, rows, width, groups, **sizes)
    return out


def by_feature(features: Tensor, num_features: int) -> tuple[Tensor, Tensor]:
    """Starts [N+1], entry numbers [E]."""
    ordered, order = features.sort(stable=True)
    every = torch.arange(num_features + 1, device=features.device, dtype=features.dtype)
    return torch.searchsorted(ordered, every), order


def update(
    weights: tuple[Tensor, Tensor],
    encoder_moments: tuple[Tensor, Tensor],
    decoder_moments: tuple[Tensor, Tensor],
    entries: tuple[Tensor, Tensor, Tensor],
    sorted_entries: tuple[Tensor, Tensor],
    x: Tensor,
    slopes: Tensor,
    wiring: tuple[Tensor, Tensor, Tensor],
    extra: tuple[Tensor, Tensor, Tensor],
    adam: tuple[float, float, float, float],
    step: int,
    clock: Tensor,
    own_clock: bool,
) -> None:
    """A row of the input and one of the slopes are read once for each entry, the six matrices once.

    Of rows with clocks of their own, only those with a gradient.
    """
    (encoder, decoder), (starts, order) = weights, sorted_entries
    rate, beta1, beta2, epsilon = adam
    touched, steps = starts, encoder.new_full((1,), step, dtype=torch.float64)
    if own_clock:
        touched = ((starts.diff() > 0) | (extra[0] >= 0)).nonzero()[:, 0]
        clock[touched] += 1
        steps = clock[touched].double()
        if not len(touched):
            return
    corrections = torch.stack([1 / (1 - beta**steps) for beta in (beta1, beta2)], dim=1).float()
    inner, outer = encoder.shape[1], decoder.shape[1]
    sizes = {"INNER": triton.next_power_of_2(inner), "OUTER": triton.next_power_of_2(outer)}
    most = max(sizes.values())
    _run(
        _update,
        (len(touched) if own_clock else len(encoder),),
        *(encoder, *encoder_moments, decoder, *decoder_moments),
        *(starts, *(t[order] for t in entries)),
        *(x.contiguous(), slopes.contiguous(), *wiring, *extra, touched, corrections),
        *(x.shape[1], inner, outer, rate, beta1, beta2, epsilon),
        **sizes,
        ALL=not own_clock,
        ENTRIES=max(1, min(4, 2**15 // most)),
        num_warps=max(4, min(32, most // 256)),
    )


def _run(kernel: Any, grid: tuple[int, ...], *arguments: Any, **sizes: int) -> None:
    with torch.cuda.device_of(arguments[0]):  # type: ignore[no-untyped-call]
        kernel[grid](*arguments, **sizes)
