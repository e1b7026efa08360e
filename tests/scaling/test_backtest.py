from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pellucid.scaling.backtest import LAST, Member, fitted, levels, origins, tried
from pellucid.scaling.form_sigmoid import Sigmoid
from pellucid.scaling.runs import Runs

MakeRuns = Callable[..., Runs]


def test_origins_never_divide_a_level_and_see_only_what_came_before(noisy: Runs) -> None:
    found = origins(noisy)
    assert len(found) == 4  # levels 3 to 6 of 7: at least 35 % of the runs lie before
    for origin in found:
        before, after = noisy.order[origin.train], noisy.order[~origin.train]
        assert before.max() < after.min() - 0.02
        np.testing.assert_allclose(origin.distance, after - before.max())
    assert [int(o.train.sum()) for o in found] == [24, 32, 40, 48]


def test_many_levels_are_thinned_and_few_give_none() -> None:
    x = np.geomspace(1e3, 1e9, 60)
    assert len(origins(Runs.of({"x": x}, x**-0.1))) == 8
    assert origins(Runs.of({"x": [1.0, 2, 3, 4]}, [4, 3, 2, 1.0])) == []
    assert origins(Runs.of({"N": [1.0, 2, 3, 4], "D": [4.0, 2, 4 / 3, 1]}, [4, 3, 2, 1.0])) == []


def test_ties_and_jitter_are_one_level_and_a_dense_curve_has_many() -> None:
    budgets = np.repeat([18.0, 19.0, 20.0], 5)
    np.testing.assert_array_equal(levels(budgets), np.repeat([0, 1, 2], 5))
    jitter = np.random.default_rng(0).uniform(-0.01, 0.01, 15)
    np.testing.assert_array_equal(levels(budgets + jitter), np.repeat([0, 1, 2], 5))
    shuffled = np.random.default_rng(1).permutation(15)
    np.testing.assert_array_equal(levels((budgets + jitter)[shuffled]), np.repeat([0, 1, 2], 5)[shuffled])
    # 400 checkpoints over three decades lie closer than runs of a level do.
    dense = np.linspace(6, 9, 400)
    assert 25 <= levels(dense).max() + 1 <= 40
    curve = Runs.of({"x": 10**dense}, 1.5 + 30 * 10 ** (-0.25 * dense), run=[0] * 400)
    found = origins(curve)
    assert len(found) == 8
    assert all(t is not None for t in tried(Member("power_constant"), curve, found))


def test_last_repeats_the_mean_of_the_largest_level(noisy: Runs) -> None:
    made = fitted(Member(LAST), noisy)
    assert made.log_values(noisy)[0] == pytest.approx(np.log(noisy.y[-8:]).mean())
    assert made.scale == 0


def test_trials_are_fits_of_the_runs_before(noisy: Runs) -> None:
    at = origins(noisy)
    trials = tried(Member("chinchilla"), noisy, at)
    train, later = noisy.kept(at[1].train), noisy.kept(~at[1].train)
    made = fitted(Member("chinchilla"), train)
    trial = trials[1]
    assert trial is not None
    np.testing.assert_array_equal(trial.log_values, made.log_values(later))
    assert trial.scale == made.scale


def test_a_form_without_a_run_to_spare_does_not_forecast() -> None:
    x = np.geomspace(1e3, 1e6, 8)
    runs = Runs.of({"x": x}, 2 + x**-0.3)
    trials = tried(Member("broken_1"), runs, origins(runs))
    sizes = [int(o.train.sum()) for o in origins(runs)]
    assert [t is None for t in trials] == [size <= 6 for size in sizes]


def test_accuracy_goes_through_the_loss(isoflop: MakeRuns) -> None:
    losses = isoflop(0.0)
    truth = np.array([0.25, 0.6, 4.0, 2.6])
    y = Sigmoid().predict(truth, {"loss": losses.y})[0]
    runs = Runs.of({**{k: losses.values[k] for k in "ND"}, "loss": losses.y}, y, metric="accuracy")
    known = runs.kept(runs.order < 20.4)
    made = fitted(Member("sigmoid"), known)
    later = runs.kept(runs.order >= 20.4)
    unknown = Runs.of({k: later.values[k] for k in "ND"}, np.ones(len(later)), run=range(len(later)))
    np.testing.assert_allclose(np.exp(made.log_values(unknown)), later.y, rtol=1e-4)
