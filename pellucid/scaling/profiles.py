"""Profile likelihood: how much worse the best law gets as one parameter is held elsewhere.

At a held value t the rest is fitted again; the deviance is

    D(t) = 2 (S(t) − S_min) · E ψ' / E ψ²

with S the sum that was minimised, ψ its derivative by the residual, and E ψ² over trainings (their
checkpoints summed), which is the likelihood ratio of robust fits (Heritier and Ronchetti 1994, "Robust
bounded-influence tests in general parametric models", JASA 89). Where D crosses the quantile of χ² with one
degree of freedom, the interval ends. Where it never does, the interval has no end, and that is said: the
data cannot tell the parameter from any larger, or any smaller, one.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from pellucid.core.errors import InputError
from pellucid.scaling import solver
from pellucid.scaling.arrays import Floats
from pellucid.scaling.fit import Fit, begun, spread
from pellucid.scaling.uncertainty import ONE_TRAINING

NOMINAL = 0.95
_FAR = 9.2  # as far as a parameter is followed: 10 000 times larger or smaller
_GROWTH = 1.5
_FIRST = 0.01
_STARTS = 6  # from which a law is looked for again where the deviance seems to cross
_REFINED = 10  # values between the fit and where the deviance crosses
_HOLD = 1e3  # stiffness of holding, against what raises the deviance by 1
_LEAST = 1e-6  # of that, for each run: without noise the spring would else be too weak to hold anything


@dataclass(frozen=True)
class Profile:
    """The profile of one parameter."""

    name: str
    value: float
    """Of the fit."""
    at: Floats
    """The values at which it was held, ascending, [m]."""
    deviance: Floats
    """D there, [m]; 0 at the fit."""
    low: float | None
    """Where the interval begins; None where it is unbounded below."""
    high: float | None
    """Where it ends; None where it is unbounded above."""
    nominal: float

    def __str__(self) -> str:
        low = "unbounded below" if self.low is None else f"{self.low:.4g}"
        high = "unbounded above" if self.high is None else f"{self.high:.4g}"
        return f"{low} to {high}"


def profiles(fitted: Fit, *, nominal: float = NOMINAL) -> list[Profile]:
    """Profiles of all natural parameters, in the order of the form.

    A parameter above zero is held at values up to 10,000 times larger and smaller than the fit's; another as
    far on either side as 9.2.

    Args:
        fitted: the fit.
        nominal: the share that the intervals are meant to cover.

    Raises:
        InputError: when all runs are of one training.
    """
    if fitted.runs.trainings < 2:
        raise InputError(f"A profile compares trainings. {ONE_TRAINING}")
    held = _Held(fitted)
    limit = NormalDist().inv_cdf(0.5 + nominal / 2) ** 2
    count = len(held.start)
    found: list[list[tuple[float, float]]] = [[(float(x), 0.0)] for x in held.start]

    def tell(which: NDArray[np.int64], reached: Floats, deviance: Floats) -> None:
        for p, x, d in zip(which, reached, deviance, strict=True):
            found[p].append((float(x), float(d)))

    # Each parameter is followed down and up, in steps that grow, until the deviance crosses the limit.
    names, sides = np.repeat(np.arange(count), 2), np.tile([-1.0, 1.0], count)
    theta = np.repeat(held.theta, 2 * count, axis=0)
    going = np.ones(2 * count, bool)
    ends = np.full(2 * count, np.nan)
    for step in _steps():
        rows = np.flatnonzero(going)
        where = held.start[names[rows]] + sides[rows] * step
        theta[rows], reached, deviance = held.at(names[rows], where, theta[rows])
        # A crossing is believed only when no other start finds a better law there.
        crossed = np.flatnonzero(deviance > limit)
        other = held.anew(names[rows[crossed]], where[crossed])
        better = other[2] < deviance[crossed]
        at = crossed[better]
        theta[rows[at]], reached[at], deviance[at] = (values[better] for values in other)
        tell(names[rows], reached, deviance)
        ends[rows] = np.where(deviance > limit, reached, np.nan)
        going[rows] = ~(deviance > limit)
    rows = np.repeat(np.flatnonzero(~going), _REFINED)
    shares = np.tile(np.arange(1, _REFINED + 1) / (_REFINED + 1), int((~going).sum()))
    where = held.start[names[rows]] + shares * (ends[rows] - held.start[names[rows]])
    # From the fit towards the law beyond the limit: one bottom is followed all the way.
    begun = held.theta + shares[:, None] * (theta[rows] - held.theta)
    tell(names[rows], *held.at(names[rows], where, begun)[1:])
    made = []
    for p in range(count):
        points = np.array(sorted(dict(reversed(found[p])).items()))
        low, high = _end(points, held.start[p], limit, -1), _end(points, held.start[p], limit, 1)
        back = np.exp if held.by_log[p] else np.asarray
        made.append(
            Profile(
                fitted.form.parameters[p],
                float(fitted.parameters[p]),
                back(points[:, 0]),
                points[:, 1],
                None if low is None else float(back(low)),
                None if high is None else float(back(high)),
                nominal,
            )
        )
    return made


def _steps() -> list[float]:
    """How far from the fit a parameter is held, one after another."""
    found = [_FIRST]
    while found[-1] < _FAR:
        found.append(min(_FAR, _FIRST * _GROWTH ** len(found)))
    return found


class _Held:
    """Fits with one natural parameter held, followed by its log where it is above zero."""

    def __init__(self, fitted: Fit) -> None:
        self.fitted = fitted
        self.by_log = fitted.parameters > 0
        self.v = fitted.runs.coordinates(fitted.form) - fitted.centre[:, None]
        self.log_y = np.log(fitted.runs.y) - fitted.log_centre
        self.weights = np.ones((1, len(self.log_y)))
        # The L1 limit has no curvature to follow; a δ far within the residuals stands for it.
        within = 0.05 * fitted.scale + 1e-12
        self.delta = {"huber": fitted.delta, "squares": np.inf, "l1": within}[fitted.loss]
        self.theta, least = self._polish(fitted.theta[None], None, 1e-13)
        self.least = float(least[0])
        self.unit = _unit(fitted, self.delta)
        self.stiff = _HOLD * np.sqrt(max(self.unit, _LEAST * len(self.log_y)))
        self.start = self.told(self.theta)[0]
        self.begun, self.begun_sums = begun(
            fitted.form, self.v, self.log_y, self.weights, delta=self.delta, lean=fitted.lean
        )
        self.begun_told = self.told(self.begun)

    def told(self, theta: Floats) -> Floats:
        """Natural parameters [S, P], by their log where they are above zero."""
        natural = self.fitted.naturals(theta)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.by_log, np.log(np.where(self.by_log, natural, 1.0)), natural)

    def at(self, which: NDArray[np.int64], where: Floats, theta: Floats) -> tuple[Floats, Floats, Floats]:
        """Laws with parameter `which` [S] held near `where` [S], begun at `theta` [S, P].

        The hold is a spring, and what it holds lies a little short of where it pulls. A law there is the best
        one with the parameter that it has, so that this, and not `where`, goes with its deviance.

        Returns:
            Laws [S, P], their values of the parameter [S] and their deviances [S].
        """
        stiff = self.stiff

        def anchor(theta: Floats, places: NDArray[np.int64]) -> tuple[Floats, Floats]:
            names, rows = which[places], np.arange(len(theta))
            slope = np.zeros_like(theta)
            for p in range(theta.shape[1]):
                step = np.zeros(theta.shape[1])
                step[p] = 1e-5
                slope[:, p] = (self.told(theta + step) - self.told(theta - step))[rows, names] / 2e-5
            return stiff * (self.told(theta)[rows, names] - where[places]), stiff * slope

        theta, _ = self._polish(theta, anchor, 1e-7)
        sums = solver.sums_of(
            self.fitted.form, theta, self.v, self.log_y, self.weights, self.delta, self.fitted.lean
        )
        held = self.told(theta)[np.arange(len(theta)), which]
        return theta, held, np.maximum((sums - self.least) / self.unit, 0.0)

    def anew(self, which: NDArray[np.int64], where: Floats) -> tuple[Floats, Floats, Floats]:
        """The same as `at`, begun at each place from those starts of a fit that promise most there."""
        count = min(_STARTS, len(self.begun))
        off = self.begun_told[:, which] - where  # [starts, S]
        sums = self.begun_sums[:, None] + (self.stiff * off) ** 2
        picked = np.argsort(np.where(np.isfinite(sums), sums, np.inf), axis=0, kind="stable")[:count]
        theta, held, deviance = self.at(
            np.tile(which, count), np.tile(where, count), self.begun[picked.ravel()]
        )
        best = deviance.reshape(count, -1).argmin(axis=0) * len(which) + np.arange(len(which))
        return theta[best], held[best], deviance[best]

    def _polish(self, theta: Floats, anchor: solver.Anchor | None, tolerance: float) -> tuple[Floats, Floats]:
        return solver.polish(
            self.fitted.form,
            theta,
            self.v,
            self.log_y,
            self.weights,
            delta=self.delta,
            lean=self.fitted.lean,
            anchor=anchor,
            tolerance=tolerance,
            iterations=60,
        )


def _end(points: Floats, start: float, limit: float, side: int) -> float | None:
    """Where the deviance first crosses the limit on one side, by interpolation."""
    part = points[points[:, 0] >= start] if side > 0 else points[points[:, 0] <= start][::-1]
    above = np.flatnonzero(part[:, 1] > limit)
    if not len(above):
        return None
    i = int(above[0])
    (x0, d0), (x1, d1) = part[i - 1], part[i]
    share = (np.sqrt(limit) - np.sqrt(d0)) / (np.sqrt(d1) - np.sqrt(d0))
    return float(x0 + share * (x1 - x0))


def _unit(fitted: Fit, delta: float) -> float:
    """What the sum rises by where the deviance rises by 1: E ψ² / (2 E ψ'), clustered by training."""
    r = fitted.residuals
    psi = np.clip(r, -delta, delta)
    together = np.bincount(fitted.runs.cluster, weights=psi)
    free = max(fitted.runs.trainings - len(fitted.theta), 1)
    square = float((together**2).sum()) / len(r) * fitted.runs.trainings / free
    if np.isinf(delta):
        slope = 1.0
    else:
        # So few residuals lie within a small δ that their share is taken from a wider window.
        window = max(delta, 0.5 * spread(r, len(fitted.theta), fitted.runs.trainings))
        slope = float((np.abs(r) <= window).mean()) * delta / window
    return max(square / (2 * max(slope, 1e-12)), 1e-300)
