"""Crews of forked workers on a tiny model, for tests: `workers_child.py STORE FOLDER`.

Ranks are forked after the imports, the making of the model and the loading of numba's own parts, which take
longer than all the training. Crews that are not killed are the same processes again and again. Every run
leaves `weights.safetensors` and its events in FOLDER/name; what fails is told on standard error, and the exit
status of each process is printed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file

from pellucid.activations.reading import Reader
from pellucid.activations.sharing import SharedReader
from pellucid.activations.tokens import TokenStore
from pellucid.core.runs import RunFolder
from pellucid.core.sites import Site
from pellucid.dictionaries import assignment, checkpoints, compiled, kernels, training
from pellucid.dictionaries.assignment import Assignment
from pellucid.dictionaries.ports import Ports
from pellucid.dictionaries.settings import Architecture, TrainSettings
from pellucid.dictionaries.training import Job
from pellucid.dictionaries.workers import Workers
from pellucid.testing import tiny_model

SETTINGS = TrainSettings(
    features=48, k=4, tokens=24 * 64, batch_tokens=64, silent_tokens=256, learning_rate=3e-3
)
LAYERED = Ports((Site("mlp_in", 0), Site("mlp_in", 1)), (Site("mlp_out", 0), Site("mlp_out", 1)))
STORE, FOLDER = Path(sys.argv[1]), Path(sys.argv[2])
MODEL = tiny_model(layers=2, width=16)


def group(rank: int, size: int, name: str) -> None:
    dist.init_process_group(store=dist.FileStore(f"{FOLDER}/{name}.group", size), rank=rank, world_size=size)


def job(name: str, ports: Ports | None = None) -> Job:
    kind = next(a for a in get_args(Architecture) if name.startswith(a))
    (FOLDER / name).mkdir(exist_ok=True)
    return Job(replace(SETTINGS, architecture=kind), RunFolder(FOLDER / name), ports=ports)


def reader(ports: Ports | None) -> Reader:
    sites = (Site("resid_post", 1),) if ports is None else ports.sites
    return Reader(MODEL, TokenStore.open(STORE), sites[0], 64, 16, further=sites[1:])


def alone(name: str, ports: Ports | None = None) -> None:
    finish(job(name, ports), reader(ports))


def finish(asked: Job, stream: Reader) -> None:
    """By one process, from where the run stands; leaves the weights."""
    (d,), _ = training.train_together(stream, [asked])
    names = ("encoder", "encoder_bias", "decoder", "decoder_bias", "threshold", "maximum", "frequency")
    found = {n: t.contiguous() for n in names if (t := getattr(d, n)) is not None}
    save_file(found, asked.run.path / "weights.safetensors")


def together(
    name: str,
    rank: int,
    size: int,
    shards: int,
    ports: Ports | None = None,
    *,
    checkpoint_s: float = 1e3,
    sitting: int = 0,
) -> None:
    asked, stream = job(name, ports), reader(ports)
    given = Assignment.of(stream, [asked], position=(0, 0), workers=size, shards=shards)
    group(rank, size, f"{name}-{sitting}")
    replace(given, checkpoint_every_s=checkpoint_s).work()
    dist.destroy_process_group()
    if rank == 0:
        finish(asked, stream)


def choose(rank: int, size: int, shards: int) -> None:
    """What workers choose together is what one chooses, ties and all."""
    group(rank, size, f"choose-{size}")
    for parts in (1, 2):
        crew = replace(Workers.join(shards), parts=parts)
        own, mine = crew.own(96), crew.rows(24)
        for seed in range(12):
            generator = torch.Generator().manual_seed(seed)
            levels = 3 if seed % 2 else 1000  # few levels: most entries tie
            scores = torch.randint(-levels, levels, (24, 96), generator=generator)
            # All the largest may be in one worker's rows or features.
            scores[:6, :20] += levels * (seed % 3)
            whole = (scores / 7).bfloat16()
            part = whole[mine][:, own].contiguous()
            for k in (1, 4, 30):
                for select, chosen in (
                    (kernels.select_per_row, crew.select_per_row(part, k)),
                    (kernels.select_in_batch, crew.select_in_batch(part, k)),
                ):
                    expected = marked(*select(whole, k), 96)[mine][:, own]
                    assert torch.equal(marked(*chosen, len(own)), expected), (select, parts, seed, k)
                exact = torch.randn(24, 96, generator=generator)
                top = torch.zeros(24, 96).scatter_(1, exact.topk(k, dim=1).indices, 1) * exact.clamp(min=0)
                assert torch.equal(crew.strongest(exact[:, own], k), top[:, own])
    dist.destroy_process_group()


def marked(counts: torch.Tensor, features: torch.Tensor, columns: int) -> torch.Tensor:
    found = torch.zeros(len(counts), columns, dtype=torch.int32)
    found[torch.repeat_interleave(torch.arange(len(counts)), counts), features.long()] += 1
    return found


def whole_runs(rank: int) -> None:
    """Everything that is not killed: by four processes, by two of them, and by a third alone."""
    choose(rank, 4, 2)
    together("batchtopk-four", rank, 4, 2)
    if rank == 2:
        for kind in get_args(Architecture):
            alone(f"{kind}-one")
        alone("topk-layered-one", LAYERED)
    if rank > 1:
        return
    choose(rank, 2, 2)
    for kind in get_args(Architecture):
        together(f"{kind}-two", rank, 2, 2)
    together("batchtopk-rows", rank, 2, 1)
    together("topk-layered-two", rank, 2, 2, LAYERED)


def killed(rank: int, name: str, victim: int, batches: int, writes: int, sitting: int = 0) -> None:
    """One of two dies by SIGKILL after so many batches, or in the middle of the write of its shard."""
    if rank == victim:
        seen, save = [], checkpoints.save_file

        def torn(tensors: dict[str, torch.Tensor], path: Path) -> None:
            seen.append(path)
            if len(seen) == writes:
                path.write_bytes(b"half a shard")
                os.kill(os.getpid(), signal.SIGKILL)
            save(tensors, path)

        checkpoints.save_file = torn  # type: ignore[assignment]
        Mortal.left = batches
        assignment.SharedReader = Mortal  # type: ignore[misc]
    together(name, rank, 2, 2, checkpoint_s=0.0, sitting=sitting)


def resumed(rank: int) -> None:
    """Two go on where two were killed; and so does one."""
    together("batchtopk-killed", rank, 2, 2, sitting=2)
    if rank == 0:
        alone("batchtopk-resharded")


class Mortal(SharedReader):
    """A reader whose process dies after so many batches."""

    left = 0

    def batches(self, position: tuple[int, int] = (0, 0)) -> Iterator[tuple[tuple[int, int], Any]]:
        for number, item in enumerate(super().batches(position)):
            if number == self.left:
                os.kill(os.getpid(), signal.SIGKILL)
            yield item


def fork(size: int, work: Callable[[int], None]) -> None:
    """Do work in so many processes, and print the exit status of each."""
    processes = []
    for rank in range(size):
        process = os.fork()
        if process == 0:
            code = 1
            try:
                work(rank)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        processes.append(process)
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    print(*codes, flush=True)


def main() -> None:
    torch.set_num_threads(1)
    compiled.by_feature(np.zeros(1, np.int32), 1)  # numba's own parts; a parallel kernel would start threads
    assignment.load = lambda *_, **__: MODEL
    fork(4, whole_runs)
    fork(2, lambda rank: killed(rank, "batchtopk-killed", 1, 9, 0))
    shutil.copytree(FOLDER / "batchtopk-killed", FOLDER / "batchtopk-resharded")
    fork(2, lambda rank: killed(rank, "batchtopk-killed", 0, -1, 5, sitting=1))
    fork(2, resumed)


if __name__ == "__main__":
    main()
