from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pellucid.core.errors import InputError
from pellucid.scaling.fit import fit
from pellucid.scaling.runs import Runs
from pellucid.scaling.uncertainty import beside, bootstrap

MakeRuns = Callable[..., Runs]


def power_runs(count: int, noise: float, seed: int = 0) -> Runs:
    rng = np.random.default_rng(seed)
    x = 10 ** rng.uniform(3, 8, count)
    return Runs.of({"x": x}, 7 * x**-0.2 * np.exp(noise * rng.standard_normal(count)))


def test_standard_errors_are_those_of_a_line() -> None:
    # A power law by least squares is a line in logs, whose standard errors have a formula.
    runs = power_runs(300, 0.05)
    draws = bootstrap(fit(runs, "power", loss="squares"), 2000)
    lx = np.log(runs.values["x"])
    design = np.stack([np.ones(300), -lx], axis=1)
    solved, rest, *_ = np.linalg.lstsq(design, np.log(runs.y), rcond=None)
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * rest[0] / 298)
    assert draws.standard_errors[1] == pytest.approx(errors[1], rel=0.15)
    assert np.log(draws.draws[:, 0]).std() == pytest.approx(errors[0], rel=0.15)
    np.testing.assert_allclose(draws.fit.parameters, [np.exp(solved[0]), solved[1]], rtol=1e-6)
    low, high = draws.interval(0.95)
    assert low[1] == pytest.approx(solved[1] - 1.96 * errors[1], abs=errors[1] / 2)
    assert high[1] == pytest.approx(solved[1] + 1.96 * errors[1], abs=errors[1] / 2)


def test_every_draw_is_polished_as_a_fit_of_its_rows(noisy: Runs) -> None:
    made = fit(noisy)
    counts = np.random.default_rng(0).multinomial(len(noisy), np.full(len(noisy), 1 / len(noisy)), 3)
    draws = bootstrap(made, counts=counts).draws
    for row, found in zip(counts, draws, strict=True):
        repeated = np.repeat(np.arange(len(noisy)), row)
        # Names keep the repetitions apart, which would count once as copies.
        names = [f"{i}-{j}" for j, i in enumerate(repeated)]
        values = {k: noisy.values[k][repeated] for k in "ND"}
        alone = fit(Runs.of(values, noisy.y[repeated], run=names))
        np.testing.assert_allclose(found, alone.parameters, rtol=2e-2)


def test_checkpoints_written_again_do_not_shrink_an_interval() -> None:
    runs = power_runs(30, 0.05)
    rng = np.random.default_rng(1)
    again = np.repeat(np.arange(30), 8)
    x = runs.values["x"][again] * np.exp(1e-4 * rng.standard_normal(240))
    many = Runs.of({"x": x}, runs.y[again], run=again)
    once = bootstrap(fit(runs, "power"), 1000).standard_errors
    eight = bootstrap(fit(many, "power"), 1000).standard_errors
    np.testing.assert_allclose(eight, once, rtol=0.1)
    apart = bootstrap(fit(Runs.of({"x": x}, runs.y[again]), "power"), 1000).standard_errors
    assert (apart < 0.6 * once).all()


def test_draws_are_the_same_for_one_seed_and_others_for_another(noisy: Runs) -> None:
    made = fit(noisy)
    np.testing.assert_array_equal(bootstrap(made, 20, seed=1).draws, bootstrap(made, 20, seed=1).draws)
    assert not np.array_equal(bootstrap(made, 20, seed=1).draws, bootstrap(made, 20, seed=2).draws)
    assert made.form.parameters == ("E", "A", "B", "alpha", "beta")
    values = {"N": np.array([1e9]), "D": np.array([2e10])}
    drawn = bootstrap(made, 20)
    by_hand = drawn.draws[:, 0] + drawn.draws[:, 1] / 1e9 ** drawn.draws[:, 3]
    by_hand += drawn.draws[:, 2] / 2e10 ** drawn.draws[:, 4]
    np.testing.assert_allclose(drawn.values(values)[:, 0], by_hand, rtol=1e-8)


def test_losses_that_disagree_are_told(isoflop: MakeRuns) -> None:
    clean = isoflop(0.004)
    agreeing = beside(bootstrap(fit(clean), 300))
    assert set(agreeing) == {"l1", "squares"}
    y = clean.y.copy()
    y[[0, 1, 2]] *= 1.2
    spoiled = Runs.of({k: clean.values[k] for k in "ND"}, y)
    assert beside(bootstrap(fit(spoiled), 300))["squares"].disagrees


def test_one_training_has_no_bootstrap() -> None:
    runs = Runs.of({"x": [1.0, 2.0, 3.0]}, [3.0, 2.0, 1.5], run=["a", "a", "a"])
    with pytest.raises(InputError, match=r"All rows are checkpoints of one training.*--run"):
        bootstrap(fit(runs, "power"))
    with pytest.raises(InputError, match="at least 2 draws; got 1"):
        bootstrap(fit(power_runs(9, 0.01), "power"), 1)


def test_few_trainings_and_limits_that_are_reached_are_told() -> None:
    assert bootstrap(fit(power_runs(30, 0.05), "power"), 20).notes == ()
    few = power_runs(40, 0.05)
    clustered = Runs.of({"x": few.values["x"]}, few.y, run=np.arange(40) % 5)
    assert "5 trainings are few for a law of 2 parameters" in bootstrap(fit(clustered, "power"), 20).notes[0]
    x = np.geomspace(1e3, 1e6, 20)
    steep = fit(Runs.of({"x": x}, 2 + 1e20 * x**-6.0), "power_constant")
    assert "At an end of where it is searched: alpha." in bootstrap(steep, 20).notes[0]
