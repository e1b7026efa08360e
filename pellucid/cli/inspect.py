"""`pellucid inspect`: a dictionary's card and quality."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter

app = App(name="inspect", help_format="plaintext")


@app.default
def inspect(
    dictionary: str = "smollm2",
    /,
    *,
    measure: Annotated[bool, Parameter(negative="")] = False,
    text: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    rows: int = 64,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Show what a dictionary is and how good it is, beside random directions and PCA.

    Loading proves it first.

    Args:
        dictionary: the name of a shipped dictionary, or a folder.
        measure: measure again, on the held-out part of the text it was trained on, or of --text.
        text: other text to measure on.
        rows: rows of 256 tokens for the figures of loss.
        json: print JSON.
    """
    from pellucid.cli import printing
    from pellucid.cli.quality import print_quality
    from pellucid.dictionaries import files, shipped

    folder = shipped.resolve(dictionary)
    loaded, card = files.load(folder)
    if measure or text:
        from pellucid.activations.reading import Reader
        from pellucid.activations.text import TextSource
        from pellucid.activations.tokens import TokenStore
        from pellucid.cli.train import read_sources
        from pellucid.dictionaries import quality
        from pellucid.models.model import load

        model = load(card["model_reference"])
        recorded = [TextSource.parse(s["spec"]) for s in card["corpus"]["sources"]]
        with printing.progress(quiet=json) as progress:
            store = TokenStore.build(model, read_sources(text) if text else recorded, progress=progress)
            reader = Reader(model, store, loaded.site)
            held = store.tokens if text and len(store.heldout) < rows else store.heldout
            found = quality.measure(loaded, reader, held, loss_rows=rows, progress=progress)
        card = files.Card({**card.values, "quality": found.as_json()})
    if json:
        return printing.as_json(card.values)
    print_quality(card)
    return None
