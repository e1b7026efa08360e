"""Finding features: by words, meaning, a prompt, an effect or a direction, over one dictionary.

What finds them is `pellucid.atlas`; here is only what a server adds: indices that stay open, bounds, and
errors that name no path of this machine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from pellucid.atlas import by_effect, by_prompt, embedding
from pellucid.atlas.by_direction import DirectionIndex
from pellucid.atlas.by_meaning import MeaningIndex
from pellucid.atlas.by_words import Hit, WordIndex
from pellucid.atlas.directions import Directions
from pellucid.atlas.sayings import Sayings
from pellucid.core.errors import InputError
from pellucid.serving.served import ServedDictionary

T = TypeVar("T")

_TRIED = 32
"""How many features a search by effect turns up on the model."""


@dataclass(frozen=True)
class Found:
    """A feature that was found."""

    feature: int
    score: float
    more: dict[str, Any]
    """What else this way of searching says of it."""


@dataclass(frozen=True)
class Chance:
    """What a search would find by chance: usually, and what nearly all of it stays below."""

    usual: float
    high: float


@dataclass(frozen=True)
class Answer:
    """What a search found, best first, with what chance gives where that is known."""

    scale: str
    features: list[Found]
    chance: Chance | None = None
    tokens: list[str] | None = None
    """The tokens that were read, or whose probability was to rise."""


class Searcher:
    """Searches the features of one dictionary. Indices are made when they are first asked for."""

    def __init__(self, served: ServedDictionary) -> None:
        self._served = served
        self._kept: dict[str, Any] = {}
        self._making = threading.Lock()

    def words(self, query: str, count: int) -> Answer:
        """Features of which the words are said."""
        index: WordIndex = self._once("words", lambda: self._sayings().words())
        return Answer("score", _of(index.search(query, count)))

    def meaning(self, query: str, count: int) -> Answer:
        """Features whose labels mean nearly the same."""
        index: MeaningIndex = self._once("meaning", lambda: self._sayings().meanings(embedding.load()))
        return Answer("cosine", _of(index.search(query, count)))

    def prompt(self, text: str, count: int, *, chat: bool, room: int) -> Answer:
        """Features that are strongest on a text.

        Raises:
            InputError: when the text has more than `room` tokens.
        """
        model, name = self._served.model, self._served.name
        read = model.encode_prompts([text])[0] if chat else model.encode_text(text)
        if len(read) > room:
            raise InputError(f"The text has {len(read)} tokens; at most {room} are read.")
        ids, found = by_prompt.strongest(model, {name: self._served.dictionary}, text, count=count, chat=chat)
        return Answer(
            "share, damped by frequency",
            [
                Found(
                    f.feature,
                    f.score,
                    {"share": f.share, "activation": f.value, "frequency": f.frequency, "token": f.position},
                )
                for f in found
            ],
            tokens=model.pieces(ids),
        )

    def effect(self, words: list[str], count: int) -> Answer:
        """Features that, turned up, raise the probability of some words, tried on the model."""
        effects = self._served.needed_atlas.table("effects")
        if effects is None:
            raise InputError("The atlas holds no effects: it was built with --promoted 0.")
        model = self._served.model
        tokens = by_effect.tokens_of(model, words)
        index: by_effect.EffectIndex = self._once("effect", lambda: by_effect.EffectIndex.opened(effects))
        hits = index.search(tokens, max(count, _TRIED))
        confirmed = by_effect.confirm(model, self._served.dictionary, hits, tokens)
        median, high = confirmed.chance
        return Answer(
            "rise",
            [Found(f.feature, f.rise, {"atlas_score": f.score}) for f in confirmed.features[:count]],
            chance=Chance(median, high),
            tokens=[model.decode([t]) for t in tokens],
        )

    def direction(self, vector: list[float] | None, feature: int | None, count: int) -> Answer:
        """Features whose decoder directions are nearest to a vector, or to another feature's."""
        dictionary = self._served.dictionary
        if feature is not None:
            row: Any = dictionary.decoder[dictionary.check_feature(feature)].cpu().numpy()
        else:
            row = np.asarray(vector, np.float32)
        index: DirectionIndex = self._once(
            "direction", lambda: DirectionIndex.opened(Directions.of(dictionary), self._served.atlas)
        )
        chance = None if index.floor is None else Chance(index.floor.usual, index.floor.high)
        return Answer("cosine", _of(index.search(row, count)), chance)

    def _sayings(self) -> Sayings:
        return Sayings(self._served.needed_atlas, self._served.model, self._served.text)

    def _once(self, name: str, make: Callable[[], T]) -> T:
        """What was made before under that name, or is made now, by one thread alone."""
        with self._making:
            if name not in self._kept:
                self._kept[name] = make()
            found: T = self._kept[name]
        return found


def _of(hits: list[Hit]) -> list[Found]:
    return [Found(hit.feature, hit.score, {}) for hit in hits]
