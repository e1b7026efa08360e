"""`pellucid scale count`: a model's parameters and training FLOPs under each convention."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

app = App(name="count", help_format="plaintext")


@app.default
def count(
    config: Path,
    /,
    *,
    tokens: str = "1T",
    context: int = 4096,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Count parameters under each convention, and 6ND beside the FLOPs counted one by one.

    Args:
        config: the config.json of a Hugging Face model, or the folder it is in.
        tokens: the tokens it is trained on.
        context: the length of a training row, which attention's share depends on.
        json: print JSON.
    """
    from pellucid.cli import printing
    from pellucid.cli.scale_options import shown
    from pellucid.core import files
    from pellucid.core.errors import InputError
    from pellucid.core.numbers import parse_amount
    from pellucid.scaling import accounting

    value = files.read_json(config / "config.json" if config.is_dir() else config)
    if not isinstance(value, dict):
        raise InputError(f"{str(config)!r} holds no configuration: expected a JSON object; got {value!r}.")
    shape, trained = accounting.Shape.from_config(value), parse_amount(tokens)
    exact = accounting.training_flops(shape, trained, context=context)
    found = accounting.counts(shape, trained, context=context)
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
