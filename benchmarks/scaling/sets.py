"""The public data sets that these benchmarks read, and how a bar is printed.

None of the files is in this repository. A folder is expected that holds, under these names:

    chinchilla_epoch_svg.csv      epoch-research/analyzing-chinchilla: figure 4 of arXiv 2203.15556
    isoflops_openathena.csv       Open-Athena/scaling-law-analysis: eight isoFLOP sets, outliers flagged
    beyond_chinchilla_47runs.csv  nikhilsardana/beyond-chinchilla: 10 to 10,000 tokens per parameter
    kyo_takano_llm.csv            kyo-takano/chinchilla: C, N, D and loss
    bnsl_benchmark_lang.csv       IBM/ColPret, after arXiv 2209.06640: 20 learning curves with a split
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from pellucid.scaling.bench import Curve, curves_of
from pellucid.scaling.reading import read_runs, read_table
from pellucid.scaling.runs import Runs

CHINCHILLA = "chinchilla_epoch_svg.csv"
ISOFLOPS = "isoflops_openathena.csv"
OVERTRAINED = "beyond_chinchilla_47runs.csv"
KYO_TAKANO = "kyo_takano_llm.csv"
CURVES = "bnsl_benchmark_lang.csv"


def folder(about: str, *files: str) -> Path:
    """The folder of data, from the command line; the script ends, and says so, where a file is missing."""
    parser = argparse.ArgumentParser(description=about.partition("\n")[0])
    parser.add_argument("data", type=Path, nargs="?", help="the folder with the data sets; see sets.py")
    data = parser.parse_args().data
    missing = list(files) if data is None else [str(data / f) for f in files if not (data / f).is_file()]
    if missing:
        where = "no folder of data was named" if data is None else "there is no such file"
        print(f"skipped: needs {', '.join(missing)}, and {where}. What they are stands in sets.py.")
        raise SystemExit(0)
    return Path(data)


def bar(what: str, wanted: str, got: str, met: bool) -> None:
    """Print a bar, the figure, and whether it is met."""
    print(f"{'met   ' if met else 'MISSED'} {what}: bar {wanted}, got {got}", flush=True)


def chinchilla(data: Path) -> Runs:
    """The 245 digitised runs less the 5 with the highest loss."""
    return read_runs(data / CHINCHILLA, drop_highest=5)


def isoflops(data: Path) -> dict[str, Runs]:
    """The isoFLOP sets by name, without the rows that are flagged as outliers."""
    path = data / ISOFLOPS
    names = dict.fromkeys(row["experiment"] for row in read_table(path).rows)
    return {n: read_runs(path, where=[f"experiment == {n}", "outlier == False"]) for n in names}


def all_sets(data: Path) -> dict[str, Runs]:
    """Every set with parameters and tokens."""
    return {
        "chinchilla (digitised)": chinchilla(data),
        **isoflops(data),
        "kyo-takano": read_runs(data / KYO_TAKANO),
        "47 runs": read_runs(data / OVERTRAINED),
    }


def learning_curves(data: Path) -> list[Curve]:
    """The 20 learning curves with their official split."""
    path = data / CURVES
    return curves_of(
        path,
        lambda where: read_runs(path, metric="Loss", columns={"x": "Seen Examples"}, where=where),
        ["Domain", "Task", "Model"],
        "Training",
    )


def top_levels(runs: Runs, count: int) -> tuple[Runs, Runs]:
    """Runs below and in the top `count` levels of compute (levels are 0.02 decades apart or more)."""
    order = np.sort(np.unique(runs.order))
    starts = order[np.concatenate([[True], np.diff(order) > 0.02])]
    rows = runs.order < starts[-count] - 1e-9
    return runs.kept(rows), runs.kept(~rows)
