from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pellucid.scaling.checks import check, default_form
from pellucid.scaling.runs import Runs

MakeRuns = Callable[..., Runs]


def test_what_can_be_looked_for_is_looked_for(noisy: Runs) -> None:
    found = check(noisy, targets={"N": [1e9], "D": [2e10]}, new=noisy.kept(noisy.order > 20.4))
    assert set(found.looked_for) == {"identity", "hull", "flat", "drift"}
    assert found.fired == ()
    # Seven levels of compute leave no form that breaks a place to spare.
    assert [n for n in found.notes if n.startswith("Not looked for: break.")]
    assert "C is derived: C = 6ND." in found.notes


def test_what_cannot_be_looked_for_is_said() -> None:
    runs = Runs.of({"x": [1e3, 1e4, 1e5, 1e6]}, [4, 3, 2.5, 2.2]).along(None)
    found = check(runs)
    assert found.looked_for == ("identity",)
    assert "Not looked for: break, drift" in found.notes[-1]
    few = Runs.of({"x": np.geomspace(1e3, 1e6, 7)}, 1 + 9 * np.geomspace(1e3, 1e6, 7) ** -0.3)
    found = check(few.along(None))
    assert found.looked_for == ("identity",)
    assert found.notes[-1].startswith("Not looked for: break. There are too few runs")
    x = np.geomspace(1e3, 1e6, 12)
    y = (1 + 9 * x**-0.3) * np.exp(0.002 * np.random.default_rng(0).standard_normal(12))
    found = check(Runs.of({"x": x}, y, run=["a"] * 12).along(None))
    assert "identity" not in found.looked_for
    assert found.fired == ()
    assert [n for n in found.notes if n.startswith("Not looked for: identity. All rows are checkpoints")]
    assert default_form(runs) == "power_constant"


def test_a_break_along_compute_is_found_beside_laws_of_parameters_and_tokens() -> None:
    # A ladder at 20 tokens per parameter whose loss falls five times faster beyond 10^19 FLOPs.
    n = np.geomspace(2e7, 2e10, 28)
    c = 120 * n**2
    rng = np.random.default_rng(0)
    y = 4 * (c / 1e18) ** -0.02 * (1 + (c / 1e19) ** 2) ** -0.04 * np.exp(0.002 * rng.standard_normal(28))
    found = check(Runs.of({"N": n, "D": 20 * n * np.exp(0.05 * rng.standard_normal(28))}, y).along(None))
    assert "break" in {a.kind for a in found.fired}
