"""The strongest features of each token, worked out once for all tokens that were encoded together.

In a step one encoding is of the tokens of many answers, and each answer asks for its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from pellucid.dictionaries.codes import Codes

_KEPT = 8
"""Encodings of which it is remembered."""


class Active(NamedTuple):
    """A feature on a token."""

    feature: int
    activation: float
    share: float
    """The activation as a share of the feature's unit."""


class Strongest:
    """The features that are strongest in units of their own [N]."""

    def __init__(self, units: np.ndarray) -> None:
        """Begin with none worked out."""
        self._units = units
        # Read and replaced as a whole, as threads do both.
        self._known: tuple[tuple[Codes, int, list[list[Active]]], ...] = ()

    def of(self, codes: Codes, top: int) -> list[list[Active]]:
        """For each row at most `top`, the strongest first; of those that are equal, the more active."""
        for known, asked, found in self._known:
            if known is codes and asked == top:
                return found
        found = self._worked_out(codes, top)
        self._known = ((codes, top, found), *self._known[: _KEPT - 1])
        return found

    def _worked_out(self, codes: Codes, top: int) -> list[list[Active]]:
        offsets, features, values = codes.arrays
        counts = np.diff(offsets)
        rows = np.repeat(np.arange(len(counts)), counts)
        shares = values / self._units[features]
        order = np.lexsort((-shares, rows))
        order = order[np.arange(len(order)) - offsets[rows] < top]
        columns = (a[order].tolist() for a in (features, values, shares))
        every = list(map(Active, *columns))
        stops = np.minimum(counts, top).cumsum().tolist()
        return [every[start:stop] for start, stop in zip([0, *stops], stops, strict=False)]
