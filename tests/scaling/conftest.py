from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from pellucid.scaling.form_chinchilla import Chinchilla
from pellucid.scaling.runs import Runs

MakeRuns = Callable[..., Runs]
LAW = np.array([1.8, 480.0, 2100.0, 0.35, 0.37])


def isoflop_runs(noise: float, *, seed: int = 0, levels: int = 7, sizes: int = 8, span: float = 4) -> Runs:
    """Valleys of a known law: runs of several sizes at each of several levels of compute."""
    c = np.repeat(np.geomspace(1e18, 1e21, levels), sizes)
    n = np.sqrt(c / 6 / 20) * np.tile(np.geomspace(1 / span, span, sizes), levels)
    d = c / (6 * n)
    y = Chinchilla().predict(LAW, {"N": n, "D": d})[0]
    y = y * np.exp(noise * np.random.default_rng(seed).standard_normal(len(y)))
    return Runs.of({"N": n, "D": d}, y).along("C")


@pytest.fixture(scope="session")
def law() -> np.ndarray:
    """The law of `isoflop` runs."""
    return LAW


@pytest.fixture(scope="session")
def isoflop() -> MakeRuns:
    return isoflop_runs


@pytest.fixture(scope="session")
def noisy() -> Runs:
    return isoflop_runs(0.004)
