from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.core.errors import InputError
from pellucid.scaling import planning
from pellucid.scaling.hardware import Use, accelerator
from pellucid.scaling.planning import Costs, Demand
from pellucid.scaling.pricing import Tariff, break_even, price, price_curve, worth_of_gains
from pellucid.scaling.surface import Surface

LAW = (1.69, 406.4, 410.7, 0.336, 0.283)
H100 = accelerator("h100-sxm")
TARIFF = Tariff(Use(H100, "bf16", 0.4), Use(H100, "fp8", 0.5), Use(H100, "fp8", 0.1))
DEMAND = Demand(read=8e12, written=2e12)


def test_prices_follow_from_chip_hours() -> None:
    """How long a chip is busy with a million tokens, and what the time costs."""
    found = price(7e9, 2e12, TARIFF, DEMAND)
    per_second = 3.99 / 3600
    assert found.read == pytest.approx(1e6 * 2 * 7e9 / (1978.9e12 * 0.5) * per_second)
    assert found.written == pytest.approx(1e6 * 2 * 7e9 / (1978.9e12 * 0.1) * per_second)
    training = 6 * 7e9 * 2e12 / (989.4e12 * 0.4) * per_second
    assert TARIFF.training_dollars(7e9, 2e12) == pytest.approx(training)
    assert found.training == pytest.approx(training / 10e12 * 1e6)
    assert found.blended == pytest.approx(0.8 * found.read + 0.2 * found.written + found.training)
    assert found.dates == ("2026-09-20",)


def test_what_all_tokens_pay_is_what_the_plan_costs() -> None:
    surface = Surface.of([LAW, LAW])
    plan = planning.for_loss(surface, 2.0, TARIFF.costs(DEMAND))
    found = price(plan.N, plan.D, TARIFF, DEMAND)
    assert found.blended * DEMAND.tokens / 1e6 == pytest.approx(plan.cost)
    assert found.blended.shape == (2,)


def test_training_days_are_work_over_speed() -> None:
    assert TARIFF.training_days(7e9, 2e12, 1000) == pytest.approx(
        6 * 7e9 * 2e12 / (1000 * 989.4e12 * 0.4) / 86400
    )
    seconds = TARIFF.training_days(7e9, 2e12, 1) * 86400
    assert TARIFF.training_energy_kwh(7e9, 2e12) == pytest.approx(seconds * 700 / 3.6e6)
    unknown = Tariff(Use(accelerator("tpu-v5e"), "bf16", 0.4), TARIFF.prefill, TARIFF.decode)
    assert unknown.training_energy_kwh(7e9, 2e12) is None
    with pytest.raises(InputError, match="at least one chip"):
        TARIFF.training_days(7e9, 2e12, 0)


def test_without_tokens_training_is_carried_by_none() -> None:
    found = price(7e9, 2e12, TARIFF, Demand())
    assert np.isinf(found.training)
    assert np.isfinite(found.read)


def test_at_break_even_both_have_cost_the_same() -> None:
    surface = Surface.of([LAW, (1.6, 300.0, 500.0, 0.33, 0.29)])
    big = planning.for_loss(surface, 2.0, Costs(1.0))
    N = big.N * 0.5
    D = surface.tokens_for(N, 2.0)
    volume = break_even((big.N, big.D), (N, D), TARIFF, DEMAND)
    assert (np.isfinite(volume) & (volume > 0)).all()
    for k, tokens in enumerate(volume):
        demand = Demand(0.8 * tokens, 0.2 * tokens)
        costs = TARIFF.costs(demand)
        assert costs.of(big.N, big.D)[k] == pytest.approx(costs.of(N, D)[k])
        more = TARIFF.costs(Demand(demand.read * 1.01, demand.written * 1.01))
        assert more.of(N, D)[k] < more.of(big.N, big.D)[k]


def test_break_even_says_never_always_and_swapped() -> None:
    model = (1e10, 1e12)
    assert break_even(model, (2e10, 1e12), TARIFF, DEMAND) == np.inf
    assert break_even(model, (5e9, 1e12), TARIFF, DEMAND) == 0
    assert np.isnan(break_even(model, (2e10, 1e11), TARIFF, DEMAND))
    assert break_even(model, model, TARIFF, DEMAND) == np.inf
    with pytest.raises(InputError, match="depends on their mix"):
        break_even(model, model, TARIFF, Demand())


def test_the_worth_of_a_gain_is_the_cost_it_saves() -> None:
    surface = Surface.of([LAW, LAW])
    plan = planning.for_loss(surface, 2.0, TARIFF.costs(DEMAND))
    serving = plan.cost - TARIFF.training_dollars(plan.N, plan.D)
    gains = worth_of_gains(surface, 2.0, TARIFF, DEMAND)
    assert [g.gain for g in gains] == [0.1, 0.2, 0.3]
    for g in gains:
        assert g.as_planned == pytest.approx(serving * (1 - 1 / (1 + g.gain)))
        assert (g.replanned >= g.as_planned).all()
        # Planning anew can save more, but only by what serving was worth to begin with.
        assert (g.replanned < serving).all()
    worth = [float(g.replanned[0]) for g in gains]
    assert worth == sorted(worth)
    assert worth[0] > worth[2] / 3  # each further gain saves less


@given(st.floats(1e-3, 10))
def test_a_gain_is_worth_the_same_as_a_tariff_that_is_cheaper(gain: float) -> None:
    surface = Surface.of(LAW)
    slow = Tariff(TARIFF.training, Use(H100, "fp8", 0.05), Use(H100, "fp8", 0.01))
    fast = Tariff(TARIFF.training, Use(H100, "fp8", 0.05 * (1 + gain)), Use(H100, "fp8", 0.01 * (1 + gain)))
    before, after = (planning.for_loss(surface, 2.0, t.costs(DEMAND)).cost for t in (slow, fast))
    found = worth_of_gains(surface, 2.0, slow, DEMAND, [gain])[0]
    assert found.replanned == pytest.approx(before - after, rel=1e-6)


def test_the_price_falls_with_volume_and_is_never_above_the_baseline() -> None:
    surface = Surface.of([LAW, LAW])
    points = price_curve(surface, 2.0, TARIFF, DEMAND, np.geomspace(1e9, 1e15, 13))
    planned = np.array([p.planned[0] for p in points])
    assert (np.diff(planned) < 0).all()
    for p in points:
        assert (p.planned <= p.training_only * (1 + 1e-12)).all()
    assert points[0].planned == pytest.approx(points[0].training_only, rel=1e-4)
    assert points[-1].planned[0] < 0.8 * points[-1].training_only[0]
    with pytest.raises(InputError, match="depends on their mix"):
        price_curve(surface, 2.0, TARIFF, Demand(), [1e9])


@pytest.mark.parametrize("gain", [0.0, -0.1, float("nan"), float("inf")])
def test_a_gain_is_above_zero(gain: float) -> None:
    with pytest.raises(InputError, match=r"such as 0\.2 for 20 %"):
        worth_of_gains(Surface.of(LAW), 2.0, TARIFF, DEMAND, [gain])
