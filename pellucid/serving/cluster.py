"""Replicas of a server on a cluster, through Ray Serve; `pellucid[cluster]`.

Each replica is the whole application with a model of its own, in a process of its own; Ray's proxies hand a
request to the replica that has fewer, pass its stream on, and start another replica where one was lost. A
stream that a lost replica was writing ends with it; those of the others do not notice.

The cluster is that of RAY_ADDRESS, or one on this machine. Replicas share nothing: recipes and keys are in
PELLUCID_HOME, which all machines must see. Source: docs.ray.io/en/latest/serve, of Ray 2.60.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI

from pellucid.core.errors import InputError, WorkerError
from pellucid.dictionaries.cluster import joined
from pellucid.serving.settings import Settings

NAME = "pellucid"
_LOOK_UPS = 80
"""Requests of a replica that are not in its batch: the application bounds them itself."""
_FINISH_S = 60.0


def builder(settings: Settings, replicas: int, *, log: bool = False) -> Callable[[], FastAPI]:
    """What makes the application in each replica; `log` writes a line for each request to Ray's logs."""
    mine = settings.share(replicas)

    def build() -> FastAPI:
        logging.basicConfig(level=logging.INFO if log else logging.WARNING, format="%(message)s")
        return mine.build()

    return build


@contextmanager
def serving(build: Callable[[], FastAPI], *, replicas: int, most: int, host: str, port: int) -> Iterator[str]:
    """Serve from so many replicas until the block ends; the address, once they all take requests.

    Args:
        build: makes the application, in each replica.
        replicas: how many.
        most: requests that the application of a replica has in its batch and its queue.
        host: the address the proxies listen on.
        port: theirs; 0 takes a free one.

    Raises:
        InputError: when there is no replica at all.
        MissingDependencyError: when Ray is not installed.
        WorkerError: when a replica cannot be started.
    """
    if replicas < 1:
        raise InputError(f"A server has 1 replica or more; got {replicas}.")
    with joined(replicas, "Serving from replicas") as ray:
        from ray import serve

        found = port or _free(host)
        gpus = ray.cluster_resources().get("GPU", 0) >= replicas
        serve.start(http_options={"host": host, "port": found}, proxy_location="EveryNode")
        try:
            deployment = serve.deployment(
                name=NAME,
                num_replicas=replicas,
                # What is too much is refused by the application, in the words of the API that was asked.
                max_ongoing_requests=most + _LOOK_UPS,
                graceful_shutdown_timeout_s=_FINISH_S,
                health_check_period_s=2.0,
                ray_actor_options={"num_cpus": 1, "num_gpus": int(gpus)},
            )(serve.ingress(build)(_replica()))
            try:
                serve.run(deployment.bind(), name=NAME, route_prefix="/")
            except RuntimeError as error:
                last = str(error).strip().splitlines()[-1:]
                raise WorkerError(f"The replicas did not start: {''.join(last)}") from error
            yield f"http://{f'[{host}]' if ':' in host else host}:{found}"
        finally:
            serve.shutdown()


def _replica() -> type:
    """The class of a replica; Ray gives it the application as `app`, and asks how it is."""

    class Replica:
        app: Any

        def check_health(self) -> None:
            if not self.app.state.engine.alive:
                raise RuntimeError("The engine has stopped.")

    return Replica


def _free(host: str) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as found:
        return int(found.getsockname()[1])
