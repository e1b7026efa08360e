"""Selection for accelerators, in Triton: which entries of the dense product count.

What a function must give stands in `kernels`. The product is read as bf16 bits, which sort as positive
numbers do, and once: for the largest entry of each chunk of columns. The k largest of a row lie in the k
chunks with the largest maxima, the B·k largest of a batch in chunks whose maximum reaches the (B·k)-th
largest of the maxima; only those are looked at closely. Within a row the bar is found bit by bit, by
counting what reaches it; over a batch `torch.topk` finds it. How many entries there are is the one number
waited for.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from pellucid.dictionaries import triton_run
from pellucid.dictionaries.codes import offsets_of

_SCAN = 2048  # columns of the product that a program looks at in one go
_FEWEST_COLUMNS = 16  # of a chunk
_ROOM = 8  # times as many entries to look at as are wanted; 4 are met where rows differ much in size
_LEAST_ROOM = 2048
_MOST_AT_ONCE = 2**15  # numbers of a row that one program can hold

Chunks = tuple[Tensor, Tensor]
"""Chunks of columns to look at: their numbers in their row [any], and where each row's begin [B+1]."""


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
def _extent(num, starts, room, b, CHUNK: tl.constexpr, ALL: tl.constexpr):
    """What is looked at of a row: where its chunks begin among all chunks, and how many columns there are."""
    first = b * 0
    length = num
    if not ALL:
        first = tl.minimum(tl.load(starts + b), room)
        length = (tl.minimum(tl.load(starts + b + 1), room) - first).to(tl.int32) * CHUNK
    return first, length


