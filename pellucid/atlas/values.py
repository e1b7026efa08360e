"""What an atlas knows of a feature as JSON values, tokens as text: for the command line and for servers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pellucid.atlas import neighbours as finding
from pellucid.atlas.captions import Captions, texts_of
from pellucid.atlas.labels import Label
from pellucid.atlas.pages import Atlas, Page, Snippet
from pellucid.atlas.statistics import THOUSANDTHS
from pellucid.core.numbers import finite

_WORDS = 12


def page(
    found: Page, captions: Captions, promoted: Sequence[str], snippets: Sequence[Snippet]
) -> dict[str, Any]:
    """All that a page says.

    Args:
        found: the page.
        captions: of its atlas.
        promoted: the tokens the feature promotes.
        snippets: its examples as text.
    """
    record, model = captions.atlas.record, captions.model
    named = asdict(found)
    told = captions.label(found.feature)
    pieces = model.pieces(list(found.token_counts))
    words = captions.atlas.table("vocabulary")
    return {
        "label": None if told is None else label(told),
        **{k: named[k] for k in ("feature", "kind", "count", "frequency", "maximum", "mean", "histogram")},
        "quantiles": {str(t / 1000): v for t, v in zip(THOUSANDTHS, found.quantiles, strict=True)},
        "sources": [
            {"spec": source["spec"], "tokens": source["tokens"], "active": count}
            for source, count in zip(record["sources"], found.source_counts, strict=True)
        ],
        "median_frequency": captions.atlas.median_frequency,
        "positions": found.position_counts,
        "position_tokens": list(record["position_tokens"]),
        "tokens": [
            {
                "token": piece,
                "active": count,
                "usual": None if words is None else int(words.row(token)["count"]) / record["tokens"],
            }
            for piece, (token, count) in zip(pieces, found.token_counts.items(), strict=True)
        ],
        "promoted": list(promoted[:_WORDS]),
        "suppressed": texts_of(model, found.suppressed or ())[:_WORDS],
        "examples": [{"pieces": s.pieces, "values": s.values} for s in snippets],
    }


def label(told: Label) -> dict[str, Any]:
    """A label with its figures; what was not measured is null."""
    shown = ("text", "reliable", "score", "floor", "explainer", "effect", "effect_reliable")
    found: dict[str, Any] = finite({name: getattr(told, name) for name in shown})
    return found


def neighbours(atlas: Atlas, feature: int) -> dict[str, Any] | None:
    """The features like this one, by direction and by firing, each kind with what chance gives.

    Raises:
        InputError: when the table is of another dictionary.
    """
    if atlas.table("neighbours") is None:
        return None
    table = finding.of(atlas)
    row, facts = table.row(feature), table.record["facts"]
    found: dict[str, Any] = {
        "cosine_floor": float(facts["cosine_floor"]),
        "similar": [
            {"feature": int(f), "cosine": float(c)}
            for f, c in zip(row["similar"], row["cosine"], strict=True)
            if f >= 0
        ],
        "coactivity_floor": None,
        "coactive": None,
    }
    if "coactive" in row:
        found["coactivity_floor"] = float(row["coactivity_floor"])
        found["coactive"] = [
            {"feature": int(f), "coactivity": float(c), "together": int(n)}
            for f, c, n in zip(row["coactive"], row["coactivity"], row["together"], strict=True)
            if f >= 0
        ]
    return found


def place(atlas: Atlas, feature: int) -> dict[str, Any] | None:
    """Where a feature lies on the map; none where there is no map, or it was never active."""
    table, clusters = atlas.table("map"), atlas.table("map_clusters")
    if table is None or clusters is None:
        return None
    row = table.row(feature)
    cluster = int(row["cluster"])
    if cluster < 0:
        return None
    name = str(clusters.row(cluster, ["name"])["name"])
    return {"x": float(row["x"]), "y": float(row["y"]), "cluster": cluster, "name": name}
