"""`pellucid scale price`: what a million tokens cost, when a plan pays off, what efficiency is worth."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App

from pellucid.cli.scale import AS_FOUND, Flag, Reading
from pellucid.cli.scale_options import CHIPS, SERVED, SOURCE, Chips, Served, Source

if TYPE_CHECKING:
    from pellucid.scaling.arrays import Floats
    from pellucid.scaling.planning import Demand
    from pellucid.scaling.plans import Plan
    from pellucid.scaling.pricing import Gain, Price, PricePoint, Tariff
    from pellucid.scaling.trends import Trend

app = App(name="price", help_format="plaintext")

_CURVE = 13  # points of the curve, over four decades about the demand


@app.default
def price(
    runs: Path | None = None,
    /,
    *,
    source: Source = SOURCE,
    reading: Reading = AS_FOUND,
    loss: float,
    served: Served = SERVED,
    chips: Chips = CHIPS,
    price_table: Path | None = None,
    nominal: float = 0.9,
    page: Path | None = None,
    json: Flag = False,
) -> None:
    """Price the tokens of the model that is cheapest over its life for a loss.

    Beside it stands the model of the same loss that is cheapest to train, with the lifetime tokens from which
    the planned one pays off, the price at other volumes, and what serving 10, 20 and 30 % more tokens on the
    same chips is worth.

    Args:
        runs: a file with a row per run, which the law is fitted to.
        source: where the law is from.
        reading: how the file is read.
        loss: the loss the model is to reach.
        served: the tokens the model serves.
        chips: what the work is done on.
        price_table: a table of chip prices in time, with the columns of Epoch AI's, to say how prices fall.
        nominal: the share of draws inside an interval.
        page: write the plots to this .html file, or to this .png file.
        json: print JSON.
    """
    from pellucid.cli import printing
    from pellucid.cli.scale_options import as_estimate, law_notes, price_notes
    from pellucid.core.errors import InputError
    from pellucid.scaling import plans, pricing

    demand = served.demand()
    if not demand.tokens:
        raise InputError("A price depends on what is served: give --read and --written.")
    tariff = chips.tariff()
    known, fitted = source.read(runs, reading)
    found = plans.plan(known, plans.Goal(loss), tariff=tariff, demand=demand)
    planned, plain = (found.option(name) for name in ("planned", "training only"))
    prices = {o.name: pricing.price(o.N, o.D, tariff, demand) for o in (planned, plain)}
    volume = pricing.break_even((plain.N, plain.D), (planned.N, planned.D), tariff, demand)
    gains = pricing.worth_of_gains(known.surface, loss, tariff, demand)
    curve = _curve_of(found, tariff, demand)
    trend = _trend(price_table)
    notes = [
        *law_notes(known, fitted, float(planned.N[0]), float(planned.D[0])),
        *price_notes(tariff),
        *(_told(trend, tariff) if trend else []),
    ]
    if page is not None:
        from pellucid.scaling import page as pages
        from pellucid.scaling.plan_page import of_plan

        headers, rows = _table(found, prices, nominal)
        told = of_plan(found, tariff, demand, nominal=nominal, headers=headers, rows=rows, notes=tuple(notes))
        pages.write(page, told)
    if json:
        return printing.as_json(
            {
                "law": known.name,
                "loss": loss,
                "nominal": nominal,
                "dollars_per_million": {
                    name: {k: as_estimate(v, nominal) for k, v in _parts(p).items()}
                    for name, p in prices.items()
                },
                "break_even_tokens": as_estimate(volume, nominal),
                "gains": [
                    {
                        "gain": g.gain,
                        "dollars_as_planned": as_estimate(g.as_planned, nominal),
                        "dollars_replanned": as_estimate(g.replanned, nominal),
                    }
                    for g in gains
                ],
                "curve": [
                    {
                        "tokens": p.tokens,
                        "planned": as_estimate(p.planned, nominal),
                        "training_only": as_estimate(p.training_only, nominal),
                        "parameters": as_estimate(p.N, nominal),
                    }
                    for p in curve
                ],
                "price_trend": vars(trend) if trend else None,
                "price_dates": tariff.dates,
                "notes": notes,
            }
        )
    _print(found, prices, volume, gains, curve, nominal)
    for note in notes:
        printing.note(note)
    return None


def _curve_of(found: Plan, tariff: Tariff, demand: Demand) -> list[PricePoint]:
    """The price against lifetime tokens, two decades to either side of the demand."""
    import numpy as np

    from pellucid.scaling import pricing

    assert found.goal.loss is not None
    volumes = demand.tokens * np.geomspace(1e-2, 1e2, _CURVE)
    return pricing.price_curve(found.law.surface, found.goal.loss, tariff, demand, volumes)


def _parts(found: Price) -> dict[str, Floats]:
    return {
        "read": found.read,
        "written": found.written,
        "training": found.training,
        "blended": found.blended,
    }


_LABELS = {
    "read": "a million tokens read",
    "written": "a million tokens written",
    "training": "training carried by a million",
    "blended": "a million of the mix, all told",
}


def _table(
    found: Plan, prices: dict[Any, Price], nominal: float
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Headers and rows: the parts of the price of the plan and of the model that is cheapest to train."""
    from pellucid.cli.scale_options import shown

    planned, plain = (found.option(name) for name in ("planned", "training only"))
    rows = [("parameters", *_cells(planned.N, nominal, dollars=False), shown(float(plain.N[0])))]
    for key, label in _LABELS.items():
        one, other = (_parts(prices[name])[key] for name in ("planned", "training only"))
        rows.append((label, *_cells(one, nominal), shown(float(other[0]), dollars=True)))
    return ("dollars", "planned", *_over(found, nominal), "training only"), tuple(rows)


