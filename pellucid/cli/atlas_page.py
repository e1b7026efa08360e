"""A feature's page as rows of a table, and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pellucid.atlas.labels import Label
    from pellucid.atlas.pages import Page, Snippet
    from pellucid.cli.session import Session

_STEPS = " ▁▂▃▄▅▆▇█"
_SOURCES_SHOWN = 3


def as_json(session: Session, page: Page, snippets: Sequence[Snippet]) -> dict[str, Any]:
    """All that is known, with examples as text."""
    from pellucid.atlas import values

    session.needed_atlas()
    assert session.captions is not None
    return values.page(page, session.captions, session.promoted(page.feature, 12), snippets)


def rows(session: Session, page: Page) -> list[tuple[str, str]]:
    """What `atlas show` prints above the examples."""
    from pellucid.atlas.statistics import THOUSANDTHS

    atlas = session.needed_atlas()
    median = atlas.median_frequency
    dictionary = session.dictionary
    found = [
        ("feature", f"{page.feature} of {dictionary.num_features:,} at {dictionary.ports}: {page.kind}"),
        *(
            (what, said)
            for label in session.labels([page.feature]).values()
            for what, said in labelled(label)
        ),
        ("active on", f"{page.frequency:.4%} of tokens (median feature: {median:.4%})"),
    ]
    if page.count:
        quantiles = zip(THOUSANDTHS, page.quantiles, strict=True)
        spread = "  ".join(f"{t / 10:g} % {v:.2f}" for t, v in quantiles if t in (50, 500, 950))
        found += [
            ("maximum", f"{page.maximum:.2f}, mean {page.mean:.2f} where active; quantiles {spread}"),
            ("histogram", f"0 {bars(page.histogram)} {page.maximum:.2f}"),
            ("tokens", _tokens(session, page)),
        ]
        if len(atlas.record["sources"]) > 1:
            found.append(("sources", _sources(atlas.record["sources"], page)))
        read = atlas.record["position_tokens"]
        rates = [n / max(1, t) for n, t in zip(page.position_counts, read, strict=True)]
        found.append(("positions", f"start {bars(rates)} end of a row"))
    found.append(("promotes", " · ".join(session.promoted(page.feature, 12))))
    if page.suppressed:
        found.append(("suppresses", " · ".join(session.words(page.suppressed, 12))))
    return found


def labelled(label: Label) -> list[tuple[str, str]]:
    """What switches it on, with score and floor, and what it does, apart."""
    known = not math.isnan(label.score)
    figures = (
        f" (score {label.score:.2f}, the same label on other features {label.floor:.2f})" if known else ""
    )
    found = [("switched on by", f"{label.shown}{figures}")]
    if label.effect:
        # The measure is of the unembedding's rows alone, and misses kinship that a reader sees.
        doubt = "" if label.effect_reliable else " (as alike as chance, by the unembedding)"
        found.append(("turned up, it", f"{label.effect}{doubt}"))
    return found


def bars(numbers: Sequence[float]) -> str:
    """Numbers as bars of text, the largest full; what is not zero is seen."""
    top = max(numbers) or 1
    return "".join(_STEPS[0 if n == 0 else max(1, round(8 * n / top))] for n in numbers)


def _tokens(session: Session, page: Page) -> str:
    """The tokens it is most often active on, each beside its share of the text."""
    words = session.needed_atlas().table("vocabulary")
    read = session.needed_atlas().record["tokens"]
    said = []
    for token, count in list(page.token_counts.items())[:4]:
        usual = f" (text: {words.row(token)['count'] / read:.1%})" if words is not None else ""
        said.append(f"{session.model.pieces([token])[0]!r} {count / page.count:.0%}{usual}")
    return " · ".join(said)


def _sources(sources: Sequence[dict[str, Any]], page: Page) -> str:
    """Where it is active most often, beside how often that is everywhere."""
    rates = [
        (count / source["tokens"], source["spec"])
        for source, count in zip(sources, page.source_counts, strict=True)
        if source["tokens"]
    ]
    most = sorted(rates, reverse=True)[:_SOURCES_SHOWN]
    return " · ".join(f"{rate:.3%} of {spec.partition('?')[0]}" for rate, spec in most)
