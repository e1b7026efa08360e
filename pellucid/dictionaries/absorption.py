"""Feature absorption: the feature of a first letter is silent, and a narrower one speaks in its place.

Chanin et al. 2024 (arXiv 2409.14507), as SAEBench counts it (Karvonen et al. 2025, arXiv 2503.09532), without
integrated gradients. For each letter:

1. A dense probe on the activations of words finds the letter's direction p. Letters that it does not find
   are left out.
2. The letter's features: the k that a sparse regression weights most, k as long as one more feature adds 0.03
   to the F1 on the test words.
3. On each test word with the letter that the dense probe finds, the activation's part along p is compared
   with what the letter's features write along p, and with what others do. A feature with activation a and
   decoder direction d writes a (d·p).

Here the activation is taken from the decoder bias, which is where the features begin to add up; SAEBench
takes it from zero. W words, D width, N features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from pellucid.activations.spelling import LETTERS, Spelling
from pellucid.core.errors import MissingDependencyError
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.codes import Codes
from pellucid.dictionaries.figures import Figure, resampled
from pellucid.dictionaries.probing import regression

_FOUND = 0.6
"""F1 of the dense probe from which a letter counts as known to the model."""
_MOST_FEATURES = 10
_ADDS = 0.03
"""What one more feature must add to the F1 to be one of the letter's."""
_ALIGNED = 0.1
"""Cosine with the letter's direction from which a feature can absorb a part."""
_ALIGNED_ALONE = 0.025
"""The same for a feature that absorbs all by itself."""
_SHARE = 0.4
"""Share of the activation along p that absorbing features must write."""
_ABSORBERS = 3
_DENSE_STRENGTH = 0.01
_SPARSE_STRENGTH = 1.0


@dataclass(frozen=True)
class LetterProbes:
    """Dense probes for the first letters of words."""

    letters: np.ndarray
    """[L] the letters that were tried, indexes into `LETTERS`."""
    directions: np.ndarray
    """[L, D] unit length."""
    scores: np.ndarray
    """[L, W] above zero where the probe finds the letter."""
    f1: np.ndarray
    """[L] on the test words."""


@dataclass(frozen=True)
class Absorption:
    """Absorption over the letters that the model knows; each figure is a mean over them."""

    letters: str
    """Which letters count."""
    words: int
    """Test words with one of them that the dense probe finds."""
    dense_f1: float
    """F1 of the dense probe."""
    one_f1: Figure
    """F1 of the letter's best feature alone."""
    split_f1: Figure
    """F1 of the letter's features together."""
    features: Figure
    """Features of a letter."""
    fraction: Figure
    """The mean part that other features have taken over."""
    full: Figure
    """The share of words on which the letter's features are silent and one other has taken over."""


def letter_probes(spelling: Spelling) -> LetterProbes:
    """Fit a dense probe for each letter.

    Raises:
        MissingDependencyError: when scikit-learn is not installed.
    """
    letters, x = np.unique(spelling.letters), spelling.activations.astype(np.float64)
    train = spelling.training
    if not len(letters):
        return LetterProbes(letters, np.zeros((0, x.shape[1])), np.zeros((0, 0)), np.zeros(0))
    mean, spread = x[train].mean(0), x[train].std(0)
    x = (x - mean) / np.where(spread > 0, spread, 1)
    directions, scores, f1s = [], [], []
    for letter in letters:
        own = spelling.letters == letter
        fitted = regression(C=_DENSE_STRENGTH, class_weight="balanced").fit(x[train], own[train])
        direction = fitted.coef_[0] / np.where(spread > 0, spread, 1)
        directions.append(direction / np.linalg.norm(direction))
        scores.append(fitted.decision_function(x))
        f1s.append(f1(scores[-1][~train] > 0, own[~train]))
    return LetterProbes(
        letters, np.array(directions, np.float32), np.array(scores, np.float32), np.array(f1s)
    )


