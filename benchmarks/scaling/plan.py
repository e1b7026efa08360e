"""Are the published figures of plans and prices found again, and what is a plan worth?

Without data: every claim of `pellucid.scaling.claims` beside its published figure, among them the
inference-aware plan of Sardana et al. 2023 (arXiv 2401.00448); the same plan against a search over a grid;
and the exponent of N* that Hoffmann's law gives when embeddings are left out at Kaplan's scale, beside the
0.73 that Kaplan et al. found.

With data (see sets.py): the optimum of the digitised Chinchilla runs at their own budget, with its interval,
beside the rule of 20 tokens per parameter; what a plan wastes while the law is not known, beside its
baselines; how long a plan with 4,000 draws takes; and how prices of chips fell, beside the trend of
price-performance that Epoch AI published.

    python benchmarks/scaling/plan.py [DATA]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from sets import bar, chinchilla

from pellucid.scaling import claims, planning, plans, registry
from pellucid.scaling.accounting import CONVENTIONS, Transformer, optimum_exponent
from pellucid.scaling.fitted_law import law_of
from pellucid.scaling.hardware import Use, accelerator
from pellucid.scaling.planning import Costs, Demand
from pellucid.scaling.pricing import Tariff
from pellucid.scaling.surface import Surface, estimate
from pellucid.scaling.trends import read_prices, trend

LOSS, SERVED = 1.947, 2e12  # of the published plan
KAPLAN = 0.73
BUDGET = 5.76e23  # of Chinchilla itself
# GPT-2's proportions: 64 wide for each layer, heads of 64, up to a hundred billion parameters.
LADDER = [
    Transformer(n, 64 * n, n, 256 * n, 50257, gated=False, tied=True, positions=1024, biases=True)
    for n in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128)
]


def published() -> None:
    for name in registry.LAWS:
        for outcome in claims.check(name):
            claim = outcome.claim
            bar(f"{name}, {claim.what}", f"{claim.published:.8g}", f"{outcome.computed:.8g}", outcome.agrees)


def against_a_grid() -> None:
    surface, costs = registry.law("sardana_2023").surface, Costs.in_flops(Demand(SERVED))
    D = np.geomspace(1e11, 1e14, 2_000_001)
    found = costs.of(surface.parameters_for(D, LOSS), D)
    best = int(np.argmin(found))
    plan = planning.for_loss(surface, LOSS, costs)
    apart = abs(float(plan.cost[0]) / float(found[best]) - 1)
    print(f"       the grid's best: D {D[best]:.5g}, {found[best]:.6g} FLOPs")
    bar("the inference-aware plan against a grid of 2,000,001", "1e-10 apart", f"{apart:.1e}", apart <= 1e-10)


def counted() -> None:
    surface = registry.law("hoffmann_2022").surface
    print(f"exponent of N* on C under Hoffmann's law, by what N counts (Kaplan et al. found {KAPLAN}):")
    for low, high in ((1e15, 1e19), (1e16, 1e20), (1e18, 1e22), (1e20, 1e23)):
        budgets = np.geomspace(low, high, 9)
        told = [f"{c} {optimum_exponent(surface, LADDER, budgets, counted=c):.3f}" for c in CONVENTIONS]
        print(f"       {low:.0e} to {high:.0e} FLOPs: {', '.join(told)}")


def with_data(data: Path) -> None:
    law = law_of(chinchilla(data), draws=4000)
    surface = law.surface
    best = planning.for_cost(surface, BUDGET, Costs.in_flops())
    ratio, size = estimate(best.D / best.N, nominal=0.8), estimate(best.N, nominal=0.8)
    print(f"optimum at {BUDGET:.3g} FLOPs, fitted law with {len(surface.E) - 1:,} draws:")
    for what, told, beside in (
        ("tokens per parameter", ratio, "rule 20"),
        ("parameters", size, "Chinchilla 7e10"),
    ):
        print(f"       {what} {told.value:.3g}, 80 % of draws {told.low:.3g} to {told.high:.3g}; {beside}")
    chip = accelerator("h100-sxm")
    tariff = Tariff(Use(chip, "bf16", 0.4), Use(chip, "fp8", 0.4), Use(chip, "fp8", 0.1))
    for read, written in ((0.0, 0.0), (8e11, 2e11), (8e12, 2e12), (8e13, 2e13)):
        begun = time.perf_counter()
        demand = Demand(read, written)
        found = plans.plan(law, plans.Goal(loss=2.0), tariff=tariff, demand=demand)
        took = time.perf_counter() - begun
        dollars = estimate(found.options[0].lifetime_dollars)
        wasted = {o.name: float(np.nanmean(o.wasted[1:])) for o in found.options}
        told = ", ".join(f"{name} {share:.1%}" for name, share in wasted.items())
        print(
            f"       loss 2, {demand.tokens:.0e} served: N {found.options[0].N[0]:.3g}, ${dollars.value:.3g} "
            f"(90 % {dollars.low:.3g} to {dollars.high:.3g}); wasted: {told}; {1e3 * took:.0f} ms"
        )
    points = read_prices(data / "epoch_hardware_prices.csv")
    dates, dollars_each = [p.date for p in points], [p.dollars_per_hour for p in points]
    for what, groups in (
        ("chip and vendor", [f"{p.model}, {p.vendor}" for p in points]),
        ("chip", [p.model for p in points]),
    ):
        fell = trend(dates, dollars_each, groups)
        print(
            f"price of an hour, by {what}: {fell.rate:+.4f} orders of magnitude a year ({fell.low:+.4f} to "
            f"{fell.high:+.4f}), {fell.points} quotes, {fell.groups} groups. Epoch's price-performance over "
            f"generations of chips: {registry.LAWS['epoch_price_performance'].parameters['rate']:+.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, nargs="?", help="the folder with the data sets; see sets.py")
    data = parser.parse_args().data
    published()
    against_a_grid()
    counted()
    if data is not None:
        with_data(data)
    for name, alpha, beta in (("unrounded", 0.33917084, 0.2849083), ("rounded", 0.34, 0.28)):
        plan = planning.for_cost(Surface.of((1.69, 406.4, 410.7, alpha, beta)), BUDGET, Costs.in_flops())
        ratio = plan.D[0] / plan.N[0]
        print(f"tokens per parameter at {BUDGET:.3g} FLOPs by Hoffmann's exponents, {name}: {ratio:.1f}")


if __name__ == "__main__":
    main()
