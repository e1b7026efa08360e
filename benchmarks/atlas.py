"""The atlas: what the index costs in time, memory and disk, whether it is exact, how fast a page is.

Bars, each printed with what was measured, on two cores:

    building   beside the reading of the model, the index takes at most 25 % more time; also with encoding
    disk       at most 12 bytes for each posting, both directions together
    memory     10 million tokens in less than 2 GB beyond the model
    exact      counts, quantiles and top examples equal a plain pass over dense activations, to the last bit
    page       a feature's page in less than 20 ms cold, among a million features

Building is measured on the shipped dictionary and its text, with SmolLM2 in fp32. Memory and pages are
measured on codes that are drawn: a feature's share of them falls with its number, as in real dictionaries.

    python benchmarks/atlas.py [building] [memory] [page] [--read 100k] [--tokens 10M] [--features 1M]
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pellucid.activations.reading import Reader, RowPool
from pellucid.activations.tokens import TokenStore
from pellucid.atlas import build as building
from pellucid.atlas import postings, tables
from pellucid.atlas.pages import Atlas
from pellucid.atlas.segments import Gathering, Segment, Segments
from pellucid.atlas.statistics import THOUSANDTHS
from pellucid.cli import printing
from pellucid.core import digests, files
from pellucid.core.numbers import parse_count
from pellucid.core.places import Place
from pellucid.core.progress import silent
from pellucid.dictionaries import files as dictionaries
from pellucid.dictionaries import shipped
from pellucid.dictionaries.base import Dictionary
from pellucid.models.model import load

LENGTH, VOCABULARY, L0 = 128, 49_152, 32
Bar = tuple[str, str, str, bool]
"""What, figure, bar, met."""


def drawn_store(rows: int, seed: int = 0) -> TokenStore:
    """Rows of drawn token ids in memory, common ids more often."""
    dice = np.random.default_rng(seed)
    tokens = (VOCABULARY * dice.random((rows, LENGTH), dtype=np.float32) ** 4).astype(np.uint16)
    record = {
        "request": {"length": LENGTH, "model": "drawn"},
        "separator": 0,
        "sources": [{"spec": f"drawn {s}"} for s in (0, 1)],
        "digest": digests.of_json({"drawn": rows, "seed": seed}),
    }
    sources = np.repeat(np.arange(2, dtype=np.uint16), [rows - rows // 2, rows // 2])
    return TokenStore(Path("drawn"), tokens, tokens[:0], sources, record)


def drawn_codes(features: int, tokens: int, dice: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Offsets, features and values of some tokens, about L0 each, as `Codes` has them."""
    chosen = (features * dice.random((tokens, L0), dtype=np.float32).astype(np.float64) ** 2).astype(np.int32)
    chosen.sort(axis=1)
    fresh = np.ones_like(chosen, bool)
    fresh[:, 1:] = chosen[:, 1:] != chosen[:, :-1]
    offsets = np.concatenate([[0], np.cumsum(fresh.sum(1))])
    values = dice.lognormal(1.0, 0.7, (tokens, L0)).astype(np.float32)
    return offsets, chosen[fresh], values[fresh]


