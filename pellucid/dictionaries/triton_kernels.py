"""The kernels of `kernels` for accelerators, in Triton: one program a row of the batch, or a feature.

What a function must give, and its axes, stand in `kernels`; `compiled` does the same on processors, and
selection is in `triton_selection`. Nothing is added up by atomics, so that the same call gives the same bits.
How far this code has been run is said in docs/explanation/accelerators.md.

Entries are kept sorted by feature for the update, as OpenAI's kernels do (Gao et al. 2024, arXiv 2406.04093,
appendix D), but a program owns its feature.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from pellucid.dictionaries import triton_run
from pellucid.dictionaries.triton_selection import positive, select_in_batch, select_per_row

__all__ = [
    "by_feature",
    "decode_prefixes",
    "dots_by_group",
    "miss",
    "move",
    "positive",
    "select_in_batch",
    "select_per_row",
    "sums",
    "tally",
    "update",
]

_ENTRIES = 16  # entries whose matrix rows are on their way at the same time
_COLUMNS = 128
_FEW = 128  # entries of a feature that are counted in one go
_BLOCK = 1024  # numbers of a vector that a program moves


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
def _miss(
    offsets,
    features,
    values,
    decoder,
    bias,
    aim,
    out,
    squares,
    along,
    width,
    SIZE: tl.constexpr,
    ENTRIES: tl.constexpr,
):
    """The error of a row stays in registers until the products with the rows that made it are taken."""
    b = tl.program_id(0).to(tl.int64)
    d = tl.arange(0, SIZE)
    within = d < width
    error = tl.load(bias + d, mask=within, other=0.0)
    error -= tl.load(aim + b * width + d, mask=within, other=0.0)
    first, stop = tl.load(offsets + b), tl.load(offsets + b + 1)
    for at in range(first, stop, ENTRIES):
        entry = at + tl.arange(0, ENTRIES)
        real = entry < stop
        feature = tl.load(features + entry, mask=real, other=0).to(tl.int64)
        value = tl.load(values + entry, mask=real, other=0.0)
        inside = real[:, None] & within[None]
        written = tl.load(decoder + feature[:, None] * width + d[None], mask=inside, other=0.0)
        error += tl.sum(value[:, None] * written, 0)
    tl.store(out + b * width + d, error, mask=within)
    tl.store(squares + b, tl.sum(error * error, 0))
    for at in range(first, stop, ENTRIES):
        entry = at + tl.arange(0, ENTRIES)
        real = entry < stop
        feature = tl.load(features + entry, mask=real, other=0).to(tl.int64)
        inside = real[:, None] & within[None]
        written = tl.load(decoder + feature[:, None] * width + d[None], mask=inside, other=0.0)
        tl.store(along + entry, tl.sum(error[None] * written, 1), mask=real)


@triton.jit
def _sums(starts, order, numbers, out, SIZE: tl.constexpr):
    i = tl.program_id(0).to(tl.int64)
    total = tl.zeros([SIZE], tl.float64)
    stop = tl.load(starts + i + 1)
    for at in range(tl.load(starts + i), stop, SIZE):
        entry = at + tl.arange(0, SIZE)
        real = entry < stop
        entry = tl.load(order + entry, mask=real, other=0)
        total += tl.load(numbers + entry, mask=real, other=0.0).to(tl.float64)
    tl.store(out + i, tl.sum(total, 0).to(tl.float32))


@triton.jit
def _tally(starts, order, values, silent_for, peak, fired, rows, SIZE: tl.constexpr):
    i = tl.program_id(0).to(tl.int64)
    active = tl.zeros([SIZE], tl.int32)
    largest = tl.zeros([SIZE], tl.float32)
    stop = tl.load(starts + i + 1)
    for at in range(tl.load(starts + i), stop, SIZE):
        entry = at + tl.arange(0, SIZE)
        real = entry < stop
        entry = tl.load(order + entry, mask=real, other=0)
        value = tl.load(values + entry, mask=real, other=0.0)
        active += (value > 0).to(tl.int32)
        largest = tl.maximum(largest, value)
    times = tl.sum(active, 0)
    tl.store(silent_for + i, tl.where(times > 0, 0, tl.load(silent_for + i) + rows))
    tl.store(fired + i, tl.load(fired + i) + times)
    tl.store(peak + i, tl.maximum(tl.load(peak + i), tl.max(largest, 0)))


@triton.jit
def _adam(weights, mean, square, gradient, rate, beta1, beta2, epsilon, correct1, correct2):
    """The moved weights and moments."""
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * gradient * gradient
    moved = weights - rate * mean * correct1 / (tl.sqrt(square * correct2) + epsilon)
    return moved, mean, square


@triton.jit
def _move(
    vector,
    first,
    second,
    gradient,
    size,
    rate,
    beta1,
    beta2,
    epsilon,
    correct1,
    correct2,
    SIZE: tl.constexpr,
):
    at = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    inside = at < size
    moved, mean, square = _adam(
        tl.load(vector + at, mask=inside, other=0.0),
        tl.load(first + at, mask=inside, other=0.0),
        tl.load(second + at, mask=inside, other=0.0),
        tl.load(gradient + at, mask=inside, other=0.0),
        rate,
        beta1,
        beta2,
        epsilon,
        correct1,
        correct2,
    )
    tl.store(vector + at, moved, mask=inside)
    tl.store(first + at, mean, mask=inside)
    tl.store(second + at, square, mask=inside)


@triton.jit
def _update(
    matrix,
    first,
    second,
    starts,
    of_row,
    factors,
    source,
    part,
    start,
    place,
    extra,
    touched,
    clock,
    rows,
    width,
    rate,
    beta1,
    beta2,
    epsilon,
    correct1,
    correct2,
    log_beta1,
    log_beta2,
    ENTRIES: tl.constexpr,
    SIZE: tl.constexpr,
    DECODER: tl.constexpr,
    ALL: tl.constexpr,
):
    """A row of the encoder or of the decoder. What it is read with is on its way while it is summed for."""
    i = tl.program_id(0).to(tl.int64)
    if not ALL:
        i = tl.load(touched + i)
        if i < 0:
            return
        steps = tl.load(clock + i) + 1
        if DECODER:  # the later of the two
            tl.store(clock + i, steps)
        correct1 = (1 / (1 - tl.exp(steps.to(tl.float64) * log_beta1))).to(tl.float32)
        correct2 = (1 / (1 - tl.exp(steps.to(tl.float64) * log_beta2))).to(tl.float32)
    d = tl.arange(0, SIZE)
    inside = d < width
    if DECODER:
        inside = inside & (d >= tl.load(start + i))
    at = i * width + d
    weights = tl.load(matrix + at, mask=inside, other=0.0)
    mean = tl.load(first + at, mask=inside, other=0.0)
    square = tl.load(second + at, mask=inside, other=0.0)
    seen = source + tl.load(part + i).to(tl.int64) * rows * width
    m = tl.load(place + i).to(tl.int64)
    gradient = tl.load(extra + m * width + d, mask=inside & (m >= 0), other=0.0)
    stop = tl.load(starts + i + 1)
    for entries in range(tl.load(starts + i), stop, ENTRIES):
        entry = entries + tl.arange(0, ENTRIES)
        real = entry < stop
        b = tl.load(of_row + entry, mask=real, other=0)[:, None]
        factor = tl.load(factors + entry, mask=real, other=0.0)[:, None]
        row = tl.load(seen + b * width + d[None], mask=real[:, None] & inside[None], other=0.0)
        gradient += tl.sum(factor * row, 0)
    if DECODER:
        gradient -= tl.sum(gradient * weights, 0) * weights
    moved, mean, square = _adam(
        weights, mean, square, gradient, rate, beta1, beta2, epsilon, correct1, correct2
    )
    tl.store(first + at, mean, mask=inside)
    tl.store(second + at, square, mask=inside)
    if DECODER:
        moved = tl.where(inside, moved, 0.0)
        moved = moved / tl.sqrt(tl.sum(moved * moved, 0))
    tl.store(matrix + at, moved, mask=inside)


def dots_by_group(x: Tensor, group: Tensor, matrix: Tensor, offsets: Tensor, features: Tensor) -> Tensor:
    """A row of the matrix is read once for each entry."""
    out = matrix.new_empty(len(features))
    _, rows, width = x.shape
    sizes = {"ENTRIES": _ENTRIES, "COLUMNS": _COLUMNS}
    triton_run.run(
        _dots, (rows,), x.contiguous(), group, matrix, offsets, features, out, rows, width, **sizes
    )
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
    triton_run.run(_decode, grid, *entries, *wired, out, rows, width, groups, **sizes)
    return out


def miss(
    offsets: Tensor,
    features: Tensor,
    values: Tensor,
    decoder: Tensor,
    bias: Tensor,
    group: Tensor,
    start: Tensor,
    aim: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """A row of the decoder is read twice for each entry, the second time from near."""
    rows, width = aim.shape
    out, squares, along = aim.new_empty(1, rows, width), aim.new_empty(rows), aim.new_empty(len(features))
    entries = offsets, features, values
    triton_run.run(_miss, (rows,), *entries, decoder, bias, aim, out, squares, along, width, **_sizes(width))
    return out, squares, along


def by_feature(features: Tensor, num_features: int) -> tuple[Tensor, Tensor]:
    """Starts [N+1], entry numbers [E]."""
    if num_features < 2**15:  # sorted digit by digit: half of the digits, half of the time
        features = features.to(torch.int16)
    ordered, order = features.sort(stable=True)
    every = torch.arange(num_features + 1, device=features.device, dtype=features.dtype)
    return torch.searchsorted(ordered, every), order


def sums(starts: Tensor, order: Tensor, numbers: Tensor) -> Tensor:
    """[N], each added up in an order that only depends on how many entries a feature has."""
    out = numbers.new_empty(len(starts) - 1)
    triton_run.run(_sums, (len(out),), starts, order, numbers, out, SIZE=_FEW, num_warps=1)
    return out


def tally(
    starts: Tensor,
    order: Tensor,
    values: Tensor,
    rows: int,
    silent_for: Tensor,
    peak: Tensor,
    fired: Tensor,
) -> None:
    """In place."""
    arguments = starts, order, values, silent_for, peak, fired, rows
    triton_run.run(_tally, (len(peak),), *arguments, SIZE=_FEW, num_warps=1)


def move(
    vector: Tensor,
    first: Tensor,
    second: Tensor,
    gradient: Tensor,
    adam: tuple[float, float, float, float],
    step: int,
) -> None:
    """In place, read and written once."""
    size = vector.numel()
    arguments = vector, first, second, gradient.contiguous(), size, *adam, *_corrections(adam, step)
    triton_run.run(_move, (triton.cdiv(size, _BLOCK),), *arguments, SIZE=_BLOCK)


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
    (starts, order), (reads, group, start), (place, *further) = sorted_entries, wiring, extra
    of_row, values, pre_slopes = (t[order] for t in entries)
    programs, touched = len(place), place
    if own_clock:
        programs = min(len(place), len(order) + len(further[0]))
        moving = (starts.diff() > 0) | (place >= 0)
        touched = torch.nonzero_static(moving, size=programs, fill_value=-1)[:, 0]
        if not programs:
            return
    sides = (
        (weights[0], *encoder_moments, starts, of_row, pre_slopes, x.contiguous(), reads),
        (weights[1], *decoder_moments, starts, of_row, values, slopes.contiguous(), group),
    )
    rates = *adam, *_corrections(adam, step), math.log(adam[1]), math.log(adam[2])
    for decoder, (side, more) in enumerate(zip(sides, further, strict=True)):
        width = more.shape[1]
        shapes = x.shape[1], width
        triton_run.run(
            _update,
            (programs,),
            *(*side, start, place, more, touched, clock, *shapes, *rates),
            **_sizes(width),
            DECODER=bool(decoder),
            ALL=not own_clock,
        )


def _corrections(adam: tuple[float, float, float, float], step: int) -> tuple[float, float]:
    """By which Adam's moments are too small at a step."""
    return 1 / (1 - adam[1] ** step), 1 / (1 - adam[2] ** step)


def _sizes(width: int) -> dict[str, int]:
    """Of a program that holds a row in registers, and a few more that are added to it."""
    size = triton.next_power_of_2(width)
    return {
        "SIZE": size,
        "ENTRIES": max(1, min(8, 2**14 // size)),
        "num_warps": max(4, min(32, size // 256)),
    }
