"""How a dictionary's quality is printed: each figure beside a random dictionary, PCA, and its interval."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pellucid.dictionaries.files import Card

FIGURES = (
    ("unexplained", "variance unexplained", "lower"),
    ("ce_recovered", "cross-entropy recovered", "higher"),
    ("kl", "KL to the plain model (nats)", "lower"),
    ("l0", "features active per token", "as asked"),
)


def print_quality(card: Card) -> None:
    """Print the card's facts and figures."""
    from pellucid.cli import printing
    from pellucid.core import digests

    q = card["quality"]
    facts = [
        ("site", f"{card['site']} of {card.get('model_reference', digests.short(card['model']))}"),
        ("architecture", _architecture(card)),
        ("features", f"{card['features']:,} of width {card['width']}"),
        ("trained on", _training(card)),
        ("measured on", f"{q['tokens']:,} held-out tokens (dead features: {q['dead_tokens']:,})"),
        ("loss, nats", f"{q['ce_plain']:.3f} plain, {q['ce_zero']:.3f} with what it writes set to zero"),
    ]
    if len(q.get("by_site", [])) > 1:
        writes = zip(card["ports"]["writes"], q["by_site"], strict=True)
        facts.append(("unexplained", ", ".join(f"{left:.3f} at {site}" for site, left in writes)))
    if apart := card.get("difference"):
        facts.append(("features", _apart(apart, card["beside_reference"])))
    printing.table(["", ""], facts)
    rows = [
        [label, *(_figure(q["methods"][m][name]) for m in ("dictionary", "random", "pca")), aim]
        for name, label, aim in FIGURES
    ]
    dead = [q["methods"][m]["dead"] for m in ("dictionary", "random", "pca")]
    rows.append(["dead features", *("n/a" if d is None else f"{d:.2%}" for d in dead), "lower"])
    printing.console().print()
    printing.table(["", "dictionary", "random directions", "PCA of equal L0", "better"], rows)
    printing.note("in brackets: 95 % bootstrap intervals over rows of text")


def print_comparison(cards: dict[str, Card]) -> None:
    """Print the figures of several dictionaries, a row each, with random directions of the first below."""
    from pellucid.cli import printing

    rows = [[name, *_row(card["quality"]["methods"]["dictionary"])] for name, card in cards.items()]
    first = next(iter(cards.values()))["quality"]["methods"]
    rows += [[f"{name} of the first", *_row(first[name])] for name in ("random", "pca")]
    printing.table(["", *(label for _, label, _ in FIGURES), "dead features"], rows)
    printing.note("in brackets: 95 % bootstrap intervals over rows of text")


def _apart(apart: dict[str, Any], other: str) -> str:
    refuted = len(apart["refuted"])
    return (
        f"{apart['shared']:,} of both models, {len(apart['first']):,} of the first alone, "
        f"{len(apart['second']):,} of {other} alone, by lengths; of those {refuted:,} of "
        f"{len(apart['elsewhere']):,} measured on {apart['tokens']:,} tokens are in the other too"
    )


def _row(method: dict[str, Any]) -> list[str]:
    dead = method["dead"]
    return [*(_figure(method[name]) for name, _, _ in FIGURES), "n/a" if dead is None else f"{dead:.2%}"]


def _architecture(card: Card) -> str:
    k = card.get("settings", card.values)["k"]
    return f"{card.get('architecture', card['activation'])}" + (f", k = {k}" if k is not None else "")


def _training(card: Card) -> str:
    if converted := card.get("converted"):
        return f"unknown: converted from {converted['library']}"
    runs = 1 + len(card.get("earlier", []))
    return f"{card['tokens']:,} tokens" + (f", in {runs} runs" if runs > 1 else "")


def _figure(figure: dict[str, Any]) -> str:
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"
