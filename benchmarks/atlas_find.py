"""The bars of finding features: search at a million labels, by prompt, and how good what is found is.

    python benchmarks/atlas_find.py [labels] [meaning] [effect] [quality] [prompt] [families]

`labels`, `meaning` and `effect` time searches among a million features whose labels are drawn from the words
of our own queries and of built-in concepts, with the frequencies of natural text (Zipf); words beside
SQLite's FTS5, meaning beside the exact nearest. `quality` asks the queries of atlas_queries.txt, each of
which means one label, among those labels. `prompt` and `families` run SmolLM2 with the shipped dictionary.
"""

from __future__ import annotations

import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from pellucid.atlas import by_contrast, by_effect, by_prompt, embedding, tables
from pellucid.atlas.by_meaning import MeaningIndex
from pellucid.atlas.by_words import WordIndex, words_of
from pellucid.atlas.families import families
from pellucid.cli import printing
from pellucid.cli.session import Session
from pellucid.steering.concepts import CONCEPTS

N = 1_000_000
_BLOCK = 65_536
QUERIES = Path(__file__).with_name("atlas_queries.txt")


def pairs() -> list[list[str]]:
    """Query and label."""
    lines = QUERIES.read_text().splitlines()
    return [line.split(" | ") for line in lines if not line.startswith("#")]


class Synthetic:
    """Labels of a million features, made block by block, the same each time."""

    def __init__(self) -> None:
        texts = [text for pair in pairs() for text in pair]
        texts += [s for c in CONCEPTS.values() for s in c.sentences]
        texts += [s for f in families().values() for s in (*f.concept, *f.neutral)]
        found = dict.fromkeys(w for text in texts for w in re.findall(r"[a-z]+", text.lower()))
        self.words = np.random.default_rng(0).permutation(
            np.array([*found, *(f"name{i}" for i in range(16_000))])
        )
        share = 1 / np.arange(1, len(self.words) + 1)
        self.share = share / share.sum()

    def block(self, first: int) -> list[str]:
        """Labels from a feature on."""
        draw = np.random.default_rng(first)
        lengths = draw.integers(3, 12, min(_BLOCK, N - first))
        flat = self.words[draw.choice(len(self.words), lengths.sum(), p=self.share)]
        return [" ".join(part) for part in np.split(flat, np.cumsum(lengths)[:-1])]

    def blocks(self) -> Iterator[tuple[int, list[str]]]:
        """All labels, each block with the number of its first feature."""
        for first in range(0, N, _BLOCK):
            yield first, self.block(first)


