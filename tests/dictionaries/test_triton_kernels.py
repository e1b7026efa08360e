"""Triton's kernels are those of the processor: on an accelerator if there is one, else in the interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

pytest.importorskip("triton", reason="Triton is not installed")

from pellucid.dictionaries import kernels, plain, triton_run, triton_selection
from pellucid.dictionaries.codes import Codes, offsets_of
from pellucid.dictionaries.kernels import Adam, Extra, Wiring

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
few = settings(max_examples=8)


@contextmanager
def triton_kernels_here() -> Iterator[None]:
    """Kernels in Triton, also for tensors on the processor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(kernels._MODULES, "cpu", "triton_kernels")
        yield


def moved(value: Any) -> Any:
    """A copy, on the accelerator if there is one."""
    if isinstance(value, Wiring):
        return replace(value, **{n: moved(getattr(value, n)) for n in ("reads", "group", "start")})
    if isinstance(value, tuple):
        parts = [moved(v) for v in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value.clone().to(DEVICE) if isinstance(value, Tensor) else value


def both(function: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
    """What a kernel gives on the processor and in Triton."""
    found = function(*arguments)
    with triton_kernels_here():
        return found, function(*moved(arguments))


def scores_of(rows: int, features: int, seed: int, kind: str) -> Tensor:
    """[rows, features] bf16; few levels make ties, and some rows have nothing positive."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "ties":
        scores = torch.randint(-2, 4, (rows, features), generator=generator).float()
    else:
        scale = {"spread": 1.0, "tiny": 1e-40, "huge": 1e37}[kind]
        scores = torch.randn(rows, features, generator=generator) * scale
    scores[::3] = -scores[::3].abs()
    return scores.bfloat16()


@few
@given(
    rows=st.integers(1, 5),
    features=st.sampled_from([1, 2, 63, 200, 2048, 2049, 4500]),
    k=st.sampled_from([1, 2, 5, 32, 300]),
    seed=st.integers(0, 2**16),
    kind=st.sampled_from(["ties", "spread", "tiny", "huge"]),
)
@example(rows=3, features=4500, k=5, seed=0, kind="ties")
@example(rows=2, features=64, k=300, seed=0, kind="spread")
@example(rows=2, features=63, k=3000, seed=0, kind="spread")
def test_the_same_entries_are_selected_in_the_same_order(
    rows: int, features: int, k: int, seed: int, kind: str
) -> None:
    scores = scores_of(rows, features, seed, kind)
    for function, rest in (
        (kernels.select_per_row, (k,)),
        (kernels.select_in_batch, (k,)),
        (kernels.positive, ()),
    ):
        (counts, chosen), (mine, found) = both(function, scores, *rest)
        assert mine.tolist() == counts.tolist()
        if function is kernels.select_per_row:  # within a row in any order
            chosen, found = (in_rows(t, mine) for t in (chosen, found))
        assert found.tolist() == chosen.tolist()


@pytest.mark.parametrize("kind", ["ties", "spread"])
@pytest.mark.parametrize("features", [40, 2049])
def test_where_room_was_too_little_the_search_is_made_again(
    features: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_selection, "_ROOM", 1)
    monkeypatch.setattr(triton_selection, "_LEAST_ROOM", 1)
    scores = scores_of(5, features, 3, kind)
    (counts, chosen), (mine, found) = both(kernels.select_in_batch, scores, 2)
    assert mine.tolist() == counts.tolist()
    assert found.tolist() == chosen.tolist()


def in_rows(features: Tensor, counts: Tensor) -> Tensor:
    """The features of each row, ascending."""
    return torch.cat([row.sort().values for row in torch.split(features, counts.tolist())])


SPARSE = {
    "rows": st.integers(1, 4),
    "features": st.integers(1, 40),
    "width": st.sampled_from([1, 16, 130]),
    "parts": st.integers(1, 3),
    "seed": st.integers(0, 2**16),
}


def wired(features: int, width: int, parts: int, draw: Callable[..., Tensor]) -> tuple[Wiring, Tensor]:
    """A wiring of so many groups, parts read and columns to begin at; and a decoder that fits."""
    ends = sorted({max(1, features * (n + 1) // parts) for n in range(parts)} | {features})
    reads = torch.arange(features) % parts
    wiring = Wiring.simple(features, tuple(ends))
    wiring = replace(wiring, reads=reads.to(torch.int8), start=(reads * (width // 4)).int())
    written = torch.arange(width) >= wiring.start[:, None]
    return wiring, torch.nn.functional.normalize(draw(features, width) * written, dim=1)


@few
@given(**SPARSE)
def test_dots_and_decoding_are_those_of_the_processor(
    rows: int, features: int, width: int, parts: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    wiring, decoder = wired(features, width, parts, draw)
    codes, bias = Codes.from_dense(draw(rows, features) - 0.5), draw(width)
    entries = codes.offsets, codes.features
    x = draw(wiring.groups, rows, width)
    for expected, found in (
        both(kernels.dots, x, decoder, *entries, wiring.group),
        both(kernels.dots, x[0], decoder, *entries),
        both(kernels.decode, *entries, codes.values, decoder, bias, wiring),
        both(kernels.decode, *entries, codes.values, decoder, bias),
    ):
        np.testing.assert_allclose(found.cpu(), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.cpu(), plain.decode(codes, decoder, bias), rtol=1e-5, atol=1e-5)


@few
@given(**SPARSE)
def test_a_miss_is_that_of_the_processor(rows: int, features: int, width: int, parts: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    wiring, decoder = wired(features, width, parts, draw)
    wiring = replace(wiring, group=torch.zeros_like(wiring.group), groups=1)
    codes = Codes.from_dense(draw(rows, features) - 0.5)
    entries = codes.offsets, codes.features, codes.values
    expected, found = both(kernels.miss, *entries, decoder, draw(width), wiring, draw(rows, width))
    for mine, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine.cpu(), wanted, rtol=1e-4, atol=1e-4)


@few
@given(rows=st.integers(1, 50), features=st.integers(1, 5), seed=st.integers(0, 2**16))
def test_sums_and_tallies_are_those_of_the_processor(rows: int, features: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = Codes.from_dense(torch.randn(rows, features, generator=generator))
    values = (codes.values - 0.5).clamp(min=0)
    expected, found = both(kernels.by_feature, codes.features, features)
    assert [t.tolist() for t in found] == [t.tolist() for t in expected]
    by_feature = kernels.ByFeature(*expected)
    expected, found = both(kernels.sums, by_feature, codes.values)
    np.testing.assert_allclose(found.cpu(), expected, rtol=1e-6, atol=1e-7)
    before = torch.randint(0, 9, (features,), generator=generator)
    counters = before, torch.rand(features, generator=generator), before * 2
    mine, theirs = moved(counters), tuple(t.clone() for t in counters)
    kernels.tally(by_feature, values, rows, *theirs)
    with triton_kernels_here():
        kernels.tally(moved(by_feature), moved(values), rows, *mine)
    assert [t.tolist() for t in mine] == [t.tolist() for t in theirs]


@few
@given(shape=st.sampled_from([(1,), (1025,), (3, 700)]), step=st.integers(1, 5000), seed=st.integers(0, 99))
def test_a_vector_moves_as_on_the_processor(shape: tuple[int, ...], step: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    vector, first, gradient = (torch.randn(shape, generator=generator) for _ in range(3))
    state = vector, (first, torch.rand(shape, generator=generator))
    mine, theirs = moved(state), (vector.clone(), tuple(t.clone() for t in state[1]))
    adam = Adam(1e-3, 0.9, 0.999, 6.25e-10)
    kernels.move(*theirs, gradient, adam, step)
    with triton_kernels_here():
        kernels.move(*mine, moved(gradient), adam, step)
    for found, wanted in zip((mine[0], *mine[1]), (theirs[0], *theirs[1]), strict=True):
        np.testing.assert_allclose(found.cpu(), wanted, rtol=2e-5, atol=1e-6)


@few
@given(**SPARSE, step=st.integers(1, 1000), clocks=st.booleans())
def test_an_update_is_that_of_the_processor(
    rows: int, features: int, width: int, parts: int, seed: int, step: int, clocks: bool
) -> None:
    """Which `test_kernels` holds to autograd; more columns out than in, and rows with clocks of their own."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    wiring, decoder = wired(features, width + 3, parts, draw)
    codes = Codes.from_dense(draw(rows, features) - 0.5)
    encoder = draw(features, width)
    moments = [(draw(*w.shape), draw(*w.shape).square()) for w in (encoder, decoder)]
    place = torch.full((features,), -1, dtype=torch.int32)
    place[: features // 2] = torch.arange(features // 2, dtype=torch.int32).flip(0)
    state = (encoder, decoder), *moments
    rest = (
        (codes.rows, codes.values, draw(len(codes.values))),
        kernels.by_feature(codes.features, features),
        draw(parts, rows, width),
        draw(wiring.groups, rows, width + 3),
        wiring,
        Extra(place, draw(features // 2, width), draw(features // 2, width + 3)),
        Adam(1e-3, 0.9, 0.999, 6.25e-10),
        step,
    )
    clock = torch.randint(0, 50, (features,), generator=generator).int() if clocks else None
    mine, theirs = moved(state), tuple(tuple(t.clone() for t in pair) for pair in state)
    my_clock, their_clock = moved(clock), None if clock is None else clock.clone()
    kernels.update(*theirs, *rest, their_clock)
    with triton_kernels_here():
        kernels.update(*mine, *moved(rest), my_clock)
    if clock is not None:
        assert my_clock.tolist() == their_clock.tolist()
    for pair, expected in zip(mine, theirs, strict=True):
        for found, wanted in zip(pair, expected, strict=True):
            np.testing.assert_allclose(found.cpu(), wanted, rtol=2e-5, atol=1e-5)


COMPILE = """
import json, sys
from importlib import import_module
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

for room, name, types, sizes, warps in json.loads(sys.argv[1]):
    kernel = getattr(import_module(room), name)
    signature = dict(zip(kernel.arg_names, types + ["constexpr"] * len(sizes)))
    made = triton.compile(
        ASTSource(kernel, signature, sizes), target=GPUTarget("cuda", 90, 32), options={"num_warps": warps}
    )
    print(name, len(made.asm["cubin"]) > 0)
"""
"""Compile kernels to machine code for one accelerator, which need not be there."""

TYPES = {
    torch.int8: "*i8",
    torch.int16: "*i16",
    torch.int32: "*i32",
    torch.int64: "*i64",
    torch.float32: "*fp32",
    int: "i32",
    float: "fp32",
}


def test_every_kernel_compiles_to_machine_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter takes what the compiler may not."""
    seen: dict[str, tuple[str, str, list[str], dict[str, int], int]] = {}
    run = triton_run.run

    def note(kernel: Any, grid: tuple[int, ...], *arguments: Any, num_warps: int = 4, **sizes: int) -> None:
        types = [TYPES[a.dtype if isinstance(a, Tensor) else type(a)] for a in arguments]
        room, name = kernel.fn.__module__, kernel.fn.__name__
        seen[json.dumps([name, types, sizes])] = (room, name, types, sizes, num_warps)
        run(kernel, grid, *arguments, num_warps=num_warps, **sizes)

    monkeypatch.setattr(triton_run, "run", note)
    width = 576
    x, decoder, wiring = torch.ones(1, 2, width), torch.ones(3, width), Wiring.simple(3, (1, 2, 3))
    scores = torch.ones(2, 40).bfloat16()
    pairs = [(torch.ones(3, width), torch.ones(3, width)) for _ in range(3)]
    none = torch.zeros(0, width)
    adam = Adam(1e-3, 0.9, 0.999, 1e-9)
    with triton_kernels_here():
        kernels.select_in_batch(scores, 1)
        kernels.positive(scores)
        counts, features = kernels.select_per_row(scores[:, :3].contiguous(), 2)
        offsets = offsets_of(counts)
        values = kernels.dots(x[0], decoder, offsets, features)
        kernels.decode(offsets, features, values, decoder, x[0, 0])
        slopes = kernels.decode(offsets, features, values, decoder, x[0, 0], wiring)
        kernels.miss(offsets, features, values, decoder, x[0, 0], Wiring.simple(3), x[0])
        by_feature = kernels.by_feature(features, 3)
        kernels.sums(by_feature, values)
        kernels.move(x[0, 0], (x[0, 1], x[0, 1]), x[0, 0], adam, 1)
        counters = torch.zeros(3).long(), torch.zeros(3), torch.zeros(3).long()
        kernels.tally(by_feature, values, 2, *counters)
        entries = torch.repeat_interleave(counts), values, values
        extra = Extra(torch.full((3,), -1, dtype=torch.int32), none, none)
        for clock in (None, torch.zeros(3, dtype=torch.int32)):
            kernels.update(*pairs, entries, by_feature, x, slopes, wiring, extra, adam, 1, clock)
    started = [
        *("_maxima", "_largest_of_row", "_count_of_row", "_write_of_row"),
        *("_dots", "_decode", "_miss", "_sums", "_tally", "_move", "_update"),
    ]
    assert {name for _, name, *_ in seen.values()} == set(started)
    found = child("-c", COMPILE, json.dumps(list(seen.values())), interpreted=False, cache=tmp_path)
    assert found.splitlines() == [f"{name} True" for _, name, *_ in seen.values()]


@pytest.mark.parametrize(
    "device",
    [
        "pretend",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no accelerator"),
            ],
        ),
    ],
)
def test_a_run_where_its_activations_lie_is_that_of_the_processor(device: str, tmp_path: Path) -> None:
    """All architectures, two sittings; nothing of it lies on the processor, which waits for few numbers.

    They are whether the batch is of numbers and how many features are silent, how many entries there are, and
    the loss; and with groups of features, how many entries silent ones have in them.
    """
    script = Path(__file__).with_name("device_child.py")
    answer = child(
        str(script), device, str(tmp_path / "runs"), interpreted=device == "pretend", cache=tmp_path
    )
    silent = 0
    for name, found in json.loads(answer).items():
        assert len(found["told"]) == 2
        for expected, mine in found["told"]:
            # Where entries compete, one at the edge of bf16 may be kept by one product and not the other.
            assert mine["fvu"] == pytest.approx(expected["fvu"], rel=0.02), name
            assert mine["silent"] == expected["silent"], name
            silent += mine["silent"]
        assert found["off"] < 1e-5, name
        assert found.get("same bits", True), name
        for (_, mine), waits in zip(found["told"], found["waits"], strict=False):
            assert len(waits) <= 3 + (name == "visits" and mine["silent"] > 0), (name, waits)
    assert silent > 0, "the auxiliary loss had something to do"


def child(*command: str, interpreted: bool, cache: Path) -> str:
    """What a Python process of its own prints."""
    done = subprocess.run(
        [sys.executable, *command],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "TRITON_INTERPRET": str(int(interpreted)),
            "TRITON_CACHE_DIR": str(cache),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
