from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize, nnls

from pellucid.scaling import solver
from pellucid.scaling.arrays import Floats
from pellucid.scaling.fit import fit
from pellucid.scaling.form_chinchilla import Chinchilla
from pellucid.scaling.runs import Runs

FORM = Chinchilla()


def centred(runs: Runs) -> tuple[Floats, Floats]:
    v = runs.coordinates(FORM)
    return v - v.mean(axis=1, keepdims=True), np.log(runs.y) - np.log(runs.y).mean()


def test_huber_is_its_definition() -> None:
    r = np.array([-0.5, -0.01, 0.0, 0.02, 3.0])
    expected = [0.1 * (0.5 - 0.05), 0.5 * 1e-4, 0.0, 0.5 * 4e-4, 0.1 * (3 - 0.05)]
    np.testing.assert_allclose(solver.huber(r, 0.1), expected)
    np.testing.assert_allclose(solver.huber(r, np.inf), 0.5 * r**2)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), noise=st.floats(0.01, 0.6))
def test_projection_is_non_negative_least_squares(seed: int, noise: float) -> None:
    rng = np.random.default_rng(seed)
    v = rng.normal(0, 1, (2, 12))
    log_y = rng.normal(0, noise, 12)
    shape = rng.uniform(0.1, 1.2, (3, 2))
    found = np.exp(solver.project(FORM, shape, v, log_y, np.ones(12)))
    for s, got in zip(shape, found, strict=True):
        columns = np.exp(FORM.log_basis(s[None], v)[0] - log_y).T
        best, _ = nnls(columns, np.ones(12))
        # What is below a hundredth of y comes back as that, to start from.
        np.testing.assert_allclose(got, np.maximum(best, 0.01 / columns.max(axis=0)), rtol=1e-6)


def test_polish_reaches_what_scipy_reaches(noisy: Runs) -> None:
    v, log_y = centred(noisy)
    start = np.array([[-0.5, -1.0, -1.0, 0.3, 0.3]])
    one = np.ones((1, len(log_y)))
    theta, sums = solver.polish(FORM, start, v, log_y, one, delta=1e-3)

    def objective(p: Floats) -> float:
        return 1e3 * float(solver.sums_of(FORM, p[None], v, log_y, one, 1e-3)[0])

    best = min(
        float(minimize(objective, theta[0] + d, method="Nelder-Mead", options={"maxiter": 6000}).fun)
        for d in (0.0, 0.01)
    )
    assert 1e3 * sums[0] <= best * (1 + 1e-9)


def test_a_start_without_a_sum_is_kept_and_told() -> None:
    v, log_y = np.zeros((2, 4)) + np.arange(4.0), np.zeros(4)
    start = np.array([[2000.0, 0, 0, 0.3, 0.3], [0.0, -1, -1, 0.3, 0.3]])
    theta, sums = solver.polish(FORM, start, v, log_y, np.ones((1, 4)), delta=1e-3)
    assert np.isinf(sums[0])
    assert np.isfinite(sums[1])
    np.testing.assert_array_equal(theta[0], start[0])


def test_laws_polished_together_are_those_polished_alone(noisy: Runs) -> None:
    v, log_y = centred(noisy)
    rng = np.random.default_rng(3)
    starts = np.array([-0.5, -1.0, -1.0, 0.3, 0.3]) + rng.normal(0, 0.1, (5, 5))
    weights = rng.integers(0, 3, (5, len(log_y))).astype(float)
    together, sums = solver.polish(FORM, starts, v, log_y, weights, delta=1e-3)
    for i in range(5):
        alone, own = solver.polish(FORM, starts[i : i + 1], v, log_y, weights[i : i + 1], delta=1e-3)
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-9)
        assert own[0] == pytest.approx(sums[i], rel=1e-12)


def test_the_l1_limit_is_the_linear_programme() -> None:
    # A power law in logs is a line, whose least absolute deviations are a linear programme.
    rng = np.random.default_rng(5)
    x = 10 ** rng.uniform(3, 8, 41)
    y = 7 * x**-0.2 * np.exp(rng.standard_t(2, 41) * 0.02)
    found = fit(Runs.of({"x": x}, y), "power", loss="l1")
    a = np.stack([np.ones(41), -np.log(x)], axis=1)
    n = len(x)
    told = linprog(
        np.concatenate([np.zeros(2), np.ones(n)]),
        A_ub=np.block([[a, -np.eye(n)], [-a, -np.eye(n)]]),
        b_ub=np.concatenate([np.log(y), -np.log(y)]),
        bounds=[(None, None)] * 2 + [(0, None)] * n,
    )
    assert found.objective == pytest.approx(told.fun, rel=1e-6)
    np.testing.assert_allclose(found.parameters, [np.exp(told.x[0]), told.x[1]], rtol=1e-5)


def test_an_anchor_holds() -> None:
    rng = np.random.default_rng(0)
    v, log_y = rng.normal(0, 1, (2, 30)), rng.normal(0, 0.05, 30)
    start = np.array([[-0.1, -3.0, -3.0, 0.3, 0.3]])

    def anchor(theta: Floats, places: np.ndarray) -> tuple[Floats, Floats]:
        slope = np.zeros_like(theta)
        slope[:, 3] = 100.0
        return 100.0 * (theta[:, 3] - 0.7), slope

    theta, _ = solver.polish(FORM, start, v, log_y, np.ones((1, 30)), delta=np.inf, anchor=anchor)
    assert theta[0, 3] == pytest.approx(0.7, abs=1e-3)
