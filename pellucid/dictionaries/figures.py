"""A measured number with its 95 % interval, and the bootstrap that gives it (Efron 1979).

What is drawn again is the unit that was sampled: rows of text, words, groups of labelled sets. Units that are
alike belong together, or the interval is too narrow. The draws are the same in every run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
_PARTS = 20
"""In which draws that are taken together are taken, as a figure may be of a million features."""


@dataclass(frozen=True)
class Figure:
    """A measured number with its 95 % interval."""

    value: float
    low: float
    high: float


def resampled(units: int, of: Callable[[np.ndarray], float]) -> Figure:
    """A figure of some units with its bootstrap interval.

    Args:
        units: how many there are.
        of: the figure of the units with these indexes [units], which may repeat.
    """
    draws = np.random.default_rng(0).integers(0, units, (RESAMPLES, units))
    low, high = np.quantile([of(d) for d in draws], [0.025, 0.975])
    return Figure(float(of(np.arange(units))), float(low), float(high))


def resampled_at_once(units: int, of: Callable[[np.ndarray], np.ndarray]) -> Figure:
    """The same, of a figure that takes many draws together.

    Args:
        units: how many there are.
        of: the figures [draws] by how often each unit was drawn [draws, units], float32.
    """
    draws = np.random.default_rng(0).integers(0, units, (RESAMPLES, units))
    times = np.zeros((RESAMPLES + 1, units), np.float32)
    np.add.at(times, (np.arange(RESAMPLES)[:, None], draws), 1)
    times[-1] = 1
    found = np.concatenate([of(part) for part in np.array_split(times, _PARTS)])
    low, high = np.quantile(found[:-1], [0.025, 0.975])
    return Figure(float(found[-1]), float(low), float(high))


def mean_over_groups(values: np.ndarray, groups: np.ndarray) -> Figure:
    """The mean of values [V] whose groups [V] are drawn together, because values of one group are alike."""
    _, where = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(where, weights=values), np.bincount(where)
    return resampled(len(counts), lambda d: sums[d].sum() / counts[d].sum())
