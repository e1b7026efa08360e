"""How well are the top two budgets of the isoFLOP sets forecast from the rest?

    python benchmarks/scaling/isoflops.py DATA

The error is the mean of |forecast/outcome − 1| over the held-out runs. Rows flagged as outliers are left out
on both sides. The bars are those of the Chinchilla form fitted by sum-Huber; what is held to them is the
ensemble, which chooses inside the rest alone.
"""

from __future__ import annotations

import numpy as np
from sets import ISOFLOPS, bar, folder, isoflops, top_levels

from pellucid.cli import printing
from pellucid.scaling.backtest import LAST, Member, fitted
from pellucid.scaling.choice import candidates, choose, ensemble

SHOWN = ("chinchilla", "tied", "interaction", "kaplan", "last")
BARS = {"llama_3__exp_loss": 0.0034, "marin": 0.015}


def main() -> None:
    rows = []
    for name, runs in isoflops(folder(__doc__ or "", ISOFLOPS)).items():
        train, test = top_levels(runs.along("C"), 2)
        members = [m for m in candidates(train) if m.form != LAST]
        errors = {
            str(m): np.abs(np.expm1(fitted(m, train).log_values(test) - np.log(test.y))).mean()
            for m in (*members, Member(LAST))
        }
        choice = choose(train)
        told = np.abs(np.expm1(ensemble(choice).combined(test).log_values - np.log(test.y))).mean()
        short = name.replace("__", " ").removesuffix(" llama_2")
        rows.append(
            [short, f"{len(train)} / {len(test)}", f"{told:.2%}", *(f"{errors[m]:.2%}" for m in SHOWN)]
        )
        for key, wanted in BARS.items():
            if name.startswith(key):
                bar(
                    name,
                    f"≤ {wanted:.2%}",
                    f"{told:.3%} (chinchilla alone {errors['chinchilla']:.3%})",
                    told <= wanted,
                )
    printing.table(["set", "runs", "ensemble", *SHOWN], rows)


if __name__ == "__main__":
    main()
