"""What is said of features, as text to search in: labels, tokens they fire on, tokens they promote, examples.

It is gathered block by block from the tables that are there; nothing is kept but the indices made of it. The
words around examples need the token store, and without it are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pellucid.activations.tokens import TokenStore
from pellucid.atlas.by_meaning import MeaningIndex
from pellucid.atlas.by_words import Said, WordIndex
from pellucid.atlas.embedding import Embedder
from pellucid.atlas.pages import Atlas
from pellucid.core import digests
from pellucid.models.model import Model

FIELDS = {"label": 4.0, "effect": 2.0, "fires": 2.0, "promotes": 1.0, "examples": 0.5}
"""What is searched by words, and how much a word in it counts."""
_EXAMPLES = 4
_BEFORE, _AFTER = 8, 3
"""Tokens of an example around the one on which the feature is strong."""
_FIRES, _PROMOTES = 4, 12
_FEATURES_AT_ONCE = 16_384


@dataclass(frozen=True)
class Sayings:
    """An atlas with what turns its numbers into text."""

    atlas: Atlas
    model: Model
    store: TokenStore | None
    """The text that the atlas points into, if it is at hand."""

    @cached_property
    def key(self) -> dict[str, Any]:
        """Names all that is said, as JSON values: it changes with the atlas, its labels, its effects."""
        record = self.atlas.record
        found = {"atlas": digests.of_json(record), "text": self.store is not None}
        for name in ("labels", "effects"):
            table = self.atlas.table(name)
            found[name] = None if table is None else digests.of_json(dict(table.record))
        return found

    def words(self) -> WordIndex:
        """The index of words; made on first use."""
        return WordIndex.opened(self.key, self.atlas.num_features, FIELDS, self.blocks(FIELDS))

    def meanings(self, embedder: Embedder) -> MeaningIndex:
        """The index of meanings; made on first use."""
        return MeaningIndex.opened(self.key, self.atlas.num_features, embedder, self._short)

    def blocks(self, fields: Sequence[str] | dict[str, float]) -> Iterator[tuple[int, Said]]:
        """All that is said, block by block, with the number of each block's first feature."""
        for first in range(0, self.atlas.num_features, _FEATURES_AT_ONCE):
            stop = min(self.atlas.num_features, first + _FEATURES_AT_ONCE)
            said = {name: getattr(self, f"_{name}")(first, stop) for name in fields}
            yield first, {name: texts for name, texts in said.items() if texts is not None}

    def _short(self) -> Iterator[tuple[int, list[str]]]:
        """For each feature its label, or where there is none the tokens it fires on and promotes."""
        for first, said in self.blocks(("label", "fires", "promotes")):
            empty = [""] * len(said["fires"])
            yield (
                first,
                [
                    label or f"{fires} {promotes}".strip()
                    for label, fires, promotes in zip(
                        said.get("label", empty), said["fires"], said.get("promotes", empty), strict=True
                    )
                ],
            )

    def _label(self, first: int, stop: int) -> list[str] | None:
        return self._text_column("text", first, stop)

    def _effect(self, first: int, stop: int) -> list[str] | None:
        return self._text_column("effect", first, stop)

    def _text_column(self, name: str, first: int, stop: int) -> list[str] | None:
        labels = self.atlas.table("labels")
        if labels is None or name not in labels.columns:
            return None
        return [text or "" for text in labels.slice(first, stop, [name])[name]]

    def _fires(self, first: int, stop: int) -> list[str]:
        found = self.atlas.features.slice(first, stop, ["token_ids", "token_counts"])
        return self._joined(found["token_ids"][:, :_FIRES], found["token_counts"][:, :_FIRES] > 0)

    def _promotes(self, first: int, stop: int) -> list[str] | None:
        effects = self.atlas.table("effects")
        if effects is None:
            return None
        found = effects.slice(first, stop, ["promoted", "promoted_scores"])
        return self._joined(found["promoted"][:, :_PROMOTES], found["promoted_scores"][:, :_PROMOTES] > 0)

    def _examples(self, first: int, stop: int) -> list[str] | None:
        if self.store is None:
            return None
        length = self.store.length
        tokens = self.atlas.features.slice(first, stop, ["example_tokens"])["example_tokens"][:, :_EXAMPLES]
        feature, column = (tokens >= 0).nonzero()
        rows, positions = np.divmod(tokens[feature, column], length)
        pieces = [
            np.asarray(self.store.tokens[row, max(0, position - _BEFORE) : position + _AFTER + 1]).tolist()
            for row, position in zip(rows, positions, strict=True)
        ]
        texts: list[list[str]] = [[] for _ in range(stop - first)]
        decoded = self.model.tokenizer.batch_decode(pieces, clean_up_tokenization_spaces=False)
        for at, text in zip(feature, decoded, strict=True):
            texts[at].append(text)
        return [" ".join(some) for some in texts]

    def _joined(self, ids: np.ndarray, shown: np.ndarray) -> list[str]:
        """[F] the texts of some tokens [F, K] side by side, of those to show."""
        return [" ".join(self._text(int(i)) for i in row[mine]) for row, mine in zip(ids, shown, strict=True)]

    def _text(self, token: int) -> str:
        if token not in self._texts:
            self._texts[token] = self.model.decode([token]).strip()
        return self._texts[token]

    @cached_property
    def _texts(self) -> dict[int, str]:
        return {}
