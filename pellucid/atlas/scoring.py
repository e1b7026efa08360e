"""Scores of labels: on held-out texts, each beside the score the same label has for other features.

Two tests (detection and fuzzing of Paulo et al., arXiv 2410.13928, section 3; a label's words are all the
scorer knows):

    detection   in which texts is the feature active? Examples against texts in which it is silent
    fuzzing     are the marked tokens those it is active on? Examples with the right tokens marked, against
                the same examples with as many silent tokens marked

Each is the mean of the share of right answers on either side, so that 0.5 is chance; a label's score is the
mean of both. Its floor is the same label scored on texts of many other features. A label is reliable when the
difference to its floor is above zero with 95 % confidence. Intervals are Wilson's for each side, put together
by the method of Newcombe (1998); the three answers on one example count as one observation, which makes them
wide rather than narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pellucid.atlas.evidence import Evidence, Window
from pellucid.atlas.explainers import Explainer, Judged, Marked, Sheet, Written
from pellucid.core.intervals import wilson

_OTHERS = 20
"""Other features that a floor is drawn from."""


@dataclass(frozen=True)
class Measured:
    """A figure between 0 and 1 with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Outcome:
    """How a label did on some texts."""

    detection: float
    fuzzing: float
    score: Measured
    """The mean of both."""


@dataclass(frozen=True)
class Score:
    """A label's tests beside its floor."""

    own: Outcome
    floor: Outcome
    """The same label on texts of other features."""

    @property
    def reliable(self) -> bool:
        """Whether the label says more of this feature than of others, with 95 % confidence."""
        return above(self.own.score, self.floor.score)


def sheet_of(evidence: Evidence) -> Sheet:
    """The held-out texts of a feature."""
    return Sheet(
        [Marked(w, w.marked) for w in evidence.held_out],
        [Marked(w, m) for w, m in zip(evidence.held_out, evidence.moved, strict=True)],
        evidence.silent,
        evidence.source_names,
    )


def floor_sheet(evidence: Evidence, others: Sequence[Evidence]) -> Sheet:
    """As many held-out texts of other features, a few of each of some that are drawn by lot.

    Args:
        evidence: of the feature itself, which is never drawn.
        others: of features to draw from, those with enough evidence.
    """
    random = np.random.default_rng([evidence.feature, 1])
    strangers = [o for o in others if o.feature != evidence.feature]
    chosen = random.permutation(len(strangers))[:_OTHERS].tolist()
    each = -(-len(evidence.held_out) // max(1, len(chosen)))
    active: list[Marked] = []
    moved: list[Marked] = []
    silent: list[Window] = []
    for number in chosen:
        other = strangers[number]
        for i in random.permutation(len(other.held_out))[:each].tolist():
            active.append(Marked(other.held_out[i], other.held_out[i].marked))
            moved.append(Marked(other.held_out[i], other.moved[i]))
        silent += [other.silent[i] for i in random.permutation(len(other.silent))[:each].tolist()]
    return Sheet(active, moved, silent, evidence.source_names)


def score(explainer: Explainer, label: Written, evidence: Evidence, others: Sequence[Evidence]) -> Score:
    """Test a label on its own feature and on others.

    Args:
        explainer: what tests it.
        label: what was written.
        evidence: of the feature.
        others: of features to draw the floor from.

    Raises:
        LabelError: when the explainer gives no answer.
    """
    sheets = sheet_of(evidence), floor_sheet(evidence, others)
    return Score(*(outcome_of(explainer.judge(label, sheet)) for sheet in sheets))


def outcome_of(judged: Judged) -> Outcome:
    """Detection, fuzzing and their mean from what a scorer said."""
    found, quiet = np.array(judged.active, float), 1 - np.array(judged.silent, float)
    right, unmoved = np.array(judged.marked, float), 1 - np.array(judged.moved, float)
    examples, silent = _share((found + right + unmoved) / 3), _share(quiet)
    value = 0.75 * examples.value + 0.25 * silent.value
    below = math.hypot(0.75 * (examples.value - examples.low), 0.25 * (silent.value - silent.low))
    over = math.hypot(0.75 * (examples.high - examples.value), 0.25 * (silent.high - silent.value))
    detection, fuzzing = (found.mean() + quiet.mean()) / 2, (right.mean() + unmoved.mean()) / 2
    return Outcome(float(detection), float(fuzzing), Measured(value, value - below, value + over))


def _share(values: np.ndarray) -> Measured:
    """The mean of verdicts between 0 and 1, one for each text."""
    share = float(values.mean())
    return Measured(share, *wilson(share, len(values)))


def above(one: Measured, other: Measured) -> bool:
    """Whether the difference of two figures is above zero with 95 % confidence (Newcombe 1998)."""
    return one.value - other.value > math.hypot(one.value - one.low, other.high - other.value)
