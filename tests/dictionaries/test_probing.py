from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from pellucid.dictionaries import probing

LABELS = np.repeat([False, True], 60)
TRAINING = np.arange(120) % 2 == 0


def noise(columns: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((120, columns)).astype(np.float32)


@given(st.lists(st.integers(0, 4), min_size=4, max_size=40), st.randoms())
def test_auc_is_that_of_scikit_learn(scores: list[int], random: object) -> None:
    labels = np.arange(len(scores)) % 2 == 0
    assert probing.auc(np.array(scores), labels) == pytest.approx(roc_auc_score(labels, scores))


def test_one_feature_that_tells_is_found_among_many_and_noise_stays_at_chance() -> None:
    x = np.where(noise(300, 1) > 1, np.abs(noise(300, 2)), 0)
    x[:, 17] = np.where(LABELS, 3.0, 0.0)
    found = probing.probe(x, LABELS, TRAINING)
    assert found.few["1"] == found.few["5"] == 1.0
    assert found.all > 0.9
    assert probing.by_difference(x, LABELS)[0] == 17
    means = [probing.probe(noise(300, seed), LABELS, TRAINING) for seed in range(3, 9)]
    for values in ([m.few["1"] for m in means], [m.few["5"] for m in means], [m.all for m in means]):
        assert np.mean(values) == pytest.approx(0.5, abs=0.06)


def test_five_features_tell_more_than_one_where_the_answer_is_spread() -> None:
    x = noise(50, 4)
    x[:, :5] += np.where(LABELS, 0.8, -0.8)[:, None]
    found = probing.probe(x, LABELS, TRAINING)
    assert 0.6 < found.few["1"] < found.few["5"]
    assert found.few["5"] > 0.9


def test_a_large_coordinate_gains_nothing_by_its_size() -> None:
    x = noise(20, 5)
    x[:, 3] += np.where(LABELS, 1.5, -1.5)
    loud = x.copy()
    loud[:, 8] *= 1000
    assert probing.by_difference(loud, LABELS)[0] == probing.by_difference(x, LABELS)[0] == 3


def test_a_probe_over_all_columns_equals_the_regression_in_the_columns_themselves() -> None:
    x = noise(400, 6).astype(np.float64)
    x[:, :30] += np.where(LABELS, 0.3, -0.3)[:, None]
    centred = x - x[TRAINING].mean(0)
    centred /= np.sqrt(np.square(centred[TRAINING]).sum(1).mean())
    possible = []
    for strength in probing._STRENGTHS:
        plain = LogisticRegression(C=strength, max_iter=1000).fit(centred[TRAINING], LABELS[TRAINING])
        possible.append(probing.auc(plain.decision_function(centred[~TRAINING]), LABELS[~TRAINING]))
    assert min(abs(probing._all(x, LABELS, TRAINING) - p) for p in possible) < 2e-3


def test_columns_that_are_silent_in_training_tell_nothing() -> None:
    x = np.zeros((120, 4), np.float32)
    x[~TRAINING, 0] = LABELS[~TRAINING]
    assert probing.probe(x, LABELS, TRAINING) == probing.Aucs({"1": 0.5, "5": 0.5}, 0.5)
