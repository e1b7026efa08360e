"""What labelling keeps while it works: results by feature, and answers by what was asked.

Both are SQLite files, so that a job that is killed at any moment finds all that was finished. A result is
whole or absent. An answer is kept under the digest of the request, so that it is paid for once, whatever
asks for it.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pellucid.core.errors import IntegrityError

T = TypeVar("T")


class Kept:
    """Named JSON values on disk; threads may share one."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._lock = threading.Lock()
        with self._guarded():
            self._file = sqlite3.connect(path, check_same_thread=False, timeout=60, isolation_level=None)
            self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value TEXT NOT NULL)")

    def get(self, name: str) -> Any | None:
        """The value of a name, or none.

        Raises:
            IntegrityError: when the file is damaged.
        """
        row = self._run("SELECT value FROM kept WHERE name = ?", (name,))
        return json.loads(row[0][0]) if row else None

    def put(self, name: str, value: Any) -> None:
        """Keep a value; it is on disk afterwards."""
        told = json.dumps(value, ensure_ascii=False)
        self._run("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, told))

    def names(self) -> set[str]:
        """All names."""
        return {name for (name,) in self._run("SELECT name FROM kept", ())}

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @contextmanager
    def transaction(self) -> Iterator[Callable[[str, tuple[Any, ...]], list[Any]]]:
        """Several statements that happen together, or not at all."""
        with self._lock, self._guarded():
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield lambda statement, values: self._file.execute(statement, values).fetchall()
            except BaseException:
                self._file.execute("ROLLBACK")
                raise
            self._file.execute("COMMIT")

    def _run(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        with self._lock, self._guarded():
            return self._file.execute(statement, values).fetchall()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise IntegrityError(
                f"{str(self._path)!r} cannot be used ({error}). If it is damaged, remove it: labels that are "
                "in an atlas are not lost, those of an unfinished job are made again."
            ) from error
