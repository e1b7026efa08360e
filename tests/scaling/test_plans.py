from __future__ import annotations

import math

import numpy as np
import pytest

from pellucid.core.errors import InputError
from pellucid.scaling import planning
from pellucid.scaling.hardware import Use, accelerator
from pellucid.scaling.planning import Costs, Demand
from pellucid.scaling.plans import Goal, OptionName, plan, waste
from pellucid.scaling.pricing import Tariff, price
from pellucid.scaling.repetition import Repetition
from pellucid.scaling.surface import Law, Surface

VALUES = (1.69, 406.4, 410.7, 0.336, 0.283)
H100 = accelerator("h100-sxm")
TARIFF = Tariff(Use(H100, "bf16", 0.4), Use(H100, "fp8", 0.5), Use(H100, "fp8", 0.1))
DEMAND = Demand(1.6e12, 4e11)
DRAWS = np.array(VALUES) * np.exp(np.random.default_rng(0).normal(0, 0.01, (60, 5)))
LAW = Law("mine", VALUES, DRAWS)


@pytest.mark.parametrize("stock", [None, Repetition(5e11)])
@pytest.mark.parametrize(
    "goal", [Goal(loss=2.0), Goal(loss=2.0, unit="flops"), Goal(cost=1e6), Goal(cost=1e24, unit="flops")]
)
def test_all_options_reach_the_same_loss_and_the_planned_one_costs_least(
    goal: Goal, stock: Repetition | None
) -> None:
    found = plan(LAW, goal, tariff=TARIFF, demand=DEMAND, stock=stock)
    costs = Costs.in_flops(DEMAND) if goal.unit == "flops" else TARIFF.costs(DEMAND)
    surface = LAW.surface
    paid: dict[OptionName, np.ndarray] = {}
    for option in found.options:
        reached = (
            surface.loss(option.N, option.D) if stock is None else stock.loss(surface, option.N, option.D)
        )
        fine = np.isfinite(option.N)
        assert reached[fine] == pytest.approx(found.loss[fine], rel=1e-6)
        paid[option.name] = costs.of(option.N, option.D)
    assert (paid["planned"] <= paid["training only"] * (1 + 1e-6)).all()
    assert (paid["planned"] <= paid["rule of thumb"] * (1 + 1e-6)).all()
    if goal.cost is not None:
        assert paid["planned"] == pytest.approx(goal.cost, rel=1e-6)
    else:
        assert found.loss == pytest.approx(2.0)


def test_the_same_draws_flow_through_all_that_follows() -> None:
    """Entry k of every array is what the draw k alone would give."""
    found = plan(LAW, Goal(loss=2.0), tariff=TARIFF, demand=DEMAND)
    for k in (1, 17, 60):
        one = plan(Law("draw", tuple(DRAWS[k - 1])), Goal(loss=2.0), tariff=TARIFF, demand=DEMAND)
        for all_of_them, alone in zip(found.options, one.options, strict=True):
            for name in ("N", "D", "training_flops", "training_dollars", "lifetime_dollars", "price"):
                assert getattr(all_of_them, name)[k] == pytest.approx(getattr(alone, name)[0], rel=1e-9), name


def test_dollars_and_prices_add_up() -> None:
    found = plan(LAW, Goal(loss=2.0), tariff=TARIFF, demand=DEMAND)
    best = found.option("planned")
    assert best.training_flops == pytest.approx(6 * best.N * best.D)
    assert best.price is not None
    assert best.price == pytest.approx(price(best.N, best.D, TARIFF, DEMAND).blended)
    assert best.price * DEMAND.tokens / 1e6 == pytest.approx(best.lifetime_dollars)
    assert plan(LAW, Goal(loss=2.0), tariff=TARIFF).option("planned").price is None


def test_without_serving_the_plan_is_the_one_that_is_cheapest_to_train() -> None:
    found = plan(LAW, Goal(cost=1e24, unit="flops"), tariff=TARIFF)
    planned, plain = found.option("planned"), found.option("training only")
    assert planned.N == pytest.approx(plain.N, rel=1e-9)
    assert planned.N == pytest.approx(planning.for_cost(LAW.surface, 1e24, Costs.in_flops()).N)


def test_waste_is_what_a_grid_finds_to_save() -> None:
    costs, surface = TARIFF.costs(DEMAND), LAW.surface
    wasted = waste(surface, 3e10, 1e12, costs)
    assert (wasted >= 0).all()
    for k in (0, 5, 40):
        one = Surface.of(surface.rows[k])
        D = np.geomspace(1e10, 1e14, 200_001)
        least = np.min(costs.of(one.parameters_for(D, one.loss(3e10, 1e12)), D))
        assert wasted[k] == pytest.approx(costs.of(3e10, 1e12) - least, rel=1e-4, abs=1e-6 * least)


def test_a_plan_wastes_nothing_if_its_law_holds_and_its_baselines_do() -> None:
    found = plan(LAW, Goal(loss=2.0), tariff=TARIFF, demand=Demand(8e12, 2e12))
    wasted = {o.name: o.wasted for o in found.options}
    assert wasted["planned"][0] == pytest.approx(0, abs=1e-9)
    assert wasted["planned"][1:].mean() > 1e-6
    assert wasted["planned"].mean() < wasted["training only"].mean() < 1
    assert wasted["training only"][0] == pytest.approx(
        1 - found.option("planned").lifetime_dollars[0] / found.option("training only").lifetime_dollars[0],
        rel=1e-6,
    )


def test_a_limit_holds_the_plan_back_and_says_so() -> None:
    free = plan(LAW, Goal(loss=2.0), tariff=TARIFF, demand=DEMAND)
    N = float(free.option("planned").N[0])
    held = plan(LAW, Goal(loss=2.0), tariff=TARIFF, demand=DEMAND, most_parameters=N / 2)
    assert held.bound
    assert not free.bound
    assert not plan(LAW, Goal(loss=2.0), tariff=TARIFF, demand=DEMAND, most_parameters=N * 2).bound
    assert held.option("planned").N[0] == pytest.approx(N / 2)
    assert held.option("planned").wasted[0] == pytest.approx(0, abs=1e-9)
    assert held.option("training only").N[0] == free.option("training only").N[0]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"goal": Goal(loss=1.5)}, r"losses stay above E = 1\.69"),
        ({"goal": Goal(loss=2.0), "most_parameters": 1e6}, r"at most 1e\+06 parameters are allowed"),
        ({"goal": Goal(loss=1.8), "stock": Repetition(1e8)}, "the text there is, read again"),
    ],
)
def test_a_goal_out_of_reach_says_why(arguments: dict[str, object], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        plan(LAW, tariff=TARIFF, demand=DEMAND, **arguments)  # type: ignore[arg-type]


def test_draws_under_which_the_goal_is_out_of_reach_are_counted() -> None:
    law = Law("mine", VALUES, np.array([VALUES, (2.5, *VALUES[1:])]))
    found = plan(law, Goal(loss=2.0), tariff=TARIFF, demand=DEMAND)
    assert np.isfinite(found.option("planned").N).tolist() == [True, True, False]
    assert np.isfinite(found.option("planned").wasted).tolist() == [True, True, True]


@pytest.mark.parametrize(
    "arguments", [{}, {"loss": 2.0, "cost": 1e6}, {"loss": -1.0}, {"cost": math.inf}, {"cost": 0.0}]
)
def test_a_goal_is_a_loss_or_a_cost(arguments: dict[str, float]) -> None:
    with pytest.raises(InputError, match="Expected a loss"):
        Goal(**arguments)  # type: ignore[arg-type]
