"""Choosing among forms by what they would have forecast, never by how well they fit.

Each member (a form with a loss, or `last`, which repeats the value of the largest run) forecasts from the
same origins (`backtest.py`). Its error is the mean over origins of the root mean square log error. The
ensemble is the weighted median of all members' forecasts with weights 1/error²: a median, because one
runaway law of many parameters must not carry the others along (Bates and Granger 1969 for the weights).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pellucid.core.errors import InputError
from pellucid.scaling.arrays import Floats
from pellucid.scaling.backtest import LAST, Forecaster, Member, Origin, Trial, fitted, levels, origins, tried
from pellucid.scaling.fit import Loss, rises
from pellucid.scaling.forms import form_named
from pellucid.scaling.runs import Runs

ENSEMBLE = "ensemble"
_OF_TWO = ("chinchilla", "tied", "interaction", "kaplan")
_OF_ONE = ("power", "power_constant", "m4", "broken_1", "broken_2", "broken_3")
_RISING = ("power", "hyperparameter")  # of runs with parameters and tokens, where the metric rises
_SPECIAL = ("repeated", "width_depth", "sigmoid", "trend")
_LOSSES: tuple[Loss, ...] = ("huber", "squares")
_TINY = 1e-12


@dataclass(frozen=True)
class Ranked:
    """A member and its error."""

    member: Member
    error: float
    """Mean over origins of the root mean square log error."""
    origins: int
    """From how many origins it could forecast."""
    bias: float
    """Mean over origins of the mean of log forecast − log truth: above 0 it forecasts too high."""


@dataclass(frozen=True)
class Choice:
    """Members, ranked on runs."""

    runs: Runs
    at: tuple[Origin, ...]
    ranked: tuple[Ranked, ...]
    """Lowest error first."""
    trials: dict[Member, list[Trial | None]]
    left_out: dict[str, str]
    """Members that could not take part, and why."""

    @property
    def told_left_out(self) -> list[str]:
        """A sentence for each reason, with all members that are left out for it."""
        found: dict[str, list[str]] = {}
        for name, why in self.left_out.items():
            found.setdefault(why, []).append(name)
        return [
            f"Left out: {', '.join(sorted(names))}. {why[0].upper()}{why[1:]}" for why, names in found.items()
        ]

    @property
    def best(self) -> Member:
        """The member with the lowest error."""
        return self.ranked[0].member

    def among(self, variables: Collection[str]) -> Choice:
        """The same without members that need a variable of a target beyond these; which, is in `left_out`."""
        missing = {r.member: sorted(r.member.needs(self.runs) - set(variables)) for r in self.ranked}
        left_out = {
            str(m): f"targets have no {' and no '.join(names)}." for m, names in missing.items() if names
        }
        ranked = tuple(r for r in self.ranked if not missing[r.member])
        return replace(self, ranked=ranked, left_out={**self.left_out, **left_out})

    def errors(self, member: Member) -> Floats:
        """Root mean square log error at each origin, [origins]; NaN where it could not forecast."""
        truth = [np.log(self.runs.y[~origin.train]) for origin in self.at]
        return np.array(
            [
                np.nan if trial is None else np.sqrt(np.mean((trial.log_values - y) ** 2))
                for trial, y in zip(self.trials[member], truth, strict=True)
            ]
        )

    def weights(self, without: int | None = None) -> dict[Member, float]:
        """Of each ranked member, summing to 1; with an origin left out, from the others."""
        found = {}
        for ranked in self.ranked:
            errors = self.errors(ranked.member)
            if without is not None and len(errors) > 1:
                errors = np.delete(errors, without)
            if np.isfinite(errors).sum() * 2 >= len(errors):
                found[ranked.member] = 1 / (float(np.nanmean(errors)) ** 2 + _TINY)
        total = sum(found.values())
        return {member: weight / total for member, weight in found.items()}

    def ensemble_trials(self) -> list[Trial | None]:
        """What the ensemble would have forecast from each origin, with weights from the other origins."""
        found: list[Trial | None] = []
        for index in range(len(self.at)):
            weights = self.weights(without=index)
            made = {m: t for m in weights if (t := self.trials[m][index]) is not None}
            found.append(
                combined(
                    [t.log_values for t in made.values()],
                    [t.scale for t in made.values()],
                    [weights[m] for m in made],
                )
                if made
                else None
            )
        return found


def combined(log_values: Sequence[Floats], scales: Sequence[float], weights: Sequence[float]) -> Trial:
    """The weighted median of forecasts [members][m], and the weighted geometric mean of scales above zero.

    A member with a forecast that is no number counts only where all have one.
    """
    rows, shares = np.stack(log_values), np.asarray(weights, float)
    sound = np.isfinite(rows).all(axis=1)
    if sound.any():
        rows, shares, scales = rows[sound], shares[sound], np.asarray(scales)[sound].tolist()
    order = np.argsort(rows, axis=0, kind="stable")
    reached = np.cumsum(shares[order], axis=0) / shares.sum()
    middle = (reached < 0.5 - 1e-12).sum(axis=0)
    columns = np.arange(rows.shape[1])
    told = np.array(scales) > 0
    scale = np.exp(np.average(np.log(np.array(scales)[told]), weights=shares[told])) if told.any() else 0.0
    return Trial(rows[order[middle, columns], columns], float(scale))


def candidates(runs: Runs) -> list[Member]:
    """The members that variables and metric allow, each form robustly and by least squares, and `last`."""

    def varies(name: str) -> bool:
        return name in runs.values and bool(np.ptp(runs.values[name]) > 0)

    forms = [n for n in _SPECIAL if all(varies(v) for v in form_named(n).variables)]
    if varies("N") and varies("D"):
        forms += _RISING if rises(runs.y, runs.order) else (*_OF_TWO, "power_constant")
    elif not forms:
        forms += _OF_ONE
    members = [Member(form, loss) for form in forms for loss in _LOSSES]
    return [*members, Member(LAST)]


def choose(runs: Runs, members: Sequence[Member] | None = None) -> Choice:
    """Rank members by their errors from rolling origins.

    A member that can forecast from fewer than half of the origins is left out, and said to be.

    Args:
        runs: the runs; forms of one variable need `Runs.along` first.
        members: what to rank; those of `candidates` where None. `last` is always among them.

    Raises:
        InputError: when the runs have too few levels for any origin.
    """
    members = list(members) if members is not None else candidates(runs)
    if Member(LAST) not in members:
        members.append(Member(LAST))
    at = origins(runs)
    if not at:
        raise InputError(
            f"{len(runs)} runs at {levels(runs.order).max() + 1} levels of {runs.ordered_by} are too few to "
            "hold any out: backtests need at least 5 runs, 4 of them before the last level. Give more runs."
        )
    trials = {member: tried(member, runs, at) for member in members}
    choice = Choice(runs, tuple(at), (), trials, {})
    ranked, left_out = [], {}
    for member in members:
        errors = choice.errors(member)
        fine = np.isfinite(errors)
        if fine.sum() * 2 < len(at):
            left_out[str(member)] = _why_not(member, runs, int(fine.sum()), len(at))
            continue
        biases = [
            float(np.mean(t.log_values - np.log(runs.y[~o.train])))
            for t, o in zip(trials[member], at, strict=True)
            if t
        ]
        ranked.append(Ranked(member, float(errors[fine].mean()), int(fine.sum()), float(np.mean(biases))))
    ranked.sort(key=lambda r: r.error)
    return Choice(runs, tuple(at), tuple(ranked), trials, left_out)


def _why_not(member: Member, runs: Runs, fine: int, count: int) -> str:
    """Why a member forecasts from too few origins."""
    try:
        fitted(member, runs)
    except InputError as error:
        return str(error)
    return f"too few runs: forecast from {fine} of {count} origins."


@dataclass(frozen=True)
class Ensemble:
    """All ranked members fitted to all runs."""

    forecasters: dict[Member, Forecaster]
    weights: dict[Member, float]

    def combined(self, runs: Runs) -> Trial:
        """The ensemble's forecast for some runs."""
        return combined(
            [f.log_values(runs) for f in self.forecasters.values()],
            [f.scale for f in self.forecasters.values()],
            [self.weights[m] for m in self.forecasters],
        )


def ensemble(choice: Choice) -> Ensemble:
    """Fit every ranked member to all runs."""
    weights = choice.weights()
    return Ensemble({member: fitted(member, choice.runs) for member in weights}, weights)
