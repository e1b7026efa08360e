"""The other half of a label: what a feature does when it is turned up, with a score of its own.

What switches a feature on and what it makes the model say are two things, and need not agree. From the table
`effects`, the tokens a feature promotes become a text, and two figures are put beside chance:

    score       how alike the promoted tokens are: the mean cosine between the rows of the unembedding they
                are read with. Chance: as many tokens, each about as common and promoted by another feature
    agreement   how alike they are to the words of the label of what switches it on: the cosine between the
                two mean rows. Chance: the same label beside what other features promote

A figure counts where it is above all but a fortieth of the draws. Of every row the mean row and the three
directions in which rows differ most are taken away first: they hold how common a token is, and else any two
function words are alike (Mu and Viswanath, arXiv 1702.01417).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from pellucid.atlas.lexicon import topic_of
from pellucid.atlas.tables import Table
from pellucid.models.model import Model

_TOKENS = 10
"""Promoted tokens that are judged."""
_SHOWN = 5
_DRAWS = 200
_DIRECTIONS = 3
_AS_COMMON = 300
"""Tokens of the sample among which one that is about as common is drawn."""
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

    def __init__(self, model: Model, effects: Table, counts: np.ndarray, *, seed: int = 0) -> None:
        """Take what chance gives from a sample of the features.

        Args:
            model: whose unembedding judges.
            effects: what each feature promotes.
            counts: [vocabulary] how often each token was read.
            seed: fixes the draws.
        """
        self._model, self._effects, self._counts, self._seed = model, effects, counts, seed
        random = np.random.default_rng(seed)
        chosen = np.sort(random.permutation(effects.rows)[: 4 * _DRAWS])
        found = effects.take(chosen, ["promoted", "promoted_scores"])
        lists = [self._distinct(i, s) for i, s in zip(*found.values(), strict=True)]
        lists = [tokens for tokens in lists if len(tokens) == _TOKENS]
        self._strangers = np.array([self._mean(tokens) for tokens in lists[:_DRAWS]])
        pool = np.array([token for tokens in lists for token in tokens], np.int64)
        pool = pool[np.argsort(counts[pool], kind="stable")]
        self._pool, self._commonness = self._rows(pool), counts[pool]

    def of(self, feature: int, words: Sequence[str]) -> Effect | None:
        """The effect of a feature; none where it promotes too little to be judged, or chance is not known.

        Args:
            feature: its number.
            words: words that stand for what switches it on.
        """
        row = self._effects.row(feature, ["promoted", "promoted_scores"])
        tokens = self._distinct(row["promoted"], row["promoted_scores"])
        if len(tokens) < _TOKENS or len(self._pool) < _AS_COMMON:
            return None
        draws = self._chance(feature, tokens)
        score = Beside(
            float(_coherence(self._rows(tokens))), float(draws.mean()), float(np.quantile(draws, _BAR))
        )
        return Effect(self._text(tokens), score, self._agreement(tokens, words))

    def _chance(self, feature: int, tokens: Sequence[int]) -> np.ndarray:
        """[draws] how alike tokens are that are about as common as these."""
        random = np.random.default_rng([self._seed, feature])
        near = np.searchsorted(self._commonness, self._counts[list(tokens)]) - _AS_COMMON // 2
        near = np.clip(near, 0, len(self._pool) - _AS_COMMON)
        return _coherence(self._pool[near + random.integers(_AS_COMMON, size=(_DRAWS, len(tokens)))])

    def _agreement(self, tokens: Sequence[int], words: Sequence[str]) -> Beside | None:
        encode = self._model.tokenizer
        ids = [encode(f" {w}", add_special_tokens=False).input_ids for w in words]
        spelled = [i for word in ids for i in word[:1]]
        if not spelled:
            return None
        own = self._mean(spelled)
        draws = self._strangers @ own
        return Beside(float(own @ self._mean(tokens)), float(draws.mean()), float(np.quantile(draws, _BAR)))

    @cached_property
    def _common(self) -> tuple[np.ndarray, np.ndarray]:
        """The mean row [D], and the directions in which rows differ most [3, D]."""
        rows = self._model.unembedding.detach().float()
        centred = rows - rows.mean(0)
        directions = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -_DIRECTIONS:].T
        return rows.mean(0).cpu().numpy(), directions.cpu().numpy()

    def _rows(self, tokens: Sequence[int] | np.ndarray) -> np.ndarray:
        """[tokens, D] rows of the unembedding without what is common to them, of unit length."""
        mean, directions = self._common
        rows = self._model.unembedding.detach()[list(tokens)].float().cpu().numpy() - mean
        rows -= rows @ directions.T @ directions
        found: np.ndarray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
        return found

    def _mean(self, tokens: Sequence[int]) -> np.ndarray:
        mean = self._rows(tokens).mean(0)
        found: np.ndarray = mean / max(1e-9, float(np.linalg.norm(mean)))
        return found

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


def _coherence(rows: np.ndarray) -> np.ndarray:
    """[...] the mean cosine between two of the tokens whose unit rows are [..., tokens, D]."""
    count = rows.shape[-2]
    found: np.ndarray = (np.square(rows.sum(-2)).sum(-1) - count) / (count * (count - 1))
    return found
