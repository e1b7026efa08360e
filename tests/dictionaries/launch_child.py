"""Launches workers that fail, for tests: `launch_child.py FOLDER`. Prints what `launch` raises.

At the end it launches workers that wait forever, and is itself killed by the test.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch.distributed as dist

from pellucid.core.errors import InputError, PellucidError
from pellucid.core.progress import Progress
from pellucid.dictionaries.launch import launch


def killed(_progress: Progress) -> None:
    if dist.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    dist.barrier()


def wrong(progress: Progress) -> None:
    progress("train", 1, 2, fvu=0.5)
    if dist.get_rank() == 1:
        raise InputError("worker 1 was given nonsense")
    dist.barrier()


def waits(_progress: Progress) -> None:
    (Path(sys.argv[1]) / f"{os.getpid()}.pid").touch()
    if dist.get_rank() == 1:
        dist.barrier()
    signal.pause()


if __name__ == "__main__":
    for work in (killed, wrong, waits):
        try:
            launch(work, 2, progress=lambda *told, **figures: print(*told, figures, flush=True))
        except PellucidError as error:
            print(f"{type(error).__name__}: {error}", flush=True)
