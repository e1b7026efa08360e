"""Sparse probing: does one feature, or five, tell the texts of a labelled set apart?

After Gurnee et al. 2023 (arXiv 2305.01610) and Kantamneni et al. 2025 (arXiv 2502.16681): features are chosen
by the difference of their means on the training texts, in units of their mean where they are active; a
logistic regression is fitted to them; what counts is the AUC on the test texts (0.5 is chance). The same is
done with all features at once, with the coordinates of the activation itself ("raw neurons") and with random
directions. All coordinates at once are the dense probe.

T texts, F features.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.core.errors import MissingDependencyError

COUNTS = (1, 5)
"""How many features a sparse probe has."""
_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Inverse strengths of regularisation that a probe over all features chooses from."""
_FOLDS = 3


@dataclass(frozen=True)
class Aucs:
    """AUC on the test texts of one set."""

    few: dict[str, float]
    """By how many features, `1` and `5`."""
    all: float
    """Of all features at once."""


def probe(x: np.ndarray, labels: np.ndarray, training: np.ndarray) -> Aucs:
    """Fit probes to some columns, and test them.

    Args:
        x: [T, F] activations of features or coordinates.
        labels: [T] bool.
        training: [T] bool; the others test. Both sides hold both labels.

    Raises:
        MissingDependencyError: when scikit-learn is not installed.
    """
    x = x[:, np.any(x[training] != 0, axis=0)].astype(np.float64)
    if not x.shape[1]:
        return Aucs({str(count): 0.5 for count in COUNTS}, 0.5)
    ranked = by_difference(x[training], labels[training])
    few = {str(c): _few(x[:, ranked[:c]], labels, training) for c in COUNTS}
    return Aucs(few, _all(x, labels, training))


def by_difference(x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[F] columns of [T, F] by the difference of their means over the labels, largest first.

    In units of the mean size where a column is not zero, so that a coordinate that is large everywhere gains
    nothing by that.
    """
    difference = np.abs(x[labels].mean(0) - x[~labels].mean(0))
    active = np.maximum((x != 0).sum(0), 1)
    scale = np.abs(x).sum(0) / active
    return np.argsort(-difference / np.where(scale > 0, scale, 1), kind="stable")


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """The chance that a text with the label scores higher than one without; ties count half."""
    ranks = _ranks(scores)
    with_label = int(labels.sum())
    without = len(labels) - with_label
    return float((ranks[labels].sum() - with_label * (with_label + 1) / 2) / (with_label * without))


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal scores sharing theirs."""
    _, where, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    shared: np.ndarray = (ends - (counts - 1) / 2)[where]
    return shared


def regression(**settings: Any) -> Any:
    """A logistic regression of scikit-learn.

    Raises:
        MissingDependencyError: when it is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise MissingDependencyError("scikit-learn", "eval", "Fitting probes") from error
    return LogisticRegression(max_iter=1000, **settings)


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep products within the block on one core: on matrices of a hundred rows, threads wait for each other.

    On a busy machine of two cores they waited fifteen times as long as they worked.

    Raises:
        MissingDependencyError: when scikit-learn, which brings threadpoolctl, is not installed.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingDependencyError("scikit-learn", "eval", "Fitting probes") from error
    with threadpool_limits(1):
        yield


def _few(x: np.ndarray, labels: np.ndarray, training: np.ndarray) -> float:
    """A probe over few columns, each in units of its spread."""
    spread = x[training].std(0)
    x = (x - x[training].mean(0)) / np.where(spread > 0, spread, 1)
    fitted = regression().fit(x[training], labels[training])
    return auc(fitted.decision_function(x[~training]), labels[~training])


def _all(x: np.ndarray, labels: np.ndarray, training: np.ndarray) -> float:
    """A probe over all columns; how strongly it is held back is decided on folds of the training texts.

    With fewer texts than columns, the regression is the same in the coordinates of the training texts' own
    singular directions, and as small as they are few.
    """
    x = x - x[training].mean(0)
    x /= max(1e-12, float(np.sqrt(np.square(x[training]).sum(1).mean())))
    left, size, _ = np.linalg.svd(x[training] @ x[training].T)
    kept = size > 1e-10 * size[0]
    turned = x @ (x[training].T @ (left[:, kept] / np.sqrt(size[kept])))
    z, y = turned[training], labels[training]
    # Texts are in order of their digest within each label, so every third is as good as drawn.
    fold = np.arange(len(y)) % _FOLDS
    scores = [
        np.mean([_fit(z[fold != f], y[fold != f], c, z[fold == f], y[fold == f]) for f in range(_FOLDS)])
        for c in _STRENGTHS
    ]
    return _fit(z, y, _STRENGTHS[int(np.argmax(scores))], turned[~training], labels[~training])


def _fit(x: np.ndarray, y: np.ndarray, strength: float, test_x: np.ndarray, test_y: np.ndarray) -> float:
    fitted = regression(C=strength).fit(x, y)
    return auc(fitted.decision_function(test_x), test_y)
