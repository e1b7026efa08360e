from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.core.errors import InputError, UnknownNameError
from pellucid.scaling.arrays import Floats
from pellucid.scaling.fit import fit
from pellucid.scaling.forms import FORMS, Form, form_named
from pellucid.scaling.runs import Runs

TRUTH = {
    "power": [5.0, 0.3],
    "power_constant": [1.5, 30, 0.2],
    "m4": [1.2, 4.0, 50.0, 0.4, 1.7],
    "broken_1": [0.5, 20, 0.1, 0.3, 1e8, 0.5],
    "broken_2": [0.2, 20, 0.1, 0.3, 1e7, 0.5, -0.15, 1e9, 0.3],
    "broken_3": [0.2, 20, 0.1, 0.3, 1e7, 0.5, -0.2, 1e8, 0.3, 0.3, 3e9, 0.4],
    "chinchilla": [1.69, 406, 410, 0.34, 0.28],
    "tied": [1.7, 400, 900, 0.31],
    "kaplan": [8.8e13, 5.4e13, 0.076, 0.095],
    "interaction": [1.5, 300, 800, 0.33, 0.3, 0.7],
    "repeated": [1.8, 521, 1488, 0.35, 0.36, 15.4, 5.3],
    "width_depth": [1.8, 90, 3, 300, 0.9, 0.8, 0.3],
    "sigmoid": [0.25, 0.6, 3.0, 2.4],
    "hyperparameter": [1.8, -0.7, 0.3],
    "trend": [1e6, 0.9],
}


def runs_of(form: Form, truth: list[float], count: int = 60, seed: int = 1) -> Runs:
    """Noise-free runs of a law, over ranges wide enough to tell its parameters."""
    rng = np.random.default_rng(seed)
    d = 10 ** rng.uniform(8.5, 12, count)
    values = {
        "N": 10 ** rng.uniform(7.5, 10, count),
        "D": d,
        "U": np.minimum(d, 10 ** rng.uniform(8, 11, count)),
        "x": 10 ** rng.uniform(6, 10.5, count),
        "width": 10 ** rng.uniform(2.3, 3.8, count),
        "depth": 10 ** rng.uniform(0.7, 1.8, count),
        "loss": rng.uniform(1.7, 4, count),
        "year": rng.uniform(2015, 2026, count),
    }
    kept = {name: values[name] for name in form.variables}
    return Runs.of(kept, form.predict(np.array(truth), kept)[0])


def test_every_form_has_its_truth_here() -> None:
    assert set(TRUTH) == set(FORMS)


@pytest.mark.parametrize("name", TRUTH)
def test_noise_free_data_give_the_law_back(name: str) -> None:
    form = form_named(name)
    found = fit(runs_of(form, TRUTH[name]), form)
    np.testing.assert_allclose(found.parameters, TRUTH[name], rtol=1e-6)
    assert np.abs(found.residuals).max() < 1e-9


@pytest.mark.parametrize("name", TRUTH)
def test_natural_and_working_parameters_are_inverse(name: str) -> None:
    form = form_named(name)
    truth = np.array([TRUTH[name]])
    np.testing.assert_allclose(form.natural(*form.working(truth)), truth, rtol=1e-10)
    assert len(form.parameters) == truth.shape[1]


@pytest.mark.parametrize("name", TRUTH)
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_a_shift_of_coordinates_leaves_the_law(name: str, data: st.DataObject) -> None:
    form = form_named(name)
    log_c, shape = form.working(np.array([TRUTH[name]]))
    v = runs_of(form, TRUTH[name], 20).coordinates(form)
    by = np.array(data.draw(st.lists(st.floats(-1, 1), min_size=len(v), max_size=len(v))))
    if name == "repeated":
        by[2] = by[1]  # tokens and unique tokens have one unit
    before = form.log_values(log_c, shape, v)
    after = form.log_values(*form.shifted(log_c, shape, by), v + by[:, None])
    np.testing.assert_allclose(after, before, atol=1e-8)


@pytest.mark.parametrize("name", TRUTH)
def test_slopes_are_those_of_central_differences(name: str) -> None:
    form = form_named(name)
    _, shape = form.working(np.array([TRUTH[name]]))
    v = runs_of(form, TRUTH[name], 25).coordinates(form)
    parts = np.random.default_rng(0).dirichlet(np.ones(len(form.coefficients)), (1, 25)).swapaxes(1, 2)
    expected = Form.mixed_slopes(form, shape, v, parts)
    np.testing.assert_allclose(form.mixed_slopes(shape, v, parts), expected, rtol=1e-4, atol=1e-7)
    if form.power(shape) is not None:
        steps = 1e-6 * np.eye(shape.shape[1])
        numeric = [(power_of(form, shape + s) - power_of(form, shape - s)) / 2e-6 for s in steps]
        np.testing.assert_allclose(form.power_slopes(shape)[0], np.concatenate(numeric), atol=1e-6)


def power_of(form: Form, shape: Floats) -> Floats:
    found = form.power(shape)
    assert found is not None
    return found


def test_every_form_has_a_line_on_its_page() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/scaling-forms.md").read_text(encoding="utf-8")
    assert [name for name in FORMS if f"`{name}`" not in page] == []


def test_the_interaction_form_is_chinchilla_at_one() -> None:
    values = {"N": np.array([1e8, 1e9]), "D": np.array([2e9, 2e11])}
    a = form_named("interaction").predict(np.array([1.7, 406, 410, 0.34, 0.28, 1.0]), values)
    b = form_named("chinchilla").predict(np.array([1.7, 406, 410, 0.34, 0.28]), values)
    np.testing.assert_allclose(a, b, rtol=1e-12)


def test_text_read_once_is_chinchilla_when_parameters_can_be_fed() -> None:
    values = {"N": np.array([1e8, 3e8]), "D": np.array([2e10, 2e11]), "U": np.array([2e10, 2e11])}
    a = form_named("repeated").predict(np.array([1.7, 406, 410, 0.34, 0.28, 15.4, 5.3]), values)
    b = form_named("chinchilla").predict(np.array([1.7, 406, 410, 0.34, 0.28]), values)
    np.testing.assert_allclose(a, b, rtol=1e-12)


def test_repetition_by_hand() -> None:
    # Muennighoff et al. 2023, section 3, written out; 8.7B parameters, 178B tokens, a seventh unique.
    e, a, b, alpha, beta, r_d, r_n = 1.87, 521.0, 1488.0, 0.3527, 0.3527, 15.39, 5.31
    n, d = 8.7e9, 178e9
    u = d / 7
    g = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
    fed = min(n, (u * g) ** (beta / alpha) * g)
    n2 = fed + fed * r_n * (1 - np.exp(-max(n / fed - 1, 0) / r_n))
    d2 = u + u * r_d * (1 - np.exp(-(d / u - 1) / r_d))
    got = form_named("repeated").predict(np.array([e, a, b, alpha, beta, r_d, r_n]), {"N": n, "D": d, "U": u})
    assert got[0, 0] == pytest.approx(e + a / n2**alpha + b / d2**beta, rel=1e-12)


def test_wrong_names_and_values() -> None:
    with pytest.raises(UnknownNameError, match="chinchilla"):
        form_named("chincilla")
    with pytest.raises(InputError, match="'D' is missing"):
        form_named("chinchilla").coordinates({"N": 1e9})
    with pytest.raises(InputError, match="above zero"):
        form_named("chinchilla").coordinates({"N": 1e9, "D": 0.0})
