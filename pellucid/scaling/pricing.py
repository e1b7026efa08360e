"""What tokens cost: training spread over a model's lifetime tokens, prompts and answers priced apart.

    dollars per FLOP          an hour of a chip / (3600 · dense peak · utilisation)
    a million tokens read     2e6 · N · (dollars per FLOP of prefill)
    a million tokens written  2e6 · N · (dollars per FLOP of decode)
    training, amortised       6e6 · N · D · (dollars per FLOP of training) / lifetime tokens

as in Sardana et al. 2023 (arXiv 2401.00448, section 4). Cost alone: no margin, no staff, no idle fleet beyond
what utilisation says. Arrays are [K], one entry for each law of the surface that was planned with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pellucid.core.errors import InputError
from pellucid.scaling import planning
from pellucid.scaling.arrays import Floats
from pellucid.scaling.hardware import Use
from pellucid.scaling.planning import SERVING_FLOPS, TRAINING_FLOPS, Allocation, Costs, Demand
from pellucid.scaling.surface import Surface

MILLION = 1e6


@dataclass(frozen=True)
class Tariff:
    """What each kind of work is done on, and so what an operation costs."""

    training: Use
    prefill: Use
    decode: Use

    @property
    def dates(self) -> tuple[str, ...]:
        """The dates of the prices behind it, oldest first."""
        return tuple(sorted({u.accelerator.quote.date for u in (self.training, self.prefill, self.decode)}))

    def costs(self, demand: Demand) -> Costs:
        """What a plan pays, in dollars."""
        serving = demand.read * self.prefill.dollars_per_flop + demand.written * self.decode.dollars_per_flop
        return Costs(TRAINING_FLOPS * self.training.dollars_per_flop, SERVING_FLOPS * serving)

    def training_dollars(self, N: Floats | float, D: Floats | float) -> Floats:
        """What training costs."""
        return np.asarray(TRAINING_FLOPS * self.training.dollars_per_flop * np.asarray(N) * D)

    def training_days(self, N: Floats | float, D: Floats | float, chips: int) -> Floats:
        """How long training takes on so many chips."""
        if chips < 1:
            raise InputError(f"Expected at least one chip; got {chips}.")
        return np.asarray(TRAINING_FLOPS * np.asarray(N) * D / self.training.flops_per_second / chips / 86400)

    def training_energy_kwh(self, N: Floats | float, D: Floats | float) -> Floats | None:
        """What the training chips draw at full power, in kWh, without cooling; None where that is unknown."""
        power = self.training.accelerator.power_w
        if power is None:
            return None
        seconds = TRAINING_FLOPS * np.asarray(N) * D / self.training.flops_per_second
        return np.asarray(seconds * power / 3.6e6)


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens; arrays [K]."""

    read: Floats
    """A million tokens of prompts."""
    written: Floats
    """A million tokens of answers."""
    training: Floats
    """The part of training that a million tokens of either kind carry; infinite without any."""
    blended: Floats
    """A million tokens of the demand's mix, training included."""
    dates: tuple[str, ...]
    """The dates of the prices of chips behind it, oldest first."""


def price(N: Floats | float, D: Floats | float, tariff: Tariff, demand: Demand) -> Price:
    """What a model's tokens cost.

    Args:
        N: its parameters, one number or [K].
        D: the tokens it is trained on.
        tariff: what the work is done on.
        demand: what it serves over its life; without tokens, only what serving itself costs is finite.
    """
    N = np.asarray(N, dtype=np.float64)
    read = MILLION * SERVING_FLOPS * tariff.prefill.dollars_per_flop * N
    written = MILLION * SERVING_FLOPS * tariff.decode.dollars_per_flop * N
    if not demand.tokens:
        endless = np.full(np.broadcast_shapes(N.shape, np.shape(D)), np.inf)
        return Price(read, written, endless, endless, tariff.dates)
    training = MILLION * tariff.training_dollars(N, D) / demand.tokens
    share = demand.read / demand.tokens
    return Price(read, written, training, training + share * read + (1 - share) * written, tariff.dates)


