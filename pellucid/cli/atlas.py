"""`pellucid atlas`: build feature pages, look at one, find features by example sentences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from pellucid.cli.session import Session
    from pellucid.steering.finding import Candidate

app = App(
    name="atlas",
    help="Build feature pages, look at one, find features by example sentences.",
    help_format="plaintext",
)


@app.command
def build(
    dictionary: str,
    /,
    *,
    text: Annotated[list[str], Parameter(consume_multiple=True, negative="")],
    out: Path,
    tokens: str | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Build an atlas in one pass over text.

    Args:
        dictionary: the name of a shipped dictionary, or a folder.
        text: text sources, or @FILE with one source a line.
        out: the folder to write; it must not exist.
        tokens: read so many tokens at most, chosen at random.
        json: print the atlas's record as JSON.
    """
    from pellucid.activations.reading import Reader
    from pellucid.activations.tokens import TokenStore
    from pellucid.atlas import build as building
    from pellucid.atlas.pages import Atlas
    from pellucid.cli import printing
    from pellucid.cli.session import Session
    from pellucid.cli.train import read_sources
    from pellucid.core.errors import InputError
    from pellucid.core.numbers import parse_count

    if out.exists():
        raise InputError(f"{str(out)!r} exists already. Choose another name, or remove it first.")
    session = Session.open(dictionary)
    with printing.progress(quiet=json) as progress:
        store = TokenStore.build(session.model, read_sources(text), progress=progress)
        first, *others = session.dictionary.ports.reads
        reader = Reader(session.model, store, first, further=tuple(others))
        wanted = None if tokens is None else -(-parse_count(tokens) // store.length)
        rows = building.rows_of(len(store.tokens), wanted)
        building.build(session.dictionary, reader, rows, out, progress=progress)
    record = Atlas.open(out).record
    if json:
        printing.as_json(record)
    else:
        printing.note(f"atlas of {record['features']:,} features over {record['tokens']:,} tokens: {out}")


@app.command
def show(
    feature: int,
    /,
    *,
    dictionary: str = "smollm2",
    examples: int = 5,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Show one feature's page: how often it fires, what it promotes, where it is strongest.

    Args:
        feature: the feature's number.
        dictionary: the name of a shipped dictionary, or a folder.
        examples: how many examples to show.
        json: print JSON.
    """
    from pellucid.atlas.pages import snippets
    from pellucid.cli import printing
    from pellucid.cli.session import Session
    from pellucid.core.errors import InputError

    session = Session.open(dictionary)
    session.dictionary.check_feature(feature)
    if session.atlas is None:
        raise InputError(
            f"The dictionary {dictionary!r} has no atlas in its folder. "
            "Build one with 'pellucid atlas build'."
        )
    page = session.atlas.page(feature)
    found = (
        snippets(page, session.store, session.model, session.dictionary, count=examples)
        if session.store
        else []
    )
    promoted = session.promoted(feature, 12)
    if json:
        return printing.as_json(
            {
                "feature": feature,
                "frequency": page.frequency,
                "maximum": page.maximum,
                "promoted": promoted,
                "examples": [{"pieces": s.pieces, "values": s.values} for s in found],
            }
        )
    median = float(_median_frequency(session))
    printing.table(
        ["", ""],
        [
            ("feature", f"{feature} of {session.dictionary.num_features:,} at {session.dictionary.ports}"),
            ("active on", f"{page.frequency:.4%} of tokens (median feature: {median:.4%})"),
            ("maximum", f"{page.maximum:.2f}"),
            ("promotes", " · ".join(promoted)),
        ],
    )
    out = printing.console()
    for snippet in found:
        shares = [v / max(page.maximum, 1e-9) for v in snippet.values]
        out.print()
        out.print(printing.tinted([p.replace("\n", "⏎") for p in snippet.pieces], shares))
    if not found:
        printing.note(
            "no examples: the feature fired nowhere in the atlas's text, or that text is not at hand"
        )
    return None


def _median_frequency(session: Session) -> float:
    import numpy as np

    assert session.atlas is not None
    return float(np.median(session.atlas.column("frequency")))


@app.command
def find(
    *,
    with_: Annotated[list[str], Parameter(name="--with", consume_multiple=True, negative="")],
    without: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    dictionary: str = "smollm2",
    count: int = 10,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Find features by contrast: sentences with something, against sentences without it.

    Args:
        with_: sentences with the concept, or the name of a built-in concept such as music.
        without: sentences without it; by default a dozen neutral ones.
        dictionary: the name of a shipped dictionary, or a folder.
        count: how many features to show.
        json: print JSON.
    """
    from pellucid.cli import printing
    from pellucid.cli.session import Session
    from pellucid.steering import finding
    from pellucid.steering.concepts import CONCEPTS, NEUTRAL_SENTENCES

    session = Session.open(dictionary)
    known = CONCEPTS.get(with_[0].lower()) if len(with_) == 1 else None
    sentences = list(known.sentences) if known else with_
    found = finding.by_contrast(
        session.model,
        session.dictionary,
        sentences,
        without or list(NEUTRAL_SENTENCES),
        promoted=session.promotions,
        words=known.words if known else (),
        count=count,
    )[:count]
    if json:
        return printing.as_json(
            [
                {
                    "feature": c.feature,
                    "on_concept": c.on_concept,
                    "on_neutral": c.on_neutral,
                    "output": c.output,
                    "promoted": session.promoted(c.feature),
                }
                for c in found
            ]
        )
    printing.table(CANDIDATE_HEADS, [candidate_row(session, c) for c in found])
    printing.note(
        "fires: mean peak activation as a share of the feature's maximum. "
        "writes: rise of the concept's words when it is turned up, nats"
    )
    return None


CANDIDATE_HEADS = ("feature", "fires with", "without", "writes it", "promotes")


def candidate_row(session: Session, candidate: Candidate) -> tuple[object, ...]:
    """What a table says of a candidate, under those heads."""
    return (
        candidate.feature,
        f"{candidate.on_concept:.2f}",
        f"{candidate.on_neutral:.2f}",
        f"{candidate.output:.1f}",
        " · ".join(session.promoted(candidate.feature)),
    )
