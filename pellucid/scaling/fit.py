"""A fit: the law of a form that lies closest to some runs.

The loss is sum-Huber on log residuals (Hoffmann et al. 2022, arXiv 2203.15556, section 3.3: δ = 10⁻³). L1 is
its limit for small δ, reached by lowering δ step by step; least squares its limit for large δ. A lean below 1
makes runs above the law count less than runs below it, so that the law follows the lower envelope of runs
that were not all tuned alike. Parameters come in natural units, in the order of `Form.parameters`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast

import numpy as np

from pellucid.core.errors import InputError, UnknownNameError
from pellucid.scaling import solver
from pellucid.scaling.arrays import Floats
from pellucid.scaling.forms import Form, form_named
from pellucid.scaling.runs import Runs

Loss = Literal["huber", "l1", "squares"]
LOSSES = ("huber", "l1", "squares")
DELTA = 1e-3
_L1 = tuple(10.0 ** -np.arange(3, 9.1, 0.5))
_POLISHED = 4  # starts that are polished to the end, the best after projection
_HEAT, _HEAT_STEPS = 48, 12  # where the sum is rugged: so many are polished by so many steps first
_STEPS = 150
_PLACE = 0.01  # runs that differ by less than about a per cent are at one place
_AT_BOUND = 1e-6
_RISES = 0.5
LEAN = 0.1  # of the lower envelope: a run above the law counts a tenth of one below


@dataclass(frozen=True)
class Fit:
    """A law fitted to runs."""

    form: Form
    runs: Runs
    theta: Floats
    """Log coefficients and shape [P] in centred coordinates, which is what solvers work on."""
    centre: Floats
    """What was subtracted from the coordinates [V]."""
    log_centre: float
    """What was subtracted from log y."""
    objective: float
    """Σ ρ(log residual), over the rows."""
    loss: Loss
    delta: float
    lean: float

    @cached_property
    def parameters(self) -> Floats:
        """Natural parameters [P]."""
        return np.asarray(self.naturals(self.theta[None])[0])

    def naturals(self, theta: Floats) -> Floats:
        """Natural parameters [S, P] of centred ones [S, P]."""
        return naturals(self.form, theta, self.centre, self.log_centre)

    @property
    def at_bounds(self) -> tuple[str, ...]:
        """Shape parameters at an end of where they are searched: their terms say nothing of the data."""
        shape = self.theta[len(self.form.coefficients) :]
        return tuple(
            s.name
            for s, value in zip(self.form.shapes, shape, strict=True)
            if value - s.low < _AT_BOUND or s.high - value < _AT_BOUND
        )

    @cached_property
    def residuals(self) -> Floats:
        """Log y − log of the law, [n]."""
        return np.asarray(np.log(self.runs.y) - self.log_values(self.runs.values, self.theta[None])[0])

    @cached_property
    def scale(self) -> float:
        """A robust standard deviation of the log residuals, corrected for the parameters that were fitted."""
        return spread(self.residuals, len(self.theta), self.runs.trainings)

    def log_values(self, values: Mapping[str, Floats | float], theta: Floats) -> Floats:
        """Log y [S, m] of centred parameters [S, P] at runs given by their variables."""
        v = self.form.coordinates(values) - self.centre[:, None]
        count = len(self.form.coefficients)
        return self.log_centre + self.form.log_values(theta[:, :count], theta[:, count:], v)

    def predict(self, values: Mapping[str, Floats | float]) -> Floats:
        """The law's y [m] at runs given by their variables."""
        return np.asarray(np.exp(self.log_values(values, self.theta[None])[0]))


def fit(
    runs: Runs,
    form: Form | str = "chinchilla",
    *,
    loss: Loss = "huber",
    delta: float = DELTA,
    lean: float = 1.0,
) -> Fit:
    """Fit a form to runs.

    Args:
        runs: the runs; each row counts once.
        form: a form, or its name.
        loss: `huber`, `l1` or `squares`, of log residuals.
        delta: of Huber's function.
        lean: what a run above the law counts, one below it counting 1.

    Raises:
        InputError: when there are no more distinct runs than parameters, a variable the form needs is missing
            or never changes, the metric never changes or rises where the form can only fall, or delta or lean
            is out of range.
    """
    form = form_named(form) if isinstance(form, str) else form
    if not (delta > 0 and 0 < lean <= 1):
        raise InputError(f"delta must be above 0 and lean in (0, 1]; got {delta!r} and {lean!r}.")
    v = runs.coordinates(form)
    check_enough(form, runs, v)
    centre, log_y = form.centre(v), np.log(runs.y)
    log_centre = float(log_y.mean())
    weights = np.ones((1, len(log_y)))
    theta, objective = search(
        form, v - centre[:, None], log_y - log_centre, weights, loss=loss, delta=delta, lean=lean
    )
    return Fit(form, runs, theta, centre, log_centre, objective, loss, delta, lean)


