"""The pages of the studio over a server: built files, each under its address, with a policy of their own.

A page may load scripts, styles and pictures of this server and speak to this server, and nothing else; no
script may be made of text. So what a model writes cannot run even where a page forgot that it is text.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""Content-Security-Policy of the pages."""
ROUTES = ("/", "/inspect", "/map", "/features/{dictionary}/{feature}")
"""Addresses of pages; all of them send the same document, which shows what its address names."""
_SMALL = 512
_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}


@dataclass(frozen=True)
class Demo:
    """What the first page offers to begin with."""

    feature: int
    name: str
    """What the feature is for, in a word."""
    strength: float
    """In multiples of its maximum."""


@dataclass(frozen=True)
class _File:
    body: bytes
    packed: bytes | None
    """Compressed, where that pays."""
    type: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> _File:
        body = path.read_bytes()
        packed = gzip.compress(body, 9, mtime=0) if len(body) > _SMALL else None
        type_ = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        return cls(body, packed, type_, f'"{hashlib.sha256(body).hexdigest()[:24]}"')

    def answer(self, request: Request, cache: str) -> Response:
        headers = {
            "Content-Security-Policy": POLICY,
            "Cache-Control": cache,
            "ETag": self.etag,
            "Vary": "Accept-Encoding",
            "Cross-Origin-Opener-Policy": "same-origin",
            "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
        }
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if self.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
            return Response(
                self.packed, media_type=self.type, headers={**headers, "Content-Encoding": "gzip"}
            )
        return Response(self.body, media_type=self.type, headers=headers)


def mount(app: FastAPI, folder: Path, *, demo: Demo | None = None) -> None:
    """Serve built pages beside the API of an application.

    Args:
        app: the application.
        folder: the built pages (`built.pages`).
        demo: what the first page offers.
    """
    document = _File.read(folder / "index.html")
    # Everything is read once and looked up by its address, so that no address reaches another file.
    files = {
        "/" + path.relative_to(folder).as_posix(): _File.read(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix not in (".html", ".json")
    }

    async def page(request: Request) -> Response:
        return document.answer(request, "no-cache")

    async def file(request: Request) -> Response:
        path = request.url.path
        # The names of assets hold a digest of what is in them.
        cache = "public, max-age=31536000, immutable" if path.startswith("/assets/") else "no-cache"
        return files[path].answer(request, cache)

    async def offered() -> Any:
        return JSONResponse({"demo": None if demo is None else asdict(demo)})

    for route in ROUTES:
        app.add_api_route(route, page, methods=["GET"], include_in_schema=False)
    for path in files:
        app.add_api_route(path, file, methods=["GET"], include_in_schema=False)
    app.add_api_route("/studio.json", offered, methods=["GET"], include_in_schema=False)
