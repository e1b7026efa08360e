"""Which feature became which: two dictionaries of one model, of two layers, or of two versions of a model.

Two kinds of evidence are kept apart, each beside what chance gives.

    by direction   the nearest decoder direction in the other dictionary, where both write vectors of one
                   length; chance: as many random directions in place of the other's. Says something only
                   where the two write into one space: one site, nearby layers, a model and its fine-tuned
                   version.
    by firing      the feature of the other that fires most on the same tokens of the same text (see
                   `cofiring`); chance: its own tokens moved to other text. Works across layers and versions.

A feature's fate is said from firing where both atlases read the same text, and else from direction:

    kept      each is the other's best, with a cosine of 0.7 or more (the bar of `dictionaries/agreement.py`)
    split     not kept, and several of the other each have it as their best, fire inside it (seven tenths of
              their tokens or more), and together could cover half of it or more
    merged    not kept, and it fires inside one of the other that it shares as a best with others that do
    lost      nothing in the other goes beyond chance: its floor, or 99 of 100 random directions
    changed   beyond chance, and none of these: part of it is there
    silent    active on no token: nothing can be said

Of the other dictionary's features `lost` reads `born`: nothing went before them. Splitting and merging are
said from firing alone, because directions do not tell what is inside what. Two trainings that differ in
nothing but the seed share part of their features only (Paulo and Belrose 2025, arXiv 2501.16615), so that a
feature which is lost between two dictionaries is not for that reason lost from the model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.atlas import cofiring, neighbours, tables
from pellucid.atlas.cofiring import Firing
from pellucid.atlas.directions import Directions
from pellucid.atlas.pages import Atlas
from pellucid.atlas.tables import Columns, Table
from pellucid.core import digests
from pellucid.core.errors import InputError
from pellucid.core.progress import Progress, silent

FATES = ("silent", "kept", "split", "merged", "changed", "lost")
"""In the order of their numbers in the column `fate`; `lost` is `born` in `origins_…`."""
KEPT = 0.7
INSIDE = 0.7
COVERED = 0.5
_RANGE = 8192


@dataclass(frozen=True)
class Side:
    """A dictionary and its atlas."""

    atlas: Atlas
    directions: Directions


@dataclass(frozen=True)
class Succession:
    """What became of the features of one dictionary in another, and where those of the other come from."""

    became: Table
    origins: Table
    facts: dict[str, Any]

    def counts(self) -> dict[str, dict[str, int]]:
        """How many features have each fate, on both sides."""
        found = {}
        for name, table in (("became", self.became), ("origins", self.origins)):
            many = np.bincount(table.column("fate"), minlength=len(FATES))
            found[name] = dict(zip(FATES, many.tolist(), strict=True))
        found["origins"]["born"] = found["origins"].pop("lost")
        return found


def compare(before: Side, after: Side, *, progress: Progress = silent) -> Succession:
    """Write `became_<digest>` and `origins_<digest>` into the first atlas; the digest is the other's.

    Row i of `became_…` is feature i of the first, row i of `origins_…` feature i of the other. Columns of
    both: direction i32, cosine f32, returned bool (the other's nearest is this one); firing i32, cofiring
    f32, together i64 (tokens they share), active i64 (its tokens that were looked at), inside f32 (the share
    of these that they share), cofiring_floor f32, answered bool; fate i8 (see `FATES`). A kind of evidence
    that cannot be had has no columns.

    Raises:
        InputError: when they are one dictionary, or have neither a text nor a space in common.
    """
    for side in (before, after):
        neighbours.check(side.atlas, side.directions)
    if before.directions.digest == after.directions.digest:
        raise InputError("Both are the same dictionary. Give two.")
    one, two = before.atlas.record, after.atlas.record
    space = before.directions.width == after.directions.width
    text = _same_text(before.atlas, after.atlas)
    if not space and not text:
        raise InputError(
            "There is nothing to compare by: the directions differ in length "
            f"({before.directions.width} and {after.directions.width}), and the atlases are not of the same "
            "text with postings. Build both with the same --text and --tokens."
        )
    with neighbours.working({"compare": [one, two]}) as folder:
        columns: tuple[Columns, Columns] = ({}, {})
        facts: dict[str, Any] = {"dictionary": two["dictionary"], "of": one["dictionary"]}
        if space:
            facts["direction"] = _by_direction(before, after, columns, folder, progress)
        if text:
            facts["firing"] = _by_firing(before, after, columns, folder, progress)
        counts = [side.atlas.features.column("count") for side in (before, after)]
        for own, other, alive in zip(columns, columns[::-1], counts, strict=True):
            own["fate"] = _fates(own, other, alive, facts)
        name = digests.short(two["dictionary"])
        became, origins = (
            tables.write(before.atlas.place / f"{kind}_{name}", [own], facts=facts)
            for kind, own in zip(("became", "origins"), columns, strict=True)
        )
    return Succession(became, origins, facts)


def _same_text(one: Atlas, two: Atlas) -> bool:
    """Whether both have postings, over the same rows of the same text."""
    if (one.record["store"], one.record["length"]) != (two.record["store"], two.record["length"]):
        return False
    read = [atlas.table("rows") for atlas in (one, two) if atlas.table("postings") is not None]
    rows = [table.column("tokens") > 0 for table in read if table is not None]
    return len(rows) == 2 and np.array_equal(rows[0], rows[1])


def _by_direction(
    before: Side, after: Side, columns: tuple[Columns, Columns], folder: Path, progress: Progress
) -> dict[str, Any]:
    facts = {}
    for name, own, other, found in (
        ("became", before, after, columns[0]),
        ("origins", after, before, columns[1]),
    ):
        alive = other.atlas.features.column("count") > 0
        ids, cosines, told = neighbours.by_direction(
            own.directions,
            other.directions,
            alive=alive,
            folder=folder,
            name=name,
            count=1,
            progress=progress,
        )
        found["direction"], found["cosine"] = ids[:, 0], cosines[:, 0]
        facts[name] = {**told, "median": float(np.median(cosines))}
    for one, two in (columns, columns[::-1]):
        one["returned"] = _returned(one["direction"], two["direction"])
    return facts


def _by_firing(
    before: Side, after: Side, columns: tuple[Columns, Columns], folder: Path, progress: Progress
) -> dict[str, Any]:
    facts: dict[str, Any] = {"least": cofiring.LEAST_SHARED}
    for name, own, other, found in (
        ("became", before, after, columns[0]),
        ("origins", after, before, columns[1]),
    ):
        laid = folder / f"{name}-firing"
        laid.mkdir(exist_ok=True)
        firing = Firing.lay(other.atlas, laid, progress=progress)
        parts = list(_together(own.atlas, firing, laid, progress))
        joined = {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}
        found["firing"] = joined["coactive"][:, 0]
        found["cofiring"] = joined["coactivity"][:, 0]
        found["together"] = joined["together"][:, 0]
        found["active"] = joined["active"]
        found["inside"] = (found["together"] / np.maximum(joined["active"], 1)).astype(np.float32)
        found["cofiring_floor"] = joined["coactivity_floor"]
        facts["tokens"], facts["share_of_rows"] = firing.tokens, firing.share
        facts[name] = _beside_chance(found)
    for one, two in (columns, columns[::-1]):
        one["answered"] = _returned(one["firing"], two["firing"])
    return facts


def _beside_chance(found: Columns) -> dict[str, float]:
    """What the best by firing reach, and what chance reaches, over the features that were active."""
    active = found["active"] > 0
    best, floor = found["cofiring"][active], found["cofiring_floor"][active]
    return {
        "median": float(np.median(best)),
        "median_floor": float(np.median(floor)),
        "high": float((best >= KEPT).mean()),
        "high_floor": float((floor >= KEPT).mean()),
    }


def _together(
    atlas: Atlas, firing: Firing, folder: Path, progress: Progress
) -> Iterator[dict[str, np.ndarray]]:
    for first, stop in cofiring.ranges(atlas, _RANGE):

        def make(first: int = first, stop: int = stop) -> dict[str, np.ndarray]:
            return firing.together(*cofiring.postings_of(atlas, first, stop), None, 1)

        yield neighbours.part(folder / f"{first:012d}.npz", make)
        progress("firing together", stop, atlas.num_features)


def _returned(chosen: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Whether the one each has chosen has chosen it."""
    found: np.ndarray = (chosen >= 0) & (back[chosen] == np.arange(len(chosen)))
    return found


def _fates(own: Columns, other: Columns, counts: np.ndarray, facts: dict[str, Any]) -> np.ndarray:
    fate = np.full(len(counts), FATES.index("changed"), np.int8)
    if "firing" in own:
        beyond = own["cofiring"] > own["cofiring_floor"]
        kept = own["answered"] & (own["cofiring"] >= KEPT)
        fate[~beyond] = FATES.index("lost")
        fate[_parted(own, other) & beyond] = FATES.index("split")
        # Seen from the other side, what it goes into is parted.
        into = _parted(other, own)[own["firing"]]
        merged = (own["firing"] >= 0) & into & (own["inside"] >= INSIDE) & beyond
        fate[merged] = FATES.index("merged")
    else:
        floor = facts["direction"]["became"]["cosine_floor_high"]
        kept = own["returned"] & (own["cosine"] >= KEPT)
        fate[own["cosine"] <= floor] = FATES.index("lost")
    fate[kept] = FATES.index("kept")
    fate[counts == 0] = FATES.index("silent")
    return fate


def _parted(own: Columns, other: Columns) -> np.ndarray:
    """[N] whether several of the other have it as their best, fire inside it, and could cover half of it."""
    inside = (
        (other["firing"] >= 0) & (other["inside"] >= INSIDE) & (other["cofiring"] > other["cofiring_floor"])
    )
    into, size = other["firing"][inside], len(own["firing"])
    covered = np.bincount(into, other["together"][inside], minlength=size)
    found: np.ndarray = (np.bincount(into, minlength=size) >= 2) & (covered >= COVERED * own["active"])
    return found
