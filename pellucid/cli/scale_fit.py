"""`pellucid scale fit`: a law, how sure its parameters are, and the same by other losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App

from pellucid.cli.scale import AS_FOUND, Flag, Reading, tell_notes

if TYPE_CHECKING:
    from pellucid.scaling.fit import Loss
    from pellucid.scaling.profiles import Profile
    from pellucid.scaling.uncertainty import Beside, Draws

app = App(name="fit", help_format="plaintext")


@app.default
def fit(
    runs: Path,
    /,
    *,
    form: str | None = None,
    loss: str = "huber",
    delta: float = 1e-3,
    envelope: Flag = False,
    draws: int = 4000,
    reading: Reading = AS_FOUND,
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
    from pellucid.scaling.checks import default_form
    from pellucid.scaling.profiles import profiles
    from pellucid.scaling.uncertainty import beside, bootstrap

    found = reading.read(runs)
    name = form or default_form(found)
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
        return printing.as_json(_as_json(drawn, others, profiled))
    tell_notes(found)
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


def _as_json(drawn: Draws, others: Mapping[Loss, Beside], profiled: Sequence[Profile]) -> dict[str, Any]:
    """What `--json` prints; a number that is not finite is null."""
    law, names = drawn.fit, drawn.fit.form.parameters
    low, high = drawn.interval()
    return {
        "form": law.form.name,
        "equation": law.form.title,
        "source": law.form.source,
        "metric": law.runs.metric,
        "runs": len(law.runs),
        "trainings": law.runs.trainings,
        "loss": law.loss,
        "delta": law.delta,
        "objective": law.objective,
        "residual_scale": law.scale,
        "parameters": {
            name: {
                "value": _finite(law.parameters[i]),
                "standard_error": _finite(drawn.standard_errors[i]),
                "bootstrap_95": [_finite(low[i]), _finite(high[i])],
                "profile_95": [profiled[i].low, profiled[i].high],
            }
            for i, name in enumerate(names)
        },
        "beside": {
            loss: {
                "parameters": {n: _finite(v) for n, v in zip(names, other.fit.parameters, strict=True)},
                "standard_errors_apart": {n: _finite(v) for n, v in zip(names, other.apart, strict=True)},
                "disagrees": other.disagrees,
            }
            for loss, other in others.items()
        },
        "notes": list(law.runs.notes),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
