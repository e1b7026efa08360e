from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.core.errors import InputError
from pellucid.scaling.backtest import LAST, Member
from pellucid.scaling.choice import candidates, choose, combined, ensemble
from pellucid.scaling.runs import Runs


def curve(noise: float = 0.002, count: int = 24) -> Runs:
    x = np.geomspace(1e4, 1e9, count)
    y = (1.5 + 20 * x**-0.25) * np.exp(noise * np.random.default_rng(0).standard_normal(count))
    return Runs.of({"x": x}, y)


def test_candidates_follow_the_variables(noisy: Runs) -> None:
    forms = {m.form for m in candidates(noisy)}
    assert forms == {"chinchilla", "tied", "interaction", "kaplan", "power_constant", LAST}
    forms = {m.form for m in candidates(curve())}
    assert forms == {"power", "power_constant", "m4", "broken_1", "broken_2", "broken_3", LAST}
    one_size = Runs.of({"N": [1e8] * 3, "D": [1e9, 2e9, 4e9]}, [3, 2.9, 2.8])
    assert "chinchilla" not in {m.form for m in candidates(one_size)}
    assert candidates(Runs.of({"year": [2020.0, 2021.0]}, [1, 2]))[0].form == "trend"


def test_a_metric_that_rises_has_forms_that_may_rise(noisy: Runs) -> None:
    size = noisy.values["C"] / 1e18
    accuracy = Runs.of({k: noisy.values[k] for k in "ND"}, 0.1 * size**0.2, metric="accuracy").along("C")
    assert {m.form for m in candidates(accuracy)} == {"power", "hyperparameter", LAST}
    choice = choose(accuracy, [*candidates(accuracy), Member("chinchilla")])
    assert choice.best.form != LAST
    assert "can only fall" in choice.left_out["chinchilla"]


def test_forms_are_ranked_by_what_they_forecast() -> None:
    members = [Member("power"), Member("power_constant"), Member("power_constant", "squares")]
    choice = choose(curve(), members)
    assert choice.best.form == "power_constant"
    assert Member(LAST) in {r.member for r in choice.ranked}
    assert [r.error for r in choice.ranked] == sorted(r.error for r in choice.ranked)
    by_hand = []
    for origin, trial in zip(choice.at, choice.trials[Member("power")], strict=True):
        assert trial is not None
        by_hand.append(np.sqrt(np.mean((trial.log_values - np.log(curve().y[~origin.train])) ** 2)))
    power = next(r for r in choice.ranked if r.member.form == "power")
    assert power.error == pytest.approx(np.mean(by_hand))
    assert power.bias < -0.02  # a law without a constant falls for ever


def test_weights_fall_with_the_square_of_the_error() -> None:
    choice = choose(curve(), [Member("power"), Member("power_constant")])
    weights = choice.weights()
    assert sum(weights.values()) == pytest.approx(1)
    errors = {r.member: r.error for r in choice.ranked}
    a, b = Member("power"), Member("power_constant")
    assert weights[b] / weights[a] == pytest.approx((errors[a] / errors[b]) ** 2, rel=1e-6)
    without = choice.weights(without=0)
    rest = {m: np.delete(choice.errors(m), 0).mean() for m in (a, b)}
    assert without[b] / without[a] == pytest.approx((rest[a] / rest[b]) ** 2, rel=1e-6)


@given(
    rows=st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=1, max_size=6),
    seed=st.integers(0, 99),
)
def test_the_ensemble_is_the_weighted_median(rows: list[list[float]], seed: int) -> None:
    weights = np.random.default_rng(seed).uniform(0.1, 1, len(rows))
    found = combined([np.array(r) for r in rows], [0.01] * len(rows), list(weights)).log_values
    for j, got in enumerate(found):
        column = np.array(rows)[:, j]
        below, above = weights[column < got].sum(), weights[column > got].sum()
        assert got in column
        assert below <= weights.sum() / 2 + 1e-9
        assert above <= weights.sum() / 2 + 1e-9


def test_one_runaway_member_does_not_carry_the_ensemble() -> None:
    made = combined([np.zeros(2), np.full(2, 0.01), np.full(2, 9.0)], [0.01, 0.02, 0.0], [0.4, 0.3, 0.3])
    np.testing.assert_allclose(made.log_values, 0.01)
    assert made.scale == pytest.approx(np.exp((0.4 * np.log(0.01) + 0.3 * np.log(0.02)) / 0.7))


def test_a_member_without_a_number_does_not_count() -> None:
    rows = [np.array([0.0, 0.1]), np.array([np.nan, 0.2]), np.array([0.3, np.inf])]
    made = combined(rows, [0.01, 0.02, 0.03], [0.1, 0.5, 0.4])
    np.testing.assert_allclose(made.log_values, rows[0])
    assert made.scale == pytest.approx(0.01)


def test_what_cannot_take_part_is_said() -> None:
    choice = choose(curve(count=9), [Member("power"), Member("broken_2"), Member("broken_3")])
    assert list(choice.left_out) == ["broken_2", "broken_3"]
    assert "9 parameters" in choice.left_out["broken_2"]
    assert set(ensemble(choice).forecasters) == {Member("power"), Member(LAST)}
    short = choose(curve(count=12), [Member("power"), Member("broken_2")])
    assert short.told_left_out == ["Left out: broken_2. Too few runs: forecast from 2 of 7 origins."]
    with pytest.raises(InputError, match="too few to hold any out"):
        choose(Runs.of({"x": [1.0, 2, 3]}, [3, 2, 1.5]))
