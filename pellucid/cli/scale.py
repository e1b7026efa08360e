"""`pellucid scale`: a law from training runs, forecasts with measured intervals, alarms, plans and prices."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from pellucid.scaling.alarms import Alarm
    from pellucid.scaling.choice import Choice
    from pellucid.scaling.forecast import Forecast
    from pellucid.scaling.runs import Runs

app = App(
    name="scale",
    help="From training runs to a law, a forecast, a plan and a price.",
    help_format="plaintext",
)

ALARM = 3  # the status with which `check` ends when an alarm fires

Words = Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")]
Flag = Annotated[bool, Parameter(negative="")]


@Parameter(name="*")
@dataclass(frozen=True)
class Reading:
    """How a file of runs is read."""

    metric: str | None = None
    """the column of the metric; without it, the one column that is called like a metric."""
    column: Words = None
    """variables and their columns, such as N="Model Size" D=tokens; others are found by common names."""
    run: str | None = None
    """the column that names the training a row is a checkpoint of."""
    where: Words = None
    """conditions that rows must meet, such as "N >= 1e8" or "state == finished"."""
    drop_highest: int = 0
    """cut so many rows with the highest metric."""
    x: str | None = None
    """the variable that forms of one variable are of; without it C, D, N or the only one."""

    def read(self, path: Path, further: Sequence[str] = ()) -> Runs:
        """The runs in a file that meet the conditions and further ones."""
        from pellucid.scaling.reading import read_runs

        made = read_runs(
            path,
            metric=self.metric,
            columns=pairs(self.column or ()),
            run=self.run,
            where=[*(self.where or ()), *further],
            drop_highest=self.drop_highest,
        )
        return made.along(self.x)


_AS_FOUND = Reading()


@app.command
def fit(
    runs: Path,
    /,
    *,
    form: str | None = None,
    loss: str = "huber",
    delta: float = 1e-3,
    envelope: Flag = False,
    draws: int = 4000,
    reading: Reading = _AS_FOUND,
    page: Path | None = None,
    json: Flag = False,
) -> None:
    """Fit a law to training runs, and say how sure each parameter is.

    Args:
        runs: a .csv, .tsv, .jsonl or .json file with a row per run.
        form: the form of the law; without it chinchilla where runs have N and D, else power_constant.
        loss: huber, l1 or squares, of log residuals.
        delta: where the Huber loss turns from squares to absolute values.
        envelope: follow the lower envelope: a run above the law counts a tenth of one below it.
        draws: bootstrap draws.
        page: write the plots to this .html file, or to this .png file.
        reading: how the file is read.
        json: print JSON.
    """
    from pellucid.cli import printing
    from pellucid.scaling import fit as fitting
    from pellucid.scaling.profiles import profiles
    from pellucid.scaling.uncertainty import beside, bootstrap

    found = reading.read(runs)
    name = form or ("chinchilla" if {"N", "D"} <= found.values.keys() else "power_constant")
    law = fitting.fit(
        found, name, loss=fitting.loss_named(loss), delta=delta, lean=fitting.LEAN if envelope else 1.0
    )
    drawn = bootstrap(law, draws)
    others = beside(drawn)
    profiled = profiles(law)
    if page is not None:
        from pellucid.scaling import page as pages

        pages.write(page, pages.of_fit(drawn, profiled))
    if json:
        low, high = drawn.interval()
        return printing.as_json(
            {
                "form": name,
                "equation": law.form.title,
                "source": law.form.source,
                "metric": found.metric,
                "runs": len(found),
                "trainings": found.trainings,
                "loss": law.loss,
                "delta": law.delta,
                "objective": law.objective,
                "residual_scale": law.scale,
                "parameters": {
                    p: {
                        "value": float(v),
                        "standard_error": float(e),
                        "bootstrap_95": [float(a), float(b)],
                        "profile_95": [q.low, q.high],
                    }
                    for p, v, e, a, b, q in zip(
                        law.form.parameters,
                        law.parameters,
                        drawn.standard_errors,
                        low,
                        high,
                        profiled,
                        strict=True,
                    )
                },
                "beside": {
                    key: {
                        "parameters": dict(
                            zip(law.form.parameters, map(float, b.fit.parameters), strict=True)
                        ),
                        "standard_errors_apart": dict(
                            zip(law.form.parameters, map(float, b.apart), strict=True)
                        ),
                        "disagrees": b.disagrees,
                    }
                    for key, b in others.items()
                },
                "notes": list(found.notes),
            }
        )
    _notes(found)
    printing.table(
        ["", ""],
        [
            ("form", f"{name}: {law.form.title}"),
            ("source", law.form.source),
            ("runs", f"{len(found)} rows of {found.trainings} trainings; metric {found.metric!r}"),
            ("objective", f"{law.objective:.6g} ({law.loss})"),
            ("residuals", f"{law.scale:.2%} (robust standard deviation of log residuals)"),
        ],
    )
    low, high = drawn.interval()
    printing.table(
        ["parameter", "value", "standard error", "bootstrap 95 %", "profile 95 %", *others],
        [
            [
                p,
                f"{law.parameters[i]:.6g}",
                f"{drawn.standard_errors[i]:.3g}",
                f"{low[i]:.4g} to {high[i]:.4g}",
                str(profiled[i]),
                *(f"{b.fit.parameters[i]:.6g}" for b in others.values()),
            ]
            for i, p in enumerate(law.form.parameters)
        ],
    )
    for key, other in others.items():
        if other.disagrees:
            printing.note(
                f"{key} disagrees with {law.loss} by {abs(other.apart).max():.1f} standard errors: a few "
                "runs decide "
                "the law. Look for outliers."
            )
    return None


@app.command
def forecast(
    runs: Path,
    /,
    *,
    at: Words = None,
    targets: Path | None = None,
    form: str = "ensemble",
    nominal: float = 0.9,
    reading: Reading = _AS_FOUND,
    page: Path | None = None,
    json: Flag = False,
) -> None:
    """Forecast runs that were not made, with intervals calibrated by backtests inside the data.

    Args:
        runs: a file with a row per run.
        at: targets, each in one word: N=70e9,D=1.4e12 or C=1e24.
        targets: a file with a row per target, in the columns of the runs; where it has the metric, the
            outcomes stand beside the forecasts.
        form: a form, last, or ensemble.
        nominal: the share of targets the interval is meant to cover.
        page: write the plots to this .html file, or to this .png file.
        reading: how the file is read.
        json: print JSON.
    """
    from pellucid.cli import printing
    from pellucid.core.errors import InputError
    from pellucid.scaling.alarms import hull
    from pellucid.scaling.backtest import LAST, Member
    from pellucid.scaling.choice import ENSEMBLE, candidates, choose
    from pellucid.scaling.forecast import forecast as make

    found = reading.read(runs)
    aims, outcomes = _aims(found, at or (), targets, reading)
    if not aims:
        raise InputError("Name what to forecast, with --at N=70e9,D=1.4e12 or --targets FILE.")
    members = candidates(found)
    if form not in (ENSEMBLE, LAST) and Member(form) not in members:
        members.append(Member(form))
    chosen = choose(found, members) if form == ENSEMBLE else _choice(found, members)
    made = make(found, aims, member=form, nominal=nominal, choice=chosen)
    last = make(found, aims, member=LAST, nominal=nominal, choice=chosen)
    fired = hull(found, made.targets)
    if page is not None:
        from pellucid.scaling import page as pages

        pages.write(page, pages.of_forecast(found, made, chosen, outcomes))
    if json:
        return printing.as_json(
            {
                **_forecast_json(made, outcomes),
                "last_value": float(last.values[0]),
                "ranking": [] if chosen is None else _ranking_json(chosen),
                "alarms": [{"kind": a.kind, "message": a.message} for a in fired],
                "notes": [*found.notes, *made.notes],
            }
        )
    _notes(found)
    _show_forecast(made, last, outcomes)
    if chosen is not None:
        _show_ranking(chosen)
    for note in made.notes:
        printing.note(note)
    for alarm in fired:
        printing.note(f"{alarm.kind}: {alarm.message}")
    return None


@app.command
def check(
    runs: Path,
    /,
    *,
    at: Words = None,
    targets: Path | None = None,
    new: Path | None = None,
    form: str | None = None,
    nominal: float = 0.95,
    reach: float = 0.0,
    reading: Reading = _AS_FOUND,
    json: Flag = False,
) -> None:
    """Look for reasons not to rely on a law; ends with status 3 when an alarm fires.

    Args:
        runs: a file with a row per run.
        at: targets that are to be forecast, each in one word: N=70e9,D=1.4e12.
        targets: a file with a row per target.
        new: a file with runs made since, in the columns of the runs.
        form: the form whose parameters are checked; without it chinchilla where runs have N and D, else
            power_constant.
        nominal: of the interval that new runs are held to.
        reach: how many decades beyond the runs N, D and C of a target may go without an alarm; tokens per
            parameter and epochs may not go beyond at all.
        reading: how the file is read.
        json: print JSON.
    """
    from pellucid.cli import printing
    from pellucid.core.errors import InputError
    from pellucid.scaling import alarms
    from pellucid.scaling import fit as fitting
    from pellucid.scaling.backtest import fitted
    from pellucid.scaling.choice import ENSEMBLE, choose
    from pellucid.scaling.forecast import forecast as make
    from pellucid.scaling.profiles import profiles

    found = reading.read(runs)
    fired: list[Alarm] = []
    looked = []
    aims, _ = _aims(found, at or (), targets, reading)
    if aims:
        from pellucid.scaling.forecast import targets_of

        looked.append("hull")
        fired += alarms.hull(found, targets_of(found, aims).values, reach=reach)
    name = form or ("chinchilla" if {"N", "D"} <= found.values.keys() else "power_constant")
    law = fitting.fit(found, name)
    looked.append("identity")
    fired += alarms.unidentified(profiles(law), law.form.constant)
    notes = list(found.notes)
    try:
        chosen = choose(found)
    except InputError as error:
        chosen = None
        notes.append(f"Not looked for: break, drift. {error}")
    if chosen is not None:
        looked.append("break")
        best = fitted(chosen.best, found).fit
        if best is not None:
            fired += alarms.broken(chosen, {str(chosen.best): best})
        if new is not None:
            fresh = reading.read(new)
            looked.append("drift")
            shared = {k: v for k, v in fresh.values.items() if k in found.values and k != "x"}
            made = make(found, shared, member=form or ENSEMBLE, nominal=nominal, choice=chosen)
            fired += alarms.drift(made, fresh.y, fresh.order_by(found.ordered_by))
    if alarms.valleys(found):
        looked.append("flat")
        fired += alarms.flat(found)
    if json:
        printing.as_json(
            {
                "alarms": [{"kind": a.kind, "message": a.message} for a in fired],
                "looked_for": looked,
                "notes": notes,
            }
        )
    else:
        for note in notes:
            printing.note(note)
        quiet = [k for k in looked if k not in {a.kind for a in fired}]
        printing.table(["alarm", ""], [*((a.kind, a.message) for a in fired), *((k, "quiet") for k in quiet)])
    if fired:
        sys.exit(ALARM)


@app.command
def bench(
    runs: Path,
    /,
    *,
    group: Words = None,
    split: str | None = None,
    held_out: float = 0.2,
    nominal: float = 0.9,
    form: Words = None,
    reading: Reading = _AS_FOUND,
    json: Flag = False,
) -> None:
    """Score forms, the last value and the ensemble on held-out runs of one curve or of many.

    Args:
        runs: a file with a row per run.
        group: columns whose values name the curves; without them the file is one curve.
        split: a column that is 1 for runs to fit and 0 for runs to forecast; without it the largest are held
            out.
        held_out: the share of levels that are held out, where no column says it.
        nominal: of the intervals whose coverage is measured.
        form: forms to score; without them all that the variables allow.
        reading: how the file is read.
        json: print JSON.
    """
    from pellucid.cli import printing
    from pellucid.scaling.backtest import Member
    from pellucid.scaling.bench import curves_of, score

    members = None if form is None else [Member(f) for f in form]
    found = curves_of(runs, lambda where: reading.read(runs, where), group or (), split, held_out)
    with printing.progress(quiet=json) as progress:
        scored = score(found, members, nominal=nominal, progress=progress)
    if json:
        return printing.as_json(scored.as_json())
    printing.table(
        ["member", "mean RMS log error", "curves", f"covered at {nominal:.0%}", "half-width"],
        [
            [r.member, f"{r.error:.4f}", str(r.curves), "" if r.covered is None else f"{r.covered:.0%}",
             "" if r.half_width is None else f"{r.half_width:.2%}"]
            for r in scored.rows
        ],
    )  # fmt: skip
    return None


def pairs(words: Sequence[str]) -> dict[str, str]:
    """Read `N=Model Size` as a variable and a column.

    Raises:
        InputError: when a word has no `=`.
    """
    from pellucid.core.errors import InputError

    found = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name or not value:
            raise InputError(f'Expected a variable and a column, such as N="Model Size"; got {word!r}.')
        found[name.strip()] = value.strip()
    return found


def _aims(
    runs: Runs, words: Sequence[str], targets: Path | None, reading: Reading
) -> tuple[dict[str, list[float]], Any]:
    """Targets' variables, from words or a file, and their outcomes where the file has the metric."""
    from pellucid.core.errors import InputError
    from pellucid.scaling.reading import parse_number, read_runs, read_table

    if words and targets is not None:
        raise InputError("Give targets by --at or by --targets, not by both.")
    if targets is not None:
        columns = pairs(reading.column or ())
        if runs.metric in read_table(targets).columns:
            fresh = read_runs(targets, metric=runs.metric, columns=columns, where=reading.where or ())
            return {k: list(v) for k, v in fresh.values.items() if k in runs.values and k != "x"}, fresh.y
        raise InputError(
            f"{str(targets)!r} has no column {runs.metric!r}. Name targets without outcomes by --at."
        )
    found: dict[str, list[float]] = {}
    for word in words:
        aim = pairs(word.replace(" ", ",").split(","))
        numbers = {k: parse_number(v) for k, v in aim.items()}
        wrong = next((k for k, v in numbers.items() if v is None), None)
        if wrong is not None or (found and set(found) != set(numbers)):
            raise InputError(
                f"A target is written like N=70e9,D=1.4e12, all with the same variables; got {word!r}."
            )
        for k, v in numbers.items():
            found.setdefault(k, []).append(float(v or 0.0))
    return found, None


