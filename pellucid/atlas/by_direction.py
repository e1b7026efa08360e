"""Search by direction: the features that write along a vector, such as a mean-difference vector of two sets.

All decoder directions are estimated by their signs, and the cosines of those that could be nearest computed
(`search`). Features that were never active are not found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pellucid.atlas.by_words import Hit
from pellucid.atlas.directions import Directions
from pellucid.atlas.pages import Atlas
from pellucid.atlas.peaks import Read
from pellucid.atlas.search import Search
from pellucid.core.errors import InputError
from pellucid.dictionaries.ports import Ports


@dataclass(frozen=True)
class Floor:
    """The cosine of a feature with the nearest of as many random directions."""

    usual: float
    """The mean over features."""
    high: float
    """What 99 % of them stay below."""


@dataclass(frozen=True)
class DirectionIndex:
    """The directions of features, open for searching."""

    searched: Search
    alive: np.ndarray | None = None
    """[N] which features were active on some text; none where no atlas says."""
    floor: Floor | None = None
    """What chance gives, where the atlas has neighbours."""

    @classmethod
    def opened(cls, directions: Directions, atlas: Atlas | None = None) -> DirectionIndex:
        """By the signs that are in an atlas; where there are none, they are made.

        Raises:
            InputError: when the signs are of another dictionary.
            IntegrityError: when they are damaged.
        """
        table = atlas.table("signs") if atlas is not None else None
        if table is None:
            searched = Search.build(directions)
        elif table.record["facts"]["dictionary"] != directions.digest:
            raise InputError(
                f"The table {str(table.place)!r} is of another dictionary. Find the neighbours anew with "
                "'pellucid atlas neighbours'."
            )
        else:
            searched = Search.open(table, directions)
        return cls(searched, None if atlas is None else atlas.frequency > 0, floor_of(atlas))

    def search(self, vector: np.ndarray, count: int = 10) -> list[Hit]:
        """The features whose decoder directions are nearest to a vector; the score is the cosine.

        Args:
            vector: [D] of any length but 0, at the sites the dictionary writes.
            count: how many.

        Raises:
            InputError: when the vector has another width, no length, or is not finite.
        """
        return self._hits(vector, count, self.alive)

    def near(self, feature: int, count: int = 10) -> list[Hit]:
        """The other features whose directions are nearest to a feature's."""
        among = np.ones(self.searched.directions.count, bool) if self.alive is None else self.alive.copy()
        among[feature] = False
        return self._hits(self.searched.directions.take(np.array([feature]))[0], count, among)

    def _hits(self, vector: np.ndarray, count: int, among: np.ndarray | None) -> list[Hit]:
        ids, cosines = self.searched.nearest(vector, count, among=among)
        return [Hit(int(i), float(c)) for i, c in zip(ids, cosines, strict=True)]


def floor_of(atlas: Atlas | None) -> Floor | None:
    """What random directions would have; it is measured with the neighbours, and else not known."""
    table = atlas.table("neighbours") if atlas is not None else None
    if table is None:
        return None
    facts = table.record["facts"]
    return Floor(float(facts["cosine_floor"]), float(facts["cosine_floor_high"]))


def mean_difference(ports: Ports, concept: Sequence[Read], neutral: Sequence[Read]) -> np.ndarray:
    """[D] from the mean of neutral texts to the mean of texts with a concept, at the sites that are read.

    Raises:
        InputError: when the dictionary writes elsewhere than it reads.
    """
    if ports.reads != ports.writes:
        raise InputError(
            f"A mean-difference vector lies where the dictionary reads, and {ports} writes "
            "elsewhere. Give a vector as a .npy file."
        )
    sides = [
        torch.stack([r.columns[ports.reads].mean(0) for r in side]).mean(0) for side in (concept, neutral)
    ]
    found: np.ndarray = (sides[0] - sides[1]).numpy()
    return found