def drawn_atlas(
    folder: Path,
    features: int,
    tokens: int,
    *,
    digest: str = "drawn",
    seed: int = 0,
    memory_bytes: int = 1 << 29,
) -> Atlas:
    """An atlas of drawn codes, by the path that real ones take; with drawn effects.

    Args:
        folder: where to put it.
        features: N.
        tokens: how much text.
        digest: of the decoder that it says to be of.
        seed: of what is drawn.
        memory_bytes: as of `AtlasSettings`.
    """
    dice = np.random.default_rng(seed)
    store = drawn_store(-(-tokens // LENGTH), seed)
    rows = np.arange(len(store.tokens))
    settings = building.AtlasSettings(memory_bytes=memory_bytes)
    work = folder.with_name(f"{folder.name}.building")
    segments, at = [], 0
    keep = np.ones((building._ROWS_AT_ONCE, LENGTH), bool)
    keep[:, 0] = False
    while at < len(rows):
        first, gathering = at, Gathering(LENGTH, VOCABULARY)
        while at < len(rows) and gathering.postings < settings.postings_at_once:
            numbers = rows[at : at + building._ROWS_AT_ONCE]
            mine = keep[: len(numbers)]
            gathering.add(numbers, store.tokens[numbers], mine, *drawn_codes(features, int(mine.sum()), dice))
            at += len(numbers)
        with files.new_folder(work / f"{first:09d}") as partial:
            facts = [gathering.write(partial, 0)]
            files.write_json(partial / "segment.json", {"first": first, "stop": at, "dictionaries": facts})
        segments.append(Segment.open(work / f"{first:09d}"))
    mine, place = Segments(segments, 0), Place.of(folder)
    made = postings.write(
        mine, place, store, rows, features,
        examples=settings.examples, per_band=settings.per_band, keep=True,
        memory_bytes=memory_bytes, journals=work, progress=silent,
    )  # fmt: skip
    made["effects"] = tables.write(place / "effects", _drawn_effects(features, settings.promoted, dice))
    known = {
        "features": features,
        "model": "drawn",
        "site": "drawn",
        "precision": "float32",
        "dictionary": digest,
    }
    place.write_json(building.RECORD, building.record_of(known, store, rows, mine, settings, made))
    shutil.rmtree(work)
    return Atlas.open(folder)


def _drawn_effects(features: int, count: int, dice: np.random.Generator) -> Iterator[tables.Columns]:
    for at in range(0, features, tables.ROWS_PER_FILE):
        shape = min(features - at, tables.ROWS_PER_FILE), count
        scores = -np.sort(-dice.random(shape).astype(np.float16))
        yield {
            "promoted": dice.integers(0, VOCABULARY, shape).astype(np.int32),
            "promoted_scores": scores,
            "suppressed": dice.integers(0, VOCABULARY, shape).astype(np.int32),
            "suppressed_scores": -scores,
        }


def size_of(folder: Path) -> int:
    """Bytes below a folder."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


@contextmanager
def timed(owner: Any, name: str, spent: dict[str, float]) -> Iterator[None]:
    """Adds up the seconds of processor time that calls of a method take."""
    whole = getattr(owner, name)

    def call(*arguments: Any, **named: Any) -> Any:
        started = time.process_time()
        try:
            return whole(*arguments, **named)
        finally:
            spent[name] = spent.get(name, 0.0) + time.process_time() - started

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, whole)


def bar_building(folder: Path, given: argparse.Namespace) -> Iterator[Bar]:
    """Time and bytes of an atlas of the shipped dictionary, and whether it is exact."""
    home = shipped.resolve("smollm2")
    dictionary, card = dictionaries.load(home)
    store = TokenStore.open(home / "text")
    reader = Reader(load(card["model_reference"], precision="fp32"), store, dictionary.site)
    rows = building.rows_of(len(store.tokens), -(-parse_count(given.read) // store.length))
    settings = building.AtlasSettings(promoted=0)
    torch.set_num_threads(1)
    drawn_atlas(folder / "warm", 100, 10_000)  # kernels are compiled once per machine
    spent: dict[str, float] = {}
    started = time.process_time()
    with timed(RowPool, "read", spent), timed(Dictionary, "encode", spent):
        building.build([building.Target(dictionary, reader, folder / "real")], rows, settings=settings)
    total = time.process_time() - started
    index = total - spent["read"] - spent["encode"]
    per_read = index / spent["read"]
    with_encoding = (index + spent["encode"]) / spent["read"]
    print(
        "processor time, with one thread the time by the clock: "
        f"{len(rows) * store.length:,} tokens: the model {spent['read']:.1f} s, encoding "
        f"{spent['encode']:.1f} s, the index {index:.1f} s"
    )
    yield "the index, beside reading", f"{per_read:.1%}", "25 %", per_read <= 0.25
    yield "index and encoding, beside reading", f"{with_encoding:.1%}", "(25 %)", with_encoding <= 0.25
    atlas = Atlas.open(folder / "real", dictionary)
    parts = {
        name: size_of(folder / "real" / name) / atlas.record["postings"] for name in ("postings", "tokens")
    }
    print(", ".join(f"{name} {each:.2f} bytes a posting" for name, each in parts.items()))
    yield "disk, bytes a posting", f"{sum(parts.values()):.2f}", "12", sum(parts.values()) <= 12
    apart = differences(atlas, reader, dictionary)
    yield "features that differ from a plain pass", str(apart), "0", apart == 0


def differences(atlas: Atlas, reader: Reader, dictionary: Dictionary) -> int:
    """Features whose count, quantiles or top examples are not those of dense activations."""
    store = reader.store
    codes = []
    rows = np.sort(building.rows_of(len(store.tokens), atlas.record["rows"]))
    for at in range(0, len(rows), building._ROWS_AT_ONCE):
        part = rows[at : at + building._ROWS_AT_ONCE]
        activations, keep = reader.read(np.asarray(store.tokens[part]))
        row_of, position_of = np.nonzero(keep.numpy())
        numbers = part[row_of] * store.length + position_of
        code = dictionary.encode(activations[keep])
        codes.append((numbers[code.rows.numpy()], code.features.numpy(), code.values.numpy()))
    tokens, features, values = (np.concatenate(column) for column in zip(*codes, strict=True))
    order = np.argsort(features, kind="stable")
    tokens, values = tokens[order], values[order]
    starts = np.searchsorted(features[order], np.arange(atlas.num_features + 1))
    wrong = 0
    found = atlas.features.slice(0, atlas.num_features)
    for feature in range(atlas.num_features):
        mine = slice(starts[feature], starts[feature + 1])
        at, values_of = tokens[mine], values[mine]
        ranked = np.sort(values_of)
        wanted = [ranked[-(-len(ranked) * t // 1000) - 1] for t in THOUSANDTHS] if len(ranked) else [0]
        peaks: dict[int, tuple[float, int]] = {}
        for token, value in zip(at.tolist(), values_of.tolist(), strict=True):
            row = token // store.length
            if row not in peaks or value > peaks[row][0]:
                peaks[row] = value, token
        room = found["example_tokens"].shape[1]
        best = [t for _, t in sorted(peaks.values(), key=lambda p: (-p[0], p[1]))[:room]]
        wrong += not (
            found["count"][feature] == len(at)
            and (found["quantiles"][feature] == np.array(wanted, np.float32)).all()
            and found["example_tokens"][feature].tolist() == best + [-1] * (room - len(best))
        )
    return wrong


def bar_memory(folder: Path, given: argparse.Namespace) -> Iterator[Bar]:
    """Peak memory of an index of many tokens, in a process of its own, against one that has done a little."""
    tokens, features = parse_count(given.tokens), 16_384
    peaks = {}
    for name, count in (("little", 100_000), ("much", tokens)):
        process = os.fork()
        if process == 0:
            started = time.perf_counter()
            atlas = drawn_atlas(folder / name, features, count)
            n = atlas.record["postings"]
            each = sum(size_of(folder / name / part) for part in ("postings", "tokens")) / n
            seconds = time.perf_counter() - started
            print(f"{count:,} tokens, {n:,} postings: {seconds:.0f} s, {each:.2f} bytes each")
            sys.stdout.flush()
            os._exit(0)
        _, status, usage = os.wait4(process, 0)
        assert status == 0
        peaks[name] = usage.ru_maxrss / 1e6
    more = peaks["much"] - resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    yield f"memory of {tokens:,} tokens, GB beyond imports", f"{more:.2f}", "2", more < 2
    yield "the same of 100,000 tokens", f"{peaks['little'] - peaks['much'] + more:.2f}", "", True


def bar_page(folder: Path, given: argparse.Namespace) -> Iterator[Bar]:
    """Milliseconds for a page, with the files in no cache, and again."""
    features = parse_count(given.features)
    started = time.perf_counter()
    drawn_atlas(folder / "wide", features, 20 * features // L0)
    print(f"an atlas of {features:,} features, drawn in {time.perf_counter() - started:.0f} s: "
          f"{size_of(folder / 'wide') / 1e9:.2f} GB")  # fmt: skip
    dice = np.random.default_rng(1)
    Atlas.open(folder / "wide").page(0)
    cold, warm, whole = [], [], []
    for feature in dice.integers(0, features, 60).tolist():
        for file in (folder / "wide").rglob("*"):
            if file.is_file():
                with file.open("rb") as opened:
                    os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        for times, ask in ((cold, Atlas.page), (warm, Atlas.page), (whole, Atlas.postings)):
            started, worked = time.perf_counter(), time.process_time()
            ask(Atlas.open(folder / "wide"), feature)
            times.append((time.perf_counter() - started, time.process_time() - worked))
    middles = {}
    for name, times in (("page, cold", cold), ("page, again", warm), ("all its postings", whole)):
        clock, work = 1e3 * np.array(times).T
        middles[name] = float(np.median(clock))
        print(
            f"{name}: median {middles[name]:.1f} ms, 95 % below {np.quantile(clock, 0.95):.1f} ms; "
            f"of the processor {np.median(work):.1f} ms"
        )
    middle = middles["page, cold"]
    yield f"a page of {features:,} features, cold, ms", f"{middle:.1f}", "20", middle < 20


BARS: dict[str, Callable[[Path, argparse.Namespace], Iterator[Bar]]] = {
    "building": bar_building,
    "memory": bar_memory,
    "page": bar_page,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bars", nargs="*", help=f"which: {', '.join(BARS)}; by default all")
    parser.add_argument("--read", default="100k", help="tokens that the model reads")
    parser.add_argument("--tokens", default="10M", help="tokens whose codes are drawn")
    parser.add_argument("--features", default="1M")
    given = parser.parse_args()
    found: list[Bar] = []
    for name in given.bars or BARS:
        with tempfile.TemporaryDirectory() as folder:
            found += BARS[name](Path(folder), given)
    printing.table(
        ["", "figure", "bar", ""],
        [
            (what, figure, bar, ("met" if met else "NOT MET") if bar else "")
            for what, figure, bar, met in found
        ],
    )
    sys.exit(not all(met for *_, met in found))


if __name__ == "__main__":
    main()
