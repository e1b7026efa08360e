"""Workers on a cluster, through Ray Train (Moritz et al. 2018, arXiv 1712.05889); `pellucid[cluster]`.

Ray places the workers, one to a GPU where there are any, and forms their process group; what each does
is what a local worker does. The cluster is that of RAY_ADDRESS, or one on this machine. Ray keeps nothing of
the run: checkpoints are in the run folder, which all machines must see.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from pellucid.core.errors import MissingDependencyError, PellucidError, WorkerError
from pellucid.core.progress import Progress, silent
from pellucid.dictionaries.launch import Work, backend, use_threads
from pellucid.dictionaries.training import Job

_LOOK_EVERY_S = 2.0


def launch(work: Work, workers: int, *, jobs: Sequence[Job] = (), progress: Progress = silent) -> None:
    """Do work in so many workers of the cluster, and wait for its end.

    Args:
        work: what each does.
        workers: how many.
        jobs: what is trained; the reports in the run folders are followed for the progress.
        progress: is told of it.

    Raises:
        MissingDependencyError: when Ray is not installed.
        PellucidError: what a worker raised.
        WorkerError: when a worker was lost.
    """
    with joined(workers, "Training on a cluster") as ray:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        gpus = ray.cluster_resources().get("GPU", 0) >= workers
        over = threading.Event()
        follower = threading.Thread(target=_follow, args=(jobs, progress, over), daemon=True)
        follower.start()
        try:
            with tempfile.TemporaryDirectory(prefix="pellucid-ray-") as unused:
                TorchTrainer(
                    _work,
                    train_loop_config={"work": work},
                    torch_config=TorchConfig(backend=backend(gpus=gpus)),
                    scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus),
                    run_config=RunConfig(storage_path=unused, failure_config=FailureConfig(max_failures=0)),
                ).fit()
        except ray.train.TrainingFailedError as error:
            raise _meant_by(error) from error
        finally:
            over.set()
            follower.join()


@contextmanager
def joined(processors: int, purpose: str) -> Iterator[Any]:
    """The library Ray, connected to the cluster of RAY_ADDRESS, or to one that is started on this machine.

    Args:
        processors: how many a cluster that is started must have: a worker waits for one of its own, and would
            wait for ever for one that is not there.
        purpose: what for, if Ray is not installed.

    Raises:
        MissingDependencyError: when it is not.
    """
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError("ray", "cluster", purpose) from error

    started_here = not ray.is_initialized()
    if started_here:
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if address := os.environ.get("RAY_ADDRESS"):
            ray.init(address, **quiet)
        else:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # by default a new cluster reports home
            ray.init(num_cpus=max(processors, os.cpu_count() or 1), include_dashboard=False, **quiet)
    try:
        yield ray
    finally:
        if started_here:
            ray.shutdown()


def _work(config: dict[str, Work]) -> None:
    use_threads(torch.get_num_threads())
    config["work"](silent)


def _follow(jobs: Sequence[Job], progress: Progress, over: threading.Event) -> None:
    """Tell what the leader logs."""
    told, last = 0, False
    while not last:
        last = over.wait(_LOOK_EVERY_S)
        events = [(event, job.settings) for job in jobs for event in job.run.events()]
        for event, settings in events[told:]:
            batch = settings.batch_tokens
            progress("train", event["step"] * batch, settings.steps * batch, fvu=event["fvu"])
        told = len(events)


def _meant_by(error: BaseException) -> PellucidError:
    """What a worker raised, out of what Ray makes of it."""
    from ray.train import WorkerGroupError

    failures = list(error.worker_failures.values()) if isinstance(error, WorkerGroupError) else []
    for failure in failures:
        if isinstance(failure, PellucidError):
            return failure
    first = str(failures[0] if failures else error).strip().splitlines()
    return WorkerError(
        f"A worker on the cluster failed: {first[-1] if first else error!r}. What was finished is kept: "
        "repeat the command to go on from the last checkpoint."
    )
