"""Search by words: an inverted index from the words said of features to the features.

The score of a feature is BM25F (Robertson et al. 2004, "Simple BM25 extension to multiple weighted fields"):
a word counts by the weight of the field it stands in, the more the rarer it is, and with less and less gain
when it is repeated. The weights of all postings of a word are computed when the index is made, so that a
search adds up one column of numbers per word, whatever the words are. SQLite's FTS5 scores every row that
holds a word when it is asked: of a million labels 1.6 s for the commonest word, 0.4 s for the sixth.

Words are runs of letters and digits, without case or accents, plural endings taken off. In a query `word*`
stands for all words that begin so; other signs part words, so that no query is broken unless it holds no
word. Features are indexed in shards, which bounds memory.

    terms.txt               all words of a shard, sorted, one a line
    starts.npy              [V + 1] where each begins in terms.txt
    offsets.npy             [V + 1] where its postings begin
    features.npy            [P] features, ascending within a word
    weights.npy             [P] uint8: the BM25F weight without the word's rarity, of 255
"""

from __future__ import annotations

import math
import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.atlas import indices
from pellucid.atlas.scans import add_weights, largest
from pellucid.core import files
from pellucid.core.errors import InputError

SHARD = 1 << 20
_K1 = 1.2
_B = 0.5
"""How much a feature about which much is said has to repeat a word; milder than the usual 0.75, since what
is said of a feature is short."""
_WORD = re.compile(r"[^\W_]+")
_QUERY_WORD = re.compile(r"([^\W_]+)(\*?)")
_TERMS_AT_A_PREFIX = 1000

Said = Mapping[str, Sequence[str]]
"""What is said of some features: for each field the text of each feature."""


@dataclass(frozen=True)
class Hit:
    """A feature that a search found."""

    feature: int
    score: float
    """The higher the better; comparable within one search only."""


def words_of(text: str) -> list[str]:
    """The words of a text as they are indexed, in order."""
    return [_stem(word) for word in _WORD.findall(_plain(text))]


def _plain(text: str) -> str:
    if text.isascii():
        return text.lower()
    parted = unicodedata.normalize("NFKD", text.casefold())
    return "".join(c for c in parted if not unicodedata.combining(c))


def _stem(word: str) -> str:
    """Without the ending of a plural: the S-stemmer of Harman 1991, "How effective is suffixing?"."""
    if len(word) > 3 and word.endswith("s"):
        if word.endswith("ies") and not word.endswith(("eies", "aies")):
            return word[:-3] + "y"
        if word.endswith("es") and not word.endswith(("aes", "ees", "oes")):
            return word[:-1]
        if not word.endswith(("us", "ss")):
            return word[:-1]
    return word


