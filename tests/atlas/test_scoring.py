from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from pellucid.atlas import scoring
from pellucid.atlas.evidence import Evidence
from pellucid.atlas.explainer_words import WordsExplainer
from pellucid.atlas.explainers import Judged, Sheet, Written
from pellucid.atlas.rules import Condition, Rule
from pellucid.atlas.scoring import Measured, above, outcome_of
from pellucid.core.intervals import wilson
from tests.atlas.label_cases import evidence, window


def music(feature: int = 0, word: str = "song") -> Evidence:
    """A feature that is active on one word, among texts with others."""
    active = [window(f"they sang a {word} at {i}", {3: 1.0 + i}, token=64 * i) for i in range(12)]
    silent = [window(f"they ate the bread at {i}", token=64 * i) for i in range(12)]
    return evidence(active[:6], silent[:6], active[6:], silent[6:], feature=feature)


def label(word: str) -> Written:
    return Written(f"the word {word}", Rule((Condition("here", (word,)),)))


def test_scores_of_hand_made_answers() -> None:
    # Detection: 3 of 4 and 1 of 2 right. Fuzzing: 4 of 4 and 2 of 4 right.
    found = outcome_of(
        Judged([True, True, True, False], [False, True], [True] * 4, [True, True, False, False])
    )
    assert found.detection == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert found.fuzzing == pytest.approx((1 + 1 / 2) / 2)
    assert found.score.value == pytest.approx((found.detection + found.fuzzing) / 2)
    half = math.hypot(0.75 * (9 / 12 - wilson(9 / 12, 4)[0]), 0.25 * (1 / 2 - wilson(1 / 2, 2)[0]))
    assert found.score.low == pytest.approx(found.score.value - half)


def test_a_difference_counts_when_its_interval_is_above_zero() -> None:
    assert above(Measured(0.9, 0.8, 0.95), Measured(0.5, 0.45, 0.55))
    assert not above(Measured(0.6, 0.45, 0.7), Measured(0.5, 0.45, 0.55))
    assert not above(Measured(0.5, 0.4, 0.6), Measured(0.5, 0.4, 0.6))


def test_the_right_label_scores_one_and_a_wrong_one_chance() -> None:
    others = [music(f, w) for f, w in enumerate(("bread", "stone", "cloud"), 1)]
    words = WordsExplainer()
    right = scoring.score(words, label("song"), music(), others)
    assert (right.own.detection, right.own.fuzzing) == (1.0, 1.0)
    assert (right.floor.detection, right.floor.fuzzing) == (0.5, 0.5)
    wrong = scoring.score(words, label("quartz"), music(), others)
    assert (wrong.own.score.value, wrong.floor.score.value) == (0.5, 0.5)
    assert not wrong.reliable
    # "they" is in all texts and never marked.
    everywhere = scoring.score(words, label("they"), music(), others)
    assert everywhere.own.detection == 0.5
    assert not everywhere.reliable


def test_six_perfect_answers_are_not_enough_and_forty_are() -> None:
    def perfect(count: int) -> scoring.Outcome:
        return outcome_of(Judged([True] * count, [False] * count, [True] * count, [False] * count))

    def chance(count: int) -> scoring.Outcome:
        return outcome_of(Judged([False] * count, [False] * count, [False] * count, [False] * count))

    assert scoring.Score(perfect(40), chance(40)).reliable
    assert not scoring.Score(perfect(2), chance(2)).reliable


@dataclass(frozen=True)
class Tosses:
    """Answers by lot."""

    random: np.random.Generator
    name: str = "tosses"
    at_once: int = 1

    def identity(self) -> dict[str, Any]:
        return {}

    def write(self, evidence: Evidence) -> Written:
        raise NotImplementedError

    def judge(self, label: Written, sheet: Sheet) -> Judged:
        sides = (sheet.active, sheet.silent, sheet.active, sheet.moved)
        return Judged(*((self.random.random(len(side)) < 0.5).tolist() for side in sides))


def test_labels_that_say_nothing_are_seldom_called_reliable() -> None:
    active = [window(f"a b c {i}", {2: 1.0}, token=64 * i) for i in range(80)]
    silent = [window(f"a b c {i}", token=64 * i) for i in range(80)]
    one = evidence(active[:40], silent[:40], active[40:], silent[40:])
    tosses = Tosses(np.random.default_rng(0))
    found = [scoring.score(tosses, label("x"), one, [music(1), music(2)]).reliable for _ in range(400)]
    assert np.mean(found) <= 0.025


def test_a_floor_is_drawn_from_other_features_alone_and_is_as_large() -> None:
    own = music(0)
    others = [music(f, f"word{f}") for f in range(8)]
    sheet = scoring.floor_sheet(own, others)
    told = {m.window.pieces[3].strip() for m in sheet.active}
    assert "word0" not in told
    assert told == {f"word{f}" for f in range(1, 8)}
    assert len(sheet.active) >= len(own.held_out)
    assert sheet == scoring.floor_sheet(own, others)
