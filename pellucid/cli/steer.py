"""`pellucid steer`: a prompt answered plainly and with features turned up or down, side by side."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from pellucid.steering.receipts import Receipt

app = App(name="steer", help_format="plaintext")

Edits = Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")]


@app.default
def steer(
    prompt: str,
    /,
    *,
    set: Edits = None,  # noqa: A002  the verb of the glossary
    scale: Edits = None,
    ablate: Edits = None,
    cap: Edits = None,
    add: Edits = None,
    scope: Literal["all", "prompt", "answer"] = "all",
    recipe: str | None = None,
    save: str | None = None,
    dictionary: str = "smollm2",
    max_tokens: int = 64,
    temperature: float = 0.0,
    top_p: float = 1.0,
    samples: int = 1,
    seed: int = 0,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Answer a prompt twice, plainly and steered, and prove that the edits took effect.

    Strengths are multiples of a feature's maximum: --set 512=5 holds feature 512 at five times the strongest
    it was seen.

    Args:
        prompt: the message to answer.
        set: FEATURE=STRENGTH, hold the activation there.
        scale: FEATURE=FACTOR, multiply the activation where the feature is active.
        ablate: FEATURE, set the activation to zero.
        cap: FEATURE=STRENGTH, let the activation be no larger.
        add: FEATURE=STRENGTH, add to the activation.
        scope: the tokens that are edited.
        recipe: a recipe by its name, or a file of one; its edits come before those given here.
        save: keep the edits as a recipe under this name, once they took effect.
        dictionary: the name of a shipped dictionary, or a folder.
        max_tokens: how long an answer may be.
        temperature: 0 takes the likeliest token, 1 samples from the model's own distribution.
        top_p: sample among the likeliest tokens that together have this probability.
        samples: how many answers of each kind.
        seed: fixes the choices.
        json: print JSON.
    """
    from pellucid.cli import printing
    from pellucid.cli.session import Session
    from pellucid.core.errors import InputError
    from pellucid.models.generation import Sampling
    from pellucid.steering import steer as steering
    from pellucid.steering.edits import parse_assignment

    given = (("set", set), ("scale", scale), ("ablate", ablate), ("cap", cap), ("add", add))
    edits = [parse_assignment(text, kind, scope) for kind, texts in given for text in texts or []]  # type: ignore[arg-type]
    if recipe is not None:
        from pathlib import Path

        from pellucid.steering import recipes

        known = recipes.load(Path(recipe) if recipe.endswith(".json") else recipe)
        edits = [*known.edits, *edits]
    if not edits:
        raise InputError("Nothing to steer: give at least one edit, such as --set 512=5.")
    if samples > 1 and temperature == 0:
        raise InputError(
            "Several samples at temperature 0 would all be the same. Give --temperature, such as 0.7."
        )
    session = Session.open(dictionary)
    if recipe is not None:
        known.check(session.dictionary)
    if save is not None:
        from pellucid.steering import recipes

        kept = recipes.Recipe.of(save, session.dictionary, edits)
    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed)
    found = steering.steer(session.model, session.dictionary, [prompt] * samples, edits, sampling=sampling)
    if save is not None:
        printing.note(f"kept as {recipes.save(kept)}")
    if json:
        return printing.as_json(
            [
                {"plain": s.plain, "steered": s.steered, "receipts": [asdict(r) for r in s.receipts]}
                for s in found
            ]
        )
    from rich.table import Table

    out = printing.console()
    for result in found:
        columns = Table(box=None, expand=True, padding=(0, 3, 1, 0), header_style="dim")
        columns.add_column("plain", ratio=1)
        columns.add_column("steered", ratio=1)
        columns.add_row(result.plain.strip(), result.steered.strip(), style=None)
        out.print(columns)
    print_receipts(found[0].receipts)
    for feature in dict.fromkeys(e.feature for e in edits):
        printing.note(f"feature {feature} promotes {' · '.join(session.promoted(feature, 8))}")
    return None


def print_receipts(receipts: list[Receipt]) -> None:
    """Print receipts as a table."""
    from pellucid.cli import printing

    rows = [
        (
            r.edit,
            f"{r.before:.2f}",
            f"{r.asked:.2f}",
            f"{r.reached:.2f}",
            r.tokens,
            f"{r.kl:.2f}",
            f"{r.kept:.1e}",
        )
        for r in receipts
    ]
    printing.table(["receipt", "before", "asked", "reached", "tokens", "KL (nats)", "change elsewhere"], rows)
