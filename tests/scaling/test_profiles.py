from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pellucid.core.errors import InputError
from pellucid.scaling.fit import fit
from pellucid.scaling.form_repeated import Repeated
from pellucid.scaling.profiles import _Held, profiles
from pellucid.scaling.runs import Runs
from pellucid.scaling.uncertainty import bootstrap

MakeRuns = Callable[..., Runs]


@pytest.mark.parametrize("noise", [0.05, 1e-5])
def test_least_squares_has_the_deviance_of_a_line(noise: float) -> None:
    rng = np.random.default_rng(0)
    x = 10 ** rng.uniform(3, 8, 80)
    runs = Runs.of({"x": x}, 7 * x**-0.2 * np.exp(noise * rng.standard_normal(80)))
    found = {p.name: p for p in profiles(fit(runs, "power", loss="squares"))}
    design = np.stack([np.ones(80), -np.log(x)], axis=1)
    solved, rest, *_ = np.linalg.lstsq(design, np.log(runs.y), rcond=None)
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ design)) * rest[0] / 78)
    for name, value, error, back in (
        ("A", solved[0], errors[0], np.exp),
        ("alpha", solved[1], errors[1], float),
    ):
        low, high = found[name].low, found[name].high
        assert low is not None
        assert high is not None
        width = back(value + 1.96 * error) - back(value - 1.96 * error)
        assert high - low == pytest.approx(width, rel=0.03)
        assert low == pytest.approx(back(value - 1.96 * error), abs=0.03 * width)
        assert found[name].deviance.min() == 0
        assert (np.diff(found[name].at) > 0).all()


def test_robust_profiles_are_as_wide_as_the_bootstrap(noisy: Runs) -> None:
    made = fit(noisy)
    low, high = bootstrap(made, 1000).interval()
    for i, found in enumerate(profiles(made)):
        assert found.low is not None
        assert found.high is not None
        assert 0.4 < np.log(found.high / found.low) / np.log(high[i] / low[i]) < 2.5


def test_the_less_noise_the_narrower_a_profile(isoflop: MakeRuns) -> None:
    # Three spreads of the estimate at most, down to no noise at all.
    for noise in (1e-3, 1e-5, 1e-7, 0.0):
        made = fit(isoflop(noise))
        for found in profiles(made):
            assert found.low is not None
            assert found.high is not None
            assert np.log(found.high / found.low) < 600 * noise + 1e-10
            assert found.low <= found.value * (1 + 1e-12)
            assert found.high >= found.value * (1 - 1e-12)


def test_a_crossing_is_believed_only_when_no_other_start_does_better(noisy: Runs) -> None:
    made = fit(noisy)
    held = _Held(made)
    which = np.repeat(np.arange(5), 2)
    where = held.start[which] + np.tile([-0.03, 0.03], 5)
    theta, reached, deviance = held.anew(which, where)
    assert theta.shape == (10, 5)
    np.testing.assert_allclose(held.told(theta)[np.arange(10), which], reached)
    _, near, told = held.at(which, where, np.repeat(held.theta, 10, axis=0))
    np.testing.assert_allclose(reached, near, atol=2e-3)
    np.testing.assert_allclose(deviance, told, rtol=0.1, atol=0.05)


def test_six_runs_cannot_tell_five_parameters(isoflop: MakeRuns) -> None:
    # Many laws go through them; one that seems to cross the limit has another, as good, beyond.
    runs = isoflop(0.004)
    picked = np.zeros(len(runs), bool)
    picked[:54:9] = True
    found = {p.name: p for p in profiles(fit(runs.kept(picked)))}
    assert found["alpha"].high is None
    assert found["beta"].high is None
    assert found["E"].low is None
    assert found["E"].high is not None


def test_one_training_has_no_profile() -> None:
    x = np.geomspace(1e3, 1e6, 20)
    y = 7 * x**-0.2 * np.exp(0.01 * np.random.default_rng(0).standard_normal(20))
    with pytest.raises(InputError, match="checkpoints of one training"):
        profiles(fit(Runs.of({"x": x}, y, run=["a"] * 20), "power"))


def test_a_limit_that_was_never_approached_is_unbounded_above() -> None:
    # Text that is read at most 1.2 times says nothing of how much repetition is worth at most.
    rng = np.random.default_rng(2)
    n, d = 10 ** rng.uniform(7.5, 9, 60), 10 ** rng.uniform(9.5, 11, 60)
    values = {"N": n, "D": d, "U": d / rng.uniform(1, 1.2, 60)}
    truth = np.array([1.8, 521.0, 1488.0, 0.35, 0.36, 15.4, 5.3])
    y = Repeated().predict(truth, values)[0] * np.exp(0.004 * rng.standard_normal(60))
    found = {p.name: p for p in profiles(fit(Runs.of(values, y), "repeated"))}
    assert found["R_D"].high is None
    assert "unbounded above" in str(found["R_D"])
    assert found["alpha"].high is not None


def test_checkpoints_written_again_do_not_narrow_a_profile() -> None:
    rng = np.random.default_rng(0)
    x = 10 ** rng.uniform(3, 8, 40)
    y = 7 * x**-0.2 * np.exp(0.05 * rng.standard_normal(40))
    again = np.repeat(np.arange(40), 6)
    jitter = np.exp(1e-5 * rng.standard_normal(240))
    many = Runs.of({"x": x[again] * jitter}, y[again], run=again)
    for loss in ("huber", "squares"):
        one = profiles(fit(Runs.of({"x": x}, y), "power", loss=loss))[1]
        six = profiles(fit(many, "power", loss=loss))[1]
        assert one.low is not None
        assert one.high is not None
        assert six.low is not None
        assert six.high is not None
        assert six.high - six.low == pytest.approx(one.high - one.low, rel=0.1)