def _choice(runs: Runs, members: Sequence[Any]) -> Choice | None:
    """Members ranked on runs, or None where there are too few."""
    from pellucid.core.errors import InputError
    from pellucid.scaling.choice import choose

    try:
        return choose(runs, members)
    except InputError:
        return None


def _notes(runs: Runs) -> None:
    from pellucid.cli import printing

    for note in runs.notes:
        printing.note(note)


def _show_forecast(made: Forecast, last: Forecast, outcomes: Any) -> None:
    from pellucid.cli import printing

    names = [k for k in made.targets if k not in ("x", "epochs")]
    rows = []
    for i, value in enumerate(made.values):
        interval = (
            "none" if made.low is None or made.high is None else f"{made.low[i]:.4f} to {made.high[i]:.4f}"
        )
        row = [*(f"{made.targets[k][i]:.3g}" for k in names), f"{value:.4f}", interval]
        row += [f"{last.values[i]:.4f}", f"{made.distance[i]:.2f}"]
        if outcomes is not None:
            row += [f"{outcomes[i]:.4f}", f"{100 * (value / outcomes[i] - 1):+.2f} %"]
        rows.append(row)
    beside = ["outcome", "off by"] if outcomes is not None else []
    printing.table(
        [
            *names,
            f"forecast ({made.member})",
            f"{made.nominal:.0%} interval",
            "last value",
            "decades beyond",
            *beside,
        ],
        rows,
    )
    if outcomes is not None and made.low is not None:
        printing.note(
            f"{made.covers(outcomes).mean():.0%} of {len(outcomes)} outcomes are covered; mean error "
            f"{abs(made.values / outcomes - 1).mean():.2%}, of the last value "
            f"{abs(last.values / outcomes - 1).mean():.2%}."
        )
    printing.note(f"Interval from {made.origins} backtests inside the data.")


