"""The page of a plan: its price curve, what other sizes would cost, and where the optimum may be.

It is made of the panels of `page`, which writes them as HTML or PNG. Bands hold a share of the law's draws.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pellucid.core.numbers import short_amount
from pellucid.scaling import pricing
from pellucid.scaling.arrays import Floats, between
from pellucid.scaling.page import BAND, INK, LINE, NEW, POINT, QUIET, Page, Panel
from pellucid.scaling.planning import Costs, Demand, falling_root
from pellucid.scaling.plans import Option, Plan, loss_at
from pellucid.scaling.pricing import Tariff

_VOLUMES = 41  # points of the price curve, over four decades about the demand
_SIZES = 81  # sizes whose cost is drawn, over a decade and a half


def of_plan(
    found: Plan,
    tariff: Tariff,
    demand: Demand,
    *,
    nominal: float,
    rows: tuple[tuple[str, ...], ...] = (),
    headers: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> Page:
    """The page of a plan.

    Args:
        found: the plan.
        tariff: what it was priced with.
        demand: what the model serves; without tokens there is no price curve.
        nominal: the share of draws inside a band.
        rows: a table to show below the plots.
        headers: its columns.
        notes: what to say below it.
    """
    panels = []
    if demand.tokens and found.stock is None:
        panels.append(
            Panel(
                "Price of a million tokens",
                "Training and serving, against the tokens served over the model's life. Each point of "
                "the line is a model planned for that volume; the grey line is the model of the same loss "
                f"that is cheapest to train. The band holds {nominal:.0%} of draws. Chip prices: "
                f"{found.days}.",
                lambda axes: _price_curve(axes, found, tariff, demand, nominal),
            )
        )
    panels.append(
        Panel(
            "What other sizes would cost",
            "Each size trained until it reaches the loss of the plan, then served. The mark is the plan; "
            "flat ground around it is room to choose.",
            lambda axes: _sizes(axes, found, tariff, demand, nominal),
        )
    )
    if found.law.draws is not None:
        panels.append(
            Panel(
                "Where the optimum may be",
                "The planned parameters and tokens under each draw of the law, the plan and its baselines.",
                lambda axes: _optima(axes, found),
            )
        )
    loss = float(found.loss[0])
    return Page(
        f"Plan for a loss of {loss:.4g}",
        f"Law {found.law.name}; least {found.goal.unit}; prices of chips {found.days}.",
        tuple(panels),
        headers,
        rows,
        notes,
    )


def _band(axes: Any, x: Floats, values: Floats, nominal: float, *, top: float = math.inf) -> None:
    """Fill between quantiles of draws, values [points, 1 + S]; what a draw cannot reach counts as `top`."""
    if values.shape[1] > 1:
        low, high = between(np.minimum(values[:, 1:], top).T, nominal, exact=True)
        axes.fill_between(x, low, high, color=BAND, alpha=0.45, linewidth=0)


def _amounts(axes: Any, across: str, up: str) -> None:
    """Both axes in logs, labelled with amounts as people write them."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis, label in ((axes.xaxis, across), (axes.yaxis, up)):
        low, high = axis.get_view_interval()
        near = high < 100 * low
        axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if near else (1,)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: short_amount(value)))
        axis.set_minor_formatter(NullFormatter())
        axis.set_label_text(label)


def _price_curve(axes: Any, found: Plan, tariff: Tariff, demand: Demand, nominal: float) -> None:
    volumes = demand.tokens * np.geomspace(1e-2, 1e2, _VOLUMES)
    surface = found.law.surface
    points = pricing.price_curve(
        surface, float(found.loss[0]), tariff, demand, volumes, most_parameters=found.most_parameters
    )
    _band(axes, volumes, np.array([p.planned for p in points]), nominal)
    axes.plot(
        volumes, [p.training_only[0] for p in points], color=POINT, linewidth=1.4, label="training only"
    )
    axes.plot(volumes, [p.planned[0] for p in points], color=LINE, linewidth=1.8, label="planned")
    asked = f"{short_amount(demand.tokens)} served"
    axes.axvline(demand.tokens, color=QUIET, linewidth=1, linestyle=(0, (4, 3)), label=asked)
    _amounts(axes, "tokens served over the model's life", "dollars for a million tokens")
    axes.legend(loc="upper right")


def _sizes(axes: Any, found: Plan, tariff: Tariff, demand: Demand, nominal: float) -> None:
    planned = found.option("planned")
    costs = tariff.costs(demand) if found.goal.unit == "dollars" else Costs.in_flops(demand)
    centre = float(planned.N[0])
    sizes = centre * np.geomspace(0.2, 6, _SIZES)
    many = np.array([_cost_of_size(found, N, costs) for N in sizes])
    lowest = float(np.min(many[:, 0]))
    _band(axes, sizes, many, nominal, top=100 * lowest)
    axes.plot(sizes, np.where(np.isfinite(many[:, 0]), many[:, 0], np.nan), color=LINE, linewidth=1.8)
    axes.set_ylim(lowest / 2, 20 * lowest)
    for option in found.options:
        _mark(axes, option, float(costs.of(option.N, option.D)[0]))
    _amounts(axes, "parameters", f"{found.goal.unit}, training and serving")
    axes.legend()


def _mark(axes: Any, option: Option, height: float) -> None:
    """An option at its size: the plan a dot, each baseline a ring, so that all show where they agree."""
    if not math.isfinite(height):
        return
    if option.name == "planned":
        axes.scatter(option.N[:1], [height], s=36, color=INK, zorder=5, label=option.name)
        return
    size, colour = {"training only": (90, POINT), "rule of thumb": (170, NEW)}[option.name]
    axes.scatter(
        option.N[:1], [height], s=size, facecolors="none", edgecolors=colour, linewidths=1.8, zorder=4,
        label=option.name,
    )  # fmt: skip


def _cost_of_size(found: Plan, N: float, costs: Costs) -> Floats:
    """What N parameters cost when they are trained to the plan's loss, [1 + S]."""
    surface = found.law.surface
    if found.stock is None:
        return costs.of(N, surface.tokens_for(N, found.loss))
    reached, most = loss_at(surface, found.stock), math.log(1e18)
    log_D = falling_root(
        lambda log_D: reached(np.asarray(N), np.exp(log_D)) - found.loss,
        np.zeros_like(found.loss),
        np.full_like(found.loss, most),
    )
    return costs.of(N, np.where(log_D < most - 1e-6, np.exp(log_D), np.inf))


def _optima(axes: Any, found: Plan) -> None:
    planned = found.option("planned")
    seen = np.isfinite(planned.N[1:])
    axes.scatter(
        planned.N[1:][seen], planned.D[1:][seen], s=7, color=BAND, alpha=0.5, linewidths=0, label="draws"
    )
    for option in found.options:
        _mark(axes, option, float(option.D[0]))
    _amounts(axes, "parameters", "tokens")
    axes.legend()
