"""`pellucid scale bench`: forms scored on held-out runs."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from pellucid.cli.scale import AS_FOUND, Flag, Reading, Words

app = App(name="bench", help_format="plaintext")


@app.default
def bench(
    runs: Path,
    /,
    *,
    group: Words = None,
    split: str | None = None,
    held_out: float = 0.2,
    nominal: float = 0.9,
    form: Words = None,
    reading: Reading = AS_FOUND,
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
