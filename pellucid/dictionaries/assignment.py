"""What each worker of a crew is given to do: from names and paths to the end of the training.

An assignment goes to other processes and machines, so it holds references and settings, and no model: every
worker loads the model itself. All workers must see the run folders and the token store under the same paths.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pellucid.activations.reading import Reader
from pellucid.activations.sharing import SharedReader
from pellucid.activations.tokens import TokenStore
from pellucid.core.errors import InputError
from pellucid.core.progress import Progress, silent
from pellucid.core.runs import RunFolder
from pellucid.core.sites import Site
from pellucid.dictionaries import training
from pellucid.dictionaries.crew import Crew
from pellucid.dictionaries.training import Job, Position
from pellucid.dictionaries.workers import Workers
from pellucid.models.model import load


@dataclass(frozen=True)
class Assignment:
    """Dictionaries to train on one reading; the same for every worker."""

    models: tuple[str, ...]
    """References of the model, and of one beside it if there is one."""
    digests: tuple[str, ...]
    """Theirs."""
    precision: Literal["fp32", "bf16"]
    store: Path
    sites: tuple[Site, ...]
    batch_tokens: int
    block_rows: int
    seed: int
    passes: int
    jobs: tuple[Job, ...]
    position: Position
    """Where in the stream to begin."""
    shards: int
    """Over how many workers the features are shared out."""
    checkpoint_every_s: float = 120.0

    @classmethod
    def of(
        cls, reader: Reader, jobs: Sequence[Job], *, position: Position, workers: int, shards: int
    ) -> Assignment:
        """What one process would do with this reader, for many.

        Raises:
            InputError: when a dictionary cannot be shared out evenly.
        """
        for job in jobs:
            crew = Crew(parts=job.ports_in(reader).parts, size=workers, shards=shards)
            crew.check(job.settings.features, job.settings.batch_tokens)
        return cls(
            models=tuple(_everywhere(model.name) for model in reader.models),
            digests=tuple(model.digest for model in reader.models),
            precision="bf16" if "bfloat16" in str(reader.model.dtype) else "fp32",
            store=reader.store.folder.absolute(),
            sites=reader.sites,
            batch_tokens=reader.batch_tokens,
            block_rows=reader.block_rows,
            seed=reader.seed,
            passes=reader.passes,
            jobs=tuple(replace(job, run=RunFolder(job.run.path.absolute())) for job in jobs),
            position=position,
            shards=shards,
        )

    def work(self, progress: Progress = silent) -> None:
        """Train to the end, as one worker of the process group that this process is in.

        Raises:
            InputError: when this machine does not have what the others have; see `training.run_to_end`.
        """
        crew = Workers.join(self.shards)
        self._check(crew)
        models = [load(reference, precision=self.precision) for reference in self.models]
        self._compare(crew, [model.digest for model in models])
        model, *others = models
        reader = SharedReader(
            model,
            TokenStore.open(self.store),
            self.sites[0],
            batch_tokens=self.batch_tokens,
            block_rows=self.block_rows,
            seed=self.seed,
            passes=self.passes,
            further=self.sites[1:],
            beside=others[0] if others else None,
            readers=crew,
        )
        training.run_to_end(
            reader,
            self.jobs,
            position=self.position,
            progress=progress,
            checkpoint_every_s=self.checkpoint_every_s,
            crew=crew,
        )

    def _check(self, crew: Workers) -> None:
        """All workers see the same folders, or all refuse."""
        needed = [self.store, *(job.run.path for job in self.jobs)]
        missing = next((str(path) for path in needed if not path.is_dir()), None)
        for rank, (host, path) in enumerate(crew.collect((socket.gethostname(), missing))):
            if path is not None:
                raise InputError(
                    f"Worker {rank} on {host} does not see {path!r}. Let --out and PELLUCID_HOME lie on a "
                    "file system that all machines share, under the same path."
                )

    def _compare(self, crew: Workers, digests: list[str]) -> None:
        """All workers read the same models, or all refuse."""
        for rank, (host, found) in enumerate(crew.collect((socket.gethostname(), digests))):
            if found != list(self.digests):
                raise InputError(
                    f"Worker {rank} on {host} has models of digests {found}, and {list(self.digests)} are to "
                    "be read. Fetch the same on every machine."
                )


def _everywhere(reference: str) -> str:
    """A path as it is called from anywhere; other references as they are."""
    return str(Path(reference).absolute()) if Path(reference).exists() else reference
