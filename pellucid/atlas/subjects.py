"""What is labelled: an atlas with its text and its model, and the evidence that they hold of each feature.

Features are taken in order, and the postings of many of them read together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from pellucid.activations.tokens import TokenStore
from pellucid.atlas.by_direction import DirectionIndex
from pellucid.atlas.directions import Directions
from pellucid.atlas.evidence import Corpus, Evidence, EvidenceSettings, gather
from pellucid.atlas.outputs import Outputs
from pellucid.atlas.pages import Atlas
from pellucid.core.errors import InputError
from pellucid.dictionaries.base import Dictionary
from pellucid.models.model import Model

_POSTINGS_AT_ONCE = 1 << 20
_FEATURES_AT_ONCE = 256
_SIMILAR = 10


@dataclass(frozen=True)
class Subject:
    """What is labelled: an atlas with its text and its model."""

    atlas: Atlas
    store: TokenStore
    model: Model
    dictionary: Dictionary | None = None
    """Tells which features are similar, where the atlas has no table of neighbours."""

    def __post_init__(self) -> None:
        if self.atlas.record["store"] != self.store.digest:
            raise InputError("The token store is not the one this atlas points into.")
        if self.atlas.record["model"] != self.model.digest:
            raise InputError(f"The atlas is of another model than {self.model.name!r}.")
        if self.dictionary is None and self.atlas.table("neighbours") is None:
            raise InputError("The atlas has no table of neighbours: give the dictionary too.")

    @cached_property
    def counts(self) -> np.ndarray:
        """[N] on how many tokens each feature is active."""
        return self.atlas.features.column("count")

    @cached_property
    def starts(self) -> np.ndarray:
        """[N] where the postings of each feature begin."""
        found: np.ndarray = np.cumsum(self.counts) - self.counts
        return found

    @cached_property
    def corpus(self) -> Corpus:
        """The text."""
        rows = self.atlas.table("rows")
        if rows is None:
            raise InputError(
                f"The atlas {str(self.atlas.place)!r} is in compact form: it lacks the postings that labels "
                "are written from. Build it whole with 'pellucid atlas build'."
            )
        return Corpus.of(
            self.store.tokens,
            self.store.sources,
            [short_name(s["spec"]) for s in self.store.record["sources"]],
            separator=self.store.separator,
            piece=_pieces(self.model),
            read=np.flatnonzero(rows.column("tokens")),
        )

    def evidence(self, features: Sequence[int], settings: EvidenceSettings) -> Iterator[Evidence]:
        """The evidence of some features, in ascending order."""
        corpus, postings = self.corpus, self.atlas.table("postings")
        for part in self._parts(features):
            assert postings is not None, "an atlas with a table of rows has its postings"
            first, last = int(self.starts[part[0]]), self._stop(part[-1])
            found = postings.slice(first, last, ["token", "activation"])
            similar = self._similar(part)
            for feature in part:
                own = slice(int(self.starts[feature]) - first, self._stop(feature) - first)
                yield gather(
                    feature,
                    found["token"][own],
                    found["activation"][own],
                    corpus,
                    similar=similar(feature),
                    settings=settings,
                )

    def outputs(self) -> Outputs | None:
        """What features do when they are turned up, if that was measured."""
        effects, vocabulary = self.atlas.table("effects"), self.atlas.table("vocabulary")
        if effects is None or vocabulary is None:
            return None
        return Outputs(self.model, effects, vocabulary.column("count"))

    def _stop(self, feature: int) -> int:
        return int(self.starts[feature] + self.counts[feature])

    def _parts(self, features: Sequence[int]) -> Iterator[list[int]]:
        """Runs of features whose postings, and those that lie between, are so many at most; or one."""
        part: list[int] = []
        for feature in map(int, features):
            if part and (
                self._stop(feature) - self.starts[part[0]] > _POSTINGS_AT_ONCE
                or len(part) == _FEATURES_AT_ONCE
            ):
                yield part
                part = []
            part.append(feature)
        if part:
            yield part

    def _similar(self, features: Sequence[int]) -> Callable[[int], np.ndarray]:
        """For each of some features: tokens on which features like it are active."""
        table = self.atlas.table("neighbours")
        if table is not None:
            found = table.take(features, ["similar", "coactive"])
            near = np.concatenate([found["similar"], found["coactive"]], axis=1)
        else:
            near = np.full((len(features), _SIMILAR), -1)
            for row, feature in zip(near, features, strict=True):
                hits = self._directions.near(feature, _SIMILAR)
                row[: len(hits)] = [hit.feature for hit in hits]
        unique = np.unique(near[near >= 0])
        rows = self.atlas.features.take(unique, ["example_tokens", "band_tokens"])
        tokens = np.concatenate([rows["example_tokens"], rows["band_tokens"]], axis=1)
        where = {int(f): i for i, f in enumerate(features)}

        def of(feature: int) -> np.ndarray:
            own = near[where[feature]]
            some = tokens[np.searchsorted(unique, own[own >= 0])].reshape(-1)
            return np.unique(some[some >= 0])

        return of

    @cached_property
    def _directions(self) -> DirectionIndex:
        assert self.dictionary is not None
        return DirectionIndex.opened(Directions.of(self.dictionary), self.atlas)


def short_name(spec: str) -> str:
    """What a text source is called in a label: its package, or its file without the ending."""
    name = spec.partition("?")[0]
    for scheme in ("pypi:", "npm:", "deb:", "hf:"):
        if name.startswith(scheme):
            bare = name.removeprefix(scheme).partition("#")[0].partition("==")[0]
            return bare.rpartition("@")[0] or bare
    return Path(name).stem


def _pieces(model: Model) -> Callable[[int], str]:
    """The text of a token id.

    It is decoded behind another, because some tokenizers drop the space that opens a text.
    """
    opening = model.tokenizer("a", add_special_tokens=False).input_ids
    behind = len(model.decode(opening))

    @lru_cache(maxsize=1 << 18)
    def piece(token: int) -> str:
        return model.decode([*opening, token])[behind:]

    return piece
