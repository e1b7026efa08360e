"""How a price, or what a dollar buys, changes in time: a straight line through its log, with an interval.

    log10 y = level of the group + rate · years

Groups, such as models of chip, share the rate and have a level each. The interval is a bootstrap over groups,
or over points where there is one group; two quotes of one chip are not two chips. Prices of chips come from
the table of hardware prices of Epoch AI (training-cost-trends), whose columns `read_prices` knows. As
there (their rate of price-performance is 0.14 orders of magnitude a year), the line says how it went, not how
it will go.
"""

from __future__ import annotations

import csv
import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pellucid.core.errors import InputError
from pellucid.scaling.arrays import Floats, between

DRAWS = 2000
_DAYS_PER_YEAR = 365.25
_COLUMNS = ("Price date", "Hardware model", "Vendor", "Price per chip-hour (on-demand)")


@dataclass(frozen=True)
class Trend:
    """A rate in orders of magnitude a year, with a 90 % interval."""

    rate: float
    low: float
    high: float
    points: int
    groups: int
    first: str
    last: str
    """The dates between which it was measured."""

    @property
    def yearly(self) -> tuple[float, float, float]:
        """The factor by which y changes in a year, and its interval."""
        return 10**self.rate, 10**self.low, 10**self.high

    def carried(self, value: float, since: str, until: str) -> tuple[float, float, float]:
        """A value of one day carried along the trend to another, with its interval.

        The interval is that of the rate alone: quotes of one day differ by far more than that.
        """
        years = (_day(until) - _day(since)).days / _DAYS_PER_YEAR
        ends = sorted(value * 10 ** (rate * years) for rate in (self.low, self.high))
        return value * 10 ** (self.rate * years), ends[0], ends[1]


@dataclass(frozen=True)
class PastQuote:
    """A quote of the table."""

    date: str
    model: str
    vendor: str
    dollars_per_hour: float


def trend(
    dates: Sequence[str], values: Sequence[float], groups: Sequence[str] | None = None, *, seed: int = 0
) -> Trend:
    """Measure a trend.

    Args:
        dates: a day for each point, as YYYY-MM-DD.
        values: y of each point, above 0.
        groups: what each point belongs to; None for one group.
        seed: fixes the bootstrap.

    Raises:
        InputError: when lengths differ, a value is not above 0, or the points cannot tell a rate: under three
            of them, or no group with two days.
    """
    names = list(groups) if groups is not None else [""] * len(values)
    if not len(dates) == len(values) == len(names):
        raise InputError(
            f"Expected as many dates as values and groups; got {len(dates)}, {len(values)} and {len(names)}."
        )
    y = np.asarray(values, dtype=np.float64)
    if len(y) < 3 or not (np.isfinite(y) & (y > 0)).all():
        raise InputError(f"A trend needs at least three values, all above 0; got {list(values)[:6]!r}.")
    days = np.array([_day(date).toordinal() for date in dates], dtype=np.float64)
    last = max(dates)
    years = (days - _day(last).toordinal()) / _DAYS_PER_YEAR
    kinds, member = np.unique(names, return_inverse=True)
    moments = _moments(years, np.log10(y), member, len(kinds))
    if moments[:, 0].sum() <= 1e-12:
        raise InputError("A trend needs a group with prices of at least two days; there is none.")
    rng = np.random.default_rng(seed)
    if len(kinds) > 1:
        weights = rng.multinomial(len(kinds), np.full(len(kinds), 1 / len(kinds)), size=DRAWS)
        drawn = weights @ moments
    else:
        drawn = np.empty((DRAWS, 2))
        for k in range(DRAWS):
            chosen = rng.integers(0, len(y), len(y))
            drawn[k] = _moments(years[chosen], np.log10(y[chosen]), member[chosen], 1)[0]
    rates = drawn[drawn[:, 0] > 1e-12]
    low, high = between(rates[:, 1] / rates[:, 0], 0.9)
    whole = moments.sum(0)
    rate = float(whole[1] / whole[0])
    return Trend(rate, float(low), float(high), len(y), len(kinds), min(dates), last)


def read_prices(path: Path) -> list[PastQuote]:
    """Read the on-demand quotes of Epoch AI's table of hardware prices.

    Rows without such a quote, such as purchases, are left out.

    Raises:
        InputError: when the file is missing, a column is, or a row's date or price cannot be read.
    """
    if not path.is_file():
        raise InputError(f"There is no file {str(path)!r}.")
    found = []
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = [c for c in _COLUMNS if c not in (reader.fieldnames or [])]
        if missing:
            raise InputError(
                f"{str(path)!r} has no column {', '.join(missing)}; expected {', '.join(_COLUMNS)}."
            )
        for row in reader:
            date, model, vendor, cost = (str(row[c] or "").strip() for c in _COLUMNS)
            if not cost:
                continue
            where = f"{str(path)!r}, line {reader.line_num}"
            try:
                dollars = float(cost.lstrip("$").replace(",", ""))
            except ValueError as error:
                raise InputError(f"{where}: expected dollars per hour; got {cost!r}.") from error
            if not (math.isfinite(dollars) and dollars > 0):
                raise InputError(f"{where}: expected dollars per hour above 0; got {cost!r}.")
            _day(date, where)
            found.append(PastQuote(date, model, vendor, dollars))
    return found


def _moments(years: Floats, logs: Floats, member: NDArray[np.intp], count: int) -> Floats:
    """For each group the spread of its years, and of log y with them, about its means, [groups, 2]."""
    size = np.maximum(np.bincount(member, minlength=count), 1)
    x = years - (np.bincount(member, years, count) / size)[member]
    y = logs - (np.bincount(member, logs, count) / size)[member]
    return np.stack([np.bincount(member, x * x, count), np.bincount(member, x * y, count)], axis=1)


def _day(text: str, where: str = "") -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError as error:
        raise InputError(
            f"{where + ': ' if where else ''}expected a date as 2026-11-25; got {text!r}."
        ) from error
