"""Do nominal intervals cover what they say?

Every set with parameters and tokens, cut at up to six places in its order of compute: what lies before is
fitted, what lies after is forecast. A place counts when at least 20 runs at four levels of compute lie
before it and three runs after it. Coverage is the mean over splits. Bands of parameter bootstraps, without
and with the scatter of the residuals, stand beside; and so do the 20 learning curves with their official
split.

    python benchmarks/scaling/calibration.py DATA
"""

from __future__ import annotations

import numpy as np
from sets import CHINCHILLA, CURVES, ISOFLOPS, KYO_TAKANO, OVERTRAINED, all_sets, bar, folder, learning_curves

from pellucid.cli import printing
from pellucid.scaling.bench import score
from pellucid.scaling.choice import Choice, choose, ensemble
from pellucid.scaling.fit import fit
from pellucid.scaling.forecast import forecast, half_width, missed, targets_of
from pellucid.scaling.runs import Runs
from pellucid.scaling.uncertainty import bootstrap

NOMINAL = (0.5, 0.8, 0.9, 0.95)
RULES = [(growth, widened) for growth in (0.0, 0.5, 1.0, 1.5) for widened in (False, True)]
MEMBERS = ("ensemble", "chinchilla", "tied", "interaction", "kaplan")


def splits(runs: Runs) -> list[tuple[Runs, Runs]]:
    order = np.sort(np.unique(runs.order))
    cuts = order[:-1][np.diff(order) > 0.02]
    fine = [
        c for c in cuts
        if (runs.order <= c).sum() >= 20 and (runs.order > c).sum() >= 3
        and len(np.unique(np.round(order[order <= c], 1))) >= 4
    ]  # fmt: skip
    picked = [fine[i] for i in np.unique(np.linspace(0, len(fine) - 1, 6).round().astype(int))]
    return [(runs.kept(runs.order <= c), runs.kept(runs.order > c)) for c in picked]


def by_rules(choice: Choice, train: Runs, test: Runs) -> list[tuple[float, float]]:
    """Coverage and median half-width of the ensemble at nominal 90 % under each rule."""
    made = ensemble(choice).combined(targets_of(train, {k: test.values[k] for k in "NDC"}))
    scored = missed(train, choice.at, choice.ensemble_trials())
    beyond = np.maximum(test.order - train.order.max(), 0.0)
    found = []
    for growth, widened in RULES:
        half = half_width(scored, 0.9, made.scale, beyond, growth=growth, widened=widened)
        inside = np.abs(np.log(test.y) - made.log_values) <= half
        found.append((float(inside.mean()), float(np.median(half))))
    return found


def left_out(
    ruled: dict[str, list[list[tuple[float, float]]]],
) -> dict[str, tuple[tuple[float, bool], float, float]]:
    """For each set the rule chosen on the others, and what it covers here, with its half-width."""
    told = {}
    for name, splits_here in ruled.items():
        others = np.array([split for other, rows in ruled.items() if other != name for split in rows])
        covered, widths = others[..., 0].mean(axis=0), np.median(others[..., 1], axis=0)
        fine = [i for i in range(len(RULES)) if covered[i] >= 0.9] or [int(covered.argmax())]
        rule = min(fine, key=lambda i: widths[i])
        here = np.array(splits_here)[:, rule]
        told[name] = (RULES[rule], float(here[:, 0].mean()), float(np.median(here[:, 1])))
    return told


def main() -> None:
    data = folder(__doc__ or "", CHINCHILLA, ISOFLOPS, KYO_TAKANO, OVERTRAINED, CURVES)
    found: dict[tuple[str, float], list[tuple[float, float, float]]] = {}
    ruled: dict[str, list[list[tuple[float, float]]]] = {}
    count = 0
    for name, runs in all_sets(data).items():
        for train, test in splits(runs.along("C")):
            count += 1
            targets = {k: test.values[k] for k in "NDC"}
            choice = choose(train)
            ruled.setdefault(name, []).append(by_rules(choice, train, test))
            for nominal in NOMINAL:
                for member in MEMBERS:
                    made = forecast(train, targets, member=member, nominal=nominal, choice=choice)
                    half = float(np.median(np.log(made.high / made.low)) / 2)
                    error = float(np.abs(made.values / test.y - 1).mean())
                    found.setdefault((member, nominal), []).append((made.covers(test.y).mean(), half, error))
                drawn = bootstrap(fit(train), 400)
                values = drawn.values(targets)
                noise = np.random.default_rng(0).choice(drawn.fit.residuals, values.shape)
                for kind, band in (
                    ("bootstrap of parameters", values),
                    ("the same with residuals", values * np.exp(noise)),
                ):
                    low, high = np.quantile(band, [0.5 - nominal / 2, 0.5 + nominal / 2], axis=0)
                    inside = float(((low <= test.y) & (test.y <= high)).mean())
                    half = float(np.median(np.log(high / low)) / 2)
                    found.setdefault((kind, nominal), []).append((inside, half, np.nan))
            print(f"{name}: {len(train)} fitted, {len(test)} forecast", flush=True)
    rows = []
    for member in dict.fromkeys(m for m, _ in found):
        cells = [np.array(found[member, n]) for n in NOMINAL]
        rows.append(
            [
                member,
                *(f"{c[:, 0].mean():.1%}" for c in cells),
                f"{np.median(cells[2][:, 1]):.2%}",
                f"{cells[2][:, 2].mean():.2%}",
            ]
        )
    printing.table(["", *(f"covered at {n:.0%}" for n in NOMINAL), "half-width at 90%", "mean error"], rows)
    told = np.array(found["ensemble", 0.9])
    bar(
        f"coverage at nominal 90 %, {count} splits",
        "≥ 85 %",
        f"{told[:, 0].mean():.1%}",
        told[:, 0].mean() >= 0.85,
    )
    bar("median half-width", "≤ 2.5 %", f"{np.median(told[:, 1]):.2%}", np.median(told[:, 1]) <= 0.025)
    told = left_out(ruled)
    print("coverage at nominal 90 % of each set, by the rule chosen on the others:")
    for name, (rule, covered, half) in told.items():
        print(f"       {name}: {covered:.0%}, half-width {half:.2%}; growth {rule[0]:g}, widened {rule[1]}")
    splits_of = [len(ruled[name]) for name in told]
    print(f"       mean over splits {np.average([c for _, c, _ in told.values()], weights=splits_of):.1%}")
    row = next(r for r in score(learning_curves(data)).rows if r.member == "ensemble")
    print(
        f"the {row.curves} learning curves: {row.covered:.0%} covered at 90 %, half-width "
        f"{row.half_width:.2%}"
    )


if __name__ == "__main__":
    main()
