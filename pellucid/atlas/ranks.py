"""Comparing two sets of texts by ranks: AUC, its interval, exact p-values, and the correction for many tests.

T texts, M of them with the label, F columns, one per feature or direction. The texts are the units: a value
stands for a whole text, since the tokens of one text are not independent.

The null hypothesis of a column is that its values are exchangeable between the texts. Its p-value is the
share of all ways to choose M of the T texts whose rank sum is at least the one seen (ties share their rank):
the permutation test with every permutation counted, not drawn (Streitberg and Röhmel 1986). With a million
features one needs p-values far below what drawing could resolve. Above `EXACT_TEXTS` texts the distribution
is taken as normal, its variance corrected for ties.

Many columns: Benjamini and Hochberg 1995. The interval of an AUC: Newcombe 2006, "Confidence intervals for an
effect size measure based on the Mann-Whitney statistic, part 2", method 5, which keeps its width at AUC 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numba import njit, prange

EXACT_TEXTS = 128
"""Up to so many texts in all p-values are exact."""
_Z = 1.959963984540054
"""Of a 95 % interval."""


@dataclass(frozen=True)
class Ranked:
    """How F columns tell M texts from the others."""

    auc: np.ndarray
    """[F] the chance that a text with the label has the larger value; ties count half."""
    p: np.ndarray
    """[F] the chance of so large an AUC, or a larger one, if the column had nothing to do with the label."""


def compare(values: np.ndarray, labels: np.ndarray) -> Ranked:
    """AUC and one-sided p-value of each column.

    Args:
        values: [T, F].
        labels: [T] bool, both kinds among them.
    """
    total, with_label = len(labels), int(labels.sum())
    without = total - with_label
    assert 0 < with_label < total, "both labels are needed"
    if values.shape[1] == 0:
        return Ranked(np.zeros(0), np.zeros(0))
    sums, groups = _rank_sums(np.ascontiguousarray(values.T, np.float32), labels)
    least = with_label * (with_label + 1)
    auc = (sums - least) / (2.0 * with_label * without)
    patterns, which = np.unique(groups, axis=0, return_inverse=True)
    which = which.reshape(-1)
    p = np.empty(len(sums))
    order = np.argsort(which, kind="stable")
    ends = np.bincount(which, minlength=len(patterns)).cumsum()
    for pattern, mine in zip(patterns, np.split(order, ends[:-1]), strict=True):
        sizes = pattern[pattern > 0].astype(np.int64)
        if total <= EXACT_TEXTS:
            p[mine] = _tails(sizes, with_label)[sums[mine]]
        else:
            p[mine] = _normal(sizes, with_label, sums[mine])
    return Ranked(auc, p)


def adjusted(p: np.ndarray, tests: int) -> np.ndarray:
    """[F] p-values corrected for the number of tests: the share of false ones among those at least as small.

    Args:
        p: [F] p-values.
        tests: how many tests there were; those that are not in `p` have a p-value of 1.
    """
    order = np.argsort(p, kind="stable")
    scaled = p[order] * tests / np.arange(1, len(p) + 1)
    found = np.empty(len(p))
    found[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return found


def interval(auc: float, with_label: int, without: int) -> tuple[float, float]:
    """The 95 % interval of an AUC over so many texts of each kind."""
    return _bound(auc, with_label, without, -1), _bound(auc, with_label, without, 1)


def _bound(auc: float, with_label: int, without: int, side: int) -> float:
    """The AUC that is so far to one side that the one seen lies at the edge of what it would give."""
    mean = (with_label + without) / 2 - 1
    inside, outside = auc, 1.0 if side > 0 else 0.0
    for _ in range(60):
        middle = (inside + outside) / 2
        spread = mean * ((1 - middle) / (2 - middle) + middle / (1 + middle))
        deviation = math.sqrt(middle * (1 - middle) * (1 + spread) / (with_label * without))
        if abs(auc - middle) <= _Z * deviation:
            inside = middle
        else:
            outside = middle
    return inside


@njit(parallel=True, cache=True)
def _rank_sums(values: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of [F, T] values: [F] doubled rank sums of the labelled, and [F, T] sizes of the groups of ties."""
    columns, total = values.shape
    sums = np.zeros(columns, np.int64)
    groups = np.zeros((columns, total), np.int32)
    for f in prange(columns):
        order = np.argsort(values[f])
        at, number = 0, 0
        while at < total:
            end = at + 1
            while end < total and values[f, order[end]] == values[f, order[at]]:
                end += 1
            groups[f, number] = end - at
            number += 1
            for i in range(at, end):
                if labels[order[i]]:
                    sums[f] += at + 1 + end
            at = end
    return sums, groups


@njit(cache=True)
def _tails(sizes: np.ndarray, with_label: int) -> np.ndarray:
    """[sums + 1] the share of choices of M texts whose doubled rank sum is at least so much.

    Counts choices text by text: `ways[j, s]` of j texts with a sum of s, as a share of all in the end.
    """
    total = sizes.sum()
    most = with_label * 2 * total
    ways = np.zeros((with_label + 1, most + 1))
    ways[0, 0] = 1.0
    before, reach = 0, 0
    for size in sizes:
        rank = 2 * before + 1 + size
        for done in range(before, before + size):
            for j in range(min(done + 1, with_label), 0, -1):
                for s in range(min(reach, most - rank) + 1):
                    ways[j, s + rank] += ways[j - 1, s]
            reach += rank
        before += size
    last = ways[with_label]
    tails = np.empty(most + 1)
    running = 0.0
    for s in range(most, -1, -1):
        running += last[s]
        tails[s] = running
    return tails / running


def _normal(sizes: np.ndarray, with_label: int, sums: np.ndarray) -> np.ndarray:
    """The same where texts are many, by the normal distribution, half a rank given away."""
    total = int(sizes.sum())
    without = total - with_label
    ties = float((sizes**3 - sizes).sum()) / (total * (total - 1))
    variance = with_label * without / 12 * (total + 1 - ties)
    if variance <= 0:
        return np.ones(len(sums))
    over = sums / 2 - with_label * (total + 1) / 2 - 0.5
    return np.array([0.5 * math.erfc(z / math.sqrt(2)) for z in over / math.sqrt(variance)])
