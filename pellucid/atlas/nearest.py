"""The nearest decoder directions of every feature: exact by blocks, or in cells where features are very many.

Q queries, N features that may be found, D width. All products are Q·N·D multiplications: a quarter of an
hour of two cores at N = Q = 2¹⁸ and D = 576, four hours at a million. There the features are put into about
√N cells around the centres of spherical k-means, and a query is held against the members of the cells whose
centres are nearest to it (inverted lists: Jégou et al. 2011, as in `dictionaries/routing.py`). How many
cells that takes is found by measurement: the exact neighbours of a sample of queries say how far down a
query's list of cells they lie. Half of the sample chooses the number, the other half is looked for as all
will be, and measures the recall that is reported. Where most cells would have to be visited, because the
directions have no structure, all products are computed after all.

Products inside cells may round their inputs to bf16 where the processor multiplies it: an error of 7e-5 of a
cosine, so that a few more are kept, and their cosines computed in full.

Work is cut into parts that depend on nothing but what is asked, so that a killed job goes on after the last.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from pellucid.atlas.directions import Directions
from pellucid.atlas.near_kernels import keep_best
from pellucid.core.errors import InputError
from pellucid.core.progress import Progress, silent
from pellucid.dictionaries import routing

_EXACT_PAIRS = 1 << 36
"""Products that are all computed."""
_QUERIES, _COLUMNS = 4096, 16_384
"""Of a block of products: 256 MB."""
_IN_CELLS = 32_768
"""Queries of a part where cells are visited: each cell is read once for all of them."""
_SPARE = 8
"""Kept beside those asked for, until their cosines are computed in full."""
_EXACTLY = 1024
"""Queries whose candidates are read at a time: 42 MB."""
_SAMPLE = 1024
_RECALL = 0.975
"""Of the neighbours of the sample that cells must hold."""


@dataclass(frozen=True)
class Nearest:
    """How the nearest of all queries are found, part by part."""

    queries: Directions
    among: Directions
    alive: np.ndarray
    """[N] which features may be found."""
    count: int
    """How many to find."""
    same: bool
    """Whether the queries are the features themselves, of which none is its own neighbour."""
    cells: Cells | None = None
    """None where all products are computed."""
    facts: dict[str, Any] = field(default_factory=dict)
    """How it is done, and with which recall."""

    @property
    def parts(self) -> int:
        """How many parts the work has."""
        return -(-self.queries.count // self._at_once)

    @property
    def _at_once(self) -> int:
        return _QUERIES if self.cells is None else _IN_CELLS

    def part(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Queries [P], and the numbers [P, count] int32 and cosines [P, count] float32 of their nearest.

        Where there are fewer, numbers are -1 and cosines 0.
        """
        first = number * self._at_once
        rows = np.arange(first, min(self.queries.count, first + self._at_once))
        if self.cells is None:
            return rows, *self._best(rows, np.flatnonzero(self.alive))
        return rows, *self._in_cells(rows, self.cells)

    def _in_cells(self, rows: np.ndarray, cells: Cells) -> tuple[np.ndarray, np.ndarray]:
        query = torch.from_numpy(self.queries.take(rows))
        ids = np.full((len(rows), self.count + _SPARE), -1, np.int32)
        values = np.full(ids.shape, -2, np.float32)
        visited = cells.visited(query)
        members = np.argsort(cells.cell, kind="stable")
        starts = np.searchsorted(cells.cell[members], np.arange(len(cells.centres) + 1))
        visitors = np.argsort(visited.ravel(), kind="stable")
        begins = np.searchsorted(visited.ravel()[visitors], np.arange(len(cells.centres) + 1))
        # One product for each cell, of the queries that visit it.
        for c in range(len(cells.centres)):
            some = members[starts[c] : starts[c + 1]]
            mine = visitors[begins[c] : begins[c + 1]] // visited.shape[1]
            if not len(some) or not len(mine):
                continue
            own = rows[mine] if self.same else np.full(len(mine), -1)
            with _rounding():
                products = query[torch.from_numpy(mine)] @ torch.from_numpy(self.among.take(some)).T
            best, who = values[mine], ids[mine]
            keep_best(products.numpy(), some, own, best, who)
            values[mine], ids[mine] = best, who
        return self._in_full(query.numpy(), ids)

    def _in_full(self, query: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The best of candidates [Q, K], -1 where there is none, by their exact cosines with [Q, D]."""
        cosines = np.empty(ids.shape, np.float32)
        for at in range(0, len(ids), _EXACTLY):
            some = ids[at : at + _EXACTLY]
            rows = self.among.take(some.clip(0).ravel()).reshape(*some.shape, -1)
            cosines[at : at + _EXACTLY] = np.einsum("qkd,qd->qk", rows, query[at : at + _EXACTLY])
        cosines[ids < 0] = -2
        order = np.lexsort((ids, -cosines), axis=1)[:, : self.count]
        ids, cosines = np.take_along_axis(ids, order, 1), np.take_along_axis(cosines, order, 1)
        cosines[ids < 0] = 0
        return ids, cosines

    def _best(self, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ids = np.full((len(rows), self.count), -1, np.int32)
        values = np.full((len(rows), self.count), -2, np.float32)
        for first in range(0, len(rows), _QUERIES):
            mine = slice(first, first + _QUERIES)
            query = torch.from_numpy(self.queries.take(rows[mine]))
            own = rows[mine] if self.same else np.full(len(query), -1)
            for at in range(0, len(columns), _COLUMNS):
                some = columns[at : at + _COLUMNS]
                contiguous = some[-1] - some[0] + 1 == len(some)
                block = (
                    self.among.block(int(some[0]), int(some[-1]) + 1) if contiguous else self.among.take(some)
                )
                products = query @ torch.from_numpy(block).T
                keep_best(products.numpy(), some, own, values[mine], ids[mine])
        values[ids < 0] = 0
        return ids, values


@dataclass(frozen=True)
class Cells:
    """Which features lie in which cell, and how many cells are visited."""

    centres: np.ndarray
    """[C, D]."""
    cell: np.ndarray
    """[N] the cell of each feature, -1 of one that may not be found."""
    visits: int

    def visited(self, query: torch.Tensor) -> np.ndarray:
        """[Q, visits] the cells whose centres are nearest to each of [Q, D], the nearest first."""
        found: np.ndarray = (
            (query @ torch.from_numpy(self.centres).T).topk(self.visits, dim=1).indices.numpy()
        )
        return found


def plan(
    queries: Directions,
    among: Directions,
    *,
    alive: np.ndarray | None = None,
    count: int = 10,
    exact_pairs: int = _EXACT_PAIRS,
    progress: Progress = silent,
) -> Nearest:
    """Decide how the nearest of all queries are found; where features are many, this measures.

    Args:
        queries: whose neighbours are looked for.
        among: where; the same object if features are compared with each other.
        alive: [N] which of them may be found; all by default.
        count: how many neighbours.
        exact_pairs: compute all products if there are no more pairs than so many.
        progress: told of directions that were put into cells.

    Raises:
        InputError: when the two are not of one width, or none may be found.
    """
    if queries.width != among.width:
        raise InputError(f"Directions of {queries.width} and of {among.width} numbers cannot be compared.")
    alive = np.ones(among.count, bool) if alive is None else alive
    if not alive.any():
        raise InputError("No feature was active on any token: there is nothing to compare.")
    same = queries is among
    whole = Nearest(queries, among, alive, count, same, facts={"method": "exact", "recall": 1.0})
    if queries.count * int(alive.sum()) <= exact_pairs:
        return whole
    cells = _cells(among, alive, progress)
    rng = np.random.default_rng(0)
    sample = np.sort(rng.choice(queries.count, min(_SAMPLE, queries.count), replace=False))
    ids, _ = whole._best(sample, np.flatnonzero(alive))
    ranks = np.argsort(cells.visited(torch.from_numpy(queries.take(sample))), axis=1)
    depth = np.where(ids >= 0, ranks[np.arange(len(sample))[:, None], cells.cell[ids]], 0)
    visits = int(np.quantile(depth[::2], _RECALL, method="higher")) + 1
    if visits > len(cells.centres) // 2:
        return whole
    few = Cells(cells.centres, cells.cell, visits)
    found = Nearest(queries, among, alive, count, same, few)
    again, _ = found._in_cells(sample[1::2], few)
    recall = [np.isin(w[w >= 0], f).mean() for w, f in zip(ids[1::2], again, strict=True) if (w >= 0).any()]
    facts = {
        "method": "cells",
        "cells": len(cells.centres),
        "visited": visits,
        "recall": float(np.mean(recall)),
        "recall_measured_on": len(recall),
    }
    return replace(found, facts=facts)


@contextmanager
def _rounding() -> Iterator[None]:
    """Products of fp32 may round their inputs to bf16; sums stay in fp32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _cells(among: Directions, alive: np.ndarray, progress: Progress) -> Cells:
    """Cells of which all are visited."""
    living = np.flatnonzero(alive)
    number = 1 << max(1, round(np.log2(np.sqrt(len(living)))))
    drawn = np.sort(np.random.default_rng(1).choice(living, min(len(living), 64 * number), replace=False))
    sample = torch.from_numpy(among.take(drawn))
    centres = routing.cluster(sample, number, 1, torch.Generator().manual_seed(0)).rows
    del sample
    cell = np.where(alive, _assigned(among, centres, progress), -1).astype(np.int32)
    return Cells(centres.numpy(), cell, number)


def _assigned(directions: Directions, centres: torch.Tensor, progress: Progress) -> np.ndarray:
    found = np.empty(directions.count, np.int32)
    for at in range(0, directions.count, _COLUMNS):
        block = torch.from_numpy(directions.block(at, min(directions.count, at + _COLUMNS)))
        found[at : at + len(block)] = routing.assigned(block, centres).numpy()
        progress("cells", at + len(block), directions.count)
    return found
