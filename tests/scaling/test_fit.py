from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from pellucid.core.errors import InputError, UnknownNameError
from pellucid.scaling.fit import fit, loss_named, rises, spread
from pellucid.scaling.runs import Runs

MakeRuns = Callable[..., Runs]


@settings(max_examples=8, deadline=None)
@given(n=st.floats(-9, 3), d=st.floats(-9, 3), y=st.floats(-2, 3))
def test_units_do_not_matter(noisy: Runs, n: float, d: float, y: float) -> None:
    # Tokens or billions of tokens, nats or bits: the same law, in other units.
    plain = fit(noisy)
    scaled = Runs.of({"N": noisy.values["N"] * 10**n, "D": noisy.values["D"] * 10**d}, noisy.y * 10**y)
    found = fit(scaled)
    e, a, b, alpha, beta = plain.parameters
    expected = [e * 10**y, a * 10 ** (y + n * alpha), b * 10 ** (y + d * beta), alpha, beta]
    np.testing.assert_allclose(found.parameters, expected, rtol=1e-5)
    assert found.objective == pytest.approx(plain.objective, rel=1e-9)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_order_of_rows_does_not_matter(noisy: Runs, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(noisy))
    shuffled = Runs.of({k: noisy.values[k][order] for k in "ND"}, noisy.y[order])
    np.testing.assert_allclose(fit(shuffled).parameters, fit(noisy).parameters, rtol=1e-6)


def test_least_squares_is_that_of_scipy(noisy: Runs, law: np.ndarray) -> None:
    n, d, log_y = noisy.values["N"], noisy.values["D"], np.log(noisy.y)

    def residual(p: np.ndarray) -> np.ndarray:
        return log_y - np.log(
            np.exp(p[0]) + np.exp(p[1] - p[3] * np.log(n)) + np.exp(p[2] - p[4] * np.log(d))
        )

    start = [*np.log(law[:3]), *law[3:]]
    told = least_squares(residual, start, x_scale=[1, 1, 1, 0.05, 0.05], xtol=1e-15, ftol=1e-15, gtol=1e-15)
    found = fit(noisy, loss="squares")
    assert found.objective == pytest.approx(told.cost, rel=1e-8)
    np.testing.assert_allclose(found.parameters, [*np.exp(told.x[:3]), *told.x[3:]], rtol=1e-3)


def test_outliers_move_least_squares_more(isoflop: MakeRuns, law: np.ndarray) -> None:
    runs = isoflop(0.001)
    y = runs.y.copy()
    y[[3, 17, 40]] *= 1.25
    spoiled = Runs.of({k: runs.values[k] for k in "ND"}, y)
    robust, squares = fit(spoiled).parameters, fit(spoiled, loss="squares").parameters
    assert np.abs(robust / law - 1)[[0, 3, 4]].max() < 0.03
    assert np.abs(squares / law - 1)[[0, 3, 4]].max() > 0.1


def test_the_envelope_lies_under_runs_that_were_not_tuned(isoflop: MakeRuns) -> None:
    runs = isoflop(0.0005)
    rng = np.random.default_rng(1)
    y = runs.y * np.exp(np.where(rng.random(len(runs)) < 0.6, rng.exponential(0.02, len(runs)), 0))
    untuned = Runs.of({k: runs.values[k] for k in "ND"}, y)
    middle, lower = fit(untuned).predict(runs.values), fit(untuned, lean=0.1).predict(runs.values)
    assert np.abs(lower / runs.y - 1).mean() < 0.5 * np.abs(middle / runs.y - 1).mean()


def test_predictions_are_those_of_natural_parameters(noisy: Runs) -> None:
    found = fit(noisy)
    at = {"N": np.array([7e10]), "D": np.array([1.4e12])}
    e, a, b, alpha, beta = found.parameters
    assert found.predict(at)[0] == pytest.approx(e + a / 7e10**alpha + b / 1.4e12**beta, rel=1e-9)
    np.testing.assert_allclose(found.form.predict(found.parameters, at)[0], found.predict(at), rtol=1e-9)


def test_the_scale_of_residuals() -> None:
    r = np.random.default_rng(0).normal(0, 0.01, 4000)
    assert spread(r, 5, 4000) == pytest.approx(0.01, rel=0.05)
    assert spread(r, 5, 10) == pytest.approx(spread(r, 0, 10) * np.sqrt(2))


def test_a_metric_that_never_changes_or_rises_where_a_form_falls_is_refused(noisy: Runs) -> None:
    values = {k: noisy.values[k] for k in "ND"}
    with pytest.raises(InputError, match=r"'loss' is 2.5 in every run: there is nothing to fit"):
        fit(Runs.of(values, np.full(len(noisy), 2.5)))
    accuracy = Runs.of(values, 1 - noisy.y / 10, metric="accuracy").along("C")
    for form in ("chinchilla", "kaplan", "power_constant"):
        with pytest.raises(InputError, match=r"'accuracy' rises with .*'1 - accuracy' of a share"):
            fit(accuracy, form)
    assert fit(accuracy, "power").parameters[1] < 0
    assert fit(accuracy, "hyperparameter").parameters[1] > 0
    # One run that went wrong at the largest size is an outlier, and no rise.
    spoiled = noisy.y.copy()
    spoiled[-1] = 40
    assert fit(Runs.of(values, spoiled)).parameters[3] == pytest.approx(fit(noisy).parameters[3], rel=0.1)


def test_rising_is_of_ranks() -> None:
    size = np.arange(10.0)
    assert rises(np.exp(size), size)
    assert not rises(-size, size)
    assert not rises(np.ones(10), size)
    tied = np.repeat([1.0, 2.0], 5)
    assert rises(tied, size) == rises(tied[::-1], size[::-1])
    assert not rises(np.tile([1.0, 2.0], 5), np.repeat(size[:5], 2))


def test_levels_that_were_rounded_are_no_places(noisy: Runs) -> None:
    # Seven levels of compute cannot tell nine parameters, though rounding makes 56 numbers of them.
    jitter = np.exp(1e-6 * np.random.default_rng(0).standard_normal(len(noisy)))
    runs = Runs.of({"x": noisy.values["C"] * jitter}, noisy.y)
    with pytest.raises(InputError, match=r"9 parameters .* 56 runs at 7 distinct places"):
        fit(runs, "broken_2")


def test_a_limit_that_is_reached_is_named() -> None:
    x = np.geomspace(1e3, 1e6, 20)
    assert fit(Runs.of({"x": x}, 2 + 1e20 * x**-6.0), "power_constant").at_bounds == ("alpha",)
    assert fit(Runs.of({"x": x}, 2 + 9 * x**-0.4), "power_constant").at_bounds == ()


def test_what_cannot_be_fitted(isoflop: MakeRuns) -> None:
    with pytest.raises(InputError, match="5 parameters"):
        fit(Runs.of({"N": [1e8, 2e8, 4e8], "D": [1e9, 3e9, 2e9]}, [3.0, 2.9, 2.8]))
    few = {"N": [1e8] * 6, "D": [1e9, 2e9, 3e9, 4e9, 5e9, 6e9]}
    with pytest.raises(InputError, match="'N' is 1e\\+08 in every run"):
        fit(Runs.of(few, [3, 2.9, 2.8, 2.7, 2.65, 2.6]))
    with pytest.raises(InputError, match="'D' is missing"):
        fit(Runs.of({"N": [1e8, 2e8]}, [3, 2]))
    with pytest.raises(InputError, match="lean"):
        fit(isoflop(0.0), lean=0.0)
    with pytest.raises(UnknownNameError, match="squares"):
        loss_named("square")