@triton.jit
def _look(numbers, num, chunks, b, at, length, SIZE: tl.constexpr, CHUNK: tl.constexpr, ALL: tl.constexpr):
    """Places in a row, and the bits there; 0 beyond what is looked at."""
    place = at + tl.arange(0, SIZE)
    there = place < length
    if not ALL:
        place = tl.load(chunks + place // CHUNK, mask=there, other=0) * CHUNK + place % CHUNK
    return place, tl.load(numbers + b * num + place, mask=there & (place < num), other=0).to(tl.int32)


@triton.jit(do_not_specialize=["room"])
def _count_of_row(
    numbers,
    num,
    bar,
    chunks,
    starts,
    room,
    counts,
    SIZE: tl.constexpr,
    CHUNK: tl.constexpr,
    ALL: tl.constexpr,
):
    """How many numbers of a row reach the bar."""
    b = tl.program_id(0).to(tl.int64)
    least = tl.load(bar).to(tl.int32)
    first, length = _extent(num, starts, room, b, CHUNK, ALL)
    reached = tl.zeros([SIZE], tl.int32)
    for at in range(0, length, SIZE):
        _, bits = _look(numbers, num, chunks + first, b, at, length, SIZE, CHUNK, ALL)
        reached += (bits >= least).to(tl.int32)
    tl.store(counts + b, tl.sum(reached, 0).to(tl.int64))


@triton.jit(do_not_specialize=["room", "size"])
def _write_of_row(
    numbers,
    num,
    bar,
    chunks,
    starts,
    room,
    offsets,
    out,
    size,
    SIZE: tl.constexpr,
    CHUNK: tl.constexpr,
    ALL: tl.constexpr,
    PLACES: tl.constexpr,
):
    """The places in a row of what reaches the bar, ascending, or its bits; no more than `size` in all."""
    b = tl.program_id(0).to(tl.int64)
    least = tl.load(bar).to(tl.int32)
    first, length = _extent(num, starts, room, b, CHUNK, ALL)
    before = tl.load(offsets + b)
    for at in range(0, length, SIZE):
        place, bits = _look(numbers, num, chunks + first, b, at, length, SIZE, CHUNK, ALL)
        kept = bits >= least
        index = before + tl.cumsum(kept.to(tl.int32), 0) - 1
        found = place if PLACES else bits
        tl.store(out + index, found.to(out.dtype.element_ty), mask=kept & (index < size))
        before += tl.sum(kept.to(tl.int32), 0)


def select_per_row(bits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Counts [B], features [B, k] (unused places undefined)."""
    num = bits.shape[1]
    chunk = _chunk_of(num, k)
    if max(triton.cdiv(num, chunk), k * chunk) > _MOST_AT_ONCE:
        strengths, order = bits.clamp(min=0).sort(dim=1, descending=True, stable=True)
        unused = max(0, k - num)
        return (strengths[:, :k] > 0).sum(1), torch.nn.functional.pad(order[:, :k].int(), (0, unused))
    of_chunks, picked = _largest(_maxima_of(bits, chunk), k, None, chunk)
    return _largest(bits, k, (of_chunks, picked), chunk)


def select_in_batch(bits: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The bar of the maxima is at most that of the entries, which is found among what reaches the first.

    There are at least as many chunks and entries to look at as are wanted, and hardly ever eight times as
    many: room is made for so many before it is known how many there are.
    """
    rows, num = bits.shape
    wanted = rows * k
    chunk = _chunk_of(num, k)
    maxima = _maxima_of(bits, chunk)
    low = _bar_of(maxima.flatten(), wanted)
    starts = offsets_of(_count(maxima, low))
    room = min(max(_ROOM * wanted, _LEAST_ROOM), bits.numel())
    while True:
        near = _write(maxima, low, starts, room), starts
        offsets = offsets_of(_count(bits, low, near, chunk))
        found = _write(bits, low, offsets, room, near, chunk, bits.new_zeros(room))
        bar = _bar_of(found, wanted)
        counts = _count(bits, bar, near, chunk)
        kept = offsets_of(counts)
        features = _write(bits, bar, kept, room, near, chunk)
        size, *needed = torch.stack([kept[-1], starts[-1], offsets[-1]]).cpu().tolist()
        if max(needed) <= room:
            return counts, features[:size]
        room = max(needed)


def positive(bits: Tensor) -> tuple[Tensor, Tensor]:
    """Two passes over the product."""
    bar = bits.new_ones(())
    counts = _count(bits, bar)
    offsets = offsets_of(counts)
    return counts, _write(bits, bar, offsets, int(offsets[-1]))


def _chunk_of(num: int, k: int) -> int:
    """Columns of a chunk, so that there are about as many maxima in a row as columns in k chunks."""
    return int(max(_FEWEST_COLUMNS, triton.next_power_of_2(max(1, math.isqrt(num // k)))))


def _maxima_of(bits: Tensor, chunk: int) -> Tensor:
    """[B, chunks], 0 at least."""
    rows, num = bits.shape
    out = bits.new_empty(rows, triton.cdiv(num, chunk))
    sizes = {"CHUNK": chunk, "CHUNKS": max(1, _SCAN // chunk)}
    grid = rows, triton.cdiv(out.shape[1], sizes["CHUNKS"])
    triton_run.run(_maxima, grid, bits, num, out.shape[1], out, **sizes)
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
    triton_run.run(_largest_of_row, (rows,), *arguments, **sizes, num_warps=max(4, min(16, size // 1024)))
    return counts, places


def _count(numbers: Tensor, bar: Tensor, near: Chunks | None = None, chunk: int = 1) -> Tensor:
    """[B] how many of [B, num], or of the chunks of a row that are near, reach the bar."""
    rows, num = numbers.shape
    counts = numbers.new_empty(rows, dtype=torch.int64)
    chunks, starts = near or (counts, counts)
    arguments = numbers, num, bar, chunks, starts, len(chunks), counts
    triton_run.run(_count_of_row, (rows,), *arguments, SIZE=_SCAN, CHUNK=chunk, ALL=near is None)
    return counts


def _write(
    numbers: Tensor,
    bar: Tensor,
    offsets: Tensor,
    size: int,
    near: Chunks | None = None,
    chunk: int = 1,
    out: Tensor | None = None,
) -> Tensor:
    """[size] the places of what was counted, or the numbers themselves, into `out`."""
    rows, num = numbers.shape
    found = numbers.new_empty(size, dtype=torch.int32) if out is None else out
    chunks, starts = near or (offsets, offsets)
    arguments = numbers, num, bar, chunks, starts, len(chunks), offsets, found, size
    sizes = {"SIZE": _SCAN, "CHUNK": chunk, "ALL": near is None, "PLACES": out is None}
    triton_run.run(_write_of_row, (rows,), *arguments, **sizes)
    return found


def _bar_of(bits: Tensor, wanted: int) -> Tensor:
    """The number that `wanted` of [E] reach, or the least positive one if they are fewer."""
    if len(bits) < wanted:
        return bits.new_ones(())
    return bits.topk(wanted, sorted=False).values.min().clamp(min=1)
