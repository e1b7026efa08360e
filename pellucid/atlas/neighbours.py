"""The table of neighbours: for each feature, those of like direction and those that fire with it.

    neighbours   similar i32[10], cosine f32[10]: nearest decoder directions
                 coactive i32[10], coactivity f32[10], together i64[10], coactivity_floor f32: see `cofiring`
    signs        code u64[W], scale f32: what `search` finds the features nearest to any direction by

Where there are fewer, numbers are -1. A feature that was active on no token is no one's neighbour. An atlas
without postings gets the columns of directions alone. `facts` of the table say how the nearest were found,
with which recall, and what random directions in place of the others would give.

A killed job goes on after the last part that was whole, with the same call, to the same tables.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.atlas import build as building
from pellucid.atlas import cofiring, nearest, search, tables
from pellucid.atlas.build import AtlasSettings, Target
from pellucid.atlas.cofiring import Firing
from pellucid.atlas.directions import Directions
from pellucid.atlas.near_kernels import keep_best
from pellucid.atlas.nearest import Nearest
from pellucid.atlas.pages import Atlas
from pellucid.atlas.tables import Columns, Table
from pellucid.core import digests, files, paths
from pellucid.core.errors import InputError
from pellucid.core.progress import Progress, silent
from pellucid.core.runs import RunFolder

COUNT = 10
"""Neighbours of each kind."""
MOST_AT_ONCE = 1 << 18
"""Features whose neighbours are found as soon as their atlas is built: all pairs are compared, in less time
than the features are turned up in."""
_USUAL = AtlasSettings()
_RANGE = 8192
_FLOOR_SAMPLE = 256


def build(atlas: Atlas, directions: Directions, *, progress: Progress = silent) -> Table:
    """Write `signs` and `neighbours` of an atlas.

    Args:
        atlas: with postings, or without.
        directions: of its dictionary.
        progress: told of features.

    Raises:
        InputError: when the directions are of another dictionary, or no feature was ever active.
    """
    check(atlas, directions)
    identity = {"neighbours": atlas.record, "count": COUNT}
    with working(identity) as folder:
        alive = atlas.features.column("count") > 0
        tables.write(
            atlas.place / "signs",
            search.blocks(directions, progress=progress),
            facts={"dictionary": directions.digest},
        )
        ids, cosines, facts = by_direction(
            directions, directions, alive=alive, folder=folder, progress=progress
        )
        facts["dictionary"] = directions.digest
        cuts = cofiring.ranges(atlas, _RANGE)
        blocks: Iterator[Columns] = ({"similar": ids[a:b], "cosine": cosines[a:b]} for a, b in cuts)
        if atlas.table("postings") is not None:
            firing = Firing.lay(atlas, folder, progress=progress)
            facts |= {"tokens": firing.tokens, "share_of_rows": firing.share, "least": cofiring.LEAST_SHARED}
            blocks = _with_firing(atlas, firing, blocks, folder, progress)
        table = tables.write(atlas.place / "neighbours", blocks, facts=facts)
    return table


def with_atlas(
    targets: Sequence[Target],
    rows: np.ndarray,
    *,
    settings: AtlasSettings = _USUAL,
    progress: Progress = silent,
) -> None:
    """Build atlases as `build.build` does, and find the neighbours of those that are not too large.

    A build that is killed while neighbours are looked for goes on there.
    """

    def then(target: Target) -> None:
        atlas = Atlas.open(target.address, target.dictionary)
        if atlas.num_features <= MOST_AT_ONCE and atlas.table("neighbours") is None:
            build(atlas, Directions.of(target.dictionary), progress=progress)

    building.build(targets, rows, settings=settings, progress=progress, then=then)


def check(atlas: Atlas, directions: Directions) -> None:
    """Refuse directions that are not of the atlas's dictionary.

    Raises:
        InputError: when they are not.
    """
    if atlas.record["dictionary"] != directions.digest:
        raise InputError(f"The atlas in {str(atlas.place)!r} belongs to another dictionary.")


@contextmanager
def working(identity: dict[str, Any]) -> Iterator[Path]:
    """A folder of the cache for a job, the same for the same job; it is removed when the job ends well.

    Args:
        identity: all that the result depends on, as JSON values.
    """
    path = paths.home() / "building" / digests.short(digests.of_json(identity))
    with RunFolder.open(path, identity=identity):
        yield path
        shutil.rmtree(path)


def part(path: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Named arrays that are made if their file is not there."""
    if not path.exists():
        made = make()
        with files.replacing(path) as file:
            np.savez(file, **made)  # type: ignore[arg-type]
    with np.load(path, allow_pickle=False) as bundle:
        return {name: bundle[name] for name in bundle.files}


