"""`pellucid scale forecast`: what runs that were not made would score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App

from pellucid.cli.scale import AS_FOUND, Flag, Reading, Words, pairs

if TYPE_CHECKING:
    from pellucid.scaling.choice import Choice
    from pellucid.scaling.forecast import Forecast
    from pellucid.scaling.runs import Runs

app = App(name="forecast", help_format="plaintext")


@app.default
def forecast(
    runs: Path,
    /,
    *,
    at: Words = None,
    targets: Path | None = None,
    form: str = "ensemble",
    nominal: float = 0.9,
    reading: Reading = AS_FOUND,
    page: Path | None = None,
    json: Flag = False,
) -> None:
    """Forecast runs that were not made, with intervals calibrated by backtests inside the data.

    Args:
        runs: a file with a row per run.
        at: targets, each in one word: N=70e9,D=1.4e12 or C=1e24.
        targets: a file with a row per target, in the columns of the runs, none of it cut; where it has the
            metric, the outcomes stand beside the forecasts.
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
    aims, outcomes = aims_of(found, at or (), targets, reading)
    if not aims:
        raise InputError("Name what to forecast, with --at N=70e9,D=1.4e12 or --targets FILE.")
    members = candidates(found)
    if form not in (ENSEMBLE, LAST) and Member(form) not in members:
        members.append(Member(form))
    chosen = choose(found, members) if form == ENSEMBLE else _choice(found, members)
    made = make(found, aims, member=form, nominal=nominal, choice=chosen)
    last = make(found, aims, member=LAST, nominal=nominal, choice=chosen)
    fired = hull(found, made.targets)
    headers, rows = _table(made, last, outcomes)
    notes = [*found.notes, *made.notes, *_told(made, last, outcomes)]
    told = [*notes, *(f"{alarm.kind}: {alarm.message}" for alarm in fired)]
    if page is not None:
        from pellucid.scaling import page as pages

        pages.write(
            page, pages.of_forecast(found, made, chosen, outcomes, headers=headers, rows=rows, notes=told)
        )
    if json:
        return printing.as_json(
            {
                **_forecast_json(made, outcomes),
                "last_value": float(last.values[0]),
                "ranking": [] if chosen is None else _ranking_json(chosen),
                "alarms": [{"kind": a.kind, "message": a.message} for a in fired],
                "notes": notes,
            }
        )
    printing.table(headers, rows)
    if chosen is not None:
        _show_ranking(chosen)
    for note in told:
        printing.note(note)
    return None


def aims_of(
    runs: Runs, words: Sequence[str], targets: Path | None, reading: Reading
) -> tuple[dict[str, list[float]], list[float] | None]:
    """Targets' variables, from words or a file, and their outcomes where the file has the metric."""
    from pellucid.core.errors import InputError
    from pellucid.core.numbers import parse_number
    from pellucid.scaling.reading import read_targets

    if words and targets is not None:
        raise InputError("Give targets by --at or by --targets, not by both.")
    if targets is not None:
        return read_targets(targets, runs, columns=pairs(reading.column or ()))
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


def _table(
    made: Forecast, last: Forecast, outcomes: Sequence[float] | None
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Headers and rows: a target a row, with its interval, the last value and the outcome, if it is known."""
    from pellucid.core.numbers import short_amount, short_figure
    from pellucid.scaling.forms import PLAIN

    names = [k for k in made.targets if k != "epochs" or "U" not in made.targets]
    rows = []
    for i, value in enumerate(made.values):
        row = [
            *(f"{made.targets[k][i]:g}" if k in PLAIN else short_amount(made.targets[k][i]) for k in names),
            short_figure(value),
            "none"
            if made.low is None or made.high is None
            else f"{short_figure(made.low[i])} to {short_figure(made.high[i])}",
            short_figure(last.values[i]),
            f"{made.distance[i]:.2f}",
        ]
        if outcomes is not None:
            row += [short_figure(outcomes[i]), f"{value / outcomes[i] - 1:+.2%}"]
        rows.append(tuple(row))
    headers = [*names, f"forecast ({made.member})", f"{100 * made.nominal:g}% interval", "last value"]
    headers.append("years beyond" if made.by in PLAIN else "decades beyond")
    return (*headers, *(["outcome", "off by"] if outcomes is not None else [])), tuple(rows)


def _told(made: Forecast, last: Forecast, outcomes: Sequence[float] | None) -> list[str]:
    """How it was calibrated, and how it came out where outcomes are known."""
    import numpy as np

    found = [] if made.low is None else [f"Interval from {made.origins} backtests inside the data."]
    if outcomes is not None:
        ours, theirs = (np.abs(f.values / np.asarray(outcomes) - 1).mean() for f in (made, last))
        covered = "" if made.low is None else f"{made.covers(outcomes).mean():.0%} of them covered; "
        found.append(
            f"{len(outcomes)} outcomes, {covered}mean error {ours:.2%}, of the last value {theirs:.2%}."
        )
    return found


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


def _forecast_json(made: Forecast, outcomes: Sequence[float] | None) -> dict[str, Any]:
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
