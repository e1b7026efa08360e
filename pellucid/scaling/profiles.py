"""Profile likelihood: for each parameter, how much worse the best law gets as the parameter is held elsewhere.

At a held value t the rest is fitted again; the deviance is

    D(t) = 2 (S(t) − S_min) · E ψ' / E ψ²

with S the sum that was minimised, ψ its derivative by the residual, and E ψ² over trainings (their checkpoints
summed), which is the likelihood ratio of robust fits (Heritier and Ronchetti 1994, "Robust bounded-influence tests in
general parametric models", JASA 89). Where D crosses the quantile of χ² with one degree of freedom, the interval ends.
Where it never does, the interval has no end, and that is said: the data cannot tell the parameter from any larger, or
any smaller, one.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from pellucid.scaling import solver
from pellucid.scaling.fit import Fit, spread
from pellucid.scaling.forms import Floats

NOMINAL = 0.95
_FAR = 9.2  # as far as a parameter is followed: 10 000 times larger or smaller
_GROWTH = 1.5
_FIRST = 0.01
_REFINED = 10  # values between the fit and where the deviance crosses
_HOLD = 1e3  # stiffness of holding, against the curvature of the sum


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
    """Profiles of all natural parameters that are above zero in the fit, in the order of the form.

    Parameters that are followed by their log (all that must be above zero) are held at values up to 10,000 times
    larger and smaller; others as far on either side as 10,000 times a hundredth.
    """
    count = len(fitted.form.parameters)
    limit = NormalDist().inv_cdf(0.5 + nominal / 2) ** 2
    base = fitted.parameters
    by_log = base > 0
    v = fitted.runs.coordinates(fitted.form) - fitted.centre[:, None]
    log_y = np.log(fitted.runs.y) - fitted.log_centre
    weights = np.ones((1, len(log_y)))
    delta = {"huber": fitted.delta, "squares": np.inf, "l1": 0.05 * fitted.scale + 1e-12}[fitted.loss]
    theta0, least = solver.polish(
        fitted.form, fitted.theta[None], v, log_y, weights, delta=delta, lean=fitted.lean
    )
    unit = _unit(fitted, delta)
    stiff = _HOLD * np.sqrt(max(unit, 1e-300))

    def told(theta: Floats) -> Floats:
        natural = fitted.naturals(theta)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(by_log, np.log(np.where(by_log, natural, 1.0)), natural)

    start = told(theta0)[0]

    def held(start_theta: Floats, which: NDArray[np.int64], where: Floats) -> tuple[Floats, Floats]:
        """Laws [S, P] with parameter `which` [S] held at `where` [S], and their sums."""

        def anchor(theta: Floats, places: NDArray[np.int64]) -> tuple[Floats, Floats]:
            names = which[places]
            rows = np.arange(len(theta))
            slope = np.zeros_like(theta)
            for p in range(theta.shape[1]):
                step = np.zeros(theta.shape[1])
                step[p] = 1e-5
                slope[:, p] = (told(theta + step) - told(theta - step))[rows, names] / 2e-5
            return stiff * (told(theta)[rows, names] - where[places]), stiff * slope

        theta, _ = solver.polish(
            fitted.form, start_theta, v, log_y, weights,
            delta=delta, lean=fitted.lean, anchor=anchor, tolerance=1e-7, iterations=60,
        )  # fmt: skip
        return theta, solver.sums_of(fitted.form, theta, v, log_y, weights, delta, fitted.lean)

    names = np.repeat(np.arange(count), 2)
    sides = np.tile([-1.0, 1.0], count)
    steps = [0.0]
    while steps[-1] < _FAR:
        steps.append(min(_FAR, _FIRST * _GROWTH ** len(steps)))
    found: list[list[tuple[float, float]]] = [[(float(start[p]), 0.0)] for p in range(count)]
    theta = np.repeat(theta0, 2 * count, axis=0)
    going = np.ones(2 * count, bool)
    crossed: dict[int, tuple[float, Floats]] = {}
    for after in steps[1:]:
        rows = np.flatnonzero(going)
        if not len(rows):
            break
        where = start[names[rows]] + sides[rows] * after
        theta[rows], sums = held(theta[rows], names[rows], where)
        for row, at, d in zip(rows, where, (sums - least[0]) / unit, strict=True):
            found[names[row]].append((float(at), float(max(d, 0.0))))
            if d > limit:
                going[row] = False
                crossed[int(row)] = (float(at), theta[row])
    if crossed:
        rows = np.repeat(list(crossed), _REFINED)
        shares = np.tile(np.arange(1, _REFINED + 1) / (_REFINED + 1), len(crossed))
        ends = np.array([crossed[int(r)][0] for r in rows])
        where = start[names[rows]] + shares * (ends - start[names[rows]])
        # From the fit towards the law beyond the limit: one bottom is followed all the way.
        between = theta0 + shares[:, None] * (np.stack([crossed[int(r)][1] for r in rows]) - theta0)
        _, sums = held(between, names[rows], where)
        for row, at, d in zip(rows, where, (sums - least[0]) / unit, strict=True):
            found[names[row]].append((float(at), float(max(d, 0.0))))
    made = []
    for p in range(count):
        points = np.array(sorted(found[p]))
        low, high = _end(points, start[p], limit, -1), _end(points, start[p], limit, 1)
        back = np.exp if by_log[p] else np.asarray
        made.append(
            Profile(
                fitted.form.parameters[p],
                float(base[p]),
                back(points[:, 0]),
                points[:, 1],
                None if low is None else float(back(low)),
                None if high is None else float(back(high)),
                nominal,
            )
        )
    return made


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
