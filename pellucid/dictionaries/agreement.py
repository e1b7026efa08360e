"""Do two dictionaries of one site hold the same features?

Two trainings that differ in nothing but the seed share only part of their features (Paulo and Belrose 2025,
arXiv 2501.16615), and what they do not share is no fact about the model. A feature has a partner in another
dictionary if each is the other's nearest by decoder direction, with a cosine of at least 0.7. The floor is
the same figure for random directions in place of one of the two.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.figures import Figure, resampled

_PARTNER = 0.7
_ROWS_AT_ONCE = 2048
_FAR = 1_000_000_007
"""Added to the seed: a training with the same seed began with these very directions, and some features hardly
move from where they began."""


@dataclass(frozen=True)
class Agreement:
    """How much of one dictionary another holds too."""

    nearest: float
    """Mean over the features of the cosine with the nearest decoder direction of the other."""
    partners: float
    """Share of features with a partner."""
    partners_low: float
    """Where the 95 % bootstrap interval of that share begins; features are drawn."""
    partners_high: float
    """Where it ends."""
    random_nearest: float
    """The same with random directions in place of the other."""
    random_partners: float
    """The same."""

    def as_json(self) -> dict[str, float]:
        """As JSON values."""
        return asdict(self)


def agreement(one: Dictionary, two: Dictionary, *, seed: int = 0) -> Agreement:
    """Look for the features of one dictionary in another.

    Features that were silent in training are left out of both, where that is known.

    Args:
        one: whose features are looked for.
        two: where.
        seed: of the random directions.

    Raises:
        InputError: when they are not of the same site and model, or one has no feature that is not silent.
    """
    if (one.ports, one.model_digest) != (two.ports, two.model_digest):
        raise InputError(
            f"Features can be compared within one site of one model: these are of {one.ports} and "
            f"{two.ports}, or of two models."
        )
    mine, others = _alive(one), _alive(two)
    generator = torch.Generator().manual_seed(_FAR + seed)
    chance = torch.nn.functional.normalize(torch.randn(others.shape, generator=generator), dim=1)
    nearest, share = _shares(mine, others)
    by_chance = _shares(mine, chance)
    return Agreement(nearest, share.value, share.low, share.high, by_chance[0], by_chance[1].value)


def partners(mine: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """For each row of [N, D] its partner among the rows [M, D], or −1; and the cosine with the nearest [N].

    Rows have unit length.
    """
    best, chosen = torch.full((len(mine),), -2.0), torch.zeros(len(mine), dtype=torch.int64)
    back, chosen_back = torch.full((len(others),), -2.0), torch.zeros(len(others), dtype=torch.int64)
    for at in range(0, len(mine), _ROWS_AT_ONCE):
        block = mine[at : at + _ROWS_AT_ONCE] @ others.T
        best[at : at + len(block)], chosen[at : at + len(block)] = block.max(1)
        high, row = block.max(0)
        nearer = high > back
        back[nearer], chosen_back[nearer] = high[nearer], row[nearer] + at
    mutual = chosen_back[chosen] == torch.arange(len(mine))
    return torch.where(mutual & (best >= _PARTNER), chosen, -1), best


def _alive(d: Dictionary) -> Tensor:
    rows = d.decoder if d.frequency is None else d.decoder[d.frequency > 0]
    if not len(rows):
        raise InputError("Every feature of the dictionary was silent: there is nothing to compare.")
    return rows.cpu()


def _shares(mine: Tensor, others: Tensor) -> tuple[float, Figure]:
    chosen, cosine = partners(mine, others)
    held = (chosen >= 0).double().numpy()
    return float(cosine.mean()), resampled(len(held), lambda d: float(held[d].mean()))
