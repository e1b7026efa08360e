from __future__ import annotations

import numpy as np
import pytest

from pellucid.dictionaries.figures import mean_over_groups, resampled, resampled_at_once


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = resampled(400, lambda d: float(values[d].mean()))
    error = values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=error / 4)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=error / 4)


def test_groups_are_drawn_together() -> None:
    rng = np.random.default_rng(2)
    centres = rng.normal(0, 1, 20)
    groups = np.repeat(np.arange(20), 10)
    values = centres[groups] + rng.normal(0, 0.01, 200)
    together, apart = mean_over_groups(values, groups), mean_over_groups(values, np.arange(200))
    assert together.value == pytest.approx(values.mean()) == apart.value
    assert (together.high - together.low) > 2 * (apart.high - apart.low)


def test_draws_taken_together_give_the_interval_that_they_give_one_by_one() -> None:
    values = np.random.default_rng(1).normal(size=37).astype(np.float32)
    one_by_one = resampled(37, lambda d: float(values[d].mean()))
    together = resampled_at_once(37, lambda times: times @ values / times.sum(1))
    for name in ("value", "low", "high"):
        assert getattr(together, name) == pytest.approx(getattr(one_by_one, name), abs=1e-6)
