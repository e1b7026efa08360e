"""`pellucid scale check`: reasons not to rely on a law, with a status that a pipeline can stop at."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from cyclopts import App

from pellucid.cli.scale import AS_FOUND, Flag, Reading, Words
from pellucid.cli.scale_forecast import aims_of

app = App(name="check", help_format="plaintext")

ALARM = 3  # the status when an alarm fires


@app.default
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
    reading: Reading = AS_FOUND,
    json: Flag = False,
) -> None:
    """Look for reasons not to rely on a law; ends with status 3 when an alarm fires.

    Args:
        runs: a file with a row per run.
        at: targets that are to be forecast, each in one word: N=70e9,D=1.4e12.
        targets: a file with a row per target.
        new: a file with runs made since, in the columns of the runs, none of it cut.
        form: the form whose parameters are checked; without it chinchilla where runs have N and D, else
            power_constant.
        nominal: of the interval that new runs are held to.
        reach: how many decades beyond the runs N, D and C of a target may go without an alarm; tokens per
            parameter and epochs may not go beyond at all.
        reading: how the file is read.
        json: print JSON.
    """
    from pellucid.cli import printing
    from pellucid.scaling import checks

    found = reading.read(runs)
    aims, _ = aims_of(found, at or (), targets, reading)
    # Conditions and cuts are of the runs; what is new is held to the law whole.
    fresh = None if new is None else replace(reading, where=None, drop_highest=0).read(new)
    checked = checks.check(found, targets=aims, new=fresh, form=form, nominal=nominal, reach=reach)
    if json:
        printing.as_json(
            {
                "alarms": [{"kind": a.kind, "message": a.message} for a in checked.fired],
                "looked_for": list(checked.looked_for),
                "notes": list(checked.notes),
            }
        )
    else:
        for note in checked.notes:
            printing.note(note)
        kinds = {a.kind for a in checked.fired}
        quiet = [(kind, "quiet") for kind in checked.looked_for if kind not in kinds]
        printing.table(["alarm", ""], [*((a.kind, a.message) for a in checked.fired), *quiet])
    if checked.fired:
        sys.exit(ALARM)
