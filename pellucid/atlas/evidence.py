"""Evidence for labels: texts in which a feature is active, and texts that look alike in which it is silent.

A label is written from some texts and tested on others. The two never share a row of text, and both are drawn
over the whole range of the feature's activations, not from its strongest alone: peaks, one in each cell of
text, are parted into five bands of equally many, and each band gives as many (Paulo et al., arXiv 2410.13928,
section 3). Texts in which it is silent are near ones where they can be had:

    similar       where a feature of similar direction, or one that is often active beside it, is active
    same token    where the token stands on which it peaks elsewhere
    same source   from the source of a text in which it is active
    random        from anywhere

A text is a window of about thirty tokens that ends with its document. Of texts that say the same up to the
token they were taken around, as the opening of every chat does, one alone is shown: else a label would be
tested on what it was written from. The module knows no explainer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from pellucid.atlas.wording import Words
from pellucid.core import digests

Kind = Literal["active", "similar", "same token", "same source", "random"]
Side = Literal["writing", "held out"]

BANDS = 5
CELL = 32
"""Tokens of a cell: one peak is counted in each."""
ENOUGH = 6
"""Examples that writing and testing each need."""
_MARKED = 0.5
"""Tokens count as marked from this share of their window's peak on."""
_SHARES: dict[Kind, float] = {"similar": 0.3, "same token": 0.3, "same source": 0.2, "random": 0.2}
_SAMPLE_ROWS = 8192
_SAME = 12
"""Texts that agree in so many tokens before a peak are the same."""


@dataclass(frozen=True)
class EvidenceSettings:
    """How much evidence a label has."""

    writing: int = 40
    """Examples a label is written from, and as many texts in which the feature is silent."""
    held_out: int = 40
    """Examples it is tested on, and as many texts in which the feature is silent."""
    before: int = 20
    """Tokens shown before a peak."""
    after: int = 11
    """Tokens shown after it."""
    seed: int = 0
    """Fixes all draws."""


STANDARD = EvidenceSettings()


@dataclass(frozen=True)
class Window:
    """A piece of text with the feature's activation on each of its tokens."""

    token: int
    """The number of the token it was taken around: row · length + position."""
    kind: Kind
    pieces: tuple[str, ...]
    values: tuple[float, ...]
    """All zero where the feature is silent."""
    peak: int
    """Which of its tokens it was taken around."""
    source: int
    """The text source it is from."""
    opens: bool
    """Whether its first token is the first of a document."""

    @property
    def marked(self) -> tuple[int, ...]:
        """Its tokens on which the feature is at least half as active as at its peak."""
        least = _MARKED * max(self.values)
        return tuple(i for i, v in enumerate(self.values) if v > 0 and v >= least)

    @cached_property
    def words(self) -> Words:
        """Its words."""
        return Words.of(self.pieces)

    @property
    def told(self) -> tuple[str, ...]:
        """What stands before the token it was taken around, and there: twelve tokens at most."""
        return self.pieces[max(0, self.peak - _SAME + 1) : self.peak + 1]

    @property
    def text(self) -> str:
        """The text."""
        return "".join(self.pieces)


@dataclass(frozen=True)
class Evidence:
    """What a label of one feature is written from and tested on."""

    feature: int
    writing: tuple[Window, ...]
    """Examples to write from, the strongest first."""
    writing_silent: tuple[Window, ...]
    held_out: tuple[Window, ...]
    """Examples to test on, of other rows."""
    silent: tuple[Window, ...]
    """Texts to test on in which the feature is silent, of rows that nothing was written from."""
    moved: tuple[tuple[int, ...], ...]
    """For each held-out example, as many of its silent tokens as there are marked ones."""
    source_names: tuple[str, ...] = field(repr=False)

    @property
    def enough(self) -> bool:
        """Whether a label can be written and tested at all."""
        return min(map(len, (self.writing, self.writing_silent, self.held_out, self.silent))) >= ENOUGH

    @property
    def random_share(self) -> float:
        """The share of silent texts it is tested on that are not near ones."""
        return sum(w.kind == "random" for w in self.silent) / max(1, len(self.silent))

    @cached_property
    def digest(self) -> str:
        """Names all of it."""
        sides = (self.writing, self.writing_silent, self.held_out, self.silent)
        told = [[(w.token, w.kind, w.pieces, w.values, w.peak) for w in side] for side in sides]
        return digests.of_json([told, self.moved, self.source_names])