def measure(
    dictionary: Dictionary, codes: Codes, spelling: Spelling, probes: LetterProbes
) -> Absorption | None:
    """Measure the absorption of a dictionary.

    Args:
        dictionary: what to measure.
        codes: its codes of the words.
        spelling: the words.
        probes: dense probes for their letters.

    Returns:
        The figures; None when the dense probe finds no letter, so that there is nothing to absorb.
    """
    known = np.flatnonzero(probes.f1 > _FOUND)
    if not len(known):
        return None
    rows: list[tuple[float, float, float]] = []
    fractions: list[np.ndarray] = []
    fulls: list[np.ndarray] = []
    matrix = scaled(codes)
    rest = spelling.activations - dictionary.decoder_bias.numpy()
    for index in known:
        own = spelling.letters == probes.letters[index]
        features, one, split = letter_features(matrix, own, spelling.training)
        words = np.flatnonzero(own & ~spelling.training & (probes.scores[index] > 0))
        direction = probes.directions[index]
        found = [
            absorbed(*codes.row(int(w)), dictionary.decoder, direction, features, float(rest[w] @ direction))
            for w in words
        ]
        rows.append((one, split, len(features)))
        fractions.append(np.array([fraction for fraction, _ in found]))
        fulls.append(np.array([full for _, full in found], np.float64))
    columns = np.array(rows)
    return Absorption(
        letters="".join(LETTERS[probes.letters[i]] for i in known),
        words=sum(map(len, fractions)),
        dense_f1=float(probes.f1[known].mean()),
        one_f1=_over_letters(columns[:, 0]),
        split_f1=_over_letters(columns[:, 1]),
        features=_over_letters(columns[:, 2]),
        fraction=_over_letters(np.array([f.mean() for f in fractions])),
        full=_over_letters(np.array([f.mean() for f in fulls])),
    )


def absorbed(
    features: Tensor, values: Tensor, decoder: Tensor, direction: np.ndarray, main: list[int], along: float
) -> tuple[float, bool]:
    """How much of a letter other features have taken over on one word.

    Args:
        features: the word's active features [A].
        values: their activations [A].
        decoder: [N, D] unit rows.
        direction: [D] the letter's, of unit length.
        main: the letter's features.
        along: the activation, taken from the decoder bias, along the direction.

    Returns:
        The part taken over, between 0 and 1; and whether the letter's features are silent and one other
        feature has taken over by itself.
    """
    if along <= 0 or not len(features):
        return 0.0, False
    index = features.long()
    cosine = decoder[index].numpy() @ direction
    written = values.numpy() * cosine
    is_main = np.isin(index.numpy(), main)
    by_main = float(written[is_main].sum())
    others = np.sort(written[~is_main & (cosine >= _ALIGNED) & (written > 0)])[::-1][:_ABSORBERS]
    by_others = float(others.sum())
    if by_main >= along or by_others < _SHARE * along:
        fraction = 0.0
    elif by_main <= 0:
        fraction = 1.0
    else:
        taken = min(by_others, along - by_main)
        fraction = taken / (taken + by_main)
    strongest = int(written.argmax())
    full = (
        not is_main.any()
        and bool(cosine[strongest] >= _ALIGNED_ALONE)
        and float(written[strongest]) >= _SHARE * along
    )
    return fraction, full


def letter_features(matrix: Any, own: np.ndarray, training: np.ndarray) -> tuple[list[int], float, float]:
    """The features of a letter, the F1 of the first alone, and of all together.

    Args:
        matrix: [W, N] codes as a sparse matrix of scipy, each column in units of its mean where it is active.
        own: [W] bool, the words with the letter.
        training: [W] bool.
    """
    x = matrix
    rows = np.flatnonzero(training)
    ranking = regression(
        C=_SPARSE_STRENGTH, l1_ratio=1.0, solver="liblinear", class_weight="balanced", random_state=0
    ).fit(x[rows], own[rows])
    # Only what speaks for the letter: weights below zero say that it is another.
    weights = ranking.coef_[0]
    ranked = [int(i) for i in np.argsort(-weights, kind="stable")[:_MOST_FEATURES] if weights[i] > 0]
    best, chosen, one = -1.0, ranked[:0], 0.0
    for count in range(1, len(ranked) + 1):
        columns = np.asarray(x[:, ranked[:count]].todense())
        fitted = regression(class_weight="balanced").fit(columns[rows], own[rows])
        reached = f1(fitted.decision_function(columns[~training]) > 0, own[~training])
        one = reached if count == 1 else one
        if reached <= best + _ADDS:
            break
        best, chosen = reached, ranked[:count]
    return chosen, one, max(best, 0.0)


def f1(said: np.ndarray, true: np.ndarray) -> float:
    """The harmonic mean of precision and recall; 0 where nothing is found."""
    hits = float((said & true).sum())
    return 2 * hits / max(1.0, float(said.sum() + true.sum()))


def _over_letters(values: np.ndarray) -> Figure:
    return resampled(len(values), lambda d: float(values[d].mean()))


def scaled(codes: Codes) -> Any:
    """[W, N] codes as a sparse matrix of scipy, each column in units of its mean where it is active."""
    try:
        from scipy.sparse import csc_matrix
    except ImportError as error:
        raise MissingDependencyError("scikit-learn", "eval", "Measuring absorption") from error
    features, values = codes.features.numpy(), codes.values.numpy().astype(np.float64)
    sums, counts = np.bincount(features, weights=values), np.bincount(features)
    return csc_matrix(
        (values / (sums / np.maximum(counts, 1))[features], (codes.rows.numpy(), features)),
        shape=(len(codes), codes.num_features),
    )
