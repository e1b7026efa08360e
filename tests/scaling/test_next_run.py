from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.errors import InputError
from pellucid.scaling.next_run import best_per_flop, best_within, grid, propose, surface_predict
from pellucid.scaling.surface import Surface

TRUE = np.array([1.7, 420.0, 900.0, 0.34, 0.32])
TARGET = (7e10, 1.5e12)
NOISE = 0.004
RUNS = np.array([(n, r * n) for n in np.geomspace(5e7, 2e9, 6) for r in (8.0, 20.0, 60.0)])
CANDIDATES = [
    (5e7, 1e9),
    (5e7, 1e12),
    (3e8, 6e9),
    (1e9, 2e10),
    (4e9, 8e10),
    (1e10, 2e10),
    (1e10, 2e11),
    (3e10, 3e11),
]


def log_loss(theta: np.ndarray, N: np.ndarray, D: np.ndarray) -> np.ndarray:
    """Log losses [S, n] of laws [S, 5] given by E, log A, log B, alpha, beta."""
    E, a, b, alpha, beta = (theta[:, k, None] for k in range(5))
    return np.log(E + np.exp(a - alpha * np.log(N)) + np.exp(b - beta * np.log(D)))


def slopes(theta: np.ndarray, N: np.ndarray, D: np.ndarray) -> np.ndarray:
    """Derivatives of log losses [S, n, 5], by central differences."""
    found = []
    for k in range(5):
        step = np.zeros(5)
        step[k] = 1e-6
        found.append((log_loss(theta + step, N, D) - log_loss(theta - step, N, D)) / 2e-6)
    return np.stack(found, axis=2)


WORKING = np.array([TRUE[0], np.log(TRUE[1]), np.log(TRUE[2]), TRUE[3], TRUE[4]])


def natural(theta: np.ndarray) -> np.ndarray:
    return np.stack([theta[:, 0], np.exp(theta[:, 1]), np.exp(theta[:, 2]), theta[:, 3], theta[:, 4]], axis=1)


def posterior(count: int, seed: int, runs: np.ndarray = RUNS) -> np.ndarray:
    """Draws [count, 5] of the law, in working parameters, as the runs leave it: normal about the truth."""
    J = slopes(WORKING[None], runs[:, 0], runs[:, 1])[0]
    covariance = np.linalg.inv(J.T @ J) * NOISE**2
    drawn = np.random.default_rng(seed).multivariate_normal(WORKING, covariance, size=3 * count)
    return drawn[(drawn[:, 0] > 0) & (drawn[:, 3:] > 0).all(1)][:count]


def test_the_variance_left_is_that_of_the_covariance_updated_by_the_jacobian() -> None:
    draws = posterior(4000, 0)
    J = slopes(WORKING[None], RUNS[:, 0], RUNS[:, 1])[0]
    information = J.T @ J / NOISE**2
    g = slopes(WORKING[None], np.array([TARGET[0]]), np.array([TARGET[1]]))[0, 0]
    found = {
        (p.N, p.D): p
        for p in propose(surface_predict(Surface.of(natural(draws))), TARGET, CANDIDATES, noise=NOISE)
    }
    for N, D in CANDIDATES:
        j = slopes(WORKING[None], np.array([N]), np.array([D]))[0, 0]
        before = g @ np.linalg.inv(information) @ g
        after = g @ np.linalg.inv(information + np.outer(j, j) / NOISE**2) @ g
        # The draws are spread enough for the law to bend, which the Jacobian at one point does not see.
        assert found[N, D].before == pytest.approx(np.sqrt(before), rel=0.15)
        assert found[N, D].shrinkage == pytest.approx(1 - after / before, abs=0.1)


def test_the_proposal_agrees_with_making_the_run_and_fitting_again() -> None:
    """Brute force: simulate all runs with and without the candidate, fit each set, see forecasts scatter."""
    rng = np.random.default_rng(1)
    count = 1000
    target = np.array([TARGET[0]]), np.array([TARGET[1]])

    def scatter(runs: np.ndarray) -> float:
        N, D = runs[:, 0], runs[:, 1]
        observed = log_loss(WORKING[None], N, D) + NOISE * rng.normal(size=(count, len(runs)))
        theta = np.repeat(WORKING[None], count, axis=0)
        for _ in range(30):
            J = slopes(theta, N, D)
            normal = np.einsum("sni,snj->sij", J, J)
            normal += 1e-9 * np.einsum("sii->si", normal)[:, :, None] * np.eye(5)
            step = np.linalg.solve(
                normal, np.einsum("sni,sn->si", J, observed - log_loss(theta, N, D))[..., None]
            )
            theta = theta + np.clip(step[..., 0], -0.3, 0.3)
            theta[:, [0, 3, 4]] = np.clip(theta[:, [0, 3, 4]], 0.01, None)
        forecasts = log_loss(theta, *target)[:, 0]
        # Robust to the odd fit that has run away.
        low, high = np.quantile(forecasts, [0.158655, 0.841345])
        return float((high - low) / 2) ** 2

    before = scatter(RUNS)
    made = [1 - scatter(np.concatenate([RUNS, [c]])) / before for c in CANDIDATES]
    found = {
        (p.N, p.D): p
        for p in propose(
            surface_predict(Surface.of(natural(posterior(4000, 2)))), TARGET, CANDIDATES, noise=NOISE
        )
    }
    told = [found[c].shrinkage for c in CANDIDATES]
    assert np.array(told) == pytest.approx(np.array(made), abs=0.12)
    best = int(np.argmax(made))
    assert made[best] - made[int(np.argmax(told))] < 0.05
    per_flop = [m / (6 * N * D) if m > 0.1 else 0 for m, (N, D) in zip(made, CANDIDATES, strict=True)]
    chosen = best_per_flop(list(found.values()), least=0.1)
    assert (chosen.N, chosen.D) == CANDIDATES[int(np.argmax(per_flop))]