def _show_ranking(choice: Choice) -> None:
    from pellucid.cli import printing

    weights = choice.weights()
    printing.table(
        ["ranked by backtest", "error", "bias", "origins", "weight"],
        [
            [str(r.member), f"{r.error:.2%}", f"{r.bias:+.2%}", f"{r.origins} of {len(choice.at)}",
             f"{weights.get(r.member, 0.0):.2f}"]
            for r in choice.ranked
        ],
    )  # fmt: skip
    for name, why in choice.left_out.items():
        printing.note(f"{name} is left out: {why}.")


def _forecast_json(made: Forecast, outcomes: Any) -> dict[str, Any]:
    return {
        "member": made.member,
        "nominal": made.nominal,
        "origins": made.origins,
        "targets": [
            {
                **{k: float(v[i]) for k, v in made.targets.items()},
                "value": float(made.values[i]),
                "low": None if made.low is None else float(made.low[i]),
                "high": None if made.high is None else float(made.high[i]),
                "decades_beyond": float(made.distance[i]),
                **({} if outcomes is None else {"outcome": float(outcomes[i])}),
            }
            for i in range(len(made.values))
        ],
    }


def _ranking_json(choice: Choice) -> list[dict[str, Any]]:
    weights = choice.weights()
    return [
        {
            "member": str(r.member), "error": r.error, "bias": r.bias, "origins": r.origins,
            "weight": weights.get(r.member, 0.0),
        }
        for r in choice.ranked
    ]  # fmt: skip


# The verbs that plan are in a file of their own, imported when one of them is called: name, and its help.
_PLANNING: dict[str, str] = {}

for _verb, _help in _PLANNING.items():
    app.command(f"pellucid.cli.scale_plan:{_verb}", name=_verb, help=_help)
