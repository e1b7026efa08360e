"""Forecasts with prediction intervals that are calibrated by backtests inside the data.

A parameter bootstrap says how far the law could be off if the form were right; forecasts miss mostly because
it is not. So the width comes from what forecasts made inside the data have missed by. From each origin
(`backtest.py`), each later run gives a score

    |log forecast − log truth| / (σ (1 + d))        σ the robust residual scale of that fit, d decades beyond
    it

and the half-width of a target at distance d is t · q · σ · (1 + d), with q the nominal quantile of the
scores and t Student's quantile over the normal one for as many degrees of freedom as there were origins,
since the scores of one origin err together. Split conformal prediction (Vovk et al. 2005; Lei et al. 2018,
arXiv 1604.04173) gives the quantile; the scaling with distance was measured (docs/explanation/forecasts.md
prints the coverage).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from pellucid.core.errors import InputError
from pellucid.scaling.arrays import Floats, check_share
from pellucid.scaling.backtest import LAST, Member, Origin, Trial, fitted
from pellucid.scaling.choice import ENSEMBLE, Choice, choose, ensemble
from pellucid.scaling.forms import form_named
from pellucid.scaling.runs import Runs

NOMINAL = 0.9


@dataclass(frozen=True)
class Forecast:
    """Forecasts for some targets."""

    member: str
    """The form, `last`, or `ensemble`."""
    values: Floats
    """The forecast of the metric, [m]."""
    low: Floats | None
    """Where the interval begins, [m]; None where the data allow no calibration."""
    high: Floats | None
    nominal: float
    """The share of targets the interval is meant to cover."""
    distance: Floats
    """How far beyond the largest run, [m], in decades (years, where runs are ordered by year); 0 within."""
    by: str
    """The variable that orders the runs, along which that is."""
    origins: int
    """How many backtests calibrated it."""
    targets: Mapping[str, Floats]
    """The variables of the targets, with those that were derived."""
    notes: tuple[str, ...]

    def covers(self, y: Floats | Sequence[float]) -> np.ndarray:
        """Which of some outcomes [m] lie in their intervals."""
        assert self.low is not None
        assert self.high is not None
        return np.asarray((self.low <= y) & (np.asarray(y) <= self.high))


def targets_of(runs: Runs, values: Mapping[str, Sequence[float] | Floats]) -> Runs:
    """Targets as runs without an outcome: variables are derived as for runs, and `x` is what it is for them.

    Raises:
        InputError: when values are not finite and above zero, are of a variable the runs lack, or are none
            of the one that orders them.
    """
    strange = [name for name in values if name not in runs.own]
    if strange:
        raise InputError(
            f"The runs have no {', '.join(map(repr, strange))}, so nothing can be said of it; they have "
            f"{', '.join(runs.own)}. Leave it out of the targets."
        )
    count = max(np.size(v) for v in values.values()) if values else 0
    spread = {name: np.broadcast_to(np.asarray(v, float), count) for name, v in values.items()}
    keyed = [f"target {i + 1}" for i in range(count)]
    made = Runs.of(spread, np.ones(count), run=keyed, labels=keyed)
    if runs.x_is in made.values:
        made = made.along(runs.x_is)
    if runs.ordered_by not in made.values:
        raise InputError(
            f"A target needs {runs.ordered_by!r}, by which the runs are ordered; got "
            f"{', '.join(values) or 'nothing'}."
        )
    return made


def forecast(
    runs: Runs,
    values: Mapping[str, Sequence[float] | Floats],
    *,
    member: Member | str = ENSEMBLE,
    nominal: float = NOMINAL,
    choice: Choice | None = None,
) -> Forecast:
    """Forecast the metric of runs that were not made.

    Args:
        runs: what was made.
        values: for each variable the targets' values [m].
        member: a form's name, a `Member`, `last`, or `ensemble`.
        nominal: the share of targets the interval is meant to cover.
        choice: members ranked on these runs, where they have been ranked already.

    Raises:
        InputError: when the form cannot be fitted, targets lack a variable or have one that the runs lack, or
            nominal is not between 0 and 1.
    """
    check_share(nominal)
    targets = targets_of(runs, values)
    notes: list[str] = []
    if member == ENSEMBLE:
        choice = (choice or choose(runs)).among(targets.values)
        notes = choice.told_left_out
        if choice.best.form == LAST:
            notes.append("No form forecast better than repeating the last value: there is no trend to go by.")
        made = ensemble(choice).combined(targets)
        trials, at = choice.ensemble_trials(), list(choice.at)
    else:
        member = member if isinstance(member, Member) else Member(member)
        if member.form != LAST:
            form_named(member.form)
        forecaster = fitted(member, runs)
        made = Trial(forecaster.log_values(targets), forecaster.scale)
        try:
            choice = choice if choice and member in choice.trials else choose(runs, [member])
            trials, at = choice.trials[member], list(choice.at)
        except InputError:
            trials, at = [], []
    distance = np.maximum(targets.order_by(runs.ordered_by) - runs.order.max(), 0.0)
    scored = missed(runs, at, trials)
    half = half_width(scored, nominal, made.scale, distance)
    if half is None:
        notes.append("Too few runs to backtest: there is no calibrated interval.")
    elif len(scored) < len(at):
        notes.append(f"It could be backtested from {len(scored)} of {len(at)} origins.")
    held_out = 0 if half is None else runs.kept(~at[0].train).trainings
    if half is not None and held_out < nominal / (1 - nominal):
        notes.append(
            f"The interval rests on {held_out} held-out trainings: even the worst miss of so few covers "
            f"{held_out / (held_out + 1):.0%} at best. Do not take it for {nominal:.4g}."
        )
    centre = made.log_values
    return Forecast(
        str(member),
        np.exp(centre),
        None if half is None else np.exp(centre - half),
        None if half is None else np.exp(centre + half),
        nominal,
        distance,
        runs.ordered_by,
        len(scored),
        targets.own,
        tuple(notes),
    )


@dataclass(frozen=True)
class Missed:
    """By how much forecasts from one origin missed the later runs."""

    errors: Floats
    """Absolute log errors of the later rows, [m]."""
    distance: Floats
    """How far beyond the origin each lies, [m]."""
    scale: float
    """Of the fit that forecast; 0 where it has none."""
    trainings: int
    """How many trainings the later rows belong to."""


def missed(runs: Runs, at: Sequence[Origin], trials: Sequence[Trial | None]) -> list[Missed]:
    """What was missed from each origin from which there was a forecast."""
    return [
        Missed(
            np.abs(trial.log_values - np.log(runs.y[~origin.train])),
            origin.distance,
            trial.scale,
            runs.kept(~origin.train).trainings,
        )
        for origin, trial in zip(at, trials, strict=True)
        if trial is not None
    ]


def half_width(
    scored: Sequence[Missed],
    nominal: float,
    scale: float,
    distance: Floats,
    *,
    growth: float = 1.0,
    widened: bool = True,
) -> Floats | None:
    """Half-widths in logs [m] of targets at distances [m], or None where nothing was scored.

    Args:
        scored: what was missed from each origin.
        nominal: the share to be covered.
        scale: the scale of the fit that forecasts; 0 where it has none, and errors then count as they are.
        distance: of the targets.
        growth: the power of 1 + distance by which widths grow.
        widened: whether Student's t stands for the few origins.
    """
    if not scored:
        return None
    scores = np.concatenate([m.errors / ((m.scale or 1.0) * (1 + m.distance) ** growth) for m in scored])
    count = sum(m.trainings for m in scored)
    q = float(np.quantile(scores, min(1.0, nominal * (1 + 1 / count))))
    normal = NormalDist().inv_cdf(0.5 + nominal / 2)
    wide = student(0.5 + nominal / 2, len(scored)) / normal if widened else 1.0
    return np.asarray(wide * q * (scale or 1.0) * (1 + distance) ** growth)


def student(share: float, freedom: int) -> float:
    """The quantile of Student's t, whose density in θ = arctan(t/√ν) is cos(θ)^(ν−1), by trapezia."""
    angle = np.linspace(0.0, np.pi / 2, 20_001)
    density = np.cos(angle) ** (freedom - 1)
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    at = np.interp((2 * share - 1) * below[-1], below, angle)
    return float(np.sqrt(freedom) * np.tan(at))
