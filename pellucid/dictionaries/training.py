"""Training dictionaries on a stream of activations, to the end, whatever happens on the way.

The stream gives batches in a fixed order; `trainer` takes the steps. Kill it at any moment: the same call on
the same run folder goes on from the last checkpoint to the very weights of a run that was not interrupted,
bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.progress import Progress, silent
from pellucid.core.runs import RunFolder
from pellucid.core.sites import Site
from pellucid.dictionaries import checkpoints
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.crew import ALONE, Crew
from pellucid.dictionaries.ports import Ports
from pellucid.dictionaries.settings import TrainSettings
from pellucid.dictionaries.trainer import Trainer

Position = tuple[int, int]
"""Block and batch in a stream of activations."""


class ActivationStream(Protocol):
    """Batches of activations in a fixed order that can be taken up anywhere."""

    @property
    def site(self) -> Site:
        """Where the activations are read; of several sites, the first."""

    @property
    def model_digest(self) -> str:
        """The model they are read from."""

    def sample(self, tokens: int) -> Tensor:
        """[tokens, C] the first activations of the stream, always the same."""

    def batches(self, position: Position) -> Iterator[tuple[Position, Tensor]]:
        """Batches [B, C] from a position on, each with the position after it."""


@dataclass(frozen=True)
class Job:
    """One dictionary to train."""

    settings: TrainSettings
    """What is asked for."""
    run: RunFolder
    """Where its checkpoints are kept."""
    start: Dictionary | None = None
    """A dictionary of the same size to begin from, in place of random directions."""
    ports: Ports | None = None
    """What of the stream is read and written; none means the one site of the stream."""

    def ports_in(self, stream: ActivationStream) -> Ports:
        """The same, filled in."""
        return self.ports or Ports.of(stream.site)


class Spent:
    """Seconds since the last report, by what they were spent on: reading, training, keeping checkpoints."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def add(self, what: str) -> None:
        """What has passed since the last call was for this."""
        now = time.perf_counter()
        self.seconds[what] = self.seconds.get(what, 0.0) + now - self._since
        self._since = now

    @staticmethod
    def sentence(run: RunFolder, batch_tokens: int) -> str:
        """Where the time of a run went, by its events; for people."""
        events = run.events()
        total: dict[str, float] = {}
        for event in events:
            for what, seconds in event.get("seconds", {}).items():
                total[what] = total.get(what, 0.0) + seconds
        whole = sum(total.values())
        if not whole:
            return "No step was taken."
        parts = ", ".join(f"{what} {seconds / whole:.0%}" for what, seconds in total.items())
        rate = events[-1]["step"] * batch_tokens / whole
        return f"Where the time went: {parts}; {rate:,.0f} tokens a second in all."


def train(
    stream: ActivationStream,
    settings: TrainSettings,
    run: RunFolder,
    *,
    start: Dictionary | None = None,
    ports: Ports | None = None,
    position: Position = (0, 0),
    progress: Progress = silent,
    checkpoint_every_s: float = 120.0,
) -> tuple[Dictionary, Position]:
    """Train one dictionary to the end, from the run's last checkpoint if it has one; see `train_together`."""
    (dictionary,), position = train_together(
        stream,
        [Job(settings, run, start, ports)],
        position=position,
        progress=progress,
        checkpoint_every_s=checkpoint_every_s,
    )
    return dictionary, position


def train_together(
    stream: ActivationStream,
    jobs: Sequence[Job],
    *,
    position: Position = (0, 0),
    progress: Progress = silent,
    checkpoint_every_s: float = 120.0,
) -> tuple[list[Dictionary], Position]:
    """Train dictionaries to the end on one reading, each from its last checkpoint if it has one.

    Each comes out as it would alone. One whose checkpoint is older than another's catches up first. All that
    a run holds lies where the stream's batches lie, and so do the dictionaries.

    Args:
        stream: what to learn from.
        jobs: the dictionaries, of the same number of steps and tokens per step.
        position: where in the stream to begin.
        progress: is told of every step.
        checkpoint_every_s: seconds between checkpoints.

    Returns:
        The dictionaries, and the position in the stream after the last batch they saw.

    Raises:
        InputError: when jobs differ in steps, the stream ends early or holds what is no number, or a
            dictionary to start from is of another size.
    """
    trainers, position = run_to_end(
        stream,
        jobs,
        position=position,
        progress=progress,
        checkpoint_every_s=checkpoint_every_s,
    )
    return [t.dictionary(stream.model_digest) for t in trainers], position