@dataclass(frozen=True)
class WordIndex:
    """An index of words, open for searching."""

    shards: list[_Shard]

    @classmethod
    def opened(
        cls, key: Any, features: int, fields: Mapping[str, float], said: Iterable[tuple[int, Said]]
    ) -> WordIndex:
        """The index under a key, made from what is said if it is not kept.

        Args:
            key: all that it is made from, as JSON values.
            features: N.
            fields: the weight of each field.
            said: blocks of features in order, each with the number of its first; read only if there is no
                index yet.

        Raises:
            IntegrityError: when the index is damaged.
        """
        key = {"format": 1, "fields": dict(fields), "of": key}
        count = max(1, -(-features // SHARD))
        blocks = _rechunked(said)
        shards = []
        for number in range(count):

            def make(folder: Path, number: int = number) -> dict[str, Any]:
                return _make(folder, number, features, fields, blocks)

            shards.append(_Shard.of(indices.opened("words", {**key, "shard": number}, make)))
        return cls(shards)

    def search(self, query: str, count: int = 10) -> list[Hit]:
        """The features of which a query's words are said, best first.

        Raises:
            InputError: when the query holds no word.
        """
        parsed = [(word, bool(star)) for word, star in _QUERY_WORD.findall(_plain(query))]
        if not parsed:
            raise InputError(
                f"The query {query!r} holds no word. Give letters or digits; 'word*' finds all words that "
                "begin so."
            )
        wanted = list(dict.fromkeys((word if star else _stem(word), star) for word, star in parsed))
        total = sum(shard.features for shard in self.shards)
        spans = [[shard.spans(word, prefix=star) for word, star in wanted] for shard in self.shards]
        found: list[Hit] = []
        for shard, mine in zip(self.shards, spans, strict=True):
            scores = np.zeros(shard.features, np.float32)
            for number, of_word in enumerate(mine):
                known = sum(int(ends - starts) for other in spans for starts, ends in other[number])
                rarity = math.log(1 + (total - known + 0.5) / (known + 0.5)) if known <= total else 0.0
                for start, end in of_word:
                    add_weights(
                        scores, shard.postings[start:end], shard.weights[start:end], np.float32(rarity)
                    )
            best = largest(scores, count)
            found += [Hit(shard.first + int(f), float(scores[f])) for f in best if scores[f] > 0]
        return sorted(found, key=lambda hit: (-hit.score, hit.feature))[:count]


@dataclass(frozen=True)
class _Shard:
    """The words said of a run of features."""

    first: int
    features: int
    terms: bytes
    starts: np.ndarray
    offsets: np.ndarray
    postings: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, index: indices.Index) -> _Shard:
        arrays = {n: index.array(n) for n in ("starts", "offsets", "features", "weights")}
        facts = index.record["facts"]
        return cls(
            facts["first"],
            facts["features"],
            (index.folder / "terms.txt").read_bytes(),
            arrays["starts"],
            arrays["offsets"],
            arrays["features"],
            arrays["weights"],
        )

    def spans(self, word: str, *, prefix: bool) -> list[tuple[int, int]]:
        """Where the postings of a word are, or of the words that begin with it."""
        wanted = word.encode()
        low = self._place(wanted)
        if not prefix:
            return [self._span(low)] if low < self._count and self._term(low) == wanted else []
        found: list[tuple[int, int]] = []
        while low < self._count and self._term(low).startswith(wanted) and len(found) < _TERMS_AT_A_PREFIX:
            found.append(self._span(low))
            low += 1
        return found

    @property
    def _count(self) -> int:
        return len(self.offsets) - 1

    def _span(self, term: int) -> tuple[int, int]:
        return int(self.offsets[term]), int(self.offsets[term + 1])

    def _term(self, number: int) -> bytes:
        return self.terms[self.starts[number] : self.starts[number + 1] - 1]

    def _place(self, wanted: bytes) -> int:
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if self._term(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low


def _rechunked(said: Iterable[tuple[int, Said]]) -> Iterator[tuple[int, Said]]:
    """Blocks of which none crosses from one shard into the next."""
    for first, fields in said:
        size = len(next(iter(fields.values())))
        at = 0
        while at < size:
            room = SHARD - (first + at) % SHARD
            yield first + at, {name: texts[at : at + room] for name, texts in fields.items()}
            at += room


def _make(
    folder: Path, number: int, total: int, fields: Mapping[str, float], blocks: Iterator[tuple[int, Said]]
) -> dict[str, Any]:
    """Write one shard, from blocks that begin at its first feature, or before it."""
    first, size = number * SHARD, min(SHARD, total - number * SHARD)
    known: dict[str, int] = {}
    numbers: dict[str, int] = {}
    terms, features, counts = array("i"), array("i"), array("f")
    for start, said in blocks:
        if start < first:
            continue
        for name, texts in said.items():
            for at, text in enumerate(texts, start - first):
                for word in _WORD.findall(_plain(text)):
                    term = known.get(word)
                    if term is None:
                        term = known[word] = numbers.setdefault(_stem(word), len(numbers))
                    terms.append(term)
                    features.append(at)
                    counts.append(fields[name])
        if start + len(next(iter(said.values()))) >= first + size:
            break
    names = sorted(numbers, key=str.encode)
    rank = np.empty(max(1, len(names)), np.int64)
    rank[[numbers[name] for name in names]] = np.arange(len(names))
    pairs = rank[np.frombuffer(terms, np.int32)] * size + np.frombuffer(features, np.int32)
    order = np.argsort(pairs, kind="stable")
    unique, begins = np.unique(pairs[order], return_index=True)
    weight = np.add.reduceat(np.frombuffer(counts, np.float32)[order], begins) if len(unique) else np.zeros(0)
    term_of, feature = np.divmod(unique, size)
    length = np.bincount(feature, weight, minlength=size)
    usual = 1 - _B + _B * length / max(1e-9, float(length[length > 0].mean()) if length.any() else 1.0)
    saturated = weight / (weight + _K1 * usual[feature])
    np.save(folder / "weights.npy", np.ceil(saturated * 255).astype(np.uint8))
    np.save(folder / "features.npy", feature.astype(np.int32))
    np.save(folder / "offsets.npy", np.searchsorted(term_of, np.arange(len(names) + 1)))
    encoded = [name.encode() + b"\n" for name in names]
    np.save(folder / "starts.npy", np.cumsum([0, *map(len, encoded)]))
    with files.replacing(folder / "terms.txt") as file:
        file.write(b"".join(encoded))
    return {"first": first, "features": size}
