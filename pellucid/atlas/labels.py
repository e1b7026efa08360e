"""Labels of features, as a table of an atlas: row i is about feature i.

    text                              what switches it on, in words; empty where there is no label
    explainer                         what wrote it
    reliable                          whether its score beats its floor: see `scoring`
    score, floor                      each with _low and _high, its 95 % interval
    detection, fuzzing                the two tests the score is the mean of, each with _floor
    held_out, silent                  how many texts it was tested on
    random_share                      the share of the silent texts that are not near ones
    rule                              what a label without a model says, as JSON
    problem                           why there is no label
    effect, effect_reliable           what it does when turned up: see `outputs`
    effect_score                      with effect_floor and effect_bar
    agreement                         of the two, with agreement_floor and agreement_bar

Where nothing was measured a figure is NaN. The compact form, for dictionaries that are shipped, has text,
explainer, reliable, score, floor, effect and effect_reliable alone, and texts only where they are reliable.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.atlas import tables
from pellucid.atlas.pages import Atlas
from pellucid.atlas.tables import Columns, Table
from pellucid.core.places import Place

TABLE = "labels"
UNRELIABLE = "no reliable label"

TEXTS = ("text", "explainer", "rule", "problem", "effect")
FLAGS = ("reliable", "effect_reliable")
COUNTS = ("held_out", "silent")
FIGURES = (
    "score", "score_low", "score_high", "floor", "floor_low", "floor_high",
    "detection", "detection_floor", "fuzzing", "fuzzing_floor", "random_share",
    "effect_score", "effect_floor", "effect_bar", "agreement", "agreement_floor", "agreement_bar",
)  # fmt: skip
COMPACT = ("text", "explainer", "reliable", "score", "floor", "effect", "effect_reliable")

Row = dict[str, Any]
"""One feature's values by column; what is missing is empty."""


@dataclass(frozen=True)
class Label:
    """What is said of one feature."""

    feature: int
    text: str
    """What switches it on; empty where there is no label."""
    reliable: bool
    score: float
    """How well the label tells texts and tokens apart; 0.5 is chance, NaN where it was not tested."""
    floor: float
    """The same label's score for other features."""
    explainer: str
    effect: str
    """What the feature does when it is turned up; empty where that is not known."""
    effect_reliable: bool
    more: Mapping[str, Any]
    """All other columns of the table, by name."""

    @property
    def shown(self) -> str:
        """What to show beside a feature: the text, or that there is no reliable one."""
        return self.text if self.reliable else UNRELIABLE


def labels_of(atlas: Atlas, features: Sequence[int]) -> list[Label]:
    """Labels of some features, in the order asked for; an empty list where the atlas has no labels.

    Raises:
        InputError: when a feature does not exist.
    """
    table = atlas.table(TABLE)
    if table is None:
        return []
    for feature in features:
        atlas.check_feature(feature)
    columns = table.take(features)
    return [_label(f, {name: values[i] for name, values in columns.items()}) for i, f in enumerate(features)]


def _label(feature: int, row: Row) -> Label:
    named = {name: row.pop(name) for name in COMPACT}
    return Label(
        feature=feature,
        text=named["text"],
        reliable=bool(named["reliable"]),
        score=float(named["score"]),
        floor=float(named["floor"]),
        explainer=named["explainer"],
        effect=named["effect"],
        effect_reliable=bool(named["effect_reliable"]),
        more=row,
    )


def columns_of(rows: Sequence[Row]) -> Columns:
    """Rows as columns of the table."""
    columns: Columns = {
        name: np.array([r.get(name, "") for r in rows] or [""], object)[: len(rows)] for name in TEXTS
    }
    columns |= {name: np.array([r.get(name, False) for r in rows], bool) for name in FLAGS}
    columns |= {name: np.array([r.get(name, 0) for r in rows], np.int32) for name in COUNTS}
    columns |= {name: np.array([r.get(name, math.nan) for r in rows], np.float32) for name in FIGURES}
    return columns


def compact(table: Table, address: Place | Path | str) -> Table:
    """Write the compact form of a table of labels to another place; figures are rounded to hundredths."""

    def blocks() -> Iterator[Columns]:
        for _, block in table.blocks(COMPACT):
            small = {name: np.round(block[name], 2).astype(np.float16) for name in ("score", "floor")}
            for name, flag in (("text", "reliable"), ("effect", "effect_reliable")):
                small[name] = np.where(block[flag], block[name], "").astype(object)
            yield {name: small.get(name, block[name]) for name in COMPACT}

    return tables.write(address, blocks(), facts=table.record["facts"])
