"""The features nearest to any direction: one pass over a bit a coordinate, then the exact cosines of few.

Directions are turned by a random rotation and their signs are kept, 72 bytes of 2304 at D = 576. The products
of signs with a query estimate its cosine with each of N directions without bias, with a standard error of
sqrt(π/2 − 1) / sqrt(D) at most, whatever the data (RaBitQ: Gao and Long 2024, arXiv 2405.12497, section 3;
the query is rounded to 4 bits as there). Whatever could be among the nearest, by 1.65 times that error, has
its cosine computed. There is nothing to train and no graph to build, and the neighbours of a direction that
is no feature are found as surely as those of one that is.

Of a million features it reads 76 MB; graphs and inverted lists of other libraries are measured beside it in
benchmarks/atlas_near.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from pellucid.atlas import near_kernels
from pellucid.atlas.directions import Directions
from pellucid.atlas.scans import top
from pellucid.atlas.tables import Columns, Table
from pellucid.core.errors import InputError, IntegrityError
from pellucid.core.progress import Progress, silent

_ROWS_AT_ONCE = 16_384
_PLANES = 4
"""Bits that a query's coordinates are rounded to."""
_FIRST, _FIRST_EACH = 512, 16
"""Candidates whose exact cosines say what others must reach: so many, and for each neighbour asked for."""
_MARGIN = 1.65
"""Standard errors that an estimate may be too low: 1 in 20 is lower still."""


@dataclass(frozen=True)
class Search:
    """Signs of N directions, and where the directions themselves are."""

    directions: Directions
    codes: np.ndarray
    """[N, W] uint64: signs of the rotated coordinates, 64 a word."""
    scale: np.ndarray
    """[N] float32: what makes the product with the signs an estimate of the cosine."""

    @classmethod
    def build(cls, directions: Directions, *, progress: Progress = silent) -> Search:
        """From all directions, in one pass over them."""
        parts = list(blocks(directions, progress=progress))
        return cls(
            directions,
            np.concatenate([p["code"] for p in parts]),
            np.concatenate([p["scale"] for p in parts]),
        )

    @classmethod
    def open(cls, table: Table, directions: Directions) -> Search:
        """From a table that `blocks` filled.

        Raises:
            IntegrityError: when it is damaged, or of other directions.
        """
        found = table.slice(0, table.rows)
        words = -(-directions.width // 64)
        if found["code"].shape != (directions.count, words):
            raise IntegrityError(
                f"The table {str(table.place)!r} is of {found['code'].shape[0]} directions, and the "
                f"dictionary has {directions.count}. Run 'pellucid atlas neighbours' again."
            )
        return cls(directions, found["code"], found["scale"])

    def nearest(
        self, direction: np.ndarray, count: int = 10, *, among: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The features nearest to a direction.

        Args:
            direction: [D], of any length but 0.
            count: how many.
            among: [N] which features may be found; all by default.

        Returns:
            Their numbers [count] int64, nearest first, and the cosines [count] float32; fewer where there
            are fewer.

        Raises:
            InputError: when the direction has another width, or none.
        """
        query = np.asarray(direction, np.float32)
        if query.shape != (self.directions.width,):
            raise InputError(
                f"Expected a direction [{self.directions.width}], the width of what the dictionary writes; "
                f"got {list(query.shape)}."
            )
        length = float(np.linalg.norm(query))
        if not 0 < length < math.inf:
            raise InputError("A direction needs a length: this one is zero, NaN or infinite.")
        query = query / np.float32(length)
        estimates = np.empty(len(self.codes), np.float32)
        near_kernels.estimate(self.codes, self.scale, *_planes(query @ rotation(len(query))), estimates)
        if among is not None:
            estimates[~among] = -np.inf
        first = min(len(estimates), _FIRST + _FIRST_EACH * count)
        tried = top(estimates, first)
        tried = tried[np.isfinite(estimates[tried])]
        cosines = self.directions.take(tried) @ query
        reached = np.partition(cosines, -count)[-count] if len(cosines) > count else -np.inf
        error = math.sqrt((math.pi / 2 - 1) / len(query))
        # What was not tried yet and could reach as far. Few, where a direction has neighbours to speak of.
        bar = max(reached - _MARGIN * error, -2.0)
        left = np.flatnonzero(estimates >= bar)
        left = left[~np.isin(left, tried, assume_unique=True)]
        more = [self.directions.take(part) @ query for part in np.split(left, range(4096, len(left), 4096))]
        ids, values = np.concatenate([tried, left]), np.concatenate([cosines, *more])
        order = np.lexsort((ids, -values))[:count]
        return ids[order].astype(np.int64), values[order]


def blocks(directions: Directions, *, progress: Progress = silent) -> Iterator[Columns]:
    """The columns `code` and `scale` of all directions, block by block."""
    turn = rotation(directions.width)
    words = -(-directions.width // 64)
    for at in range(0, directions.count, _ROWS_AT_ONCE):
        turned = directions.block(at, min(directions.count, at + _ROWS_AT_ONCE)) @ turn
        found: Columns = {
            "code": np.zeros((len(turned), words), np.uint64),
            "scale": np.zeros(len(turned), np.float32),
        }
        near_kernels.signs(turned, found["code"], found["scale"])
        yield found
        progress("signs", at + len(turned), directions.count)


@cache
def rotation(width: int) -> np.ndarray:
    """[D, D] the random rotation of every search of this width."""
    drawn = np.random.default_rng(width).standard_normal((width, width))
    turned, triangle = np.linalg.qr(drawn)
    return (turned * np.sign(np.diag(triangle))).astype(np.float32)


def _planes(query: np.ndarray) -> tuple[np.ndarray, np.float32, np.float32, np.float32]:
    """A rotated query [D] in 16 steps: bit planes [4, W], the lowest coordinate, a step, the sum of all."""
    lowest = query.min()
    step = max((query.max() - lowest) / (2**_PLANES - 1), np.float32(1e-12))
    levels = np.rint((query - lowest) / step).astype(np.uint8)
    padded = np.zeros(-(-len(query) // 64) * 64, np.uint8)
    padded[: len(query)] = levels
    planes = [np.packbits((padded >> p) & 1, bitorder="little").view(np.uint64) for p in range(_PLANES)]
    return np.stack(planes), np.float32(lowest), np.float32(step), np.float32(query.sum())