def _over(found: Plan, nominal: float) -> list[str]:
    """The header of a column of intervals, where the law has draws to make them from."""
    return [] if found.law.draws is None else [f"{nominal:.0%} of draws"]


def _cells(values: Floats, nominal: float, *, dollars: bool = True) -> list[str]:
    """A figure, and its interval where it has draws."""
    from pellucid.cli.scale_options import interval, shown
    from pellucid.scaling.surface import estimate

    told = estimate(values, nominal=nominal)
    drawn = [interval(told, dollars=dollars)] if len(values) > 1 else []
    return [shown(told.value, dollars=dollars), *drawn]


def _print(
    found: Plan,
    prices: dict[Any, Price],
    volume: Floats,
    gains: list[Gain],
    curve: list[PricePoint],
    nominal: float,
) -> None:
    from pellucid.cli import printing
    from pellucid.cli.scale_options import interval, shown
    from pellucid.scaling.surface import estimate

    over = _over(found, nominal)
    headers, rows = _table(found, prices, nominal)
    printing.table(
        headers, rows, title=f"Prices for a loss of {found.goal.loss:g}, at chip prices of {found.days}"
    )
    told = estimate(volume, nominal=nominal)
    told_range = f" ({interval(told)})" if told.low is not None else ""
    if math.isfinite(told.value):
        printing.console().print(
            f"The planned model pays off from {shown(told.value)} lifetime tokens on{told_range}.\n",
            markup=False,
        )
    printing.table(
        ["tokens served", "parameters", "planned", *over, "training only"],
        [
            [
                shown(p.tokens),
                shown(float(p.N[0])),
                *_cells(p.planned, nominal),
                shown(float(p.training_only[0]), dollars=True),
            ]
            for p in curve[::2]
        ],
        title="A million tokens, by the tokens served over the model's life",
    )
    printing.table(
        ["more tokens on the same chips", "worth", *over, "with a new plan", *over],
        [[f"{g.gain:.0%}", *_cells(g.as_planned, nominal), *_cells(g.replanned, nominal)] for g in gains],
        title="What efficiency in serving is worth over the model's life",
    )


def _trend(path: Path | None) -> Trend | None:
    from pellucid.scaling.trends import read_prices, trend

    if path is None:
        return None
    points = read_prices(path)
    return trend(
        [p.date for p in points],
        [p.dollars_per_hour for p in points],
        [f"{p.model}, {p.vendor}" for p in points],
    )


def _told(found: Trend, tariff: Tariff) -> list[str]:
    factor, low, high = found.yearly
    quote, today = tariff.decode.accelerator.quote, str(datetime.date.today())
    now = found.carried(quote.dollars_per_hour, quote.date, today)
    return [
        f"The price of a chip at a vendor changed by {factor - 1:+.1%} a year ({low - 1:+.1%} to "
        f"{high - 1:+.1%}, 90% interval) over {found.points:,} quotes of {found.groups:,} pairs of chip and "
        f"vendor, {found.first} to {found.last}. Carried on, the ${quote.dollars_per_hour:.2f} of "
        f"{quote.date} would be ${now[0]:.2f} (${now[1]:.2f} to ${now[2]:.2f}) today."
    ]