def break_even(
    first: tuple[Floats | float, Floats | float],
    second: tuple[Floats | float, Floats | float],
    tariff: Tariff,
    demand: Demand,
) -> Floats:
    """The lifetime tokens at which two models have cost the same.

    Args:
        first: N and D of one model, which is cheaper to train, such as a big one trained briefly.
        second: N and D of the other, which is cheaper to serve, such as a small one of the same loss trained
            long.
        tariff: what the work is done on.
        demand: its mix of tokens read and written; how many does not matter.

    Returns:
        [K]: beyond so many tokens the second is cheaper. Infinite where it never is, 0 where it always is,
        not a number where the roles are swapped: the second is cheaper to train and dearer to serve.

    Raises:
        InputError: when the demand has no tokens, and so no mix.
    """
    if not demand.tokens:
        raise InputError("Expected a demand with tokens read or written: break-even depends on their mix.")
    per_token = tariff.costs(demand).serving / demand.tokens
    dearer_training = tariff.training_dollars(*second) - tariff.training_dollars(*first)
    cheaper_serving = per_token * (np.asarray(first[0]) - np.asarray(second[0]))
    with np.errstate(divide="ignore", invalid="ignore"):
        volume = np.where(dearer_training > 0, dearer_training / cheaper_serving, 0.0)
    never = (cheaper_serving <= 0) & (dearer_training >= 0)
    swapped = (cheaper_serving < 0) & (dearer_training < 0)
    return np.where(swapped, np.nan, np.where(never, np.inf, volume))


@dataclass(frozen=True)
class Gain:
    """What it is worth to serve so many more tokens with the same chips; arrays [K] in dollars."""

    gain: float
    """0.2 for 20 % more tokens."""
    as_planned: Floats
    """Saved over the model's life, the model staying as it was planned."""
    replanned: Floats
    """Saved when the model is planned anew for the cheaper serving: at least as much."""
    plan: Allocation
    """The new plan."""


def worth_of_gains(
    surface: Surface, loss: float, tariff: Tariff, demand: Demand, gains: Sequence[float] = (0.1, 0.2, 0.3)
) -> list[Gain]:
    """What gains in inference efficiency are worth, at the same loss.

    Args:
        surface: K laws.
        loss: the loss that the model is to reach.
        tariff: what the work is done on.
        demand: what the model serves.
        gains: each the share of tokens more that the same chips then serve.

    Raises:
        InputError: when a gain is not above 0.
    """
    costs = tariff.costs(demand)
    now = planning.for_loss(surface, loss, costs)
    found = []
    for gain in gains:
        if not (math.isfinite(gain) and gain > 0):
            raise InputError(f"Expected a gain above 0, such as 0.2 for 20 %; got {gain!r}.")
        cheaper = Costs(costs.training, costs.serving / (1 + gain))
        plan = planning.for_loss(surface, loss, cheaper)
        with np.errstate(invalid="ignore"):
            found.append(Gain(gain, now.cost - cheaper.of(now.N, now.D), now.cost - plan.cost, plan))
    return found


@dataclass(frozen=True)
class PricePoint:
    """One point of a price curve; arrays [K] in dollars per million tokens."""

    tokens: float
    planned: Floats
    """By the model that is planned for so many tokens."""
    training_only: Floats
    """By the model of the same loss that is cheapest to train: the baseline."""
    N: Floats
    """Parameters of the planned model."""


def price_curve(
    surface: Surface,
    loss: float,
    tariff: Tariff,
    demand: Demand,
    tokens: Sequence[float] | Floats,
    *,
    most_parameters: float = math.inf,
) -> list[PricePoint]:
    """The blended price against the lifetime tokens, the model planned anew for each.

    Args:
        surface: K laws.
        loss: the loss that the model is to reach.
        tariff: what the work is done on.
        demand: its mix of tokens read and written.
        tokens: the lifetime tokens at which to price.
        most_parameters: a limit on the planned model's N; the baseline does not keep to it.

    Raises:
        InputError: when the demand has no tokens, and so no mix.
    """
    if not demand.tokens:
        raise InputError("Expected a demand with tokens read or written: a price depends on their mix.")
    plain = planning.for_loss(surface, loss, tariff.costs(Demand()))
    found = []
    for volume in tokens:
        scale = float(volume) / demand.tokens
        here = Demand(demand.read * scale, demand.written * scale)
        plan = planning.for_loss(surface, loss, tariff.costs(here), most_parameters=most_parameters)
        found.append(
            PricePoint(
                float(volume),
                price(plan.N, plan.D, tariff, here).blended,
                price(plain.N, plain.D, tariff, here).blended,
                plan.N,
            )
        )
    return found
