from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.errors import InputError
from pellucid.scaling.arrays import between


def test_a_share_lies_between_its_ends_and_as_many_below_as_above() -> None:
    draws = np.random.default_rng(0).normal(size=(2000, 3))
    low, high = between(draws, 0.9)
    assert low.shape == (3,)
    np.testing.assert_allclose([(draws < low).mean(0), (draws > high).mean(0)], 0.05, atol=1e-3)
    endless = np.concatenate([draws[:, 0], [np.inf] * 400])
    low, high = between(endless, 0.9, exact=True)
    assert low in draws[:, 0]
    assert high == np.inf


@pytest.mark.parametrize("nominal", [0.0, 1.0, 7.0, float("nan")])
def test_a_share_lies_between_0_and_1(nominal: float) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        between(np.zeros(3), nominal)
