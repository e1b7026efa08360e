"""A whole plan: what to train for a goal, beside its baselines, with everything that follows from it.

Three options are worked out, all for the same loss, so that their costs compare:

    planned          what costs least over the model's life, within the limits
    training only    what is cheapest to train (Hoffmann et al. 2022), serving not thought of
    rule of thumb    20 tokens per parameter

and for each N, D, FLOPs, dollars, the price of a million tokens and what it wastes. All are arrays [1 + S]
from the same draws of the law, so that `surface.estimate` gives each its interval. What an option wastes
under a draw is its cost less the least that reaches, under that draw, the loss it would have there: with one
plan fixed today and the law not known, this is the price of not knowing (its deadweight).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pellucid.core.errors import InputError
from pellucid.scaling import planning, repetition
from pellucid.scaling.arrays import Floats
from pellucid.scaling.planning import TRAINING_FLOPS, Allocation, Costs, Demand
from pellucid.scaling.pricing import Tariff, price
from pellucid.scaling.repetition import Repetition
from pellucid.scaling.surface import Law, Surface

Unit = Literal["flops", "dollars"]
OptionName = Literal["planned", "training only", "rule of thumb"]


@dataclass(frozen=True)
class Goal:
    """What the plan is for: a loss to reach, or a cost of training and serving to spend. One of both."""

    loss: float | None = None
    cost: float | None = None
    unit: Unit = "dollars"
    """What is spent least of, and what a cost is in."""

    def __post_init__(self) -> None:
        given = [value for value in (self.loss, self.cost) if value is not None]
        if len(given) != 1:
            raise InputError(f"Expected a loss to reach or a cost to spend, one of both; got {len(given)}.")
        if not (math.isfinite(given[0]) and given[0] > 0):
            raise InputError(f"Expected a loss or a cost above 0; got {given[0]!r}.")


@dataclass(frozen=True)
class Option:
    """One way to the loss; arrays [1 + S]."""

    name: OptionName
    N: Floats
    D: Floats
    training_flops: Floats
    training_dollars: Floats
    lifetime_dollars: Floats
    """Training and serving."""
    training_kwh: Floats | None
    """Energy of the training chips at full power; None where their power is not known."""
    price: Floats | None
    """Dollars for a million tokens of the demand's mix, training included; None without demand."""
    wasted: Floats
    """The share of its cost that the fitted law's option wastes under each draw; in the goal's unit."""


@dataclass(frozen=True)
class Plan:
    """All options for a goal."""

    law: Law
    goal: Goal
    loss: Floats
    """The loss that all options reach, [1 + S]."""
    options: tuple[Option, ...]
    """Planned, training only, rule of thumb."""
    most_parameters: float
    """The limit on the planned option's N; infinite for none."""
    bound: bool
    """Whether that limit holds the planned option back."""
    stock: Repetition | None
    """The text there is, where it is short."""
    dates: tuple[str, ...]
    """Dates of the prices of chips."""

    @property
    def days(self) -> str:
        """The day of those prices, or the first and the last."""
        return " to ".join(dict.fromkeys((self.dates[0], self.dates[-1])))

    def option(self, name: OptionName) -> Option:
        """An option by name."""
        return next(option for option in self.options if option.name == name)


def plan(
    law: Law,
    goal: Goal,
    *,
    tariff: Tariff,
    demand: Demand | None = None,
    most_parameters: float = math.inf,
    stock: Repetition | None = None,
) -> Plan:
    """Plan for a goal.

    Args:
        law: the law with its draws.
        goal: what is wanted.
        tariff: what training and serving are done on.
        demand: what the model serves over its life; None for nothing.
        most_parameters: a limit on the planned option's N; the baselines do not keep to it.
        stock: the different text there is; None for as much as is wanted.

    Raises:
        InputError: when the goal is out of reach under the fitted law.
    """
    demand = demand or Demand()
    surface = law.surface
    costs = Costs.in_flops(demand) if goal.unit == "flops" else tariff.costs(demand)
    found = _allocate(surface, goal, costs, stock, most_parameters)
    if not np.isfinite(found.cost[0]):
        raise InputError(_out_of_reach(surface, goal, most_parameters, stock))
    # A budget is spent under each law for the loss it buys there; a loss is the same under all.
    loss = found.loss if goal.loss is None else np.full_like(found.cost, goal.loss)
    free = _allocate(surface, goal, costs, stock, math.inf)
    cheapest = _for_loss(surface, loss, Costs(costs.training), stock)
    rule = planning.at_ratio(loss_at(surface, stock), loss, costs)
    named: tuple[tuple[OptionName, Allocation], ...] = (
        ("planned", found),
        ("training only", cheapest),
        ("rule of thumb", rule),
    )
    # The baselines do not keep to the limit, so nor does the least that they are held against.
    options = [
        _option(
            name, surface, each, costs, tariff, demand, stock, most_parameters if each is found else math.inf
        )
        for name, each in named
    ]
    bound = bool(free.N[0] > found.N[0] * (1 + 1e-9))
    return Plan(law, goal, loss, tuple(options), most_parameters, bound, stock, tariff.dates)


