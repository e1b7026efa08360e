from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pellucid.atlas import ranks
from pellucid.dictionaries import probing


@given(
    arrays.arrays(np.float32, (8, 3), elements=st.sampled_from([0.0, 0.5, 1.0, 2.0])),
    st.integers(1, 7),
    st.randoms(use_true_random=False),
)
def test_p_values_are_those_of_all_permutations(values: np.ndarray, size: int, random: object) -> None:
    labels = np.zeros(8, bool)
    labels[random.sample(range(8), size)] = True  # type: ignore[attr-defined]
    found = ranks.compare(values, labels)
    for f in range(3):
        seen = probing.auc(values[:, f], labels)
        assert found.auc[f] == pytest.approx(seen)
        others = []
        for chosen in itertools.combinations(range(8), size):
            other = np.zeros(8, bool)
            other[list(chosen)] = True
            others.append(probing.auc(values[:, f], other))
        assert found.p[f] == pytest.approx(np.mean(np.array(others) >= seen - 1e-9))


def test_the_smallest_p_value_is_one_of_all_choices() -> None:
    labels = np.arange(64) % 2 == 0
    values = np.where(labels, 2.0, 1.0)[:, None] + np.linspace(0, 0.5, 64)[:, None]
    found = ranks.compare(values, labels)
    assert found.auc[0] == 1
    assert found.p[0] == pytest.approx(1 / math.comb(64, 32), rel=1e-9)


def test_many_texts_have_nearly_the_p_values_of_the_exact_test(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    labels = np.arange(100) % 2 == 0
    values = np.maximum(draw.normal(size=(100, 40)) + 0.3 * labels[:, None], 0)
    exact = ranks.compare(values, labels).p
    monkeypatch.setattr(ranks, "EXACT_TEXTS", 50)
    np.testing.assert_allclose(ranks.compare(values, labels).p, exact, atol=0.003)


def test_columns_that_are_silent_have_a_p_value_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.arange(10) < 5
    for limit in (50, 5):
        monkeypatch.setattr(ranks, "EXACT_TEXTS", limit)
        found = ranks.compare(np.zeros((10, 2)), labels)
        assert found.auc.tolist() == [0.5, 0.5]
        assert found.p.tolist() == [1, 1]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(0, 50))
def test_the_correction_is_that_of_benjamini_and_hochberg(values: list[float], more: int) -> None:
    p = np.array(values)
    tests = len(p) + more
    padded = np.concatenate([p, np.ones(more)])
    ranked = np.sort(padded)
    for value, found in zip(p, ranks.adjusted(p, tests), strict=True):
        steps = [
            min(1.0, ranked[i] * tests / (i + 1)) for i in range(tests) if ranked[i] >= value
        ]  # the least over all larger p-values
        assert found == pytest.approx(min(steps))


def test_no_more_is_found_in_noise_than_the_level_says() -> None:
    draw = np.random.default_rng(1)
    labels = np.arange(24) % 2 == 0
    found = [
        bool((ranks.adjusted(ranks.compare(draw.normal(size=(24, 50)), labels).p, 50) <= 0.05).any())
        for _ in range(400)
    ]
    assert np.mean(found) < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 400)


def test_intervals_hold_the_true_auc_as_often_as_they_say() -> None:
    draw = np.random.default_rng(2)
    labels = np.arange(32) < 16
    for shift in (0.0, 1.0, 2.0):
        truth = 0.5 * math.erfc(-shift / 2)
        held = []
        for _ in range(400):
            auc = probing.auc(draw.normal(size=32) + shift * labels, labels)
            low, high = ranks.interval(auc, 16, 16)
            held.append(low <= truth <= high)
        assert 0.92 < np.mean(held) <= 1


@given(st.integers(1, 30), st.integers(1, 30), st.floats(0, 1))
def test_intervals_hold_what_was_seen_and_turn_with_it(m: int, n: int, auc: float) -> None:
    low, high = ranks.interval(auc, m, n)
    assert 0 <= low <= auc <= high <= 1
    turned = ranks.interval(1 - auc, m, n)
    assert turned == pytest.approx((1 - high, 1 - low), abs=1e-6)
