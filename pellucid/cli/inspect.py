"""`pellucid inspect`: a dictionary's card and quality, or several side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from pellucid.core.progress import Progress
    from pellucid.dictionaries.base import Dictionary
    from pellucid.dictionaries.files import Card

app = App(name="inspect", help_format="plaintext")


@app.default
def inspect(
    *dictionaries: str,
    measure: Annotated[bool, Parameter(negative="")] = False,
    text: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    rows: int = 64,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Show what a dictionary is and how good it is, beside random directions and PCA; or compare several.

    Loading proves each first.

    Args:
        dictionaries: names of shipped dictionaries, or folders; none stands for smollm2.
        measure: measure again, on the held-out part of the text it was trained on, or of --text.
        text: other text to measure on.
        rows: rows of 256 tokens for the figures of loss.
        json: print JSON.
    """
    from pellucid.cli import printing
    from pellucid.cli.quality import print_comparison, print_quality
    from pellucid.dictionaries import files, shipped
    from pellucid.dictionaries.agreement import agreement

    cards, found = {}, {}
    for name in dictionaries or ("smollm2",):
        loaded, card = files.load(shipped.resolve(name))
        if measure or text:
            with printing.progress(quiet=json) as progress:
                fresh = _measured(loaded, card, text, rows, progress)
            card = files.Card({**card.values, "quality": fresh})
        label = name if _short(name) in cards else _short(name)
        cards[label], found[label] = card, loaded
    if len(cards) == 1:
        (card,) = cards.values()
        return printing.as_json(card.values) if json else print_quality(card)
    (first, one), *others = found.items()
    shared = {
        name: agreement(one, two).as_json()
        for name, two in others
        if (one.ports, one.model_digest) == (two.ports, two.model_digest)
    }
    if json:
        return printing.as_json(
            {name: {**card.values, "agreement": shared.get(name)} for name, card in cards.items()}
        )
    print_comparison(cards)
    for name, share in shared.items():
        print(
            f"{share['partners']:.0%} of the features of {first} have a partner in {name} "
            f"(random directions: {share['random_partners']:.0%}); mean cosine with the nearest "
            f"{share['nearest']:.2f} (random: {share['random_nearest']:.2f})"
        )
    return None


def _short(name: str) -> str:
    """What to call a dictionary in a table: the last telling part of its path."""
    path = Path(name)
    return path.parent.name if path.name == "result" and path.parent.name else path.name


def _measured(
    dictionary: Dictionary, card: Card, text: list[str] | None, rows: int, progress: Progress
) -> dict[str, Any]:
    """The quality of a dictionary on the held-out part of its own text, or of other text."""
    from pellucid.activations.reading import Reader
    from pellucid.activations.text import TextSource
    from pellucid.activations.tokens import TokenStore
    from pellucid.cli.train import read_sources
    from pellucid.core.errors import InputError
    from pellucid.dictionaries import quality
    from pellucid.models.model import load

    model = load(card["model_reference"])
    ports = dictionary.ports
    beside = load(card["beside_reference"]) if ports.beside else None
    if beside is not None and beside.digest != ports.beside:
        raise InputError("The second model is not the one the dictionary was trained on. Fetch it again.")
    recorded = [TextSource.parse(s["spec"]) for s in card["corpus"]["sources"]]
    store = TokenStore.build(model, read_sources(text) if text else recorded, progress=progress)
    first, *others = dict.fromkeys(ports.sites)
    reader = Reader(model, store, first, further=tuple(others), beside=beside)
    held = store.tokens if text and len(store.heldout) < rows else store.heldout
    return quality.measure(dictionary, reader, held, loss_rows=rows, progress=progress).as_json()
