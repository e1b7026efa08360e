"""What one model has and another lacks, by a crosscoder of the two.

A feature of such a dictionary writes a direction in each model, and how long the two are says whose it is
(Lindsey et al. 2024, Sparse Crosscoders): the share of the second model is its length over the sum of both,
each in units of the usual length in its model.

Lengths alone call features exclusive that are not: training shortens a direction that other features replace
(Minder et al. 2025, arXiv 2504.02922). So every exclusive feature is measured on text. With f its activation,
d the longer of its directions, and y what a model's other features leave unexplained, the presence in that
model is β = Σ f (y · d) / Σ f² ‖d‖². A feature that is truly one model's has β near zero in the other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.progress import Progress, silent
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.kernels import by_feature, dots, sums
from pellucid.dictionaries.quality import RowReader

_ONE_ONLY = 0.1
"""A share below this, or above one less it, makes a feature exclusive."""
_PRESENT = 0.5
"""Present in the other model at this share of its own presence, a feature is not exclusive after all."""
_ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class Difference:
    """How the features of two models are shared out."""

    first: list[int]
    """Features of the first model alone, by lengths."""
    second: list[int]
    """Features of the second model alone, by lengths."""
    shared: int
    """How many are of both."""
    silent: int
    """How many were active nowhere in training, and are of neither."""
    elsewhere: dict[int, float]
    """Of each exclusive feature that was active on the measured text, its presence in the other model as a
    share of that in its own."""
    tokens: int
    """Measured tokens."""

    @property
    def refuted(self) -> list[int]:
        """Exclusive features that are present in the other model as well."""
        return [f for f, share in self.elsewhere.items() if share > _PRESENT]

    def as_json(self) -> dict[str, Any]:
        """As JSON values, for a card."""
        return {**asdict(self), "refuted": self.refuted}


def shares(dictionary: Dictionary) -> Tensor:
    """[N] the share of the second model in each feature: 0 the first model's alone, 1 the second's.

    Raises:
        InputError: when the dictionary is not of two models.
    """
    if dictionary.ports.beside is None:
        raise InputError("Only a dictionary of two models says what one has and the other lacks.")
    one, two = (half.norm(dim=1) for half in dictionary.decoder.chunk(2, dim=1))
    one, two = (length / length.square().mean().sqrt() for length in (one, two))
    share: Tensor = two / (one + two).clamp(min=1e-12)
    return share


def difference(
    dictionary: Dictionary, reader: RowReader, rows: np.ndarray, *, progress: Progress = silent
) -> Difference:
    """Share out the features, and measure those that seem exclusive.

    Args:
        dictionary: a crosscoder of two models; the text is encoded where it lies.
        reader: reads both.
        rows: [rows, positions] token ids.
        progress: told of rows done.
    """
    share = shares(dictionary)
    alive = torch.ones_like(share, dtype=torch.bool)
    if dictionary.frequency is not None:
        alive = dictionary.frequency > 0
    first, second = (share < _ONE_ONLY) & alive, (share > 1 - _ONE_ONLY) & alive
    longer = _directions(dictionary, share)
    along, squares = share.new_zeros(2, len(share)), torch.zeros_like(share)
    tokens = 0
    for at in range(0, len(rows), _ROWS_AT_ONCE):
        activations, keep = reader.read(rows[at : at + _ROWS_AT_ONCE])
        x = activations[keep].to(share)
        tokens += len(x)
        rebuilt, codes = dictionary.reconstruct(x)
        wanted = (first | second)[codes.features]
        features, values, where = codes.features[wanted], codes.values[wanted], codes.rows[wanted]
        offsets = torch.nn.functional.pad(torch.bincount(where, minlength=len(x)).cumsum(0), (1, 0))
        entries = by_feature(features, len(share))
        squares += sums(entries, values.square() * longer[features].square().sum(1))
        for model, error in enumerate((x - rebuilt).chunk(2, dim=1)):
            own = dictionary.decoder.chunk(2, dim=1)[model]
            # What is left by the other features is the error and what the feature itself writes.
            left = dots(error.contiguous(), longer, offsets, features)
            left += values * (own * longer).sum(1)[features]
            along[model] += sums(entries, values * left)
        progress("difference", min(len(rows), at + _ROWS_AT_ONCE), len(rows))
    presence = along / squares.clamp(min=1e-12)
    elsewhere: dict[int, float] = {}
    for feature in ((first | second) & (squares > 0)).nonzero()[:, 0].tolist():
        other, mine = (0, 1) if second[feature] else (1, 0)
        at_home, abroad = float(presence[mine, feature]), float(presence[other, feature])
        elsewhere[feature] = abroad / at_home if at_home > 0 else 1.0
    return Difference(
        first=first.nonzero()[:, 0].tolist(),
        second=second.nonzero()[:, 0].tolist(),
        shared=int((alive & ~first & ~second).sum()),
        silent=int((~alive).sum()),
        elsewhere=elsewhere,
        tokens=tokens,
    )


def _directions(dictionary: Dictionary, share: Tensor) -> Tensor:
    """[N, D] of each feature the direction in the model that has more of it."""
    one, two = dictionary.decoder.chunk(2, dim=1)
    return torch.where(share[:, None] > 0.5, two, one).contiguous()
