"""Threads that each run a model by themselves, one per core.

Nothing waits at a barrier: a busy machine costs no more than its share, and what is computed does not depend
on the number of cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

P = TypeVar("P")
R = TypeVar("R")


def started(device: torch.device) -> ThreadPoolExecutor:
    """On a processor a thread per core, within which a product runs on that core; on an accelerator one."""
    if device.type == "cpu":
        return ThreadPoolExecutor(torch.get_num_threads(), "forward", torch.set_num_threads, (1,))
    return ThreadPoolExecutor(1, "forward")


def over(work: Callable[[P], R], parts: Iterable[P], device: torch.device) -> Iterator[R]:
    """What comes of each part, in order."""
    with started(device) as pool:
        yield from pool.map(work, parts)
