"""`pellucid scale count`: parameters, FLOPs and the exponents of a fit under each convention."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App

from pellucid.cli.scale import Flag

if TYPE_CHECKING:
    from pellucid.scaling.accounting import CountedFit

app = App(name="count", help_format="plaintext")

_RUNS = (".csv", ".tsv", ".jsonl", ".ndjson")


@app.default
def count(
    source: Path,
    /,
    *,
    tokens: str = "1T",
    context: int = 4096,
    tied: Flag = False,
    ungated: Flag = False,
    json: Flag = False,
) -> None:
    """Count a model's parameters under each convention, or fit runs under each.

    Of a model it says 6ND beside the FLOPs counted one by one. Of runs with the columns layers, width, heads,
    ffn, vocabulary, tokens and a metric it says the exponents that each count leads to.

    Args:
        source: the config.json of a Hugging Face model or the folder it is in, or a file of runs.
        tokens: the tokens a model is trained on.
        context: the length of a training row, which attention's share depends on.
        tied: the head of the runs' models is their embedding.
        ungated: the MLPs of the runs' models have no gate.
        json: print JSON.
    """
    from pellucid.cli import printing
    from pellucid.cli.scale_options import shown
    from pellucid.core import files
    from pellucid.core.errors import InputError
    from pellucid.core.numbers import parse_amount
    from pellucid.scaling import accounting

    if source.suffix in _RUNS:
        return _of_runs(source, tied, ungated, json)
    value = files.read_json(source / "config.json" if source.is_dir() else source)
    if not isinstance(value, dict):
        raise InputError(f"{str(source)!r} holds no configuration: expected a JSON object; got {value!r}.")
    model, trained = accounting.Transformer.from_config(value), parse_amount(tokens)
    exact = accounting.training_flops(model, trained, context=context)
    found = accounting.counts(model, trained, context=context)
    if json:
        facts = {"tokens": trained, "context": context, "training_flops": exact}
        return printing.as_json({**facts, "counts": [vars(row) for row in found]})
    rows = [[r.convention, f"{r.N:,}", shown(r.flops_6nd), f"{r.share:.3f}"] for r in found]
    printing.table(["N counts", "N", "6ND", "6ND / exact"], rows)
    printing.note(
        f"Training on {shown(trained)} tokens in rows of {context:,} takes {shown(exact)} FLOPs, counted one "
        "by one: every weight that is multiplied, the head, and attention to the tokens before."
    )
    return None


def _of_runs(path: Path, tied: bool, ungated: bool, json: bool) -> None:
    import numpy as np

    from pellucid.cli import printing
    from pellucid.core.errors import InputError
    from pellucid.scaling import accounting
    from pellucid.scaling.arrays import Floats
    from pellucid.scaling.fit import fit
    from pellucid.scaling.reading import read_runs, read_table
    from pellucid.scaling.runs import Runs
    from pellucid.scaling.surface import Surface

    wanted = (*accounting.RUN_COLUMNS, *accounting.MORE_COLUMNS)
    runs = read_runs(path, columns={name: name for name in wanted if name in read_table(path).columns})
    if "D" not in runs.values:
        raise InputError(
            f"{str(path)!r} has no column of tokens, so its runs cannot be fitted under each count."
        )
    columns = {name: runs.values[name] for name in wanted if name in runs.values}
    models = [
        accounting.Transformer.from_run(
            {name: float(column[i]) for name, column in columns.items()}, gated=not ungated, tied=tied
        )
        for i in range(len(runs))
    ]

    def fitted(N: Floats, D: Floats, losses: Floats) -> Surface:
        return Surface.of(fit(Runs.of({"N": N, "D": D}, losses)).parameters)

    found = accounting.exponents(models, runs.values["D"].tolist(), np.asarray(runs.y).tolist(), fitted)
    if json:
        return printing.as_json([_as_json(row) for row in found])
    rows = [
        [row.convention, *(f"{v:.4g}" for v in row.surface.rows[0]), f"{row.exponent:.3f}"] for row in found
    ]
    printing.table(["N counts", "E", "A", "B", "alpha", "beta", "a of N* ~ C^a"], rows)
    for note in runs.notes:
        printing.note(note)
    return None


def _as_json(row: CountedFit) -> dict[str, Any]:
    from pellucid.scaling.surface import PARAMETERS

    five = dict(zip(PARAMETERS, map(float, row.surface.rows[0]), strict=True))
    return {"convention": row.convention, "parameters": five, "exponent": row.exponent}
