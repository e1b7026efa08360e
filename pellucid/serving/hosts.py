"""Which hosts a request to a server without keys may name.

A page of a stranger cannot read what a server on this machine answers, unless the stranger's own name server
says that his name is 127.0.0.1 from now on ("DNS rebinding"): then browsers take the server for his. Such a
request still names his host, so that it can be told by that. With keys nothing needs to be told: he has none.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable

from fastapi import Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pellucid.core.errors import InputError

_HOST = re.compile(r"(?:\[([^\[\]]+)\]|([^:\[\]]*))(?::\d*)?")


def refusal(header: str, bound: str) -> InputError | None:
    """What to say where a Host header (RFC 9110, section 7.2) names neither this machine nor `bound`."""
    if _known(header, bound):
        return None
    return InputError(
        f"This server asks for no key, so it answers as localhost alone, and not as {header[:100]!r}. "
        "Ask it as localhost, or make a key (pellucid keys add NAME) and start it again."
    )


def _known(header: str, bound: str) -> bool:
    # Names under `localhost` are this machine's in every browser (RFC 6761, section 6.3), and no browser
    # leaves the header out.
    parts = _HOST.fullmatch(header)
    if parts is None:
        return False
    name = (parts[1] or parts[2]).lower().rstrip(".")
    if name in ("", "localhost", bound.lower()) or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Hosts:
    """Refuses requests that name another host."""

    def __init__(self, app: ASGIApp, bound: str, told: Callable[[Request, InputError], Response]) -> None:
        self.app, self.bound, self.told = app, bound, told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification, version 3."""
        answer = self.app
        if scope["type"] == "http":
            request = Request(scope)
            refused = refusal(request.headers.get("host", ""), self.bound)
            answer = answer if refused is None else self.told(request, refused)
        await answer(scope, receive, send)
