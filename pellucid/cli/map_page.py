"""The map of an atlas as one self-contained HTML page: drawn on a canvas, moved and zoomed by hand.

The page holds the points of a map in the order of its tiles, so that those that stand for others come first,
and no more than it can hold; it says how many it leaves out. Words are written in for as many.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pellucid.atlas import cofiring
from pellucid.atlas.pages import Atlas
from pellucid.cli.report import embedded

_MOST = 100_000
_WITH_WORDS = 20_000


def render(atlas: Atlas, said: Callable[[Sequence[int]], list[str]]) -> str:
    """The page of an atlas that has a map.

    Args:
        atlas: with the tables of a map.
        said: what is known of each of some features, in a few words.
    """
    from importlib import resources

    points, tiles, clusters, whole = (
        cofiring.needed(atlas, name) for name in ("map_points", "map_tiles", "map_clusters", "map")
    )
    shown = points.slice(0, min(points.rows, _MOST))
    index = tiles.slice(0, tiles.rows, ["level", "start", "stop"])
    level = np.repeat(index["level"], index["stop"] - index["start"])[: len(shown["x"])]
    named = clusters.slice(0, clusters.rows)
    data: dict[str, Any] = {
        "points": points.rows,
        "left_out": whole.record["facts"]["left_out"],
        "quality": whole.record["facts"]["quality"],
        "x": _packed(shown["x"] * 65536, np.uint16),
        "y": _packed(shown["y"] * 65536, np.uint16),
        "feature": _packed(shown["feature"], np.int32),
        "cluster": _packed(shown["cluster"], np.uint16),
        "level": _packed(level, np.uint8),
        "words": said(shown["feature"][:_WITH_WORDS].tolist()),
        "clusters": [
            {"name": str(n), "x": float(x), "y": float(y), "features": int(f)}
            for n, x, y, f in zip(named["name"], named["x"], named["y"], named["features"], strict=True)
        ],
    }
    template = resources.files(__package__).joinpath("map.html").read_text(encoding="utf-8")
    return template.replace("{{data}}", embedded(data))


def _packed(values: np.ndarray, dtype: type) -> str:
    return base64.b64encode(np.ascontiguousarray(values.astype(dtype)).tobytes()).decode()
