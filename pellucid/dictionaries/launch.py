"""Starting workers: processes on this machine, or those that torchrun has started already.

`launch` starts N processes, forms a process group of them (gloo on processors, NCCL between GPUs), shows the
progress of the first, and ends with the work or with one error: when a worker fails or dies the others are
ended at once, because they would wait for it forever. Workers die with the process that started them.

Under torchrun each worker is the same command. The first of them goes through it all, and hands out the work
in the middle (`hand_out`); the others wait for it (`follow`).
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import connection, get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Any

import torch
import torch.distributed as dist

from pellucid.core.errors import InputError, PellucidError, WorkerError
from pellucid.core.progress import Progress, silent

Work = Callable[[Progress], None]
"""What each worker does in its process group; sent there: a function of a module, or a method of a value."""

_PATIENCE = timedelta(days=1)  # whoever started the workers sees that one has died; waiting is no sign of it
_GRACE_S = 2.0  # for the others to say what they know, once one has failed


def launch(work: Work, workers: int, *, progress: Progress = silent) -> None:
    """Do work in so many processes on this machine, and wait for its end.

    Raises:
        PellucidError: what a worker raised.
        WorkerError: when a worker was killed.
    """
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    context = get_context("spawn")
    threads = max(1, torch.get_num_threads() // workers)
    running: dict[BaseProcess, connection.Connection] = {}
    try:
        for rank in range(workers):
            ours, theirs = context.Pipe(duplex=False)
            process: BaseProcess = context.Process(
                target=_be_worker, args=(work, rank, workers, store.port, threads, theirs), daemon=True
            )
            process.start()
            theirs.close()
            running[process] = ours
        _watch(running, progress)
    finally:
        for process in running:
            process.kill()
            process.join()


def _watch(running: dict[BaseProcess, connection.Connection], progress: Progress) -> None:
    """Until all workers have ended, or one has failed."""
    processes, open_pipes = list(running), set(running.values())
    failures: list[BaseException] = []
    until = float("inf")
    while any(p.is_alive() for p in processes) or open_pipes:
        left = until - time.monotonic()
        if left <= 0:
            break
        ready = connection.wait(
            [*open_pipes, *(p.sentinel for p in processes if p.is_alive())], min(left, 5.0)
        )
        for pipe in open_pipes.intersection(ready):
            try:
                said = pipe.recv()
            except EOFError:
                open_pipes.discard(pipe)
                continue
            if isinstance(said, BaseException):
                failures.append(said)
            else:
                stage, done, total, figures = said
                progress(stage, done, total, **figures)
        if until == float("inf") and (failures or any(p.exitcode for p in processes)):
            until = time.monotonic() + _GRACE_S
    for rank, process in enumerate(processes):
        if process.exitcode is not None and process.exitcode < 0:
            failures.append(_killed(rank, -process.exitcode))
    if failures:
        # What one worker has to say comes before what the others say of its absence.
        raise min(failures, key=lambda error: not isinstance(error, PellucidError))
    if any(p.exitcode for p in processes):
        raise WorkerError("A worker ended without a word. Repeat the command to go on.")


def _killed(rank: int, number: int) -> WorkerError:
    name = signal.Signals(number).name
    why = " (the system does so when memory runs out)" if number == signal.SIGKILL else ""
    return WorkerError(
        f"Worker {rank} was ended by {name}{why}. What was finished is kept: repeat the command to go on "
        "from the last checkpoint."
    )


def _be_worker(
    work: Work, rank: int, workers: int, port: int, threads: int, pipe: connection.Connection
) -> None:
    """The life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it hears Ctrl-C as well, and ends it
    threading.Thread(target=_die_with_parent, daemon=True).start()

    def tell(stage: str, done: float, total: float, /, **figures: float) -> None:
        pipe.send((stage, done, total, figures))

    try:
        use_threads(threads)
        _use_gpu(rank)
        host = "127.0.0.1"
        store = dist.TCPStore(host, port, is_master=False, timeout=_PATIENCE)  # type: ignore[attr-defined]
        join_group(store=store, rank=rank, world_size=workers)
        work(tell if rank == 0 else silent)
        dist.barrier()
        dist.destroy_process_group()
    except BaseException as error:
        pipe.send(_portable(error))
        pipe.close()
        os._exit(1)  # what is still in a queue for other workers must not hold it up


def _die_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def use_threads(threads: int) -> None:
    """Keep to a share of the machine."""
    import numba

    torch.set_num_threads(threads)
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))


def _use_gpu(local_rank: int) -> None:
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank % torch.cuda.device_count())


def backend(*, gpus: bool) -> str:
    """How tensors travel: those on GPUs by NCCL, others by gloo."""
    return "cpu:gloo,cuda:nccl" if gpus else "gloo"


def join_group(**how: Any) -> None:
    """Make the process group, from the environment if nothing else is given."""
    dist.init_process_group(backend(gpus=torch.cuda.is_available()), timeout=_PATIENCE, **how)


def _portable(error: BaseException) -> BaseException:
    """The error, if it can be sent; what it says, if not."""
    try:
        again = pickle.loads(pickle.dumps(error))
    except Exception:
        again = None
    if isinstance(error, PellucidError):
        return error if again is not None else InputError(str(error))
    if again is None:
        error = RuntimeError(str(error))
    told = "".join(traceback.format_exception(error))
    error.add_note(f"In a worker:\n{told}")
    return error


def under_torchrun() -> bool:
    """Whether this process is one of many that torchrun started."""
    return dist.is_torchelastic_launched() and int(os.environ["WORLD_SIZE"]) > 1


def join_torchrun() -> tuple[int, int]:
    """Make the process group; returns the number of this process, and how many there are."""
    use_threads(torch.get_num_threads())
    _use_gpu(int(os.environ["LOCAL_RANK"]))
    join_group()
    return dist.get_rank(), dist.get_world_size()


def hand_out(work: Work, *, progress: Progress = silent) -> None:
    """Do work together with all that `follow`; called by the first of them, once."""
    dist.broadcast_object_list([work], src=0)
    work(progress)


def rest(progress: Progress) -> None:
    """No work: what is handed out when all is done."""


def follow() -> None:
    """Do what the first worker hands out.

    Raises:
        SystemExit: when the first worker says by itself what is wrong.
    """
    box: list[Any] = [None]
    dist.broadcast_object_list(box, src=0)
    try:
        box[0](silent)
    except InputError:
        raise SystemExit(1) from None  # all workers see the same input
