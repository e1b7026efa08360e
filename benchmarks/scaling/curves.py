"""How well are 20 learning curves forecast, by each form, by the last value, and by the ensemble?

Translation, language modelling and BIG-Bench curves of Alabdulmohsin et al. 2022 (arXiv 2209.06640), with
the official split. The error of a curve is the root mean square log error over its held-out points. The
ensemble chooses inside the fitted part alone.

    python benchmarks/scaling/curves.py DATA
"""

from __future__ import annotations

from sets import CURVES, bar, folder, learning_curves

from pellucid.cli import printing
from pellucid.scaling.bench import score


def main() -> None:
    curves = learning_curves(folder(__doc__ or "", CURVES))
    with printing.progress() as progress:
        scores = score(curves, progress=progress)
    printing.table(
        ["member", "mean RMS log error", "curves"],
        [[r.member, f"{r.error:.4f}", r.curves] for r in scores.rows],
    )
    told = next(r for r in scores.rows if r.member == "ensemble")
    bar(
        f"ensemble over {told.curves} curves",
        "≤ 0.009",
        f"{told.error:.4f}",
        told.error <= 0.009 and told.curves == 20,
    )


if __name__ == "__main__":
    main()
