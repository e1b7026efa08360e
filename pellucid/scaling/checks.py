"""All alarms at once, for some runs, what is to be forecast from them, and what was run since.

It knows which alarm needs what, and says which could not be looked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pellucid.core.errors import InputError
from pellucid.scaling import alarms
from pellucid.scaling.alarms import Alarm
from pellucid.scaling.backtest import Member, fitted
from pellucid.scaling.choice import ENSEMBLE, Choice, candidates, choose
from pellucid.scaling.fit import fit
from pellucid.scaling.forecast import forecast, targets_of
from pellucid.scaling.profiles import profiles
from pellucid.scaling.runs import Runs
from pellucid.scaling.uncertainty import ONE_TRAINING

NOMINAL = 0.95
# Beside laws of parameters and tokens, a break along compute is looked for too.
_BREAKS = (Member("broken_1"), Member("broken_1", "squares"))


@dataclass(frozen=True)
class Checked:
    """What was found."""

    fired: tuple[Alarm, ...]
    looked_for: tuple[str, ...]
    """The kinds of alarm that were looked for."""
    notes: tuple[str, ...]


def default_form(runs: Runs) -> str:
    """The form that runs are fitted with where none is named: by parameters and tokens if they have both."""
    return "chinchilla" if {"N", "D"} <= runs.values.keys() else "power_constant"


def check(
    runs: Runs,
    *,
    targets: Mapping[str, Sequence[float]] | None = None,
    new: Runs | None = None,
    form: str | None = None,
    nominal: float = NOMINAL,
    reach: float = 0.0,
) -> Checked:
    """Look for every alarm that can be looked for.

    Args:
        runs: what was made; forms of one variable need `Runs.along` first.
        targets: for each variable the values [m] of what is to be forecast.
        new: runs made since.
        form: the form whose parameters are looked at, and by which new runs are forecast; without it
            `default_form`, and the ensemble.
        nominal: of the interval that new runs are held to.
        reach: how many decades beyond the runs N, D and C of a target may go.

    Raises:
        InputError: when the form cannot be fitted, or targets or new runs lack a variable.
    """
    law = fit(runs, form or default_form(runs))
    fired: list[Alarm] = []
    looked, notes = [], list(runs.notes)
    if runs.trainings > 1:
        looked.append("identity")
        fired += alarms.unidentified(profiles(law), law.form.constant)
    else:
        notes.append(f"Not looked for: identity. {ONE_TRAINING}")
    if targets:
        looked.append("hull")
        fired += alarms.hull(runs, targets_of(runs, targets).values, reach=reach)
    if alarms.valleys(runs):
        looked.append("flat")
        fired += alarms.flat(runs)
    members = candidates(runs)
    try:
        choice = choose(runs, [*members, *(m for m in _BREAKS if m not in members)])
    except InputError as error:
        return Checked(tuple(fired), tuple(looked), (*notes, f"Not looked for: break, drift. {error}"))
    if any(r.member.form.startswith("broken") for r in choice.ranked):
        looked.append("break")
        best = fitted(choice.best, runs).fit
        if best is not None:
            fired += alarms.broken(choice, {str(choice.best): best})
    else:
        notes.append("Not looked for: break. There are too few runs to backtest a form that breaks.")
    if new is not None:
        looked.append("drift")
        fired += _drift(runs, new, form, nominal, choice)
    return Checked(tuple(fired), tuple(looked), tuple(notes))


def _drift(runs: Runs, new: Runs, form: str | None, nominal: float, choice: Choice) -> list[Alarm]:
    shared = {name: column for name, column in new.own.items() if name in runs.own}
    made = forecast(runs, shared, member=form or ENSEMBLE, nominal=nominal, choice=choice)
    return alarms.drift(made, new.y, new.order_by(runs.ordered_by))
