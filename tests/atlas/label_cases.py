"""Texts made by hand for the tests of labels: windows, evidence, and a corpus of words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pellucid.atlas.evidence import Corpus, Evidence, Kind, Window

SOURCES = ("books", "code")


def window(
    text: str,
    active: dict[int, float] | None = None,
    *,
    kind: Kind | None = None,
    source: int = 0,
    token: int = 0,
) -> Window:
    """A text of tokens parted by spaces, each with the space before it; `+` goes on with a word."""
    pieces = tuple(
        w.removeprefix("+") if w.startswith("+") else (" " if i else "") + w
        for i, w in enumerate(text.split(" "))
    )
    values = tuple((active or {}).get(i, 0.0) for i in range(len(pieces)))
    peak = int(np.argmax(values))
    return Window(
        token, kind or ("active" if active else "random"), pieces, values, peak, source, opens=False
    )


def evidence(
    active: Sequence[Window],
    silent: Sequence[Window],
    held_out: Sequence[Window],
    held_silent: Sequence[Window],
    *,
    feature: int = 0,
) -> Evidence:
    """Evidence of those texts; the wrong marks are on the last silent tokens."""
    moved = tuple(
        tuple(sorted([i for i, v in enumerate(w.values) if v == 0][-len(w.marked) :])) for w in held_out
    )
    return Evidence(
        feature,
        tuple(active),
        tuple(silent),
        tuple(held_out),
        tuple(held_silent),
        moved=moved,
        source_names=SOURCES,
    )


def corpus(rows: int = 200, length: int = 64, *, seed: int = 0, vocabulary: int = 50) -> Corpus:
    """Random tokens; token 0 parts documents; of two sources."""
    random = np.random.default_rng(seed)
    tokens = random.integers(1, vocabulary, (rows, length))
    tokens[random.random(tokens.shape) < 0.02] = 0
    return Corpus.of(
        tokens, (np.arange(rows) % 2).astype(np.uint16), SOURCES, separator=0, piece=lambda i: f" w{i}"
    )
