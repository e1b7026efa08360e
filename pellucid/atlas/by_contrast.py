"""Finding features by two sets of texts: those with a concept and those without it.

The texts are the units. A feature's value on a text is its peak there. For each feature: the AUC (the chance
that a text with the concept fires it more), and a p-value from the exact permutation test, corrected for all
features of the dictionary, silent ones included (see `ranks`). The order is by one half of the texts; beside
it stands the AUC on the other half, which had no say in it.

On the same held-out texts stand the baselines, each chosen or fitted on the first half: the mean-difference
vector and, where asked for, a dense probe over the mean activation; the best raw neuron, turned either way,
and the best of as many random directions as there are features, both by their peaks. A good AUC of the best
of many is no find if the best of many random directions has it too (arXiv 2602.14111).

T texts, N features, D columns of the activation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from pellucid.atlas import peaks, ranks
from pellucid.atlas.families import Family
from pellucid.atlas.peaks import Read
from pellucid.core.errors import InputError
from pellucid.core.progress import Progress, silent
from pellucid.dictionaries import probing
from pellucid.dictionaries.base import Dictionary
from pellucid.models.model import Model

Verdict = Literal["reliable", "no better", "none", "untested"]

LEAST_TO_SPLIT = 4
"""With fewer texts of a kind none are held out."""
SIGNIFICANT = 0.05
_MOST_RANDOM = 16_384
_DIRECTIONS_AT_ONCE = 2048
_RESAMPLES = 2000


@dataclass(frozen=True)
class Told:
    """An AUC with its 95 % interval."""

    auc: float
    low: float
    high: float

    @classmethod
    def of(cls, auc: float, labels: np.ndarray) -> Told:
        """An AUC over labelled texts."""
        return cls(auc, *ranks.interval(auc, int(labels.sum()), int((~labels).sum())))


@dataclass(frozen=True)
class Separating:
    """A feature that fires more with the concept."""

    feature: int
    with_it: float
    """Mean over the texts with the concept of its peak, as a share of its maximum."""
    without: float
    """The same over the others."""
    told: Told
    """Over all texts."""
    q: float
    """Its p-value over all texts, corrected for the number of features."""
    held_out: Told | None
    """On the texts it was not chosen on; none where there were too few to hold some out."""


@dataclass(frozen=True)
class Contrast:
    """The features that tell two sets of texts apart best, beside their baselines."""

    features: list[Separating]
    """Best first, by the texts to choose on."""
    tested: int
    """N: how many features there are."""
    significant: int
    """How many have a corrected p-value of 0.05 or less."""
    baselines: dict[str, Told]
    """On the held-out texts, by name; empty where none are held out."""
    ahead: tuple[float, float, float] | None
    """How far the best feature's held-out AUC lies above that of the better of raw neuron and random
    direction, with the 95 % interval of drawing the texts anew."""

    @property
    def verdict(self) -> Verdict:
        """What the best feature is worth.

        `none`: not significant after correction, or no better than chance on the held-out texts. `no better`:
        both, but on the held-out texts not surely ahead of the best raw neuron and the best random direction.
        `reliable`: ahead of them too, with the whole interval of the difference. `untested`: no texts were
        held out.
        """
        if not self.features or self.features[0].q > SIGNIFICANT:
            return "none"
        best = self.features[0].held_out
        if best is None or self.ahead is None:
            return "untested"
        if best.low <= 0.5:
            return "none"
        return "reliable" if self.ahead[1] > 0 else "no better"


def contrast(
    dictionary: Dictionary,
    concept: Sequence[Read],
    neutral: Sequence[Read],
    *,
    count: int = 10,
    dense_probe: bool = False,
    seed: int = 0,
) -> Contrast:
    """The features that fire more on some texts than on others.

    Args:
        dictionary: where to look.
        concept: texts with the concept, read for the dictionary.
        neutral: texts without it.
        count: how many features to return.
        dense_probe: fit a dense probe too; needs scikit-learn.
        seed: of the random directions.

    Raises:
        InputError: when a set is empty.
        MissingDependencyError: when a probe is asked for and scikit-learn is not installed.
    """
    if not concept or not neutral:
        raise InputError("A contrast needs texts with the concept and texts without it.")
    reads = [*concept, *neutral]
    labels = np.arange(len(reads)) < len(concept)
    split = min(len(concept), len(neutral)) >= LEAST_TO_SPLIT
    choosing = np.concatenate([np.arange(len(side)) % 2 == 0 for side in (concept, neutral)])
    if not split:
        choosing[:] = True
    found = peaks.of_reads(dictionary, reads)
    total = ranks.compare(found.values, labels)
    q = ranks.adjusted(total.p, dictionary.num_features)
    order = _ranked(found.values[choosing], labels[choosing])
    shares = found.values / _units(dictionary, found)
    rows = [
        Separating(
            feature=int(found.features[u]),
            with_it=float(shares[labels, u].mean()),
            without=float(shares[~labels, u].mean()),
            told=Told.of(float(total.auc[u]), labels),
            q=float(q[u]),
            held_out=_held_out(found.values[:, u], labels, choosing) if split else None,
        )
        for u in order[:count]
        if total.auc[u] > 0.5
    ]
    baselines, rivals = (
        _baselines(dictionary, reads, labels, choosing, dense_probe, seed) if split else ({}, [])
    )
    ahead = None
    if rows and split:
        mine = found.values[~choosing, np.searchsorted(found.features, rows[0].feature)]
        rival = max(rivals, key=lambda r: probing.auc(r, labels[~choosing]))
        ahead = _difference(mine, rival, labels[~choosing], seed)
    return Contrast(rows, dictionary.num_features, int((q <= SIGNIFICANT).sum()), baselines, ahead)


def survey(
    model: Model,
    dictionaries: Mapping[str, Dictionary],
    families: Sequence[Family],
    *,
    progress: Progress = silent,
) -> dict[str, dict[str, Contrast]]:
    """The best feature of each family in each of some dictionaries, which share one reading of the texts.

    Args:
        model: the model of all the dictionaries.
        dictionaries: by the names to call them by.
        families: what to look for.
        progress: told of families done.

    Returns:
        For each dictionary, by the family's name.

    Raises:
        InputError: when a dictionary is of another model.
        MissingDependencyError: when scikit-learn, which fits the dense probes, is not installed.
    """
    found: dict[str, dict[str, Contrast]] = {name: {} for name in dictionaries}
    for number, family in enumerate(families):
        concept, neutral = (
            peaks.read(model, list(dictionaries.values()), texts)
            for texts in (family.concept, family.neutral)
        )
        for name, dictionary in dictionaries.items():
            found[name][family.name] = contrast(dictionary, concept, neutral, dense_probe=True)
        progress("families", number + 1, len(families))
    return found


def _units(dictionary: Dictionary, found: peaks.Peaks) -> np.ndarray:
    """[U] what a share is a share of: the maximum, or without one the largest peak seen."""
    units: np.ndarray = found.values.max(0)
    if dictionary.maximum is not None:
        units = dictionary.maximum.cpu().numpy()[found.features]
    return units.clip(min=1e-6)


def _ranked(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """[F] columns by AUC, best first; among equal ones, by the difference of means in units of the spread."""
    difference = values[labels].mean(0) - values[~labels].mean(0)
    size = difference / np.maximum(values.std(0), 1e-9)
    return np.lexsort((-size, -ranks.compare(values, labels).auc))


def _held_out(scores: np.ndarray, labels: np.ndarray, choosing: np.ndarray) -> Told:
    return Told.of(probing.auc(scores[~choosing], labels[~choosing]), labels[~choosing])


def _baselines(
    dictionary: Dictionary,
    reads: Sequence[Read],
    labels: np.ndarray,
    choosing: np.ndarray,
    dense_probe: bool,
    seed: int,
) -> tuple[dict[str, Told], list[np.ndarray]]:
    """Held-out AUCs of what needs no dictionary, and the scores of those that are one direction of many."""
    x = np.concatenate([r.columns[dictionary.ports.reads].numpy() for r in reads])
    starts = np.cumsum([0, *(len(r.kept) for r in reads)])[:-1]
    mean = np.add.reduceat(x, starts) / np.diff([*starts, len(x)])[:, None]
    train = labels[choosing]
    vector = mean[choosing][train].mean(0) - mean[choosing][~train].mean(0)
    told = {"mean difference": _held_out(mean @ vector, labels, choosing)}
    if dense_probe:
        with probing.one_thread():
            told["dense probe"] = Told.of(probing.probe(mean, labels, choosing).all, labels[~choosing])
    raw = np.concatenate([np.maximum.reduceat(x, starts), np.maximum.reduceat(-x, starts)], axis=1)
    neuron = raw[:, _ranked(raw[choosing], train)[0]]
    random = _best_random(x, starts, labels, choosing, min(dictionary.num_features, _MOST_RANDOM), seed)
    for name, scores in (("raw neuron", neuron), ("random direction", random)):
        told[name] = _held_out(scores, labels, choosing)
    return told, [neuron[~choosing], random[~choosing]]


def _best_random(
    x: np.ndarray, starts: np.ndarray, labels: np.ndarray, choosing: np.ndarray, count: int, seed: int
) -> np.ndarray:
    """[T] the peaks of the random direction, of so many, that is best on the texts to choose on."""
    generator = torch.Generator().manual_seed(seed)
    best: list[np.ndarray] = []
    for at in range(0, count, _DIRECTIONS_AT_ONCE):
        some = min(_DIRECTIONS_AT_ONCE, count - at)
        directions = torch.randn(some, x.shape[1], generator=generator)
        values = np.maximum.reduceat((torch.from_numpy(x) @ directions.T).numpy(), starts)
        best.append(values[:, _ranked(values[choosing], labels[choosing])[0]])
    found = np.stack(best, axis=1)
    winner: np.ndarray = found[:, _ranked(found[choosing], labels[choosing])[0]]
    return winner


def _difference(
    scores: np.ndarray, rival: np.ndarray, labels: np.ndarray, seed: int
) -> tuple[float, float, float]:
    """The AUC of one score less that of another on the same texts, with its bootstrap interval."""
    wins = [
        (s[labels][:, None] > s[~labels]) + 0.5 * (s[labels][:, None] == s[~labels]) for s in (scores, rival)
    ]
    each = wins[0] - wins[1]
    draw = np.random.default_rng(seed)
    rows, columns = (
        draw.multinomial(size, np.full(size, 1 / size), _RESAMPLES) / size for size in each.shape
    )
    drawn = ((rows @ each) * columns).sum(1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(each.mean()), float(low), float(high)
