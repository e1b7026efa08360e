"""Scoring forms on held-out runs of many curves: the table that any new form has to enter.

Each curve is fitted on its first part and forecast on its held-out part, by every member, by `last`, and by
the ensemble that chooses inside the first part alone. A member's error is the mean over curves of the root
mean square log error; a curve that a member cannot be fitted to does not count for it, and the number of
curves says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.core.errors import InputError, UnknownNameError
from pellucid.core.progress import Progress, silent
from pellucid.scaling.arrays import Floats
from pellucid.scaling.backtest import Member, fitted, levels
from pellucid.scaling.choice import ENSEMBLE, candidates, choose
from pellucid.scaling.forecast import forecast
from pellucid.scaling.reading import read_table
from pellucid.scaling.runs import Runs


@dataclass(frozen=True)
class Curve:
    """Runs that are scored together."""

    name: str
    train: Runs
    test: Runs


@dataclass(frozen=True)
class Row:
    """A member's score."""

    member: str
    error: float
    """Mean over curves of the root mean square log error."""
    curves: int
    covered: float | None
    """Mean over curves of the share of outcomes in the interval; None where no interval was measured."""
    half_width: float | None
    """Median half-width of the intervals, as a share of the forecast."""


@dataclass(frozen=True)
class Scores:
    """All members on all curves."""

    rows: tuple[Row, ...]
    """Lowest error first, those on all curves before others."""
    curves: tuple[str, ...]
    nominal: float

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def curves_of(
    path: Path,
    read: Callable[[Sequence[str]], Runs],
    groups: Sequence[str] = (),
    split: str | None = None,
    share: float = 0.2,
) -> list[Curve]:
    """The curves in a file.

    Args:
        path: the file.
        read: reads the runs that meet conditions; see `reading.read_runs`.
        groups: columns whose values name the curves.
        split: a column that is 1 for runs to fit and 0 for runs to forecast.
        share: of the levels that are held out where there is no such column.

    Raises:
        InputError: when a column is missing, or a curve has nothing on one side.
    """
    table = read_table(path)
    for column in [*groups, *([split] if split else [])]:
        if column not in table.columns:
            raise UnknownNameError(f"column of {path}", column, table.columns)
    found = []
    for values in dict.fromkeys(tuple(row[g] for g in groups) for row in table.rows):
        where = [f"{g} == {v}" for g, v in zip(groups, values, strict=True)]
        sides = (
            held_out(read(where), share)
            if split is None
            else (read([*where, f"{split} == 1"]), read([*where, f"{split} == 0"]))
        )
        found.append(Curve(" ".join(values) or str(path), *sides))
    return found


def held_out(runs: Runs, share: float) -> tuple[Runs, Runs]:
    """Runs before and after the last `share` of the levels of their order.

    Raises:
        InputError: when that leaves nothing on one side.
    """
    level = levels(runs.order)
    number = int(level.max()) + 1
    count = max(1, round(share * number))
    if not 0 < share < 1 or count >= number:
        raise InputError(
            f"Cannot hold out {share:.0%} of {number} levels. Give a share between 0 and 1, or more runs."
        )
    rows = level < number - count
    return runs.kept(rows), runs.kept(~rows)


def score(
    curves: Sequence[Curve],
    members: Sequence[Member] | None = None,
    *,
    nominal: float = 0.9,
    progress: Progress = silent,
) -> Scores:
    """Score members on curves; those of `candidates` on each curve where None."""
    errors: dict[str, list[float]] = {}
    covered: list[float] = []
    widths: list[Floats] = []
    for index, curve in enumerate(curves):
        progress("curves", index, len(curves))
        truth = np.log(curve.test.y)
        tried = list(members) if members is not None else candidates(curve.train)
        try:
            choice = choose(curve.train, tried)
        except InputError:
            choice = None
        for member in [*tried, *({Member("last")} - set(tried))]:
            try:
                made = fitted(member, curve.train).log_values(curve.test)
            except InputError:
                continue
            errors.setdefault(str(member), []).append(float(np.sqrt(np.mean((made - truth) ** 2))))
        if choice is not None:
            values = {k: v for k, v in curve.test.own.items() if k in curve.train.own}
            told = forecast(curve.train, values, nominal=nominal, choice=choice)
            errors.setdefault(ENSEMBLE, []).append(
                float(np.sqrt(np.mean((np.log(told.values) - truth) ** 2)))
            )
            if told.low is not None and told.high is not None:
                covered.append(float(told.covers(curve.test.y).mean()))
                widths.append(np.log(told.high / told.low) / 2)
    rows = []
    for name, found in errors.items():
        own = name == ENSEMBLE and bool(covered)
        rows.append(
            Row(
                name,
                float(np.mean(found)),
                len(found),
                float(np.mean(covered)) if own else None,
                float(np.median(np.concatenate(widths))) if own else None,
            )
        )
    rows.sort(key=lambda r: (-r.curves, r.error))
    progress("curves", len(curves), len(curves))
    return Scores(tuple(rows), tuple(c.name for c in curves), nominal)
