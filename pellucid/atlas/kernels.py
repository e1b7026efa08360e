"""The compiled kernel of the atlas: keeps the best examples of every feature."""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(parallel=True, cache=True)
def insert_best(
    starts: np.ndarray,
    order: np.ndarray,
    values: np.ndarray,
    rows: np.ndarray,
    positions: np.ndarray,
    kept: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Put each entry among the best of its feature, one per row, descending."""
    best, best_rows, best_positions = kept
    room = best.shape[1]
    for i in prange(len(starts) - 1):
        for at in range(starts[i], starts[i + 1]):
            e = order[at]
            value, row = values[e], rows[e]
            if value <= best[i, room - 1]:
                continue
            place = room - 1
            for j in range(room):
                if best_rows[i, j] == row:
                    place = j
                    break
            if best_rows[i, place] == row and value <= best[i, place]:
                continue
            while place > 0 and best[i, place - 1] < value:
                best[i, place] = best[i, place - 1]
                best_rows[i, place] = best_rows[i, place - 1]
                best_positions[i, place] = best_positions[i, place - 1]
                place -= 1
            best[i, place] = value
            best_rows[i, place] = row
            best_positions[i, place] = positions[e]
