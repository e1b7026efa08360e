"""Does the hull alarm fire where a law fitted on at most 100 tokens per parameter is asked about far more?

The 47 runs of Sardana et al. 2024 (arXiv 2401.00448). The forecast is made all the same, to show what it is
worth.

    python benchmarks/scaling/overtrained.py DATA
"""

from __future__ import annotations

import numpy as np
from sets import OVERTRAINED, bar, folder

from pellucid.scaling.alarms import hull
from pellucid.scaling.fit import fit
from pellucid.scaling.forecast import forecast
from pellucid.scaling.reading import read_runs


def main() -> None:
    path = folder(__doc__ or "", OVERTRAINED) / OVERTRAINED
    low = read_runs(path, where=["Tokens/Params <= 100"])
    high = read_runs(path, where=["Tokens/Params > 100"])
    law = fit(low)
    off = law.predict(high.values) / high.y - 1
    bar(
        "chinchilla on the extreme runs",
        "about 6 % too low",
        f"{off.mean():+.2%}",
        abs(off.mean() + 0.06) < 0.005,
    )
    targets = {k: high.values[k] for k in "NDC"}
    alarms = hull(low, targets)
    for alarm in alarms:
        print("      ", alarm.kind, alarm.message)
    fired = any("tokens per parameter" in a.message for a in alarms)
    bar("hull alarm on tokens per parameter", "fires", "fires" if fired else "silent", fired)
    for member in ("ensemble", "chinchilla", "interaction"):
        made = forecast(low, targets, member=member)
        error = np.abs(made.values / high.y - 1).mean()
        width = np.median(np.log(made.high / made.low)) / 2
        print(
            f"       {member}: mean error {error:.2%}, {made.covers(high.y).mean():.0%} in the 90 % "
            f"interval, ±{width:.1%}"
        )


if __name__ == "__main__":
    main()
