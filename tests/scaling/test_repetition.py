from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.core.errors import InputError
from pellucid.scaling import planning, repetition
from pellucid.scaling.planning import Costs, Demand
from pellucid.scaling.repetition import Repetition
from pellucid.scaling.surface import Surface

C4 = (1.8691437, 520.82495, 1487.7161, 0.3526596, 0.3526596)
TRAINING = Costs.in_flops()


def test_tokens_read_again_are_worth_a_sum_of_falling_shares() -> None:
    """Each small part of a repetition adds exp(-R/r) of new text; their sum is the integral."""
    stock = Repetition(1e9)
    for epochs in (1.0, 2.0, 4.0, 16.0, 60.0):
        R = np.linspace(0, epochs - 1, 200_001)
        worth = 1 + np.trapezoid(np.exp(-R / stock.tokens_constant), R)
        assert stock.effective_tokens(epochs * 1e9) / 1e9 == pytest.approx(worth, rel=1e-8)


def test_four_epochs_are_nearly_as_good_as_new_text_and_sixteen_are_not() -> None:
    stock = Repetition(1e9)
    assert stock.effective_tokens(4e9) / 4e9 == pytest.approx(0.9314, abs=1e-4)
    assert stock.effective_tokens(16e9) / 16e9 == pytest.approx(0.6614, abs=1e-4)
    assert stock.effective_tokens(0.3e9) == 0.3e9


def test_after_the_epochs_of_half_value_a_token_adds_half() -> None:
    stock = Repetition(1e9)
    D = stock.half_value_epochs * 1e9
    slope = (stock.effective_tokens(D * 1.0001) - stock.effective_tokens(D * 0.9999)) / (D * 0.0002)
    assert slope == pytest.approx(0.5, rel=1e-3)


@given(st.floats(1e6, 1e14), st.floats(0.01, 1e3))
def test_the_worth_of_parameters_is_undone(useful: float, ratio: float) -> None:
    stock = Repetition(1e10)
    N = ratio * useful
    worth = stock.effective_parameters(N, np.array([useful]))
    assert worth <= N * (1 + 1e-12)
    if ratio < 50:  # beyond that the worth is the most there is, to the last digit
        assert stock.parameters_behind(worth, np.array([useful])) == pytest.approx(N, rel=1e-4)
    most = useful * (1 + stock.parameters_constant)
    assert np.isinf(stock.parameters_behind(np.array([most * 1.001]), np.array([useful])))


def test_what_is_optimal_for_the_stock_is_the_optimum_at_its_tokens() -> None:
    surface = Surface.of(C4)
    N = Repetition(25e9).useful_parameters(surface)
    plan = planning.for_cost(surface, float(6 * N[0] * 25e9), TRAINING)
    assert plan.N == pytest.approx(N, rel=1e-12)


@given(st.floats(1e19, 1e25), st.one_of(st.just(0.0), st.floats(1e9, 1e14)))
def test_with_text_enough_the_plan_is_the_plain_one(cost: float, served: float) -> None:
    surface, costs, plenty = Surface.of(C4), Costs.in_flops(Demand(served)), Repetition(1e22)
    plain = planning.for_cost(surface, cost, costs)
    plan = repetition.for_cost(surface, cost, costs, plenty)
    assert np.log(plan.N) == pytest.approx(np.log(plain.N), abs=1e-3)
    assert plan.loss == pytest.approx(plain.loss, rel=1e-9)
    back = repetition.for_loss(surface, plain.loss, costs, plenty)
    assert back.cost == pytest.approx(plain.cost, rel=1e-6)


@given(st.floats(0.1, 30), st.floats(1e8, 1e12), st.one_of(st.just(0.0), st.floats(1e9, 1e14)))
def test_no_point_of_a_plane_loses_less(times: float, unique: float, served: float) -> None:
    """Budgets of up to 30 times what reads the stock once; at a hundred times nothing is gained any more."""
    surface, costs, stock = Surface.of(C4), Costs.in_flops(Demand(served)), Repetition(unique)
    cost = times * float(costs.of(stock.useful_parameters(surface), unique)[0])
    plan = repetition.for_cost(surface, cost, costs, stock)
    D = np.exp(np.linspace(math.log(1e6), math.log(1e22), 60_001))
    least = stock.loss(surface, cost / (6 * D + costs.serving), D).min()
    assert plan.loss[0] <= least * (1 + 1e-12)
    assert plan.cost == pytest.approx(cost, rel=1e-9)
    again = repetition.for_loss(surface, plan.loss, costs, stock)
    assert again.cost[0] == pytest.approx(cost, rel=1e-5)


def test_short_text_costs_more_and_is_read_again() -> None:
    surface = Surface.of(C4)
    plain = planning.for_cost(surface, 9.3e21, TRAINING)
    short = repetition.for_cost(surface, 9.3e21, TRAINING, Repetition(25e9))
    assert short.loss > plain.loss
    assert short.D > plain.D
    assert short.N < plain.N
    assert 5 < short.D[0] / 25e9 < 15


def test_what_no_repetition_reaches_is_infinite() -> None:
    surface = Surface.of([C4, (1.0, *C4[1:])])
    stock = Repetition(1e9)
    # The worth of 1e9 tokens is at most 16.4e9, however often they are read.
    reachable = surface.E + surface.B * (1e9 * (1 + stock.tokens_constant)) ** -surface.beta
    plan = repetition.for_loss(surface, float(reachable[0]) * 0.99, TRAINING, stock)
    assert np.isfinite(plan.cost).tolist() == [False, True]
    assert np.isfinite(plan.N).tolist() == [False, True]


def test_a_limit_on_parameters_is_kept() -> None:
    surface, stock = Surface.of([C4, C4]), Repetition(25e9)
    free = repetition.for_cost(surface, 9.3e21, TRAINING, stock)
    held = repetition.for_cost(surface, 9.3e21, TRAINING, stock, most_parameters=3e9)
    assert (held.N <= 3e9).all()
    assert held.N == pytest.approx(3e9, rel=1e-6)
    assert (held.loss > free.loss).all()
    again = repetition.for_loss(surface, held.loss, TRAINING, stock, most_parameters=3e9)
    assert (again.N <= 3e9).all()
    assert again.cost == pytest.approx(held.cost, rel=1e-4)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_a_stock_and_its_constants_are_above_zero(value: float) -> None:
    with pytest.raises(InputError, match="unique tokens above 0"):
        Repetition(value)
    with pytest.raises(InputError, match="parameters constant above 0"):
        Repetition(1e9, parameters_constant=value)
    with pytest.raises(InputError, match="budget above 0"):
        repetition.for_cost(Surface.of(C4), value, TRAINING, Repetition(1e9))
