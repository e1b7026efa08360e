"""Rolling-origin backtests: what forecasts made from the smaller runs would have said of the larger ones.

Runs are ordered by how far along they are (`Runs.order`: decades of compute, or of the one variable there
is). At each origin a forecaster sees the runs before it and forecasts all that come after. Nothing of what
is measured here is in-sample. Forms are ranked by these errors (`choice.py`), and prediction intervals are
scaled by them (`forecast.py`).

Source: Tashman 2000, "Out-of-sample tests of forecasting accuracy", International Journal of Forecasting 16.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pellucid.core.errors import InputError
from pellucid.scaling.arrays import Floats
from pellucid.scaling.fit import Fit, Loss, fit
from pellucid.scaling.forms import form_named
from pellucid.scaling.runs import Runs

ORIGINS = 8
_FIRST = 0.35  # no origin has less than this share of the runs before it
_LEVEL, _OF_RANGE = 0.02, 0.01  # runs closer than so many decades, or such a share of all, are of one level
_WIDEST = 5  # times that: a level is no wider, so that a dense curve has levels too


@dataclass(frozen=True)
class Origin:
    """A place in the order, with the runs before it and after it."""

    train: NDArray[np.bool_]
    """Which rows come before, [n]."""
    distance: Floats
    """How far each row after it is beyond the last one before it, [m], in the units of the order."""


@dataclass(frozen=True)
class Member:
    """A way to forecast: a form with a loss, or `last`, which repeats the value of the largest run."""

    form: str
    loss: Loss = "huber"

    def needs(self, runs: Runs) -> set[str]:
        """The variables a target must have; of runs with N and D, the loss is a first step."""
        if self.form == LAST:
            return set()
        names = set(form_named(self.form).variables)
        return {"N", "D"} | names - {"loss"} if "loss" in names and _two_steps(runs) else names

    def __str__(self) -> str:
        return self.form if self.form == LAST or self.loss == "huber" else f"{self.form} ({self.loss})"


LAST = "last"
FIRST_STEP = "chinchilla"


@dataclass(frozen=True)
class Forecaster:
    """A member fitted to runs."""

    member: Member
    fit: Fit | None
    last: float
    """Log of the mean metric at the largest level."""
    first: Fit | None = None
    """The law of the loss, where the form is of the loss and the loss is not known beforehand: two steps."""

    @property
    def scale(self) -> float:
        """A robust standard deviation of what the fit leaves, in logs; of `last` there is none, so 0."""
        return 0.0 if self.fit is None else self.fit.scale

    def log_values(self, runs: Runs) -> Floats:
        """Log of the forecast for each run, [n]."""
        if self.fit is None:
            return np.full(len(runs), self.last)
        values = runs.values
        if self.first is not None:
            values = {**values, "loss": self.first.predict(values)}
        return np.asarray(self.fit.log_values(values, self.fit.theta[None])[0])


def fitted(member: Member, runs: Runs) -> Forecaster:
    """Fit a member.

    A form of the loss, of runs that have parameters and tokens, is the second of two steps: a law of the
    loss comes first, and forecasts go through it (Bhagia et al. 2024, arXiv 2412.04403).

    Raises:
        InputError: when its form cannot be fitted to these runs (`fit.fit`).
    """
    top = runs.order >= runs.order.max() - _near(runs.order)
    last = float(np.log(runs.y[top]).mean())
    if member.form == LAST:
        return Forecaster(member, None, last)
    made = fit(runs, member.form, loss=member.loss)
    first = None
    if "loss" in made.form.variables and _two_steps(runs):
        losses = replace(runs, y=runs.values["loss"], metric="loss")
        first = fit(losses, FIRST_STEP, loss=member.loss)
    return Forecaster(member, made, last, first)


def _two_steps(runs: Runs) -> bool:
    return {"N", "D"} <= runs.values.keys()


def origins(runs: Runs, count: int = ORIGINS) -> list[Origin]:
    """Up to `count` origins, spread over the later part of the order; none where there are too few levels."""
    order = runs.order
    level = levels(order)
    cuts = np.array([order[level == i].max() for i in range(level.max())])
    before = np.array([(order <= cut).sum() for cut in cuts])
    cuts = cuts[(before >= _FIRST * len(runs)) & (before >= 4)]
    if not len(cuts):
        return []
    picked = np.unique(np.linspace(0, len(cuts) - 1, count).round().astype(int))
    return [Origin(order <= cut, order[order > cut] - cut) for cut in cuts[picked]]


def levels(order: Floats) -> NDArray[np.int64]:
    """Which level each run is of, [n], from 0: runs of nearly one compute, from one gap to the next."""
    values, where = np.unique(order, return_inverse=True)
    near = _near(order)
    found, first = np.zeros(len(values), np.int64), 0
    for i in range(1, len(values)):
        if values[i] - values[i - 1] > near or values[i] - values[first] > _WIDEST * near:
            first = i
        found[i] = found[i - 1] + (first == i)
    return found[where]


def _near(order: Floats) -> float:
    """How far from its neighbour a run of the same level is at most."""
    return min(_LEVEL, _OF_RANGE * float(np.ptp(order)))


@dataclass(frozen=True)
class Trial:
    """What a member forecast from one origin."""

    log_values: Floats
    """Log of the forecast for each later row, [m]."""
    scale: float
    """The forecaster's own scale there."""


def tried(member: Member, runs: Runs, at: list[Origin]) -> list[Trial | None]:
    """A member's forecasts from origins; None where its form cannot be fitted."""
    found: list[Trial | None] = []
    for origin in at:
        try:
            made = fitted(member, runs.kept(origin.train))
        except InputError:
            found.append(None)
            continue
        later = runs.kept(~origin.train)
        found.append(Trial(made.log_values(later), made.scale))
    return found