def by_direction(
    queries: Directions,
    among: Directions,
    *,
    alive: np.ndarray,
    folder: Path,
    name: str = "direction",
    count: int = COUNT,
    progress: Progress = silent,
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """The nearest of all queries: numbers [Q, count] int32, cosines [Q, count] float32, and facts.

    Args:
        queries: whose neighbours are looked for.
        among: where.
        alive: which of them may be found.
        folder: keeps the parts that are whole.
        name: of their files.
        count: how many.
        progress: told of parts.
    """
    plan: Nearest = nearest.plan(queries, among, alive=alive, count=count, progress=progress)
    ids = np.full((queries.count, count), -1, np.int32)
    cosines = np.zeros((queries.count, count), np.float32)
    for number in range(plan.parts):

        def make(number: int = number) -> dict[str, np.ndarray]:
            return dict(zip(("rows", "ids", "cosines"), plan.part(number), strict=True))

        found = part(folder / f"{name}-{number:09d}.npz", make)
        ids[found["rows"]], cosines[found["rows"]] = found["ids"], found["cosines"]
        progress("directions", number + 1, plan.parts)
    return ids, cosines, {**plan.facts, **by_chance(queries, int(alive.sum()))}


def by_chance(queries: Directions, number: int) -> dict[str, float]:
    """The cosine of features with the nearest of so many random directions: mean, and 99th of 100."""
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(queries.count, min(_FLOOR_SAMPLE, queries.count), replace=False))
    sample = queries.take(rows)
    values, ids = np.full((len(rows), 1), -2, np.float32), np.full((len(rows), 1), -1, np.int32)
    none = np.full(len(rows), -1)
    for at in range(0, number, _RANGE):
        drawn = rng.standard_normal((min(_RANGE, number - at), queries.width), dtype=np.float32)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        keep_best(sample @ drawn.T, np.arange(at, at + len(drawn)), none, values, ids)
    return {"cosine_floor": float(values.mean()), "cosine_floor_high": float(np.quantile(values, 0.99))}


def _with_firing(
    atlas: Atlas, firing: Firing, blocks: Iterator[Columns], folder: Path, progress: Progress
) -> Iterator[Columns]:
    for (first, stop), block in zip(cofiring.ranges(atlas, _RANGE), blocks, strict=True):

        def make(first: int = first, stop: int = stop) -> dict[str, np.ndarray]:
            starts, tokens = cofiring.postings_of(atlas, first, stop)
            return firing.together(starts, tokens, np.arange(first, stop), COUNT)

        found = part(folder / f"firing-{first:012d}.npz", make)
        progress("firing together", stop, atlas.num_features)
        del found["active"]
        yield {**block, **found}


def of(atlas: Atlas) -> Table:
    """The neighbours of an atlas.

    Raises:
        InputError: when it has none, or they are of another dictionary.
    """
    found = atlas.table("neighbours")
    if found is None:
        raise InputError(
            f"The atlas {str(atlas.place)!r} has no neighbours yet. Find them with "
            "'pellucid atlas neighbours'."
        )
    if found.rows != atlas.num_features or found.record["facts"]["dictionary"] != atlas.record["dictionary"]:
        raise InputError(
            f"The neighbours in {str(atlas.place)!r} are of another dictionary. Find them anew with "
            "'pellucid atlas neighbours'."
        )
    return found
