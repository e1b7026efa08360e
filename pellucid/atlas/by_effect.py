"""Search by effect: the features that, turned up, most raise the probability of some words.

An atlas's table `effects` holds the tokens each feature promotes (see `promoted`). From it an index is made,
token to features, so that a search reads the features of a few tokens. Its scores come from a few openings
and the most promoted tokens alone; so the best features are then turned up on other openings, and what counts
is how far the words' joint probability rose there, beside what features drawn at random do.

    offsets.npy    [V + 1] where the features of each token begin
    features.npy   [P] int32
    scores.npy     [P] float16, nats
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.atlas import indices
from pellucid.atlas.by_words import Hit
from pellucid.atlas.rises import FLOOR
from pellucid.atlas.scans import largest
from pellucid.atlas.tables import Table
from pellucid.core import digests
from pellucid.core.errors import InputError
from pellucid.dictionaries.base import Dictionary
from pellucid.models.model import Model
from pellucid.models.openings import Opening

OPENINGS = ("They often talk about the", "One day we found a", "My favourite thing is", "The next word is")
"""Other openings than those the effects were measured on."""
_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Raising:
    """A feature that makes the model say some words."""

    feature: int
    score: float
    """The summed scores of the words' tokens among those it promotes, nats."""
    rise: float
    """Nats by which turning it up to its maximum raised the words' joint probability, on other openings."""


@dataclass(frozen=True)
class Confirmed:
    """Features tried on the model, beside features drawn at random."""

    features: list[Raising]
    """The highest rise first."""
    chance: tuple[float, float]
    """The median rise of features drawn at random, and the rise that 95 % of them stay below."""


class EffectIndex:
    """The features that promote each token, open for searching."""

    def __init__(self, index: indices.Index, features: int) -> None:
        self._index, self._features = index, features

    @classmethod
    def opened(cls, effects: Table) -> EffectIndex:
        """The index of a table of effects, made if it is not kept.

        Raises:
            IntegrityError: when it is damaged.
        """
        key = {"format": 1, "effects": digests.of_json(dict(effects.record))}
        return cls(indices.opened("effects", key, lambda folder: _make(folder, effects)), effects.rows)

    def search(self, tokens: Sequence[int], count: int = 10) -> list[Hit]:
        """The features that promote some tokens most; the score is the sum of theirs, in nats."""
        offsets, features, values = (self._index.array(n) for n in ("offsets", "features", "scores"))
        scores = np.zeros(self._features, np.float32)
        for token in set(tokens):
            if token < len(offsets) - 1:
                span = slice(int(offsets[token]), int(offsets[token + 1]))
                scores[features[span]] += values[span].astype(np.float32)  # a feature holds a token once
        return [Hit(int(f), float(scores[f])) for f in largest(scores, count) if scores[f] > 0]


def _make(folder: Path, effects: Table) -> dict[str, Any]:
    tokens, features, scores = [], [], []
    for first, block in effects.blocks(["promoted", "promoted_scores"]):
        raised = block["promoted_scores"] > 0
        tokens.append(block["promoted"][raised])
        features.append((first + np.nonzero(raised)[0]).astype(np.int32))
        scores.append(block["promoted_scores"][raised].astype(np.float16))
    of_token = np.concatenate(tokens)
    order = np.argsort(of_token, kind="stable")
    last = int(of_token.max(initial=-1)) + 1
    np.save(folder / "offsets.npy", np.searchsorted(of_token[order], np.arange(last + 1)))
    np.save(folder / "features.npy", np.concatenate(features)[order])
    np.save(folder / "scores.npy", np.concatenate(scores)[order])
    return {"tokens": last}


def tokens_of(model: Model, words: Sequence[str]) -> list[int]:
    """The tokens by which a model begins some words: with and without a space, and a capital.

    Raises:
        InputError: when there are no words, or the model begins one letter by letter.
    """
    found: dict[int, None] = {}
    for word in words:
        mine = [
            int(model.tokenizer(space + form, add_special_tokens=False).input_ids[0])
            for form in dict.fromkeys((word, word.capitalize()))
            for space in (" ", "")
            if form.strip()
        ]
        telling = [i for i in mine if len(model.decode([i]).strip()) > 1]
        if not telling:
            raise InputError(
                f"The model begins {word!r} with a single letter, which many words share. Give a more common "
                "word."
            )
        found |= dict.fromkeys(telling)
    if not found:
        raise InputError("Give the words whose probability features should raise.")
    return list(found)


def confirm(
    model: Model,
    dictionary: Dictionary,
    found: Sequence[Hit],
    tokens: Sequence[int],
    *,
    drawn: int = 32,
    seed: int = 0,
) -> Confirmed:
    """Turn features up, and see how far the tokens' joint probability rises.

    Args:
        model: the dictionary's model.
        dictionary: whose features; must hold its maxima.
        found: features by their scores.
        tokens: whose probabilities are added up.
        drawn: how many features to draw at random beside them.
        seed: of the draw.

    Raises:
        InputError: when the dictionary holds no maxima.
    """
    if dictionary.maximum is None:
        raise InputError("The dictionary holds no maxima, the unit of steering.")
    alive = dictionary.maximum.nonzero()[:, 0].cpu()
    order = torch.randperm(len(alive), generator=torch.Generator().manual_seed(seed))
    chance = alive[order[:drawn]]
    chosen = torch.cat([torch.tensor([hit.feature for hit in found], dtype=torch.long), chance])
    rises = _rises(model, dictionary, chosen, torch.tensor(list(tokens))).numpy()
    mine, others = rises[: len(found)], rises[len(found) :]
    raising = [Raising(h.feature, h.score, float(r)) for h, r in zip(found, mine, strict=True)]
    return Confirmed(
        sorted(raising, key=lambda r: (-r.rise, r.feature)),
        (float(np.median(others)), float(np.quantile(others, 0.95))),
    )


def _rises(model: Model, dictionary: Dictionary, features: Tensor, tokens: Tensor) -> Tensor:
    """[F] the mean over openings of how far the log of the tokens' joint probability rose."""
    assert dictionary.maximum is not None

    def joint(logits: Tensor) -> Tensor:
        return logits.float().softmax(-1)[:, tokens].sum(1).cpu()

    rises = torch.zeros(len(features))
    for opening in [Opening.read(model, text) for text in OPENINGS]:
        before = joint(opening.logits())
        for at in range(0, len(features), _ROWS_AT_ONCE):
            part = features[at : at + _ROWS_AT_ONCE]
            units = dictionary.maximum[part][:, None]
            added = [(site, units * directions) for site, directions in dictionary.directions(part)]
            after = joint(opening.logits(added))
            rises[at : at + len(part)] += ((after + FLOOR) / (before + FLOOR)).log()
    return rises / len(OPENINGS)
