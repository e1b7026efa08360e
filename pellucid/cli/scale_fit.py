"""`pellucid scale fit`: a law, how sure its parameters are, and the same by other losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App

from pellucid.cli.scale import AS_FOUND, Flag, Reading

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
        draws: bootstrap draws, at least 2.
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
    headers, rows = _table(drawn, others, profiled)
    notes = [*found.notes, *drawn.notes, *_disagreements(drawn, others)]
    if page is not None:
        from pellucid.scaling import page as pages

        pages.write(page, pages.of_fit(drawn, profiled, headers=headers, rows=rows, notes=notes))
    if json:
        return printing.as_json({**_as_json(drawn, others, profiled), "notes": notes})
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
    printing.table(headers, rows)
    for note in notes:
        printing.note(note)
    return None


def _table(
    drawn: Draws, others: Mapping[Loss, Beside], profiled: Sequence[Profile]
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Headers and rows: a parameter a row, with its intervals and what other losses make of it."""
    law, errors = drawn.fit, drawn.standard_errors
    low, high = drawn.interval()
    rows = tuple(
        (
            name,
            f"{law.parameters[i]:.6g}",
            f"{errors[i]:.3g}",
            f"{low[i]:.4g} to {high[i]:.4g}",
            str(profiled[i]),
            *(f"{other.fit.parameters[i]:.6g}" for other in others.values()),
        )
        for i, name in enumerate(law.form.parameters)
    )
    return ("parameter", "value", "standard error", "bootstrap 95%", "profile 95%", *others), rows


def _disagreements(drawn: Draws, others: Mapping[Loss, Beside]) -> list[str]:
    """A sentence for each loss whose law lies elsewhere."""
    found = []
    for loss, other in others.items():
        if other.disagrees:
            which = int(abs(other.apart).argmax())
            found.append(
                f"{loss} disagrees with {drawn.fit.loss}: {drawn.fit.form.parameters[which]} lies "
                f"{abs(other.apart[which]):.2g} standard errors away. A few runs decide the law; look for "
                "outliers."
            )
    return found


def _as_json(drawn: Draws, others: Mapping[Loss, Beside], profiled: Sequence[Profile]) -> dict[str, Any]:
    """What `--json` prints, less the notes."""
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
                "value": float(law.parameters[i]),
                "standard_error": float(drawn.standard_errors[i]),
                "bootstrap_95": [float(low[i]), float(high[i])],
                "profile_95": [profiled[i].low, profiled[i].high],
            }
            for i, name in enumerate(names)
        },
        "beside": {
            loss: {
                "parameters": {n: float(v) for n, v in zip(names, other.fit.parameters, strict=True)},
                "standard_errors_apart": {n: float(v) for n, v in zip(names, other.apart, strict=True)},
                "disagrees": other.disagrees,
            }
            for loss, other in others.items()
        },
    }