def timed(call: Callable[[], object], repeats: int = 9) -> float:
    """The median of a few calls, in milliseconds, after one to warm up."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def tell(bar: str, figure: str, met: bool | None, beside: str = "") -> None:
    print(
        f"{bar:58} {figure:>22} {'' if met is None else 'met' if met else 'NOT MET':8} {beside}", flush=True
    )


def labels(home: Path) -> None:
    """Search by words."""
    made = Synthetic()
    start = time.perf_counter()
    index = WordIndex.opened(
        "benchmark", N, {"label": 1.0}, ((first, {"label": texts}) for first, texts in made.blocks())
    )
    built = time.perf_counter() - start
    peer = sqlite3.connect(home / "peer.sqlite")
    peer.execute("create virtual table t using fts5(label, content='', tokenize='porter unicode61')")
    start = time.perf_counter()
    for first, texts in made.blocks():
        peer.executemany("insert into t(rowid, label) values (?, ?)", enumerate(texts, first))
    peer.execute("insert into t(t) values ('optimize')")
    peer.commit()
    tell("building an index of words", f"{built:.0f} s", None, f"FTS5 {time.perf_counter() - start:.0f} s")
    asked = {
        "the commonest word": made.words[0],
        "the tenth": made.words[9],
        "the hundredth": made.words[99],
        "three words, common to rare": f"{made.words[1]} {made.words[50]} {made.words[5000]}",
        "ten common words": " ".join(made.words[:10]),
        "a beginning of words": f"{made.words[2][:2]}*",
    }
    for name, query in asked.items():
        mine = timed(lambda query=query: index.search(query))
        # FTS5 writes a beginning of words as we do, and takes any of several words only if told so.
        match = " OR ".join(query.split())
        theirs = timed(
            lambda match=match: peer.execute(
                "select rowid from t where t match ? order by rank limit 10", (match,)
            ).fetchall(),
            repeats=1,
        )
        tell(f"words, a million labels, {name}: 50 ms", f"{mine:.1f} ms", mine < 50, f"FTS5 {theirs:.0f} ms")


def meaning(home: Path) -> None:
    """Search by meaning."""
    made, model = Synthetic(), embedding.load()
    start = time.perf_counter()
    index = MeaningIndex.opened("benchmark", N, model, made.blocks)
    tell("building an index of meaning", f"{time.perf_counter() - start:.0f} s", None)
    queries = [query for query, _ in pairs()]
    mine = timed(lambda: index.search("boats at sea in a storm"))
    tell("meaning, a million labels: 50 ms", f"{mine:.1f} ms", mine < 50)
    asked = model.embed(queries)
    best = np.full((len(queries), 10), -np.inf, np.float32)
    for _, texts in made.blocks():
        scores = asked @ model.embed(texts).T
        best = -np.sort(-np.concatenate([best, scores], axis=1), axis=1)[:, :10]
    reached = [
        sum(h.score >= bar - 0.005 for h in index.search(query, 10)) / 10
        for query, bar in zip(queries, best[:, 9], strict=True)
    ]
    tell("share of the exact ten nearest that it finds", f"{np.mean(reached):.3f}", None)


def effect(home: Path) -> None:
    """Search by effect."""
    draw = np.random.default_rng(0)

    def blocks() -> Iterator[tables.Columns]:
        for first in range(0, N, _BLOCK):
            size = min(_BLOCK, N - first)
            yield {
                "promoted": (draw.integers(0, 49_152, (size, 1)) + 1517 * np.arange(32)).astype(np.int32)
                % 49_152,
                "promoted_scores": np.sort(draw.random((size, 32)), axis=1)[:, ::-1].astype(np.float16),
            }

    table = tables.write(home / "effects", blocks())
    start = time.perf_counter()
    index = by_effect.EffectIndex.opened(table)
    tell("building an index of effects", f"{time.perf_counter() - start:.0f} s", None)
    mine = timed(lambda: index.search(range(100, 108)))
    tell("effect, a million features, 8 tokens: 50 ms", f"{mine:.1f} ms", mine < 50)


def quality(home: Path) -> None:
    """How often the label that is meant is found."""
    asked, meant = (list(side) for side in zip(*pairs(), strict=True))
    words = WordIndex.opened("quality", len(meant), {"label": 1.0}, [(0, {"label": meant})])
    meanings = MeaningIndex.opened("quality", len(meant), embedding.load(), lambda: [(0, meant)])

    def ranks(search: Callable[[str], Sequence[int]]) -> np.ndarray:
        places = []
        for number, query in enumerate(asked):
            found = list(search(query))
            places.append(found.index(number) if number in found else len(meant))
        return np.array(places)

    searches = {
        "words": ranks(lambda q: [h.feature for h in words.search(q, len(meant))]),
        "meaning (wordllama)": ranks(lambda q: [h.feature for h in meanings.search(q, len(meant))]),
    }
    from steering import load_judge

    embed = load_judge()
    transformer = embed(asked).numpy() @ embed(meant).numpy().T
    searches["a transformer (all-MiniLM-L6-v2)"] = (transformer > np.diag(transformer)[:, None]).sum(1)
    shared = np.mean([bool({*words_of(q)} & {*words_of(m)}) for q, m in zip(asked, meant, strict=True)])
    print(f"{len(asked)} queries; {shared:.0%} share a word with the label they mean")
    for name, places in searches.items():
        told = "  ".join(f"among {k}: {np.mean(places < k):.2f}" for k in (1, 5, 10))
        tell(f"the label that is meant, by {name}", "", None, told)


def prompt(home: Path) -> None:
    """Search by prompt, after the model is loaded."""
    session = Session.open("smollm2")
    text = "The choir sang a sad song in the old church while the rain fell on the roof. " * 4
    dictionaries = {"one": session.dictionary}
    mine = timed(lambda: by_prompt.strongest(session.model, dictionaries, text))
    tokens = len(session.model.encode_text(text))
    tell(f"prompt of {tokens} tokens, one dictionary: 1 s", f"{mine:.0f} ms", mine < 1000)
    dictionaries = {str(i): session.dictionary for i in range(4)}
    mine = timed(lambda: by_prompt.strongest(session.model, dictionaries, text))
    tell("the same, four dictionaries in one reading: 1 s", f"{mine:.0f} ms", mine < 1000)


def families_table(home: Path) -> None:
    """The best feature of each family."""
    session = Session.open("smollm2")
    start = time.perf_counter()
    found = by_contrast.survey(session.model, {"smollm2": session.dictionary}, list(families().values()))
    for name, told in found["smollm2"].items():
        best, beside = told.features[0], told.baselines
        held = best.held_out
        assert held is not None
        baselines = "  ".join(f"{b} {t.auc:.2f}" for b, t in beside.items())
        print(
            f"{name:20} {best.feature:6} q {best.q:.1g}  held out {held.auc:.2f} "
            f"[{held.low:.2f}, {held.high:.2f}]  {baselines}  {told.verdict}"
        )
    tell("ten families", f"{time.perf_counter() - start:.0f} s", None)


PARTS = {
    "labels": labels,
    "meaning": meaning,
    "effect": effect,
    "quality": quality,
    "prompt": prompt,
    "families": families_table,
}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for part in sys.argv[1:] or PARTS:
            printing.note(part)
            PARTS[part](Path(folder))
