"""The application: routes, errors in the words of each API, bounds on what comes in.

The threat model is in docs/explanation/threat-model.md.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.exceptions import HTTPException

import pellucid
from pellucid.core.errors import InputError, PellucidError
from pellucid.serving import anthropic, features, kept, openai
from pellucid.serving import map as mapping
from pellucid.serving.bounds import BodyBound
from pellucid.serving.desk import Desk
from pellucid.serving.engine import Answering
from pellucid.serving.errors import AnthropicError, OpenAIError, Told, responses
from pellucid.serving.hosts import Hosts
from pellucid.serving.keys import Keys
from pellucid.serving.metrics import Answers, Metrics
from pellucid.serving.permission import needs
from pellucid.serving.searching import Searcher
from pellucid.serving.served import Served

MOST_BYTES = 4 << 20
"""Of a request's body."""
_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def application(
    served: Served, engine: Answering, keys: Keys | None = None, *, host: str | None = None
) -> FastAPI:
    """The application over a model that is loaded and an engine that is not started.

    Without keys it answers everybody who can reach it; where `host`, the address it listens on, is told,
    requests that name another are refused.
    """

    @asynccontextmanager
    async def life(_app: FastAPI) -> AsyncIterator[None]:
        engine.start()
        yield
        await anyio.to_thread.run_sync(engine.stop)

    app = FastAPI(
        title="Pellucid", version=pellucid.__version__, lifespan=life, docs_url=None, redoc_url=None
    )
    metrics = Metrics(engine)
    app.state.served, app.state.engine, app.state.started = served, engine, time.time()
    app.state.keys, app.state.metrics, app.state.desk = keys, metrics, Desk()
    app.state.searchers = {name: Searcher(d) for name, d in served.dictionaries.items()}
    for router, scope, error in (
        (openai.router, "chat", OpenAIError),
        (anthropic.router, "chat", AnthropicError),
        (features.router, "watch", OpenAIError),
        (mapping.router, "watch", OpenAIError),
        (kept.router, "steer", OpenAIError),
    ):
        app.include_router(router, dependencies=[Depends(needs(scope))], responses=responses(error))

    @app.get(
        "/metrics",
        tags=["Operation"],
        response_class=PlainTextResponse,
        dependencies=[Depends(needs("admin"))],
    )
    async def told() -> Response:
        """Counts for Prometheus."""
        return metrics.told()

    @app.get("/healthz", tags=["Operation"])
    async def healthz() -> dict[str, str]:
        """Whether the process is alive."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["Operation"])
    async def readyz() -> Any:
        """Whether it takes requests."""
        if engine.alive:
            return {"status": "ok", "running": engine.load.running, "waiting": engine.load.waiting}
        return JSONResponse({"status": "not ready"}, 503)

    @app.exception_handler(PellucidError)
    async def on_ours(request: Request, error: PellucidError) -> JSONResponse:
        return _told(request, Told.of(error))

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = [str(p) for p in first["loc"] if p not in ("body", "query", "path")]
        told = Told.of(InputError(f"{'.'.join(where) or 'The request'}: {first['msg']}."))
        return _told(request, told, where[0] if where else None)

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> JSONResponse:
        kind = {404: "not_found_error", 413: "request_too_large"}.get(error.status_code)
        told = Told(
            error.status_code, str(error.detail), "invalid_request_error", kind or "invalid_request_error"
        )
        response = _told(request, told)
        response.headers.update(error.headers or {})
        route = getattr(request.scope.get("route"), "path", None)
        if error.status_code == 405 and route in (paths := app.openapi()["paths"]):
            # The header names the methods of the first route alone.
            response.headers["allow"] = ", ".join(sorted(m.upper() for m in paths[route]))
        return response

    @app.exception_handler(Exception)
    async def on_defect(request: Request, _error: Exception) -> JSONResponse:
        # Starlette raises it again once this is sent, so that it is logged with its traceback.
        response = _told(request, Told.defect())
        response.headers.update(_SECURITY)
        return response

    # Inside what follows, so that a body that is too large is an error of the route that reads it.
    app.add_middleware(BodyBound, most=MOST_BYTES)

    if keys is None and host is not None:
        app.add_middleware(Hosts, bound=host, told=lambda request, error: _told(request, Told.of(error)))
    app.add_middleware(Answers, metrics=metrics, headers=_SECURITY)

    plain = app.openapi

    def described() -> dict[str, Any]:
        """The document without the status that FastAPI gives to what it refuses: here that is 400."""
        document = plain()
        for operations in document["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        return document

    app.openapi = described  # type: ignore[method-assign]
    return app


def _told(request: Request, told: Told, parameter: str | None = None) -> JSONResponse:
    """An error in the words of the API that was asked."""
    body = told.anthropic() if request.url.path.startswith("/v1/messages") else told.openai(parameter)
    return JSONResponse(body, told.status, headers=told.headers)