def waste(
    surface: Surface,
    N: float,
    D: float,
    costs: Costs,
    *,
    stock: Repetition | None = None,
    most_parameters: float = math.inf,
) -> Floats:
    """What N and D cost beyond the least that reaches their loss, should each law be the true one, [K].

    Args:
        surface: K laws.
        N: the parameters that were chosen.
        D: their training tokens.
        costs: what training and serving cost.
        stock: the different text there is.
        most_parameters: a limit that the least keeps to as well.
    """
    loss = loss_at(surface, stock)(np.asarray(N), np.asarray(D))
    least = _for_loss(surface, loss, costs, stock, most_parameters).cost
    return np.maximum(costs.of(N, D) - least, 0.0)


def _option(
    name: OptionName,
    surface: Surface,
    found: Allocation,
    costs: Costs,
    tariff: Tariff,
    demand: Demand,
    stock: Repetition | None,
    most: float,
) -> Option:
    N, D = found.N, found.D
    chosen = float(N[0]), float(D[0])
    with np.errstate(invalid="ignore"):
        wasted = (
            waste(surface, *chosen, costs, stock=stock, most_parameters=most) / costs.of(*chosen)
            if math.isfinite(chosen[0])
            else np.full_like(N, np.nan)
        )
        return Option(
            name=name,
            N=N,
            D=D,
            training_flops=TRAINING_FLOPS * N * D,
            training_dollars=tariff.training_dollars(N, D),
            lifetime_dollars=tariff.costs(demand).of(N, D),
            training_kwh=tariff.training_energy_kwh(N, D),
            price=price(N, D, tariff, demand).blended if demand.tokens else None,
            wasted=wasted,
        )


def _allocate(
    surface: Surface, goal: Goal, costs: Costs, stock: Repetition | None, most: float
) -> Allocation:
    if goal.cost is not None:
        if stock is None:
            return planning.for_cost(surface, goal.cost, costs, most_parameters=most)
        return repetition.for_cost(surface, goal.cost, costs, stock, most_parameters=most)
    assert goal.loss is not None
    return _for_loss(surface, np.full_like(surface.E, goal.loss), costs, stock, most)


def _for_loss(
    surface: Surface, loss: Floats, costs: Costs, stock: Repetition | None, most: float = math.inf
) -> Allocation:
    if stock is None:
        return planning.for_loss(surface, loss, costs, most_parameters=most)
    return repetition.for_loss(surface, loss, costs, stock, most_parameters=most)


def loss_at(surface: Surface, stock: Repetition | None) -> Callable[[Floats, Floats], Floats]:
    """The loss of N and D under each law, with text short or not."""
    return surface.loss if stock is None else lambda N, D: stock.loss(surface, N, D)


def _out_of_reach(surface: Surface, goal: Goal, most: float, stock: Repetition | None) -> str:
    floor = float(surface.E[0])
    reasons: Mapping[str, bool] = {
        f"the law's losses stay above E = {floor:.4g}": goal.loss is not None and goal.loss <= floor,
        f"at most {most:.3g} parameters are allowed": math.isfinite(most),
        "the text there is, read again, reaches no further": stock is not None,
    }
    told = "; ".join(reason for reason, holds in reasons.items() if holds) or "it is out of range"
    return f"No model reaches a loss of {goal.loss}: {told}. Ask for a higher loss, or allow more."
