"""`pellucid scale plan`: what to train for a loss or a budget, what it will cost, and how sure that is."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cyclopts import App

from pellucid.cli.scale import AS_FOUND, Flag, Reading
from pellucid.cli.scale_options import CHIPS, SERVED, SOURCE, Chips, Served, Source

if TYPE_CHECKING:
    from pellucid.scaling.distillation import Comparison
    from pellucid.scaling.plans import Option, Plan
    from pellucid.scaling.serving import Deployment

app = App(name="plan", help_format="plaintext")


@app.default
def plan(
    runs: Path | None = None,
    /,
    *,
    source: Source = SOURCE,
    reading: Reading = AS_FOUND,
    loss: float | None = None,
    dollars: str | None = None,
    flops: str | None = None,
    least: Literal["dollars", "flops"] = "dollars",
    served: Served = SERVED,
    chips: Chips = CHIPS,
    unique_tokens: str | None = None,
    most_parameters: str | None = None,
    chips_per_copy: int | None = None,
    seconds_per_token: float | None = None,
    seconds_to_first_token: float | None = None,
    prompt_tokens: int = 1000,
    training_chips: int | None = None,
    teacher_parameters: str | None = None,
    teacher_tokens: str | None = None,
    teacher_share: float = 0.0,
    nominal: float = 0.9,
    page: Path | None = None,
    json: Flag = False,
) -> None:
    """Say what to train for a loss at the least cost, or for a budget at the least loss.

    A budget pays for training and for serving the tokens read and written. Beside the plan stand the model of
    the same loss that is cheapest to train and the one with 20 tokens per parameter. Intervals come from the
    draws of the law; what a plan wastes is its cost beyond the least for the loss it would have, should a
    draw be the true law.

    Args:
        runs: a file with a row per run, which the law is fitted to.
        source: where the law is from.
        reading: how the file is read.
        loss: the loss to reach.
        dollars: a budget, such as 2M.
        flops: a budget, such as 5.76e23.
        served: the tokens the model serves.
        chips: what the work is done on.
        least: what a plan for a loss spends least of.
        unique_tokens: how much different text there is, such as 500B; more is read again, at falling value.
        most_parameters: a limit on the model, such as 70B.
        chips_per_copy: how many chips share one served model, so that it fits their memory.
        seconds_per_token: the longest an answer's token may take; needs chips_per_copy.
        seconds_to_first_token: the longest a prompt may take; needs chips_per_copy.
        prompt_tokens: the length of that prompt.
        training_chips: how many chips train, to say how many days.
        teacher_parameters: also compare with distilling from a teacher of this size.
        teacher_tokens: what the teacher was, or would be, trained on.
        teacher_share: the share of the teacher's training that this model pays: 0 for a teacher that exists.
        nominal: the share of draws inside an interval.
        page: write the plots to this .html file, or to this .png file.
        json: print JSON.
    """
    from pellucid.cli import printing
    from pellucid.cli.scale_options import amount, as_estimate, law_notes, price_notes
    from pellucid.core.errors import InputError
    from pellucid.scaling import plans
    from pellucid.scaling.repetition import Repetition

    given = [f"--{n}" for n, v in (("loss", loss), ("dollars", dollars), ("flops", flops)) if v is not None]
    if len(given) != 1:
        raise InputError(
            f"Expected one of --loss, --dollars and --flops; got {' and '.join(given) or 'none'}."
        )
    unit = least if loss is not None else "flops" if flops is not None else "dollars"
    goal = plans.Goal(loss, amount(dollars if flops is None else flops), unit)
    tariff, demand = chips.tariff(), served.demand()
    deployment = _deployment(
        tariff.prefill, chips_per_copy, seconds_per_token, seconds_to_first_token, prompt_tokens
    )
    asked = amount(most_parameters) or math.inf
    most = min(asked, deployment.most_parameters if deployment else math.inf)
    unique = amount(unique_tokens)
    stock = None if unique is None else Repetition(unique)
    law, fitted = source.read(runs, reading)
    found = plans.plan(law, goal, tariff=tariff, demand=demand, most_parameters=most, stock=stock)
    comparison = _distilled(found, teacher_parameters, teacher_tokens, teacher_share)
    best = found.options[0]
    days = None if training_chips is None else tariff.training_days(best.N, best.D, training_chips)
    notes = [
        *law_notes(law, fitted, float(best.N[0]), float(best.D[0])),
        *_notes(found, asked, deployment),
        *price_notes(tariff),
        *(_told(comparison) if comparison else []),
    ]
    headers, rows = _rows(found, nominal, days)
    if page is not None:
        from pellucid.scaling import page as pages
        from pellucid.scaling.plan_page import of_plan

        told = of_plan(found, tariff, demand, nominal=nominal, headers=headers, rows=rows, notes=tuple(notes))
        pages.write(page, told)
    if json:
        value: dict[str, Any] = {
            "law": found.law.name,
            "nominal": nominal,
            "loss": as_estimate(found.loss, nominal),
            "options": {o.name: _as_json(o, nominal) for o in found.options},
            "training_days": None if days is None else as_estimate(days, nominal),
            "most_parameters": most if math.isfinite(most) else None,
            "limit_holds": found.bound,
            "distillation": vars(comparison) if comparison else None,
            "price_dates": found.dates,
            "notes": notes,
        }
        return printing.as_json(value)
    printing.table(headers, rows, title=f"Plan by {found.law.name}")
    for note in notes:
        printing.note(note)
    return None


def _values(option: Option) -> dict[str, Any]:
    """The quantities of an option, by the name they have in JSON."""
    import numpy as np

    with np.errstate(invalid="ignore"):  # where a loss is out of reach both are infinite
        ratio = option.D / option.N
    values = {
        "parameters": option.N,
        "tokens": option.D,
        "tokens_per_parameter": ratio,
        "training_flops": option.training_flops,
        "training_dollars": option.training_dollars,
        "lifetime_dollars": option.lifetime_dollars,
    }
    if option.price is not None:
        values["dollars_per_million"] = option.price
    if option.training_kwh is not None:
        values["training_kwh"] = option.training_kwh
    return values


def _as_json(option: Option, nominal: float) -> dict[str, Any]:
    """An option's estimates, and the mean share of its cost that it wastes over the draws."""
    import numpy as np

    from pellucid.cli.scale_options import as_estimate

    wasted = option.wasted[1:][np.isfinite(option.wasted[1:])]
    values = {key: as_estimate(value, nominal) for key, value in _values(option).items()}
    return {**values, "wasted_share": float(wasted.mean()) if len(wasted) else None}


