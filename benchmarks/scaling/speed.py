"""How fast are a fit and a bootstrap, beside the usual method in the same run?

The usual method (Hoffmann et al. 2022; Besiroglu et al. 2024) minimises the same sum from 4,500 starts by
L-BFGS-B of scipy with numeric gradients, and keeps the best. Starts are taken in turns with fits of ours.
Times are of the processor, on one thread, so that a busy machine counts little.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/scaling/speed.py DATA
"""

from __future__ import annotations

import time
from itertools import product

import numpy as np
from scipy.optimize import minimize
from sets import CHINCHILLA, bar, chinchilla, folder

from pellucid.scaling.fit import fit
from pellucid.scaling.uncertainty import bootstrap

GRID = (
    [0, 5, 10, 15, 20, 25],
    [0, 5, 10, 15, 20, 25],
    [-1, -0.5, 0, 0.5, 1],
    [0, 0.5, 1, 1.5, 2],
    [0, 0.5, 1, 1.5, 2],
)
DELTA = 1e-3
TURNS = 30


def main() -> None:
    runs = chinchilla(folder(__doc__ or "", CHINCHILLA))
    log_n, log_d, log_y = (np.log(a) for a in (runs.values["N"], runs.values["D"], runs.y))

    def objective(p: np.ndarray) -> float:
        a, b, e, alpha, beta = p
        terms = np.stack([a - alpha * log_n, b - beta * log_d, np.full_like(log_n, e)])
        top = terms.max(axis=0)
        r = np.abs(log_y - top - np.log(np.exp(terms - top).sum(axis=0)))
        return float(np.where(r <= DELTA, 0.5 * r * r, DELTA * (r - 0.5 * DELTA)).sum())

    starts = [np.array(s, float) for s in product(*GRID)]
    np.random.default_rng(0).shuffle(starts)
    fit(runs)
    usual, best, ours = 0.0, np.inf, []
    for part in np.array_split(np.arange(len(starts)), TURNS):
        began = time.process_time()
        best = min(best, *(float(minimize(objective, starts[i], method="L-BFGS-B").fun) for i in part))
        usual += time.process_time() - began
        began = time.process_time()
        law = fit(runs)
        ours.append(time.process_time() - began)
    one = float(np.median(ours))
    print(f"usual method: {len(starts)} starts, {usual:.1f} s, objective {best:.13f}")
    print(
        f"ours: {1e3 * one:.1f} ms (median of {len(ours)}; {1e3 * min(ours):.1f} to "
        f"{1e3 * max(ours):.1f}), {law.objective:.13f}"
    )
    bar("one fit", "< 50 ms", f"{1e3 * one:.1f} ms", one < 0.05)
    bar("against the usual method", "> 500 times faster", f"{usual / one:,.0f} times", usual / one > 500)
    times = []
    for seed in range(3):
        began = time.process_time()
        bootstrap(law, 4000, seed=seed)
        times.append(time.process_time() - began)
    bar(
        "4,000 bootstraps",
        "< 3 s",
        f"{np.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})",
        max(times) < 3,
    )


if __name__ == "__main__":
    main()
