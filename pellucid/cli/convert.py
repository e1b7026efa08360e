"""`pellucid convert`: dictionaries of other libraries become ours, and ours theirs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from pellucid.activations.reading import Reader
    from pellucid.core.sites import Site

app = App(name="convert", help_format="plaintext")

_ROWS = 16
_NEAR = 2


@app.default
def convert(
    source: str,
    /,
    *,
    out: Path,
    to: Literal["saelens", "dictionary_learning", "sparsify", "gemmascope", "llamascope"] | None = None,
    model: str = "smollm2",
    site: str | None = None,
    text: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    tokens: str = "200k",
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Make a dictionary of another library one of ours; with --to, the other way round.

    What the file declares is measured on text first, against what else it could mean, and a declaration that
    does not fit is refused.

    Args:
        source: a folder or file of another library; with --to, a dictionary of ours.
        out: the folder to write; it must not exist.
        to: the library to write for.
        model: the model it was trained on.
        site: the site it was trained at, where the file does not say.
        text: text to measure on, or @FILE with one source a line; needed to convert from another library.
        tokens: how much of the text maxima and frequencies are measured on.
        json: print JSON.
    """
    from pellucid.cli import printing

    if to is not None:
        _export(source, out, to)
        if json:
            return printing.as_json({"library": to, "folder": str(out)})
        return printing.note(f"dictionary for {to}: {out}")
    return _import(Path(source).expanduser(), out, model, site, text or [], tokens, json=json)


def _export(source: str, out: Path, library: str) -> None:
    from pellucid.dictionaries import files, peers, shipped

    dictionary, card = files.load(shipped.resolve(source))
    peers.write(dictionary, library, out, str(card.get("model_reference", card["model"])))


def _import(
    source: Path, out: Path, reference: str, at: str | None, text: list[str], tokens: str, *, json: bool
) -> None:
    from pellucid.activations.reading import Reader
    from pellucid.activations.tokens import TokenStore
    from pellucid.cli import printing
    from pellucid.cli.quality import print_quality
    from pellucid.cli.train import read_sources
    from pellucid.core.errors import InputError
    from pellucid.core.numbers import parse_count
    from pellucid.core.sites import Site
    from pellucid.dictionaries import files, peers, quality, remeasure
    from pellucid.models.model import load

    if out.exists():
        raise InputError(f"{str(out)!r} exists already. Choose another name, or remove it first.")
    declared = peers.read(source)
    site = declared.site if at is None else Site.parse(at)
    if site is None:
        raise InputError("The file does not say where the dictionary was trained. Give --site.")
    sources = read_sources(text)
    network = load(reference)
    network.check_site(site)
    with printing.progress(quiet=json) as progress:
        store = TokenStore.build(network, sources, progress=progress)
        reader = Reader(network, store, site)
        found = remeasure.fits(declared, site, _activations(reader))
        if not json:
            _print_fits(found)
        remeasure.check(found, site)
        dictionary = remeasure.with_maxima(
            declared.dictionary(site, network.digest), reader, parse_count(tokens), progress=progress
        )
        held = store.heldout if len(store.heldout) else store.tokens
        measured = quality.measure(dictionary, reader, held, progress=progress)
        card: dict[str, Any] = {
            "model_reference": reference,
            "architecture": declared.activation,
            "converted": {"library": declared.library, "model": declared.model, **declared.facts},
            "corpus": {"digest": store.digest, "sources": store.record["sources"]},
            "quality": measured.as_json(),
        }
        files.save(dictionary, out, card=card, fixture=reader.sample(32).float())
    _, loaded = files.load(out, model_digest=network.digest)
    if json:
        return printing.as_json(loaded.values)
    print_quality(loaded)
    printing.note(f"dictionary: {out}")
    return None


def _activations(reader: Reader) -> dict[Site, Any]:
    """[T, D] activations of the same rows at the reader's site, its kind on layers near, and its layer."""
    import numpy as np
    import torch

    from pellucid.core.sites import LAYER_KINDS, Site

    site, layer = reader.site, reader.site.layer
    sites = [site]
    if layer is not None:
        last = reader.model.num_layers - 1
        sites += [Site(site.kind, n) for n in range(max(0, layer - _NEAR), min(last, layer + _NEAR) + 1)]
        sites += [Site(kind, layer) for kind in LAYER_KINDS]
    rows = np.asarray(reader.store.tokens[:_ROWS])
    activations, keep = reader.read(rows)
    found = {site: activations[keep].float()}
    if others := [s for s in dict.fromkeys(sites) if s != site]:
        captured = reader.model.capture(torch.from_numpy(rows.astype(np.int64)), others)
        found |= {s: captured[s].cpu()[keep].float() for s in others}
    return found


def _print_fits(found: list[Any]) -> None:
    from pellucid.cli import printing

    said, *others = found
    rows = [said, *sorted(others, key=lambda f: f.unexplained)[:5]]
    printing.table(
        ["read", "unexplained", "active"],
        [(f"{f.field} {f.value}".strip(), f"{f.unexplained:.3f}", f"{f.l0:.0f}") for f in rows],
    )
