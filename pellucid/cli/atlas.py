"""`pellucid atlas`: build feature pages and look at one; what finds features has files of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from pellucid.cli.atlas_find import families, find
from pellucid.cli.atlas_search import search

app = App(
    name="atlas",
    help="Build feature pages, look at one, find features by example sentences.",
    help_format="plaintext",
)
app.command(
    "pellucid.cli.atlas_label:label",
    name="label",
    help="Label features, and test each label on texts it was not written from.",
)


@app.command
def build(
    *dictionaries: str,
    text: Annotated[list[str], Parameter(consume_multiple=True, negative="")],
    out: str,
    tokens: str | None = None,
    promoted: int = 32,
    memory: str = "512M",
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Build an atlas in one pass over text; several dictionaries of one model share the reading.

    Up to 262,144 features, their neighbours are found too. Killed at any moment, the same command goes on to
    the same atlas.

    Args:
        dictionaries: names of shipped dictionaries, or folders.
        text: text sources, or @FILE with one source a line.
        out: the folder to write, or the URL of one in an object store; it must not exist. Of several
            dictionaries each gets a folder in it, by its name.
        tokens: read so many tokens at most, chosen at random.
        promoted: keep so many tokens that a feature promotes, and as many that it suppresses; 0 measures
            none, which saves a pass of the model for each feature.
        memory: bytes for what is sorted at a time.
        json: print the record of each atlas as JSON.
    """
    from pellucid.activations.reading import Reader
    from pellucid.activations.tokens import TokenStore
    from pellucid.atlas import build as building
    from pellucid.atlas import neighbours
    from pellucid.atlas.pages import Atlas
    from pellucid.cli import printing
    from pellucid.cli.session import Session
    from pellucid.cli.train import read_sources
    from pellucid.core.errors import InputError
    from pellucid.core.numbers import parse_count
    from pellucid.dictionaries import files

    if not dictionaries:
        raise InputError("Name a dictionary: a shipped one, such as smollm2, or a folder.")
    addresses = [_address(out, d, len(dictionaries)) for d in dictionaries]
    if len(set(addresses)) < len(addresses):
        raise InputError("Two of the dictionaries have one name. Rename a folder, or build two atlases.")
    building.check_addresses(addresses)
    model = Session.open(dictionaries[0]).model
    opened = {a: files.load(_folder(d))[0] for a, d in zip(addresses, dictionaries, strict=True)}
    settings = building.AtlasSettings(promoted=promoted, memory_bytes=parse_count(memory))
    with printing.progress(quiet=json) as progress:
        store = TokenStore.build(model, read_sources(text), progress=progress)
        wanted = None if tokens is None else -(-parse_count(tokens) // store.length)
        targets = [
            building.Target(d, Reader(model, store, d.ports.reads[0], further=d.ports.reads[1:]), address)
            for address, d in opened.items()
        ]
        rows = building.rows_of(len(store.tokens), wanted)
        neighbours.with_atlas(targets, rows, settings=settings, progress=progress)
    records = {address: Atlas.open(address).record for address in opened}
    if json:
        return printing.as_json(next(iter(records.values())) if len(records) == 1 else records)
    for address, record in records.items():
        printing.note(f"atlas of {record['features']:,} features over {record['tokens']:,} tokens: {address}")
        if record["features"] > neighbours.MOST_AT_ONCE:
            printing.note("finding the neighbours of so many takes long: 'pellucid atlas neighbours' does it")
    return None


def _folder(dictionary: str) -> Path:
    from pellucid.dictionaries import shipped

    return shipped.resolve(dictionary)


def _address(out: str, dictionary: str, count: int) -> str:
    """Where the atlas of one of several dictionaries goes."""
    if count == 1:
        return out
    folder = _folder(dictionary).resolve()
    return f"{out.rstrip('/')}/{folder.parent.name if folder.name == 'result' else folder.name}"


@app.command
def show(
    feature: int,
    /,
    *,
    dictionary: str = "smollm2",
    atlas: str | None = None,
    examples: int = 5,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Show one feature's page: how often and where it fires, what it promotes, where it is strongest.

    Args:
        feature: the feature's number.
        dictionary: the name of a shipped dictionary, or a folder.
        atlas: folder or URL of its atlas; by default the one in the dictionary's folder.
        examples: how many examples to show.
        json: print JSON.
    """
    from pellucid.atlas.pages import snippets
    from pellucid.cli import atlas_page, printing
    from pellucid.cli.session import Session

    session = Session.open(dictionary, atlas=atlas)
    session.dictionary.check_feature(feature)
    page = session.needed_atlas().page(feature)
    found = (
        snippets(page, session.store, session.model, session.dictionary, count=examples)
        if session.store
        else []
    )
    if json:
        return printing.as_json(atlas_page.as_json(session, page, found))
    printing.table(["", ""], atlas_page.rows(session, page))
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


app.command(search)
app.command(find)
app.command(families)
app.command(
    "pellucid.cli.atlas_near:neighbours",
    name="neighbours",
    help="Find the neighbours of every feature, by direction and by firing, and write them into the atlas.",
)
app.command(
    "pellucid.cli.atlas_near:similar",
    name="similar",
    help="Show the features nearest to one, by direction or by firing.",
)
app.command(
    "pellucid.cli.atlas_near:compare",
    name="compare",
    help="Say which feature of one dictionary became which of another, by direction and by firing.",
)
app.command(
    "pellucid.cli.atlas_near:map_",
    name="map",
    help="Lay all features out in two dimensions, in named clusters, and write the map into the atlas.",
)
