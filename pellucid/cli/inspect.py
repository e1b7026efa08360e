"""`pellucid inspect`: a dictionary's card and quality, or several side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from pellucid.core.progress import Progress
    from pellucid.dictionaries.base import Dictionary
    from pellucid.dictionaries.files import Card
    from pellucid.dictionaries.ports import Ports

app = App(name="inspect", help_format="plaintext")


@app.default
def inspect(
    *dictionaries: str,
    measure: Annotated[bool, Parameter(negative="")] = False,
    text: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    rows: int = 64,
    full: Annotated[bool, Parameter(negative="")] = False,
    plot: Path | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Show what a dictionary is and how good it is, beside random directions and PCA; or compare several.

    Loading proves each first.

    Args:
        dictionaries: names of shipped dictionaries, or folders; none stands for smollm2.
        measure: measure again, on the held-out part of the text it was trained on, or of --text.
        text: other text to measure on.
        rows: rows of 256 tokens for the figures of loss.
        full: also sparse probing on labelled sets, feature absorption and dense features. The first
            dictionary of a site takes long, the next ones little; a run that was stopped goes on.
        plot: write an SVG file of features active per token against variance unexplained and loss added.
        json: print JSON.
    """
    from pellucid.cli import frontier, printing
    from pellucid.cli.full import print_full, print_full_comparison
    from pellucid.cli.quality import print_comparison, print_quality
    from pellucid.dictionaries import files, shipped
    from pellucid.dictionaries.agreement import agreement

    if plot is not None:
        frontier.check(plot)
    cards, found = {}, {}
    for name in dictionaries or ("smollm2",):
        loaded, card = files.load(shipped.resolve(name))
        if measure or text:
            with printing.progress(quiet=json) as progress:
                fresh = _measured(loaded, card, text, rows, progress)
            card = files.Card({**card.values, "quality": fresh})
        label = name if _short(name) in cards else _short(name)
        cards[label], found[label] = card, loaded
    evaluated = _evaluated(found, cards, quiet=json) if full else {}
    if plot is not None:
        frontier.draw(cards, plot)
    if len(cards) == 1:
        ((name, card),) = cards.items()
        if json:
            return printing.as_json({**card.values, **({"full": evaluated[name]} if full else {})})
        print_quality(card)
        return print_full(evaluated[name]) if full else None
    (first, one), *others = found.items()
    shared = {name: agreement(one, two).as_json() for name, two in others if _place(one) == _place(two)}
    if json:
        return printing.as_json(
            {
                name: {
                    **card.values,
                    "agreement": shared.get(name),
                    **({"full": evaluated[name]} if full else {}),
                }
                for name, card in cards.items()
            }
        )
    print_comparison(cards)
    if len({card["corpus"]["digest"] for card in cards.values()}) > 1 and not text:
        printing.note("measured on different texts: give --text FILE to measure all on one")
    for place in dict.fromkeys(map(_place, found.values())) if full else ():
        print_full_comparison(
            {name: evaluated[name] for name in found if _place(found[name]) == place}, str(place[1])
        )
    for name, share in shared.items():
        told = "Stability over two seeds: " if _differ_in_seed(cards[first], cards[name]) else ""
        interval = f"[{share['partners_low']:.0%}, {share['partners_high']:.0%}]"
        print(
            f"{told}{share['partners']:.0%} {interval} of the features of {first} have a partner in {name} "
            f"(random directions: {share['random_partners']:.0%}); mean cosine with the nearest "
            f"{share['nearest']:.2f} (random: {share['random_nearest']:.2f})"
        )
    return None


def _evaluated(
    found: dict[str, Dictionary], cards: dict[str, Card], *, quiet: bool
) -> dict[str, dict[str, Any]]:
    """The full evaluation of each dictionary; those of one site of one model share what is read for it."""
    from pellucid.cli import printing
    from pellucid.core.errors import InputError
    from pellucid.dictionaries import files
    from pellucid.dictionaries.evaluation import evaluate
    from pellucid.dictionaries.ground import Ground
    from pellucid.models.model import load

    for name, dictionary in found.items():
        if dictionary.ports.kind != "sparse autoencoder":
            raise InputError(
                f"{name} is a {dictionary.ports.kind}, and the full evaluation is for dictionaries that "
                "write the one site they read. Leave out --full."
            )
    grounds: dict[tuple[str, Ports], Ground] = {}
    evaluated = {}
    with printing.progress(quiet=quiet) as progress:
        for name, dictionary in found.items():
            card, place = cards[name], _place(dictionary)
            if place not in grounds:
                model = load(card["model_reference"])
                files.check_model(card, model.digest)
                grounds[place] = Ground.prepare(model, dictionary.site, progress=progress)
            digest = card["digests"]["dictionary.safetensors"]
            evaluated[name] = evaluate(grounds[place], dictionary, digest, progress=progress).as_json()
            grounds[place] = replace(grounds[place], seconds=0.0)
    return evaluated


def _place(dictionary: Dictionary) -> tuple[str, Ports]:
    """The model and the sites a dictionary is of."""
    return dictionary.model_digest, dictionary.ports


def _differ_in_seed(one: Card, two: Card) -> bool:
    """Whether two trainings had the same settings and text, and other seeds."""
    mine, others = one.get("settings"), two.get("settings")
    return (
        mine is not None
        and others is not None
        and mine["seed"] != others["seed"]
        and {**mine, "seed": 0} == {**others, "seed": 0}
        and one["corpus"]["digest"] == two["corpus"]["digest"]
    )


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
