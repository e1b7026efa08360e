from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.core.errors import InputError
from pellucid.scaling.surface import PARAMETERS, Law, Surface, estimate

LAW = (1.69, 406.4, 410.7, 0.336, 0.283)


def laws() -> st.SearchStrategy[tuple[float, ...]]:
    return st.tuples(
        st.floats(0, 4), st.floats(10, 1e4), st.floats(10, 1e4), st.floats(0.1, 1.2), st.floats(0.1, 1.2)
    )


@given(laws(), st.floats(1e6, 1e13), st.floats(1e8, 1e15))
def test_tokens_and_parameters_for_a_loss_give_it_back(law: tuple[float, ...], N: float, D: float) -> None:
    surface = Surface.of(law)
    loss = surface.loss(N, D)
    assert surface.loss(surface.parameters_for(D, loss), D) == pytest.approx(loss, rel=1e-9)
    assert surface.loss(N, surface.tokens_for(N, loss)) == pytest.approx(loss, rel=1e-9)


def test_what_no_number_of_tokens_reaches_is_infinite() -> None:
    surface = Surface.of([LAW, LAW])
    assert np.isinf(surface.tokens_for(1e9, 1.7)).all()
    assert np.isinf(surface.parameters_for(1e9, np.array([1.0, 1.69]))).all()


def test_rows_come_back_and_broadcast() -> None:
    rows = np.array([LAW, (0.0, 1.0, 2.0, 0.5, 0.5)])
    surface = Surface.of(rows)
    assert np.array_equal(surface.rows, rows)
    assert surface.loss(1e9, 2e10).shape == (2,)
    assert surface.exponent == pytest.approx([0.283 / 0.619, 0.5])


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([LAW, (1.0, -1.0, 1.0, 0.3, 0.3)], "Row 1 is no law"),
        ([(1.0, 1.0, 1.0, float("nan"), 0.3)], "Row 0 is no law"),
        ([(-0.1, 1.0, 1.0, 0.3, 0.3)], "Row 0 is no law"),
        ([(1.0, 1.0, 1.0, 0.3)], "rows of five"),
        (np.zeros((0, 5)), "rows of five"),
        ("law", "numbers in rows of five"),
        ([[1, 2, 3, 4, 5], [1, 2]], "numbers in rows of five"),
    ],
)
def test_what_is_no_law_is_refused(rows: object, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        Surface.of(rows)  # type: ignore[arg-type]


def test_a_law_puts_the_fitted_one_before_its_draws() -> None:
    law = Law("mine", LAW, np.array([LAW, LAW]) * 1.01)
    assert law.surface.A == pytest.approx([406.4, 406.4 * 1.01, 406.4 * 1.01])
    assert len(Law("mine", LAW).surface.A) == 1


def test_a_law_is_read_from_names() -> None:
    values = dict(zip(PARAMETERS, LAW, strict=True))
    assert Law.from_mapping("mine", {**values, "other": "x"}).values == LAW
    with pytest.raises(InputError, match="alpha not among"):
        Law.from_mapping("mine", {k: v for k, v in values.items() if k != "alpha"})
    with pytest.raises(InputError, match=r"beta of the law 'mine' must be a number; got '0.3'"):
        Law.from_mapping("mine", {**values, "beta": "0.3"})
    with pytest.raises(InputError, match="Row 1 is no law"):
        Law.from_mapping("mine", values, [LAW, [0, 0, 0, 0, 0]])


def test_an_estimate_is_the_first_value_between_quantiles_of_the_others() -> None:
    values = np.concatenate([[0.5], np.arange(101.0)])
    found = estimate(values, nominal=0.8)
    assert (found.value, found.low, found.high, found.share) == pytest.approx((0.5, 10.0, 90.0, 1.0))


def test_an_estimate_says_in_how_many_draws_it_exists() -> None:
    found = estimate(np.array([np.inf, 1.0, np.inf, np.nan, 3.0]))
    assert found.share == 0.5
    assert found.to_json()["value"] is None
    assert estimate(np.array([1.0])).low is None
    assert estimate(np.array([1.0])).share == 1.0
    assert estimate(np.array([1.0, np.inf])).share == 0.0


@pytest.mark.parametrize("nominal", [0.0, 1.0, -1.0, 90.0, float("nan")])
def test_what_an_interval_holds_is_a_share(nominal: float) -> None:
    with pytest.raises(InputError, match="share between 0 and 1"):
        estimate(np.array([1.0, 2.0]), nominal=nominal)
