"""Which scopes a request needs, and whether its key has them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import Request

from pellucid.serving.extension import Extension
from pellucid.serving.keys import Keys


def needs(scope: str) -> Callable[[Request], Awaitable[None]]:
    """A dependency of a route: the request's key has the scope, or no keys are asked for."""

    async def check(request: Request) -> None:
        keys: Keys | None = request.app.state.keys
        if keys is not None:
            keys.check(_secret(request), scope)

    return check


def permit(request: Request, extension: Extension | None) -> None:
    """What the extension asks for is in the key's scopes.

    Raises:
        ForbiddenError: when it is not.
    """
    keys: Keys | None = request.app.state.keys
    if keys is None or extension is None:
        return
    if extension.watch:
        keys.allow(_secret(request), "watch")
    if extension.edits or extension.recipe is not None:
        keys.allow(_secret(request), "steer")


def owner(request: Request, scope: str = "chat") -> str | None:
    """Whose request it is, by the key that came with it; all are alike where no keys are asked for.

    Raises:
        UnauthorisedError, ForbiddenError: when the key is none of these, or does not have the scope.
    """
    keys: Keys | None = request.app.state.keys
    return None if keys is None else keys.allow(_secret(request), scope).digest


def _secret(request: Request) -> str | None:
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and given.strip():
        return given.strip()
    return request.headers.get("x-api-key")
