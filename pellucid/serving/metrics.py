"""Metrics in Prometheus' text format, and one line of log for each request.

Neither holds a word of a prompt or an answer.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import Any

from fastapi import Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
        self.tokens = Counter(
            "pellucid_tokens",
            "Tokens of prompts, of them held, and written",
            ["kind"],
            registry=self.registry,
        )
        for name, what, value in (
            ("running", "Answers being written", lambda: engine.load.running),
            ("waiting", "Requests that wait for a slot", lambda: engine.load.waiting),
        ):
            Gauge(f"pellucid_{name}", what, registry=self.registry).set_function(value)

    def told(self) -> Response:
        """All of it, as Prometheus reads it."""
        return Response(generate_latest(self.registry), media_type="text/plain; version=0.0.4")

    def answered(self, scope: Scope, status: int, seconds: float) -> None:
        """Count a request and log it."""
        # Of the route, not of the path: a path may hold what a stranger wrote, without bound.
        route = getattr(scope.get("route"), "path", "none")
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)
        told: dict[str, Any] = {"method": scope["method"], "route": route, "status": status}
        log.info(json.dumps({**told, "seconds": round(seconds, 4)}))


class Answers:
    """Gives every answer the headers that all have, and counts it when it begins."""

    def __init__(self, app: ASGIApp, metrics: Metrics, headers: Mapping[str, str]) -> None:
        self.app, self.metrics, self.headers = app, metrics, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification, version 3."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status: int | None = None

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
                status = message["status"]
                self.metrics.answered(scope, message["status"], time.perf_counter() - started)
            await send(message)

        try:
            await self.app(scope, receive, sending)
        finally:
            if status is None:
                self.metrics.answered(scope, 500, time.perf_counter() - started)
