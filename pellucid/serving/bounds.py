"""A bound on the body of a request, before anything reads it."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyBound:
    """Refuses bodies over a size, told or not: whoever reads one gets 413 in place of it."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self.app, self.most = app, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification, version 3."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        told = dict(scope["headers"]).get(b"content-length", b"0")
        too_large = HTTPException(413, f"The request is larger than {self.most >> 20} MB. Send less.")
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            if not told.isdigit() or int(told) > self.most:
                raise too_large
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.most:
                raise too_large
            return message

        await self.app(scope, counted, send)
