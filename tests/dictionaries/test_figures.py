from __future__ import annotations

import numpy as np
import pytest

from pellucid.dictionaries.figures import mean_over_groups, resampled


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
