"""How sure the parameters of a law are: a bootstrap over trainings.

A draw counts each training as often as it was drawn, with all its checkpoints (Efron and Tibshirani 1993,
section 8.6), and is polished from the fit. The draws are what plans and prices are made from: an array [S,
P] in the order of `Form.parameters`. They say how far the law may be off if its form is right, and no more:
a band made of them covers far too few of the runs that come next (docs/explanation/forecasts.md), so
forecasts take their intervals from `forecast.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pellucid.core.errors import InputError
from pellucid.scaling import solver
from pellucid.scaling.arrays import Floats, between
from pellucid.scaling.fit import DELTA, Fit, Loss, fit

DRAWS = 4000
FEW = 8  # trainings, or twice the parameters: with fewer a bootstrap is too narrow to be relied on
ONE_TRAINING = (
    "All rows are checkpoints of one training, and nothing says how another would come out. Give runs of "
    "several trainings; if the rows are trainings, name a column that differs in each with --run."
)
_TOLERANCE = 1e-7
_L1 = (1e-4, 1e-5, 1e-6)


@dataclass(frozen=True)
class Draws:
    """The laws of bootstrap draws."""

    fit: Fit
    theta: Floats
    """Centred parameters [S, P]."""

    @cached_property
    def draws(self) -> Floats:
        """Natural parameters [S, P], in the order of `fit.form.parameters`."""
        return self.fit.naturals(self.theta)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know before these draws are relied on."""
        found = []
        trainings, parameters = self.fit.runs.trainings, len(self.fit.theta)
        if trainings < max(FEW, 2 * parameters):
            found.append(
                f"{trainings} trainings are few for a law of {parameters} parameters: a bootstrap over so "
                "few comes out too narrow."
            )
        if self.fit.at_bounds:
            found.append(
                f"At an end of where it is searched: {', '.join(self.fit.at_bounds)}. The data do not tell "
                "such an exponent or limit; other parameters make up for it."
            )
        return tuple(found)

    @property
    def standard_errors(self) -> Floats:
        """Of the natural parameters, [P]; not finite where draws run away."""
        with np.errstate(over="ignore", invalid="ignore"):
            return np.asarray(self.draws.std(axis=0))

    def interval(self, nominal: float = 0.95) -> tuple[Floats, Floats]:
        """Percentile intervals of the natural parameters, [P] each."""
        with np.errstate(invalid="ignore"):
            return between(self.draws, nominal)

    def values(self, values: Mapping[str, Floats | float]) -> Floats:
        """Each draw's y [S, m] at runs given by their variables."""
        return np.exp(self.fit.log_values(values, self.theta))


def bootstrap(
    fitted: Fit, count: int = DRAWS, *, seed: int = 0, counts: NDArray[np.integer] | None = None
) -> Draws:
    """Draw trainings again and again, and fit each draw.

    Args:
        fitted: the fit.
        count: how many draws.
        seed: of the draws.
        counts: how often each training is in each draw, [S, trainings], where they were drawn elsewhere.

    Raises:
        InputError: when there is a single training, or `count` is below 2.
    """
    trainings = fitted.runs.trainings
    if trainings < 2:
        raise InputError(f"A bootstrap draws trainings. {ONE_TRAINING}")
    if count < 2:
        raise InputError(f"A bootstrap needs at least 2 draws; got {count}.")
    if counts is None:
        counts = np.random.default_rng(seed).multinomial(trainings, np.full(trainings, 1 / trainings), count)
    weights = counts[:, fitted.runs.cluster].astype(float)
    v = fitted.runs.coordinates(fitted.form) - fitted.centre[:, None]
    log_y = np.log(fitted.runs.y) - fitted.log_centre
    theta = np.repeat(fitted.theta[None], len(weights), axis=0)
    for delta in {"huber": (fitted.delta,), "squares": (np.inf,), "l1": (DELTA, *_L1)}[fitted.loss]:
        theta, _ = solver.polish(
            fitted.form,
            theta,
            v,
            log_y,
            weights,
            delta=delta,
            lean=fitted.lean,
            tolerance=_TOLERANCE,
            iterations=100,
        )
    return Draws(fitted, theta)


@dataclass(frozen=True)
class Beside:
    """The law by another loss, beside the one that was asked for."""

    fit: Fit
    apart: Floats
    """How many standard errors its parameters lie from the others, [P]."""

    @property
    def disagrees(self) -> bool:
        """Whether a parameter lies more than one standard error away."""
        return bool((np.abs(self.apart) > 1).any())


def beside(draws: Draws) -> dict[Loss, Beside]:
    """The fit by the other losses, and how far away each is in standard errors of the draws."""
    found: dict[Loss, Beside] = {}
    losses: tuple[Loss, ...] = ("huber", "l1", "squares")
    for loss in losses:
        if loss != draws.fit.loss:
            other = fit(draws.fit.runs, draws.fit.form, loss=loss, delta=draws.fit.delta, lean=draws.fit.lean)
            errors = np.maximum(draws.standard_errors, 1e-12 * np.abs(draws.fit.parameters) + 1e-300)
            with np.errstate(over="ignore", invalid="ignore"):
                found[loss] = Beside(other, (other.parameters - draws.fit.parameters) / errors)
    return found