@dataclass(frozen=True)
class Corpus:
    """The text an atlas was read from, with the places of its tokens in a sample of rows."""

    tokens: np.ndarray
    """[rows, length] token ids."""
    sources: np.ndarray
    """[rows] which source each is from."""
    source_names: tuple[str, ...]
    separator: int
    piece: Callable[[int], str]
    """The text of a token id."""
    rows: np.ndarray
    """[sample] rows that were read, ascending."""

    @classmethod
    def of(
        cls,
        tokens: np.ndarray,
        sources: np.ndarray,
        source_names: Sequence[str],
        *,
        separator: int,
        piece: Callable[[int], str],
        read: np.ndarray | None = None,
        seed: int = 0,
    ) -> Corpus:
        """A corpus; of the rows that were read, so many are sampled that memory is bounded.

        Args:
            tokens: [rows, length] token ids of the store.
            sources: [rows] which source each row is from.
            source_names: what they are called.
            separator: the token between documents.
            piece: the text of a token id.
            read: the rows that the atlas was built from; none means all.
            seed: fixes the sample.
        """
        rows = np.arange(len(tokens)) if read is None else np.asarray(read)
        if len(rows) > _SAMPLE_ROWS:
            rows = np.random.default_rng(seed).choice(rows, _SAMPLE_ROWS, replace=False)
        return cls(tokens, sources, tuple(source_names), separator, piece, np.sort(rows))

    @property
    def length(self) -> int:
        """Tokens in a row."""
        return int(self.tokens.shape[1])

    @cached_property
    def _ids(self) -> np.ndarray:
        return np.asarray(self.tokens[self.rows]).astype(np.int32).reshape(-1)

    @cached_property
    def _order(self) -> np.ndarray:
        order: np.ndarray = np.argsort(self._ids, kind="stable").astype(np.int32)
        return order

    @cached_property
    def _sorted(self) -> np.ndarray:
        found: np.ndarray = self._ids[self._order]
        return found

    @cached_property
    def _rows_of_source(self) -> dict[int, np.ndarray]:
        of = np.asarray(self.sources)[self.rows]
        return {int(s): self.rows[of == s] for s in np.unique(of)}

    def places(self, token_id: int) -> tuple[int, int]:
        """Where a token id begins and ends in `place`."""
        return (
            int(np.searchsorted(self._sorted, np.int32(token_id))),
            int(np.searchsorted(self._sorted, np.int32(token_id), "right")),
        )

    def place(self, at: int) -> int:
        """The token number of a place."""
        row, position = divmod(int(self._order[at]), self.length)
        return int(self.rows[row]) * self.length + position

    def anywhere(self, random: np.random.Generator, source: int | None = None) -> int:
        """A random token of the sample, or of one source."""
        rows = self.rows if source is None else self._rows_of_source.get(source, self.rows)
        return int(rows[random.integers(len(rows))]) * self.length + int(random.integers(self.length))

    def bounds(self, token: int, before: int, after: int) -> tuple[int, int]:
        """The first token of the window around a token, and the one behind its last."""
        row, position = divmod(token, self.length)
        start, stop = max(0, position - before), min(self.length, position + after + 1)
        ids = self.tokens[row, start:stop].tolist()
        ends = [start + i for i, found in enumerate(ids) if found == self.separator]
        first = max((e for e in ends if e < position), default=start)
        last = min((e for e in ends if e > position), default=stop)
        return row * self.length + first, row * self.length + last