def loss_named(name: str) -> Loss:
    """The loss of this name.

    Raises:
        UnknownNameError: when there is none.
    """
    if name not in LOSSES:
        raise UnknownNameError("loss", name, LOSSES)
    return cast(Loss, name)


def check_enough(form: Form, runs: Runs, v: Floats) -> None:
    """Refuse what no fit can answer: too few distinct runs, what never changes, a metric that rises.

    Raises:
        InputError: in these cases.
    """
    count, places = len(form.parameters), np.unique(np.round(v / _PLACE), axis=1).shape[1]
    if len(runs) <= count or places < count:
        raise InputError(
            f"The form {form.name!r} has {count} parameters ({', '.join(form.parameters)}); there are "
            f"{len(runs)} runs at {places} distinct places. Give more runs, or a form with fewer parameters."
        )
    for name, row in zip(form.variables, v, strict=True):
        if np.ptp(row) < 1e-9:
            raise InputError(
                f"{name!r} is {runs.values[name][0]:g} in every run: the form {form.name!r} cannot be told. "
                "Give runs that differ in it, or a form without it."
            )
    log_y = np.log(runs.y)
    if np.ptp(log_y) < 1e-9:
        raise InputError(
            f"{runs.metric!r} is {runs.y[0]:g} in every run: there is nothing to fit. Is it the right column?"
        )
    if not form.rises and rises(log_y, v.sum(axis=0)):
        raise InputError(
            f"{runs.metric!r} rises with {' and '.join(form.variables)}, and the form {form.name!r} can only "
            f"fall. Give a metric that falls, such as '1 - {runs.metric}' of a share, or a form that rises."
        )


def rises(y: Floats, with_: Floats) -> bool:
    """Whether a metric [n] grows with a size [n]: their ranks correlate by more than a half."""
    if np.ptp(y) == 0 or np.ptp(with_) == 0:
        return False
    return bool(np.corrcoef(_ranks(y), _ranks(with_))[0, 1] > _RISES)


def _ranks(values: Floats) -> Floats:
    """Ranks [n]; equal values share the middle of theirs."""
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - counts / 2)[where])


def search(
    form: Form,
    v: Floats,
    log_y: Floats,
    weights: Floats,
    *,
    loss: Loss = "huber",
    delta: float = DELTA,
    lean: float = 1.0,
) -> tuple[Floats, float]:
    """The parameters [P] of the lowest sum on centred data, and the sum; weights are [1, n].

    Shapes to start from are ranked by projection, and the best are polished.
    """
    delta = np.inf if loss == "squares" else delta
    theta, sums = begun(form, v, log_y, weights, delta=delta, lean=lean)
    if form.rugged:
        theta = theta[np.argsort(sums, kind="stable")[:_HEAT]]
        theta, sums = solver.polish(
            form, theta, v, log_y, weights, delta=delta, lean=lean, iterations=_HEAT_STEPS, tolerance=1e-6
        )
    theta = theta[np.argsort(sums, kind="stable")[:_POLISHED]]
    theta, sums = solver.polish(form, theta, v, log_y, weights, delta=delta, lean=lean, iterations=_STEPS)
    if loss == "l1":
        for small in _L1:
            theta, sums = solver.polish(form, theta, v, log_y, weights, delta=small, lean=lean)
        sums = sums / small
    best = int(np.argmin(sums))
    return theta[best], float(sums[best])


def begun(
    form: Form, v: Floats, log_y: Floats, weights: Floats, *, delta: float, lean: float = 1.0
) -> tuple[Floats, Floats]:
    """The parameters [S, P] at which a search on centred data begins, and their sums [S]."""
    shape = form.starts(v)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        theta = np.concatenate([solver.project(form, shape, v, log_y, weights[0]), shape], axis=1)
        return theta, solver.sums_of(form, theta, v, log_y, weights, delta, lean)


def naturals(form: Form, theta: Floats, centre: Floats, log_centre: float) -> Floats:
    """Natural parameters [S, P] of centred ones [S, P]."""
    count = len(form.coefficients)
    g = form.power(theta[:, count:])
    up = log_centre if g is None else (log_centre / g)[:, None]
    return form.natural(*form.shifted(theta[:, :count] + up, theta[:, count:], centre))


def spread(residuals: Floats, parameters: int, trainings: int) -> float:
    """1.4826 times the median absolute residual, with the correction for fitted parameters."""
    free = max(trainings - parameters, 1)
    return float(1.4826 * np.median(np.abs(residuals)) * np.sqrt(trainings / free))