_LABELS = {
    "parameters": "parameters",
    "tokens": "tokens",
    "tokens_per_parameter": "tokens per parameter",
    "training_flops": "training FLOPs",
    "training_dollars": "training",
    "lifetime_dollars": "training and serving",
    "dollars_per_million": "a million tokens served",
    "training_kwh": "kWh of training, chips at full power",
}


def _rows(found: Plan, nominal: float, days: Any) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """The table of a plan: headers and rows."""
    from pellucid.cli.scale_options import interval, shown
    from pellucid.scaling.surface import estimate

    planned, *others = [(o, _values(o)) for o in found.options]
    drawn = found.law.draws is not None
    rows = []
    loss = estimate(found.loss, nominal=nominal)
    extra = [[interval(loss)]] if drawn else [[]]
    rows.append(["loss", f"{loss.value:.4g}", *extra[0], *[f"{loss.value:.4g}"] * len(others)])
    for key, label in _LABELS.items():
        if key not in planned[1]:
            continue
        dollars = "dollars" in key
        told = estimate(planned[1][key], nominal=nominal)
        rows.append(
            [
                label,
                shown(told.value, dollars=dollars),
                *([interval(told, dollars=dollars)] if drawn else []),
                *(shown(float(values[key][0]), dollars=dollars) for _, values in others),
            ]
        )
        if key == "tokens" and found.stock is not None:
            epochs = estimate(planned[1][key] / found.stock.unique_tokens, nominal=nominal)
            cells = [shown(float(values[key][0]) / found.stock.unique_tokens) for _, values in others]
            rows.append(["epochs", shown(epochs.value), *([interval(epochs)] if drawn else []), *cells])
    if drawn:
        wasted = [_share(option.wasted[1:]) for option in found.options]
        rows.append(["wasted, on average over the draws", wasted[0], "", *wasted[1:]])
    if days is not None:
        told = estimate(days, nominal=nominal)
        rows.append(
            ["days of training", shown(told.value), *([interval(told)] if drawn else []), *[""] * len(others)]
        )
    headers = ["", "planned", *([f"{nominal:.0%} of draws"] if drawn else []), *(o.name for o, _ in others)]
    return tuple(headers), tuple(tuple(row) for row in rows)


def _share(values: Any) -> str:
    import numpy as np

    finite = values[np.isfinite(values)]
    return f"{float(finite.mean()):.1%}" if len(finite) else "–"


def _notes(found: Plan, asked: float, deployment: Deployment | None) -> list[str]:
    from pellucid.scaling.surface import estimate

    notes = []
    if found.bound:
        held = deployment is not None and deployment.most_parameters < asked
        by = deployment.tightest if deployment is not None and held else "the limit that was given"
        notes.append(f"The plan is held back by {by}: without it the model would be larger.")
    share = estimate(found.options[0].N).share
    if share < 1:
        notes.append(
            f"Under {1 - share:.1%} of the draws the loss is out of reach; intervals leave them out."
        )
    if found.stock is not None:
        notes.append(
            f"Text read again: after {found.stock.half_value_epochs:.1f} epochs another reading adds half of "
            "the first (Muennighoff et al. 2023; their constants came without an interval)."
        )
    return notes


def _deployment(
    prefill: Any, chips: int | None, token_s: float | None, first_s: float | None, prompt: int
) -> Deployment | None:
    from pellucid.core.errors import InputError
    from pellucid.scaling.serving import Deployment

    if chips is None:
        if token_s is not None or first_s is not None:
            raise InputError(
                "A limit in seconds depends on the chips that share a model: give --chips-per-copy."
            )
        return None
    return Deployment(
        prefill, chips, prompt_tokens=prompt, seconds_per_token=token_s, seconds_to_first_token=first_s
    )


def _distilled(found: Plan, size: str | None, tokens: str | None, share: float) -> Comparison | None:
    from pellucid.cli.scale_options import amount
    from pellucid.core.errors import InputError
    from pellucid.scaling.distillation import Teacher, compare

    if size is None and tokens is None:
        return None
    N, D = amount(size), amount(tokens)
    if N is None or D is None:
        raise InputError("A teacher has a size and tokens: give --teacher-parameters and --teacher-tokens.")
    best = found.options[0]
    return compare(float(best.N[0]), float(best.training_flops[0]), Teacher(N, D, share))


def _told(found: Comparison) -> list[str]:
    verdict = "distilling comes out lower" if found.better == "distil" else "training comes out lower"
    return [
        f"With the same FLOPs the planned model reaches {found.supervised_loss:.4f} by training on text, "
        f"{found.distilled_loss:.4f} by distilling from a teacher at {found.teacher_loss:.4f}: {verdict} "
        "(Busbridge et al. 2025, fitted on C4: compare the two with one another, not with the loss above. "
        "The coefficients of distillation were typed from memory and not verified: do not decide by this "
        "alone)."
    ]
