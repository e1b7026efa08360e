"""Where tables are kept: a folder of this machine, or a URL of an object store.

A place is written as people write it: `atlas/features`, `s3://bucket/atlas`, `gs://…`, `abfs://…`; any other
scheme is looked up in fsspec. Files of a place are whole or absent under their names: on this machine through
a temporary neighbour, on an object store because an object appears when its upload ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from pellucid.core import files
from pellucid.core.errors import InputError, IntegrityError, UpstreamError


@dataclass(frozen=True)
class Place:
    """A folder, here or in an object store."""

    address: str
    """As it was given."""
    _filesystem: Any
    """A pyarrow file system; none for this machine."""
    _root: str

    @classmethod
    def of(cls, address: str | Path) -> Place:
        """The place at a path or a URL; nothing is read.

        Raises:
            InputError: when the scheme of the URL is not known.
        """
        text = str(address)
        if "://" not in text:
            return cls(text, None, str(Path(text).expanduser()))
        from pyarrow import ArrowInvalid, fs

        try:
            filesystem, root = fs.FileSystem.from_uri(text)
        except ArrowInvalid:
            import fsspec  # comes with torch

            try:
                found, root = fsspec.core.url_to_fs(text)
            except (ValueError, ImportError) as error:
                raise InputError(f"{text!r} cannot be opened: {error}.") from error
            filesystem = fs.PyFileSystem(fs.FSSpecHandler(found))
        if isinstance(filesystem, fs.LocalFileSystem):
            return cls(text, None, root)
        return cls(text, filesystem, root.rstrip("/"))

    def __truediv__(self, name: str) -> Place:
        """A folder in this one."""
        return Place(f"{self.address.rstrip('/')}/{name}", self._filesystem, f"{self._root}/{name}")

    def __str__(self) -> str:
        return self.address

    def size(self, name: str) -> int | None:
        """Bytes of a file, or none if there is no such file."""
        if self._filesystem is None:
            path = Path(self._root) / name
            return path.stat().st_size if path.is_file() else None
        (found,) = self._asked(lambda: self._filesystem.get_file_info([f"{self._root}/{name}"]))
        return int(found.size) if found.is_file else None

    def open(self, name: str) -> Any:
        """A file, for reading at any offset; pyarrow and Python read from it."""
        import pyarrow

        if self._filesystem is None:
            return pyarrow.OSFile(f"{self._root}/{name}")
        return self._asked(lambda: self._filesystem.open_input_file(f"{self._root}/{name}"))

    @contextmanager
    def replacing(self, name: str) -> Iterator[IO[bytes]]:
        """Yield an empty file that takes that name if the block ends well, and else leaves nothing."""
        if self._filesystem is None:
            with files.replacing(Path(self._root) / name) as file:
                yield file
            return
        import io

        # Held in memory until it is whole: what is uploaded by parts may be left in parts.
        buffer = io.BytesIO()
        yield buffer

        def upload() -> None:
            self._filesystem.create_dir(self._root, recursive=True)
            with self._filesystem.open_output_stream(f"{self._root}/{name}") as stream:
                stream.write(buffer.getbuffer())

        self._asked(upload)

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is none to remove."""
        if self._filesystem is None:
            (Path(self._root) / name).unlink(missing_ok=True)
        elif self.size(name) is not None:
            self._asked(lambda: self._filesystem.delete_file(f"{self._root}/{name}"))

    def names(self) -> list[str]:
        """Names of the files in it, sorted; none if it does not exist."""
        if self._filesystem is None:
            folder = Path(self._root)
            return sorted(p.name for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []
        from pyarrow import fs

        chosen = fs.FileSelector(self._root, allow_not_found=True)
        return sorted(
            f.base_name for f in self._asked(lambda: self._filesystem.get_file_info(chosen)) if f.is_file
        )

    def read_json(self, name: str) -> Any:
        """Read a JSON file.

        Raises:
            InputError: when there is none.
            IntegrityError: when it is not JSON.
        """
        if self._filesystem is None:
            return files.read_json(Path(self._root) / name)
        if self.size(name) is None:
            raise InputError(f"There is no file {name!r} in {self.address!r}.")
        with self.open(name) as file:
            text = cast(bytes, file.read())
        try:
            return json.loads(text)
        except ValueError as error:
            raise IntegrityError(
                f"{name!r} in {self.address!r} is not readable as JSON ({error})."
            ) from error

    def write_json(self, name: str, value: Any) -> None:
        """Replace a file by the value as JSON. NaN is refused: JSON has none."""
        with self.replacing(name) as file:
            file.write((json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())

    def _asked(self, request: Any) -> Any:
        """What the object store answers.

        Raises:
            UpstreamError: when it does not.
        """
        try:
            return request()
        except OSError as error:
            raise UpstreamError(
                f"{self.address!r} did not answer as it should: {error}. Check the address, the credentials "
                "and the network, and repeat."
            ) from error
