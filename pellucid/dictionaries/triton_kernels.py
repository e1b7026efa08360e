"""The kernels of `kernels` for accelerators, in Triton: one program a row of the batch, or a feature.

What a function must give, and its axes, stand in `kernels`; `compiled` does the same on processors. Nothing
is added up by atomics, so that the same call gives the same bits. How far this code has been run is said in
docs/explanation/accelerators.md.

Selection reads the product as bf16 bits, which sort as positive numbers do. The bar is found digit by digit
(radix selection): a histogram of the upper eight bits below the sign, then one of the lower seven among those
with the upper eight. Entries are kept sorted by feature for the update, as OpenAI's kernels do (Gao et al.
2024, arXiv 2406.04093, appendix D), but a program owns its feature.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

_ENTRIES = 16  # entries whose matrix rows are on their way at the same time
_COLUMNS = 128
_SCAN = 2048  # columns of the product that a program looks at in one go


@triton.jit
def _digits(row, num, above, SHIFT: tl.constexpr, BINS: tl.constexpr, BLOCK: tl.constexpr):
    """[BINS] how often each digit occurs in the positive numbers of a row whose bits above are `above`."""
    counts = tl.zeros([BINS], tl.int32)
    for at in range(0, num, BLOCK):
        place = at + tl.arange(0, BLOCK)
        bits = tl.load(row + place, mask=place < num, other=0).to(tl.int32)
        shifted = bits >> SHIFT
        counts += tl.histogram(shifted & (BINS - 1), BINS, mask=(bits > 0) & (shifted // BINS == above))
    return counts


@triton.jit
def _bar(counts, wanted, BINS: tl.constexpr):
    """The highest digit that leaves `wanted` (or 0), and how many lie above it."""
    index = tl.arange(0, BINS)
    left = tl.cumsum(counts, 0, reverse=True)
    digit = tl.maximum(tl.sum((left >= wanted).to(tl.int32), 0) - 1, 0)
    return digit, tl.sum(tl.where(index > digit, counts, 0), 0)


@triton.jit
def _keep(row, num, bar, ties, out, BLOCK: tl.constexpr):
    """Write down what exceeds the bar, and the first `ties` that equal it; returns how many."""
    size = 0
    tied = 0
    for at in range(0, num, BLOCK):
        place = at + tl.arange(0, BLOCK)
        bits = tl.load(row + place, mask=place < num, other=0).to(tl.int32)
        equal = ((bits == bar) & (bits > 0)).to(tl.int32)
        kept = (bits > bar) | ((equal > 0) & (tied + tl.cumsum(equal, 0) <= ties))
        tl.store(out + size + tl.cumsum(kept.to(tl.int32), 0) - 1, place, mask=kept)
        size += tl.sum(kept.to(tl.int32), 0)
        tied += tl.sum(equal, 0)
    return size


@triton.jit
def _select_row(product, num, k, counts, features, BLOCK: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    row = product + b * num
    upper, above = _bar(_digits(row, num, 0, 7, 256, BLOCK), k, 256)
    lower, more = _bar(_digits(row, num, upper, 0, 128, BLOCK), k - above, 128)
    size = _keep(row, num, upper * 128 + lower, k - above - more, features + b * k, BLOCK)
    tl.store(counts + b, size)


@triton.jit
def _digits_of_rows(product, num, above, out, SHIFT: tl.constexpr, BINS: tl.constexpr, BLOCK: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    counts = _digits(product + b * num, num, tl.load(above), SHIFT, BINS, BLOCK)
    tl.store(out + b * BINS + tl.arange(0, BINS), counts)


@triton.jit
def _keep_rows(product, num, bar, offsets, features, BLOCK: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    _keep(product + b * num, num, tl.load(bar), num, features + tl.load(offsets + b), BLOCK)


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
    """Counts [B], features [B, k] (unused places undefined): the row is read once, then from the cache."""
    counts = bits.new_empty(len(bits), dtype=torch.int64)
    features = bits.new_zeros(len(bits), k, dtype=torch.int32)
    _run(_select_row, (len(bits),), bits, bits.shape[1], k, counts, features, BLOCK=_SCAN)
    # Strongest first, the lower feature number first among equals, and what is no entry last.
    present = torch.arange(k, device=bits.device) < counts[:, None]
    strength = torch.where(present, bits.gather(1, features.long()), 0)
    order = strength.sort(dim=1, descending=True, stable=True).indices
    return counts, features.gather(1, order)


def select_in_batch(bits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Three passes over the product; two histograms a row, which also say how many of a row are kept."""
    uppers = _digits_of(bits, bits.new_zeros(1, dtype=torch.int64), 7, 256)
    upper, above = _bar_of(uppers, k * len(bits))
    lowers = _digits_of(bits, upper, 0, 128)
    lower, _ = _bar_of(lowers, k * len(bits) - above)
    counts = _from(uppers, upper + 1) + _from(lowers, lower)
    return counts, _kept(bits, upper * 128 + lower, counts)


def positive(bits: Tensor) -> tuple[Tensor, Tensor]:
    """Two passes over the product."""
    none = bits.new_zeros(1, dtype=torch.int64)
    counts = _digits_of(bits, none, 7, 256).sum(1)
    return counts, _kept(bits, none, counts)


def _digits_of(bits: Tensor, above: Tensor, shift: int, bins: int) -> Tensor:
    out = bits.new_empty(len(bits), bins, dtype=torch.int32)
    sizes = {"SHIFT": shift, "BINS": bins, "BLOCK": _SCAN}
    _run(_digits_of_rows, (len(bits),), bits, bits.shape[1], above, out, **sizes)
    return out


def _bar_of(digits: Tensor, wanted: Tensor | int) -> tuple[Tensor, Tensor]:
    """`_bar` for the digits of all rows together; [1] and []."""
    left = digits.sum(0).flip(0).cumsum(0).flip(0)
    digit = ((left >= wanted).sum() - 1).clamp(min=0)
    return digit[None], torch.nn.functional.pad(left, (0, 1))[digit + 1]


def _from(digits: Tensor, digit: Tensor) -> Tensor:
    """[B] how many digits of each row are at least `digit`."""
    return (digits * (torch.arange(digits.shape[1], device=digits.device) >= digit)).sum(1)


def _kept(bits: Tensor, bar: Tensor, counts: Tensor) -> Tensor:
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    features = bits.new_empty(int(offsets[-1]), dtype=torch.int32)
    _run(_keep_rows, (len(bits),), bits, bits.shape[1], bar, offsets, features, BLOCK=_SCAN)
    return features


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
