"""The other half of a label: what a feature does when it is turned up, with a score of its own.

What switches a feature on and what it makes the model say are two things, and need not agree. From the table
`effects`, the tokens a feature promotes become a text, and two figures are put beside chance:

    score       how alike the promoted tokens are: the mean cosine between the rows of the unembedding they
                are read with, less the mean row of all. Chance: as many tokens, each promoted by another
                feature drawn by lot
    agreement   how alike they are to the words of the label of what switches it on: the cosine between the
                two mean rows. Chance: the same label beside what other features promote

A figure counts where it is above all but a fortieth of the draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pellucid.atlas.lexicon import topic_of
from pellucid.atlas.tables import Table
from pellucid.models.model import Model

_TOKENS = 10
"""Promoted tokens that are judged."""
_SHOWN = 5
_DRAWS = 400
_BAR = 0.975


@dataclass(frozen=True)
class Beside:
    """A figure beside what chance gives."""

    value: float
    floor: float
    """The mean over the draws."""
    bar: float
    """What 97.5 % of the draws do not pass."""

    @property
    def counts(self) -> bool:
        """Whether it is above the bar."""
        return self.value > self.bar


@dataclass(frozen=True)
class Effect:
    """What a feature does when it is turned up."""

    text: str
    score: Beside
    agreement: Beside | None
    """With a label of what switches it on; none where that label names no words."""


class Outputs:
    """Effects of features, judged by one model's unembedding."""

    def __init__(self, model: Model, effects: Table, *, seed: int = 0) -> None:
        """Take what chance gives from a sample of the features.

        Args:
            model: whose unembedding judges.
            effects: what each feature promotes.
            seed: fixes the draws.
        """
        self._model, self._effects = model, effects
        random = np.random.default_rng(seed)
        chosen = np.sort(random.permutation(effects.rows)[: 4 * _DRAWS])
        found = effects.take(chosen, ["promoted", "promoted_scores"])
        lists = [self._distinct(i, s) for i, s in zip(*found.values(), strict=True)]
        lists = [tokens for tokens in lists if len(tokens) == _TOKENS]
        self._chance: list[list[int]] = []
        self._strangers = [self._mean(tokens) for tokens in lists[:_DRAWS]]
        for _ in range(_DRAWS if len(lists) >= _TOKENS else 0):
            some = random.permutation(len(lists))[:_TOKENS]
            self._chance.append([lists[i][int(random.integers(_TOKENS))] for i in some])

    def of(self, feature: int, words: Sequence[str]) -> Effect | None:
        """The effect of a feature; none where it promotes too little to be judged, or chance is not known.

        Args:
            feature: its number.
            words: words that stand for what switches it on.
        """
        row = self._effects.row(feature, ["promoted", "promoted_scores"])
        tokens = self._distinct(row["promoted"], row["promoted_scores"])
        if len(tokens) < _TOKENS or not self._chance:
            return None
        draws = self._coherences
        score = Beside(self._coherence(tokens), float(draws.mean()), float(np.quantile(draws, _BAR)))
        return Effect(self._text(tokens), score, self._agreement(tokens, words))

    @cached_property
    def _coherences(self) -> np.ndarray:
        return np.array([self._coherence(tokens) for tokens in self._chance])

    def _agreement(self, tokens: Sequence[int], words: Sequence[str]) -> Beside | None:
        encode = self._model.tokenizer
        ids = [encode(f" {w}", add_special_tokens=False).input_ids for w in words]
        spelled = [i for word in ids for i in word[:1]]
        if not spelled:
            return None
        own = self._mean(spelled)
        draws = np.array([own @ stranger for stranger in self._strangers])
        return Beside(float(own @ self._mean(tokens)), float(draws.mean()), float(np.quantile(draws, _BAR)))

    @cached_property
    def _centre(self) -> np.ndarray:
        return self._model.unembedding.detach().float().mean(0).cpu().numpy()

    def _rows(self, tokens: Iterable[int]) -> np.ndarray:
        """[tokens, D] rows of the unembedding, centred, of unit length."""
        rows = self._model.unembedding.detach()[list(tokens)].float().cpu().numpy() - self._centre
        found: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
        return found

    def _mean(self, tokens: Iterable[int]) -> np.ndarray:
        mean = self._rows(tokens).mean(0)
        found: np.ndarray = mean / max(1e-9, float(np.linalg.norm(mean)))
        return found

    def _coherence(self, tokens: Sequence[int]) -> float:
        """The mean cosine between two of the tokens."""
        count = len(tokens)
        return float((np.square(self._rows(tokens).sum(0)).sum() - count) / (count * (count - 1)))

    def _distinct(self, ids: np.ndarray, scores: np.ndarray) -> list[int]:
        """The first promoted tokens that differ by more than capitals and spaces and are not blank."""
        found: dict[str, int] = {}
        for token, score in zip(ids.tolist(), scores.tolist(), strict=True):
            text = self._model.decode([token]).strip().lower()
            if score > 0 and text and text not in found:
                found[text] = token
        return list(found.values())[:_TOKENS]

    def _text(self, tokens: Sequence[int]) -> str:
        words = [self._model.decode([t]).strip() for t in tokens]
        topic = topic_of([w.lower() for w in words])
        told = ", ".join(words[:_SHOWN])
        return f"says words about {topic}: {told}" if topic else f"says {told}"
