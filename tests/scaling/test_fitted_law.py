from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.errors import InputError, UnknownNameError
from pellucid.scaling.fitted_law import law_of
from pellucid.scaling.runs import Runs
from pellucid.scaling.surface import Surface

VALUES = (1.7, 420.0, 900.0, 0.34, 0.32)


def runs(noise: float, values: tuple[float, ...] = VALUES) -> Runs:
    N = np.repeat(np.geomspace(5e7, 5e9, 7), 4)
    D = N * np.tile([5.0, 20.0, 60.0, 200.0], 7)
    scatter = np.random.default_rng(0).normal(0, noise, len(N)) if noise else 0.0
    return Runs.of({"N": N, "D": D}, Surface.of(values).loss(N, D) * np.exp(scatter))


def test_the_law_comes_back_with_draws_about_it() -> None:
    law = law_of(runs(0.002), draws=200, name="mine")
    assert law.name == "mine"
    assert law.draws is not None
    assert law.surface.rows[0] == pytest.approx(law.values)
    low, high = np.quantile(law.draws, [0.005, 0.995], axis=0)
    assert ((low < VALUES) & (VALUES < high)).all()


def test_without_noise_all_draws_are_the_law() -> None:
    law = law_of(runs(0.0), draws=50)
    assert law.values == pytest.approx(VALUES, rel=1e-5)
    assert law.draws == pytest.approx(np.tile(VALUES, (50, 1)), rel=1e-3)


def test_the_tied_form_has_one_exponent_twice() -> None:
    law = law_of(runs(0.001, (1.7, 420.0, 900.0, 0.33, 0.33)), "tied", draws=30)
    assert law.draws is not None
    assert law.values[3] == law.values[4] == pytest.approx(0.33, abs=0.02)
    assert (law.draws[:, 3] == law.draws[:, 4]).all()


def test_notes_of_the_runs_are_kept() -> None:
    assert law_of(runs(0.002), draws=20).notes[: len(runs(0.002).notes)] == runs(0.002).notes


def test_what_cannot_be_planned_with_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="form to plan with 'kaplan'"):
        law_of(runs(0.002), "kaplan")
    flat = Runs.of(
        {"N": runs(0).values["N"], "D": runs(0).values["D"]}, 2 + 100 * runs(0).values["D"] ** -0.3
    )
    with pytest.raises(InputError, match="term or an exponent is zero"):
        law_of(flat, draws=20)