def run_to_end(
    stream: ActivationStream,
    jobs: Sequence[Job],
    *,
    position: Position = (0, 0),
    progress: Progress = silent,
    checkpoint_every_s: float = 120.0,
    crew: Crew = ALONE,
) -> tuple[list[Trainer], Position]:
    """What `train_together` does, up to the state at the end, which is the last checkpoint as well.

    Every worker of a crew calls it with the same stream and jobs, and gets its shard of the state.
    """
    lengths = {(job.settings.steps, job.settings.batch_tokens) for job in jobs}
    if len(lengths) != 1:
        raise InputError("Dictionaries that share a reading must train for the same tokens in equal batches.")
    ((steps, batch_tokens),) = lengths
    # The leader looks for all, and puts aside what is damaged.
    kept = crew.told([job.run.latest_checkpoint() for job in jobs] if crew.leads else [])
    # Read once for all that begin; of those that go on, only where it lies counts.
    sample = stream.sample(_SAMPLE_TOKENS if None in kept else 1)
    begun = [
        (_begin(job, job.ports_in(stream), sample, crew), position)
        if found is None
        else _load_checkpoint(found[1], job.settings, job.ports_in(stream), sample.device, crew)
        for job, found in zip(jobs, kept, strict=True)
    ]
    trainers = [trainer for trainer, _ in begun]
    done, position = min((trainer.step, at) for trainer, at in begun)
    batches = stream.batches(position) if done < steps else iter(())
    saved, spent = time.monotonic(), Spent()
    for position, batch in batches:
        spent.add("reading")
        done += 1
        due = crew.told(done == steps or time.monotonic() - saved > checkpoint_every_s)
        logged = crew.leads and (done % 50 == 0 or done == steps)
        unexplained = []
        for job, trainer in zip(jobs, trainers, strict=True):
            if trainer.step >= done:
                continue
            figures = trainer.train_on(batch)
            unexplained.append(figures["fvu"])
            spent.add("training")
            if logged:
                event = {"step": done, "time": time.time(), **figures, **crew.received}
                job.run.log({**event, "seconds": spent.seconds})
            if due:
                state = {**trainer.state(), "position": torch.tensor(position)}
                checkpoints.write(job.run, trainer.step, state, trainer.crew)
                spent.add("keeping")
        if logged:
            spent.seconds = {}
        told = figures if len(unexplained) == 1 else {"fvu": sum(unexplained) / len(unexplained)}
        if crew.leads:
            progress("train", done * batch_tokens, steps * batch_tokens, **told)
        if due:
            saved = time.monotonic()
        if done == steps:
            break
    if done < steps:
        raise InputError(
            f"The text ran out after {done} of {steps} steps. "
            f"Give more text, read it several times (--passes), or ask for fewer tokens "
            f"(about {done * batch_tokens:,})."
        )
    return trainers, position


_SAMPLE_TOKENS = 16_384


def _begin(job: Job, ports: Ports, sample: Tensor, crew: Crew) -> Trainer:
    """A trainer at its first step."""
    if crew.size == 1:
        return Trainer(job.settings, sample, ports, job.start)
    crew = replace(crew, parts=ports.parts)
    crew.check(job.settings.features, job.settings.batch_tokens)
    # Every worker makes the same start in the memory of its processor, and keeps its shard.
    whole = Trainer(job.settings, sample.cpu(), ports, job.start).state()
    shard = {name: t.to(sample.device) for name, t in checkpoints.shard_of(whole, crew).items()}
    return Trainer.restore(job.settings, ports, shard, crew)


def _load_checkpoint(
    folder: Path, settings: TrainSettings, ports: Ports, device: torch.device, crew: Crew
) -> tuple[Trainer, Position]:
    crew = replace(crew, parts=ports.parts)
    crew.check(settings.features, settings.batch_tokens)
    state = checkpoints.read(folder, settings.features, crew)
    block, batch = state.pop("position").tolist()
    return Trainer.restore(settings, ports, {n: t.to(device) for n, t in state.items()}, crew), (block, batch)


def versions() -> dict[str, Any]:
    """The versions and the machine a run was made with."""
    import platform

    import numba
    import transformers

    return {
        "python": platform.python_version(),
        "processor": platform.machine(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "numba": numba.__version__,
        "threads": torch.get_num_threads(),
    }
