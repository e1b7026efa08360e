"""Search by direction: the features that write along a vector, such as a mean-difference vector of two sets.

Every decoder direction is compared, block by block; nothing is approximate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pellucid.atlas.by_words import Hit
from pellucid.atlas.peaks import Read
from pellucid.core.errors import InputError
from pellucid.dictionaries.base import Dictionary

_ROWS_AT_ONCE = 65_536


def along(dictionary: Dictionary, vector: np.ndarray, count: int = 10) -> list[Hit]:
    """The features whose decoder directions are nearest to a vector; the score is the cosine.

    Args:
        dictionary: whose features.
        vector: [D'] of any length but 0, at the sites the dictionary writes.
        count: how many.

    Raises:
        InputError: when the vector has another width, no length, or is not finite.
    """
    width = dictionary.decoder.shape[1]
    query = torch.from_numpy(np.asarray(vector, np.float32))
    if query.shape != (width,):
        raise InputError(
            f"Expected a vector [{width}], as {dictionary.ports} writes; got {list(query.shape)}."
        )
    length = float(query.norm())
    if not np.isfinite(length) or length == 0:
        raise InputError("The vector has no direction: it is zero, NaN or infinite.")
    query = query / length
    decoder = dictionary.decoder.cpu()
    cosines = torch.cat(
        [decoder[at : at + _ROWS_AT_ONCE] @ query for at in range(0, len(decoder), _ROWS_AT_ONCE)]
    )
    best = cosines.topk(min(count, len(cosines)))
    return [Hit(int(f), float(c)) for f, c in zip(best.indices, best.values, strict=True)]


def mean_difference(dictionary: Dictionary, concept: Sequence[Read], neutral: Sequence[Read]) -> np.ndarray:
    """[D] from the mean of neutral texts to the mean of texts with a concept, at the sites that are read.

    Raises:
        InputError: when the dictionary writes elsewhere than it reads.
    """
    if dictionary.ports.reads != dictionary.ports.writes:
        raise InputError(
            f"A mean-difference vector lies where the dictionary reads, and {dictionary.ports} writes "
            "elsewhere. Give a vector as a .npy file."
        )
    sides = [
        torch.stack([r.columns[dictionary.ports.reads].mean(0) for r in side]).mean(0)
        for side in (concept, neutral)
    ]
    found: np.ndarray = (sides[0] - sides[1]).numpy()
    return found