def gather(
    feature: int,
    tokens: np.ndarray,
    values: np.ndarray,
    corpus: Corpus,
    *,
    similar: np.ndarray,
    settings: EvidenceSettings = STANDARD,
) -> Evidence:
    """Draw the evidence of one feature; the same arguments give the same evidence.

    Args:
        feature: its number.
        tokens: [postings] the tokens it is active on, ascending.
        values: [postings] its activation on each.
        corpus: the text.
        similar: tokens on which features are active that are like it.
        settings: how much to draw.
    """
    random = np.random.default_rng([settings.seed, feature])
    own = _Own(tokens, values, corpus, settings)
    peaks = _peaks(tokens, values, corpus.length)
    side_of = _sides(tokens[peaks] // corpus.length, random)

    seen: set[tuple[str, ...]] = set()

    def drawn(side: Side, count: int) -> tuple[tuple[Window, ...], tuple[Window, ...]]:
        active = _examples(own, peaks, side, side_of, count, seen, random)
        return tuple(active), tuple(_silent(own, active, side, side_of, similar, seen, random))

    writing, writing_silent = drawn("writing", settings.writing)
    held_out, silent = drawn("held out", settings.held_out)
    return Evidence(
        feature,
        writing,
        writing_silent,
        held_out,
        silent,
        moved=tuple(_moved(w, random) for w in held_out),
        source_names=corpus.source_names,
    )


class _Own:
    """The postings of the feature, and windows that show them."""

    def __init__(
        self, tokens: np.ndarray, values: np.ndarray, corpus: Corpus, settings: EvidenceSettings
    ) -> None:
        self.tokens, self.values, self.corpus, self.settings = tokens, values, corpus, settings

    def window(self, token: int, kind: Kind) -> Window | None:
        """The window around a token; none where the feature should be silent in it and is not."""
        first, last = self.corpus.bounds(token, self.settings.before, self.settings.after)
        begin, end = np.searchsorted(self.tokens, (first, last))
        if kind != "active" and end > begin:
            return None
        activations = np.zeros(last - first, np.float32)
        activations[self.tokens[begin:end] - first] = self.values[begin:end]
        row, position = divmod(first, self.corpus.length)
        ids = np.asarray(self.corpus.tokens[row, position : position + last - first]).tolist()
        return Window(
            token=int(token),
            kind=kind,
            pieces=tuple(map(self.corpus.piece, ids)),
            values=tuple(activations.tolist()),
            peak=token - first,
            source=int(self.corpus.sources[row]),
            opens=ids[0] == self.corpus.separator or position == 0,
        )


def _peaks(tokens: np.ndarray, values: np.ndarray, length: int) -> np.ndarray:
    """Which postings are the strongest of their cells, the strongest first."""
    rows, positions = np.divmod(tokens, length)
    cells = rows * -(-length // CELL) + positions // CELL
    order = np.lexsort((tokens, -values, cells))
    first = np.ones(len(order), bool)
    first[1:] = cells[order][1:] != cells[order][:-1]
    found = order[first]
    return found[np.lexsort((tokens[found], -values[found]))]


def _sides(rows: np.ndarray, random: np.random.Generator) -> Callable[[int], Side]:
    """Which side each row of text is on: half of those with peaks on either, the strongest for writing."""
    unique = np.unique(rows)
    mixed = random.permutation(unique)
    writing = set(mixed[: -(-len(mixed) // 2)].tolist())
    if len(rows) and int(rows[0]) not in writing:
        writing.discard(int(mixed[0]))
        writing.add(int(rows[0]))
    active = set(unique.tolist())
    salt = int(random.integers(1 << 31))

    def side_of(row: int) -> Side:
        if row in active:
            return "writing" if row in writing else "held out"
        mixed_bits = ((row + salt) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        return "writing" if mixed_bits >> 63 else "held out"

    return side_of


def _examples(
    own: _Own,
    peaks: np.ndarray,
    side: Side,
    side_of: Callable[[int], Side],
    count: int,
    seen: set[tuple[str, ...]],
    random: np.random.Generator,
) -> list[Window]:
    """Examples of one side, of each band as many, each of another row and text, the strongest first."""
    used: set[int] = set()
    chosen: list[Window] = []
    for number, band in enumerate(np.array_split(peaks, BANDS)):
        mixed = random.permutation(band)
        if number == 0 and len(peaks):
            mixed = np.concatenate([peaks[:1], mixed])
        room = count // BANDS
        for posting in mixed.tolist():
            row = int(own.tokens[posting]) // own.corpus.length
            if not room:
                break
            if row not in used and side_of(row) == side:
                window = own.window(int(own.tokens[posting]), "active")
                if window is not None and window.told not in seen:
                    seen.add(window.told)
                    used.add(row)
                    chosen.append(window)
                    room -= 1
    chosen.sort(key=lambda window: -window.values[window.peak])
    return chosen


def _silent(
    own: _Own,
    active: Sequence[Window],
    side: Side,
    side_of: Callable[[int], Side],
    similar: np.ndarray,
    told: set[tuple[str, ...]],
    random: np.random.Generator,
) -> list[Window]:
    """As many texts in which the feature is silent; what one kind lacks, the next ones make up for."""
    if not active:
        return []
    corpus = own.corpus
    candidates: dict[Kind, Iterator[int]] = {
        "similar": iter(random.permutation(similar).tolist()),
        "same token": _same_token(active, corpus, random),
        "same source": (corpus.anywhere(random, active[i].source) for i in _picks(random, len(active))),
        "random": (corpus.anywhere(random) for _ in _picks(random, len(active))),
    }
    found: list[Window] = []
    seen: set[int] = set()

    def take(kind: Kind, room: int) -> None:
        for token in candidates[kind]:
            if room <= 0:
                return
            cell = token // CELL
            if cell not in seen and side_of(token // corpus.length) == side:
                window = own.window(token, kind)
                if window is not None and window.told not in told:
                    told.add(window.told)
                    seen.add(cell)
                    found.append(window)
                    room -= 1

    for kind, share in _SHARES.items():
        take(kind, round(share * len(active)))
    for kind in _SHARES:
        take(kind, len(active) - len(found))
    return found


def _picks(random: np.random.Generator, count: int) -> Iterator[int]:
    """Random numbers below a count: eight times as many."""
    return iter(random.integers(count, size=8 * count).tolist())


def _same_token(active: Sequence[Window], corpus: Corpus, random: np.random.Generator) -> Iterator[int]:
    """Places in the sample where the tokens stand on which examples peak."""
    ids = [int(corpus.tokens[divmod(w.token, corpus.length)]) for w in active]
    places = {i: corpus.places(i) for i in set(ids)}
    for pick in _picks(random, len(active)):
        begin, end = places[ids[pick]]
        if end > begin:
            yield corpus.place(int(random.integers(begin, end)))


def _moved(window: Window, random: np.random.Generator) -> tuple[int, ...]:
    """Silent tokens of a window, as many as it has marked ones where there are so many."""
    silent = [i for i, v in enumerate(window.values) if v == 0]
    count = min(len(silent), len(window.marked))
    return tuple(sorted(random.permutation(silent)[:count].tolist()))
