"""Files that are whole or absent.

Writes go to a temporary neighbour, are synced, and take the name at the end.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from pellucid.core.errors import InputError, IntegrityError


@contextmanager
def replacing(path: Path, mode: int = 0o644) -> Iterator[IO[bytes]]:
    """Yield an empty file that takes the place of `path` if the block ends well, and else vanishes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(mode)
        Path(name).replace(path)
        sync_folder(path.parent)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Replace the file by the text, atomically."""
    with replacing(path) as file:
        file.write(text.encode())


def write_secret(path: Path, text: str) -> None:
    """Replace the file by the text, atomically; its owner alone may read it."""
    with replacing(path, 0o600) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Replace the file by the value as indented JSON, atomically. NaN is refused: JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: when there is no such file.
        IntegrityError: when it is not JSON.
    """
    if not path.is_file():
        raise InputError(f"There is no file {str(path)!r}.")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise IntegrityError(
            f"{str(path)!r} is not readable as JSON ({error}). Make or fetch it again."
        ) from error


@contextmanager
def new_folder(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yield an empty folder that becomes `path` if the block ends well, and vanishes if it does not.

    Args:
        path: the folder.
        shared: every process would make the same: if another has made it meanwhile, that one stands.

    Raises:
        InputError: when `path` exists already: nothing is ever overwritten.
    """
    taken = InputError(f"{str(path)!r} exists already. Choose another name, or remove it first.")
    if path.exists() and not shared:
        raise taken
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield partial
        for entry in [*partial.rglob("*"), partial]:
            _sync(entry)
        partial.chmod(0o755)
        try:
            partial.rename(path)
        except OSError as error:
            if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
                raise
            if not shared:
                raise taken from error
            shutil.rmtree(partial)
        sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def sync_folder(path: Path) -> None:
    """Make a rename durable."""
    _sync(path)


def _sync(path: Path) -> None:
    """What a file, or a folder's list of files, holds is on the disk afterwards."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
