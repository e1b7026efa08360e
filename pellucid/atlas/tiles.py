"""Points of a map in tiles, so that a page shows a million by fetching a few thousand.

Tile (level, column, row) is the square of side 2^-level at column · side, row · side of the unit square. It
holds the features that stand for those in it: of each of 32 × 32 equal squares of the tile, the first that is
not in a tile above. Every feature is in one tile. Whoever draws a view takes the tiles of all levels that
meet it, down to the level whose squares are as large as a few pixels; a tile whose `below` is 0 has none
under it.

    map_points   feature i32, x f32, y f32, cluster i32: tile after tile
    map_tiles    level i32, column i32, row i32, start i64, stop i64: the rows of `map_points` that are its
                 own; below i64: points in the tiles under it; by level, then row, then column
"""

from __future__ import annotations

import numpy as np

from pellucid.atlas.tables import Columns

SQUARES = 32
"""Of a tile, along each side."""
LEVELS = 16
"""At most so many: the last holds all that is left, as points on one place."""


def cut(
    places: np.ndarray, columns: dict[str, np.ndarray], *, first: np.ndarray | None = None, seed: int = 0
) -> tuple[Columns, Columns]:
    """Cut places into tiles.

    Args:
        places: [n, 2] float32 in [0, 1).
        columns: `features` [n] and `cluster` [n].
        first: [n] which of them stand for others before the rest do; among equals, chance decides.
        seed: of chance.

    Returns:
        The columns of `map_points` and of `map_tiles`.
    """
    count = len(places)
    chance = np.random.default_rng(seed).permutation(count)
    order = chance if first is None else chance[np.argsort(~first[chance], kind="stable")]
    level = np.full(count, LEVELS - 1, np.int32)
    left = order
    for number in range(LEVELS - 1):
        if not len(left):
            break
        side = SQUARES << number
        square = (places[left, 1] * side).astype(np.int64) * side + (places[left, 0] * side).astype(np.int64)
        _, chosen = np.unique(square, return_index=True)
        level[left[chosen]] = number
        left = np.delete(left, chosen)
    sides = 1 << level.astype(np.int64)
    column, row = ((places[:, axis] * sides).astype(np.int64) for axis in (0, 1))
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    sorted_by = np.lexsort((rank, column, row, level))
    keys = np.stack([level, row, column], axis=1)[sorted_by]
    starts = np.flatnonzero(np.any(np.diff(keys, axis=0, prepend=keys[:1] - 1), axis=1))
    stops = np.append(starts[1:], count)
    tiles = keys[starts]
    points: Columns = {
        "feature": columns["features"][sorted_by].astype(np.int32),
        "x": places[sorted_by, 0],
        "y": places[sorted_by, 1],
        "cluster": columns["cluster"][sorted_by].astype(np.int32),
    }
    index: Columns = {
        "level": tiles[:, 0].astype(np.int32),
        "column": tiles[:, 2].astype(np.int32),
        "row": tiles[:, 1].astype(np.int32),
        "start": starts.astype(np.int64),
        "stop": stops.astype(np.int64),
        "below": _below(tiles, stops - starts),
    }
    return points, index


def _below(tiles: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Points under each tile, from the deepest level up."""
    below = np.zeros(len(tiles), np.int64)
    place = {tuple(tile): number for number, tile in enumerate(tiles.tolist())}
    for number in range(len(tiles) - 1, 0, -1):
        level, row, column = tiles[number].tolist()
        above = place[level - 1, row // 2, column // 2]
        below[above] += below[number] + sizes[number]
    return below