def test_the_proposal_agrees_with_weighting_the_draws_by_simulated_outcomes() -> None:
    """Brute force without a refit: the forecast's variance expected after the outcome, by Bayes' rule."""
    draws = posterior(4000, 3)
    surface = Surface.of(natural(draws))
    forecast = np.log(surface.loss(*TARGET))
    rng = np.random.default_rng(4)
    found = {(p.N, p.D): p for p in propose(surface_predict(surface), TARGET, CANDIDATES, noise=NOISE)}
    for N, D in CANDIDATES:
        y = np.log(surface.loss(N, D))
        left = []
        for outcome in rng.choice(y, 200) + NOISE * rng.normal(size=200):
            weight = np.exp(-0.5 * ((y - outcome) / NOISE) ** 2)
            weight /= weight.sum()
            mean = weight @ forecast
            left.append(weight @ (forecast - mean) ** 2)
        expected = 1 - np.mean(left) / forecast.var()
        assert found[N, D].shrinkage == pytest.approx(expected, abs=0.06)


def test_a_run_at_the_target_leaves_its_noise_and_a_copy_of_nothing_helps_little() -> None:
    draws = Surface.of(natural(posterior(2000, 5)))
    at_target = propose(surface_predict(draws), TARGET, [TARGET], noise=NOISE)[0]
    assert at_target.after == pytest.approx(1 / np.sqrt(1 / at_target.before**2 + 1 / NOISE**2), rel=1e-9)
    noisy = propose(surface_predict(draws), TARGET, [TARGET], noise=10.0)[0]
    assert noisy.shrinkage < 1e-4


def test_proposals_are_ranked_by_what_they_bring_for_each_flop() -> None:
    draws = Surface.of(natural(posterior(500, 6)))
    found = propose(
        surface_predict(draws), TARGET, grid((5e7, 5e9), (1e9, 1e11), most_flops=1e21), noise=NOISE
    )
    assert [p.per_flop for p in found] == sorted((p.per_flop for p in found), reverse=True)
    assert all(p.flops <= 1e21 * (1 + 1e-9) and 0 <= p.shrinkage <= 1 and p.after <= p.before for p in found)
    best = best_within(found, 1e20)
    assert best.flops <= 1e20
    assert best.shrinkage == max(p.shrinkage for p in found if p.flops <= 1e20)


def test_units_do_not_matter() -> None:
    draws = natural(posterior(300, 7))
    scaled = draws.copy()
    scaled[:, 1] *= 1e-9 ** draws[:, 3]
    scaled[:, 2] *= 1e-9 ** draws[:, 4]
    plain = propose(surface_predict(Surface.of(draws)), TARGET, CANDIDATES, noise=NOISE)
    other = propose(
        surface_predict(Surface.of(scaled)),
        (TARGET[0] / 1e9, TARGET[1] / 1e9),
        [(n / 1e9, d / 1e9) for n, d in CANDIDATES],
        noise=NOISE,
    )
    assert [p.shrinkage for p in other] == pytest.approx([p.shrinkage for p in plain], rel=1e-6)


def test_what_cannot_be_ranked_is_refused() -> None:
    draws = Surface.of(natural(posterior(100, 8)))
    predict = surface_predict(draws)
    with pytest.raises(InputError, match="at least one candidate"):
        propose(predict, TARGET, [], noise=NOISE)
    with pytest.raises(InputError, match="noise of log loss to be above 0"):
        propose(predict, TARGET, CANDIDATES, noise=0.0)
    with pytest.raises(InputError, match="N and D of target and candidates"):
        propose(predict, (0.0, 1e9), CANDIDATES, noise=NOISE)
    with pytest.raises(InputError, match="at least 20 draws"):
        propose(surface_predict(Surface.of(natural(posterior(10, 8)))), TARGET, CANDIDATES, noise=NOISE)
    with pytest.raises(InputError, match="no variance to shrink"):
        propose(surface_predict(Surface.of([TRUE] * 30)), TARGET, CANDIDATES, noise=NOISE)
    with pytest.raises(InputError, match=r"No run from 5e\+07 parameters"):
        grid((5e7, 1e9), (1e9, 1e10), most_flops=1e10)
    with pytest.raises(InputError, match="Expected D from a number above 0"):
        grid((5e7, 1e9), (1e10, 1e9), most_flops=1e20)
    with pytest.raises(InputError, match=r"shrinks the variance by 100\.0%; the most is"):
        best_per_flop(propose(predict, TARGET, CANDIDATES, noise=NOISE), least=1.0)
    with pytest.raises(InputError, match="No proposed run costs at most"):
        best_within(propose(predict, TARGET, CANDIDATES, noise=NOISE), 1e10)
