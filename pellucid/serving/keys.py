"""Keys: who may ask for what, and how often.

A key is drawn from 256 bits and shown once; what is kept is its SHA-256, which is enough for a secret that
nobody can guess (NIST SP 800-63B-4, section 3.1.2: slow hashes are for secrets that people choose). The file
is readable by its owner alone.

Scopes: `chat` writes answers, `watch` sees features, `steer` edits, `admin` reads the metrics.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pellucid.core import files, paths
from pellucid.core.errors import InputError, IntegrityError, PellucidError, UnknownNameError

SCOPES = ("chat", "watch", "steer", "admin")
_PREFIX = "plk_"


class UnauthorisedError(PellucidError):
    """No key came, or none that is known."""


class ForbiddenError(PellucidError):
    """The key does not have the scope."""


class RateError(PellucidError):
    """The key asked too often."""

    def __init__(self, name: str, seconds: float) -> None:
        self.seconds = max(1, round(seconds + 0.5))
        super().__init__(f"The key {name!r} has asked too often. Try again in {self.seconds} s.")


@dataclass(frozen=True)
class Key:
    """What is kept of a key."""

    name: str
    digest: str
    """SHA-256 of the key, hexadecimal."""
    scopes: tuple[str, ...]
    per_minute: int
    """Requests."""
    made: str


@dataclass
class _Bucket:
    left: float
    at: float


@dataclass
class Keys:
    """The keys of a server."""

    keys: Sequence[Key]
    clock: Callable[[], float] = time.monotonic
    _buckets: dict[str, _Bucket] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def check(self, secret: str | None, scope: str) -> None:
        """Let a request pass, or not; one that passes is counted.

        Raises:
            UnauthorisedError: when the key is not one of these.
            ForbiddenError: when it may not do that.
            RateError: when it asks too often.
        """
        key = self.allow(secret, scope)
        with self._lock:
            now = self.clock()
            bucket = self._buckets.setdefault(key.digest, _Bucket(key.per_minute, now))
            bucket.left = min(key.per_minute, bucket.left + (now - bucket.at) * key.per_minute / 60)
            bucket.at = now
            if bucket.left < 1:
                raise RateError(key.name, (1 - bucket.left) * 60 / key.per_minute)
            bucket.left -= 1

    def allow(self, secret: str | None, scope: str) -> Key:
        """The key of a request, if it may do that; the request is not counted.

        Raises:
            UnauthorisedError, ForbiddenError: as `check`.
        """
        key = self._find(secret)
        if scope not in key.scopes:
            raise ForbiddenError(
                f"The key {key.name!r} may not {scope}: its scopes are {', '.join(key.scopes)}."
            )
        return key

    def _find(self, secret: str | None) -> Key:
        if not secret:
            raise UnauthorisedError(
                "This server asks for a key: send it as 'Authorization: Bearer …' or 'x-api-key'."
            )
        digest = _digest(secret)
        # All are compared, so that time tells nothing of where a match lies.
        found = [key for key in self.keys if hmac.compare_digest(key.digest, digest)]
        if not found:
            raise UnauthorisedError("The key is not one of this server's.")
        return found[0]


def path() -> Path:
    """Where the keys are kept."""
    return paths.home() / "keys.json"


def load(file: Path | None = None) -> list[Key]:
    """All keys that are kept; none where there is no file.

    Raises:
        IntegrityError: when the file is not one of keys: a damaged file lets nobody in.
    """
    file = path() if file is None else file
    if not file.exists():
        return []
    try:
        return [Key(**{**entry, "scopes": tuple(entry["scopes"])}) for entry in files.read_json(file)]
    except (TypeError, KeyError) as error:
        raise IntegrityError(
            f"{str(file)!r} is damaged ({error}). Remove it and make the keys again."
        ) from error


def add(name: str, scopes: Sequence[str], per_minute: int, file: Path | None = None) -> str:
    """Make a key; it is returned, and kept nowhere.

    Raises:
        InputError: when the name is taken or empty, or a number makes no sense.
        UnknownNameError: when a scope does not exist.
    """
    for scope in scopes:
        if scope not in SCOPES:
            raise UnknownNameError("scope", scope, SCOPES)
    known = load(file)
    if not name.strip() or any(key.name == name for key in known):
        raise InputError(f"A key needs a name of its own; {name!r} is empty or taken.")
    if not scopes or per_minute < 1:
        raise InputError("A key needs a scope, and at least one request a minute.")
    secret = _PREFIX + secrets.token_urlsafe(32)
    made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    _write([*known, Key(name, _digest(secret), tuple(dict.fromkeys(scopes)), per_minute, made)], file)
    return secret


def remove(name: str, file: Path | None = None) -> None:
    """Forget a key; a server that is running goes on with those it read.

    Raises:
        UnknownNameError: when there is none of that name.
    """
    known = load(file)
    if all(key.name != name for key in known):
        raise UnknownNameError("key", name, [key.name for key in known])
    _write([key for key in known if key.name != name], file)


def _write(keys: Sequence[Key], file: Path | None) -> None:
    values: list[dict[str, Any]] = [asdict(key) for key in keys]
    files.write_secret(path() if file is None else file, json.dumps(values, indent=2) + "\n")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
