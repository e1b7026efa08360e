"""SHA-256 digests: of files, of JSON values, of arrays. A digest is written `sha256:<hex>`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

PREFIX = "sha256:"
_CHUNK_BYTES = 1 << 22


def of_file(path: Path) -> str:
    """Digest the bytes of a file. About 1 s per GB where the processor has SHA instructions."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return PREFIX + digest.hexdigest()


def of_bytes(*parts: bytes | memoryview) -> str:
    """Digest parts in order, each preceded by its length, so that no two splits agree."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return PREFIX + digest.hexdigest()


def of_json(value: Any) -> str:
    """Digest a JSON value by its canonical text (sorted keys, no spaces)."""
    return of_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode())


def short(digest: str) -> str:
    """The first twelve hex digits, for people and for file names."""
    return digest.removeprefix(PREFIX)[:12]
