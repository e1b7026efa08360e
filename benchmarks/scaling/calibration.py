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
from sets import all_sets, bar, folder

from pellucid.cli import printing
from pellucid.scaling.bench import curves_of, score
from pellucid.scaling.choice import choose
from pellucid.scaling.fit import fit
from pellucid.scaling.forecast import forecast
from pellucid.scaling.reading import read_runs
from pellucid.scaling.runs import Runs
from pellucid.scaling.uncertainty import bootstrap

NOMINAL = (0.5, 0.8, 0.9, 0.95)
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


def main() -> None:
    data = folder(__doc__ or "")
    found: dict[tuple[str, float], list[tuple[float, float, float]]] = {}
    count = 0
    for name, runs in all_sets(data).items():
        for train, test in splits(runs.along("C")):
            count += 1
            targets = {k: test.values[k] for k in "NDC"}
            choice = choose(train)
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
    path = data / "bnsl_benchmark_lang.csv"
    curves = curves_of(
        path,
        lambda where: read_runs(path, metric="Loss", columns={"x": "Seen Examples"}, where=where).along("x"),
        ["Domain", "Task", "Model"],
        "Training",
    )
    row = next(r for r in score(curves).rows if r.member == "ensemble")
    print(
        f"the {row.curves} learning curves: {row.covered:.0%} covered at 90 %, half-width "
        f"{row.half_width:.2%}"
    )


if __name__ == "__main__":
    main()
