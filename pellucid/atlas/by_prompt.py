"""Search by prompt: the features that are strongest on a text, of several dictionaries, in one reading.

A feature's strength is its peak on the text as a share of its maximum, so that features of all sizes compare.
Two things are damped. Attention sinks, the first token among them, are left out (see `peaks`). A feature that
is often on says little by being on: its strength is multiplied by ln f / ln 0.01, at most 1, where f is the
share of tokens it is active on over the measured text. One token in a hundred or fewer costs nothing, one in
ten half, and what is always on counts for nothing. Where a dictionary holds no frequencies, f is the share of
this text's tokens, but at least 0.01.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pellucid.atlas import peaks
from pellucid.core.errors import InputError
from pellucid.dictionaries.base import Dictionary
from pellucid.models.model import Model

RARE = 0.01
"""Features active on no more than this share of tokens are not damped."""


@dataclass(frozen=True)
class Firing:
    """A feature that is active on a text."""

    dictionary: str
    feature: int
    score: float
    """The share, damped by how often the feature is on."""
    share: float
    """The peak by the feature's maximum."""
    value: float
    """The peak."""
    frequency: float
    """The share of tokens it is active on over the measured text."""
    position: int
    """The token of the peak."""


def strongest(
    model: Model,
    dictionaries: Mapping[str, Dictionary],
    text: str,
    *,
    count: int = 10,
    chat: bool = False,
) -> tuple[list[int], list[Firing]]:
    """The features that are strongest on a text.

    Args:
        model: the model of all the dictionaries.
        dictionaries: by the names to call them by.
        text: what to read.
        count: how many features in all.
        chat: read it as a prompt, through the model's chat template.

    Returns:
        The text's token ids, and the features, best first.

    Raises:
        InputError: when the text is empty, or a dictionary is of another model or holds no maxima.
    """
    for name, dictionary in dictionaries.items():
        if dictionary.maximum is None:
            raise InputError(f"The dictionary {name!r} holds no maxima, which strengths are shares of.")
    (read,) = peaks.read(model, list(dictionaries.values()), [text], chat=chat)
    found: list[Firing] = []
    for name, dictionary in dictionaries.items():
        codes = dictionary.encode(read.columns[dictionary.ports.reads]).to("cpu")
        features, where, times = np.unique(
            codes.features.numpy().astype(np.int64), return_inverse=True, return_counts=True
        )
        values, rows = codes.values.numpy(), codes.rows.numpy()
        # The last of the entries in ascending order of value is the feature's peak.
        peak = np.zeros(len(features), np.int64)
        order = np.lexsort((-rows, values))
        peak[where[order]] = order
        assert dictionary.maximum is not None
        maximum = dictionary.maximum.cpu().numpy()[features]
        frequency = (
            np.maximum(times / max(1, len(codes)), RARE)
            if dictionary.frequency is None
            else dictionary.frequency.cpu().numpy()[features]
        )
        shares = np.where(maximum > 0, values[peak] / np.where(maximum > 0, maximum, 1), 0)
        scores = shares * damping(frequency)
        for i in np.lexsort((features, -scores))[:count]:
            firing = Firing(
                name,
                int(features[i]),
                float(scores[i]),
                float(shares[i]),
                float(values[peak[i]]),
                float(frequency[i]),
                int(read.kept[rows[peak[i]]]),
            )
            found.append(firing)
    found.sort(key=lambda f: -f.score)
    return read.ids, found[:count]


def damping(frequency: np.ndarray) -> np.ndarray:
    """What a strength is multiplied by, for the share of tokens a feature is active on."""
    factor: np.ndarray = np.log(np.clip(frequency, 1e-12, 1.0)) / math.log(RARE)
    limited: np.ndarray = np.clip(factor, 0.0, 1.0)
    return limited
