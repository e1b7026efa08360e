"""Metrics in Prometheus' text format, and one line of log for each request.

Neither holds a word of a prompt or an answer.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from pellucid.serving.engine import Answering

log = logging.getLogger("pellucid.serving")
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """What is counted."""

    def __init__(self, engine: Answering) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "pellucid_requests", "Requests answered", ["route", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "pellucid_request_seconds",
            "Until the answer begins",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.tokens = Counter("pellucid_tokens", "Tokens read and written", ["kind"], registry=self.registry)
        for name, what, value in (
            ("running", "Answers being written", lambda: engine.load.running),
            ("waiting", "Requests that wait for a slot", lambda: engine.load.waiting),
        ):
            Gauge(f"pellucid_{name}", what, registry=self.registry).set_function(value)

    def told(self) -> Response:
        """All of it, as Prometheus reads it."""
        return Response(generate_latest(self.registry), media_type="text/plain; version=0.0.4")

    async def watched(self, request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        """Answer a request, count it and log it."""
        started = time.perf_counter()
        status = 500
        try:
            response = await call(request)
            status = response.status_code
            return response
        finally:
            # Of the route, not of the path: a path may hold what a stranger wrote, without bound.
            route = getattr(request.scope.get("route"), "path", "none")
            seconds = time.perf_counter() - started
            self._requests.labels(route, status).inc()
            self._seconds.labels(route).observe(seconds)
            told: dict[str, Any] = {"method": request.method, "route": route, "status": status}
            log.info(json.dumps({**told, "seconds": round(seconds, 4)}))
