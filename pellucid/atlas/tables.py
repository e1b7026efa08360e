"""Tables on disk or in an object store: columns of numbers and text, row i about the i-th thing.

A table is a folder of Parquet files and `table.json`, which lists them and is written last, so that a table
is whole or absent. Parquet reads whole row groups, so that a row costs as much as its group: groups are
small, and files so small that what they say of their groups is read at once. A row of a million is read in a
few milliseconds, with nothing kept open (decision 0014).

A file carries the digest of its bytes in its name, so that a table which is written anew never touches a file
that someone may be reading. A file that was cut short is noticed by its size, a page that has changed by its
checksum.

    features/table.json              rows, rows per file and per group, files with rows and bytes
    features/000000000000-ab12….parquet
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pellucid.core import files
from pellucid.core.errors import InputError, IntegrityError
from pellucid.core.places import Place

Columns = dict[str, np.ndarray]
"""Some rows: a name and [rows] or [rows, K] of each column; text as an object array."""

_RECORD = "table.json"
ROWS_PER_FILE = 16_384
ROWS_PER_GROUP = 256


@dataclass(frozen=True)
class Table:
    """A table that was written."""

    place: Place
    record: Mapping[str, Any]

    @classmethod
    def open(cls, address: Place | Path | str) -> Table:
        """Open a table; its record alone is read.

        Raises:
            InputError: when there is none.
            IntegrityError: when its record is damaged.
        """
        place = address if isinstance(address, Place) else Place.of(address)
        record = place.read_json(_RECORD)
        if (
            not isinstance(record, dict)
            or {"rows", "rows_per_file", "rows_per_group", "files"} - record.keys()
        ):
            raise IntegrityError(
                f"The table {str(place)!r} is damaged: its record is not one. Write it again."
            )
        return cls(place, record)

    @classmethod
    def exists(cls, address: Place | Path | str) -> bool:
        """Whether a table is there."""
        place = address if isinstance(address, Place) else Place.of(address)
        return place.size(_RECORD) is not None

    @property
    def rows(self) -> int:
        """How many rows."""
        return int(self.record["rows"])

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self.record["columns"])

    def row(self, number: int, columns: Sequence[str] | None = None) -> dict[str, Any]:
        """One row: a value, or an array [K], of each column.

        Raises:
            InputError: when there is no such row.
        """
        return {name: values[0] for name, values in self.slice(number, number + 1, columns).items()}

    def slice(self, start: int, stop: int, columns: Sequence[str] | None = None) -> Columns:
        """Rows from `start` to before `stop`; the groups they lie in are read.

        Raises:
            InputError: when they are not in the table.
            IntegrityError: when a file is damaged or missing.
        """
        if not 0 <= start <= stop <= self.rows:
            raise InputError(
                f"The table {str(self.place)!r} has {self.rows} rows: {start} to {stop} are not among them."
            )
        per_file = int(self.record["rows_per_file"])
        parts = []
        for number in range(start // per_file, -(-stop // per_file)):
            first = number * per_file
            parts.append(self._read(number, max(start - first, 0), min(stop - first, per_file), columns))
        return _joined(parts) if parts else self._nothing(columns)

    def take(self, rows: Sequence[int] | np.ndarray, columns: Sequence[str] | None = None) -> Columns:
        """Rows by their numbers, in the order asked for.

        Raises:
            InputError: when one is not in the table.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        if len(wanted) == 0:
            return self._nothing(columns)
        per_group = int(self.record["rows_per_group"])
        unique, back = np.unique(wanted, return_inverse=True)
        parts: list[Columns] = []
        # Neighbouring rows are read together.
        for run in np.split(unique, np.flatnonzero(np.diff(unique) > per_group) + 1):
            found = self.slice(int(run[0]), int(run[-1]) + 1, columns)
            parts.append({name: values[run - run[0]] for name, values in found.items()})
        return {name: values[back] for name, values in _joined(parts).items()}

    def column(self, name: str) -> np.ndarray:
        """A whole column, [rows] or [rows, K]."""
        return self.slice(0, self.rows, [name])[name]

    def blocks(
        self, columns: Sequence[str] | None = None, rows: int = ROWS_PER_FILE
    ) -> Iterator[tuple[int, Columns]]:
        """All rows in order, so many at a time, each block with the number of its first row."""
        for start in range(0, self.rows, rows):
            yield start, self.slice(start, min(self.rows, start + rows), columns)

    def _read(self, number: int, start: int, stop: int, columns: Sequence[str] | None) -> Columns:
        file = self.record["files"][number]
        size = self.place.size(file["name"])
        if size != file["bytes"]:
            found = "is missing" if size is None else f"has {size} bytes of {file['bytes']}"
            raise IntegrityError(
                f"The table {str(self.place)!r} is damaged: {file['name']!r} {found}. Build it again."
            )
        per_group = int(self.record["rows_per_group"])
        first, last = start // per_group, -(-stop // per_group)
        wanted = None if columns is None else list(columns)
        try:
            with (
                self.place.open(file["name"]) as source,
                pq.ParquetFile(source, page_checksum_verification=True) as parquet,
            ):
                found = parquet.read_row_groups(
                    list(range(first, last)), columns=wanted, use_threads=last - first > 8
                )
        except (pa.ArrowException, OSError) as error:
            raise IntegrityError(
                f"The table {str(self.place)!r} is damaged: {file['name']!r} is not readable "
                f"({str(error).splitlines()[0]}). Build it again."
            ) from error
        if wanted is not None and (missing := set(wanted) - set(found.column_names)):
            raise InputError(f"The table {str(self.place)!r} has no column {sorted(missing)[0]!r}.")
        return _as_numpy(found.slice(start - first * per_group, stop - start))

    def _nothing(self, columns: Sequence[str] | None) -> Columns:
        shapes = self.record["columns"]
        return {
            name: np.empty(
                (0, *shapes[name]["shape"]),
                object if shapes[name]["dtype"] == "text" else shapes[name]["dtype"],
            )
            for name in (columns or shapes)
        }


def write(
    address: Place | Path | str,
    blocks: Iterable[Columns],
    *,
    rows_per_file: int = ROWS_PER_FILE,
    rows_per_group: int = ROWS_PER_GROUP,
    facts: Mapping[str, Any] | None = None,
    encodings: Mapping[str, str] | None = None,
) -> Table:
    """Write a table from blocks of rows of any size; one that is there is replaced once the new one is whole.

    No more than a block and a file are held in memory.

    Args:
        address: the table's folder.
        blocks: rows, in order; all with the same columns.
        rows_per_file: rows of each file but the last.
        rows_per_group: rows that are read together; a divisor of `rows_per_file`.
        facts: JSON values to keep in the record, under `facts`.
        encodings: Parquet encodings of some columns (`DELTA_BINARY_PACKED`, `BYTE_STREAM_SPLIT`).

    Raises:
        InputError: when there are no rows at all: a table without rows has no columns.
    """
    writer = Writer(address, rows_per_file=rows_per_file, rows_per_group=rows_per_group, encodings=encodings)
    for block in blocks:
        writer.append(block)
    return writer.finish(facts)


class Writer:
    """A table that is being written, block by block.

    With a journal, a file of this machine that lists the files written, a writer that was killed is taken up
    again: it has the rows of all files that were whole, and is to be given those after them.
    """

    def __init__(
        self,
        address: Place | Path | str,
        *,
        rows_per_file: int = ROWS_PER_FILE,
        rows_per_group: int = ROWS_PER_GROUP,
        encodings: Mapping[str, str] | None = None,
        journal: Path | None = None,
    ) -> None:
        self.place = address if isinstance(address, Place) else Place.of(address)
        if rows_per_file % rows_per_group:
            raise InputError(f"{rows_per_group} rows per group do not divide {rows_per_file} rows per file.")
        self._rows_per_file, self._rows_per_group = rows_per_file, rows_per_group
        self._encodings = dict(encodings or {})
        self._journal = journal
        self._waiting: list[Columns] = []
        self._count = 0
        self._described: dict[str, Any] = {}
        self._files: list[dict[str, Any]] = []
        for line in journal.read_text().splitlines() if journal is not None and journal.exists() else []:
            try:
                entry = json.loads(line)
            except ValueError:  # torn by a crash: its file is written again
                break
            if self.place.size(entry["file"]["name"]) != entry["file"]["bytes"]:
                break
            self._described = entry["columns"]
            self._files.append(entry["file"])
        self._written = sum(int(f["rows"]) for f in self._files)
        if journal is not None:
            lines = [json.dumps({"columns": self._described, "file": f}) + "\n" for f in self._files]
            files.write_text(journal, "".join(lines))

    @property
    def rows(self) -> int:
        """Rows it has been given, or had when it was taken up."""
        return self._written + self._count

    def append(self, block: Columns) -> None:
        """Take in the next rows; they are written when they fill a file."""
        size = len(next(iter(block.values())))
        at = 0
        while at < size:
            some = min(size - at, self._rows_per_file - self._count)
            self._waiting.append({name: values[at : at + some] for name, values in block.items()})
            self._count += some
            at += some
            if self._count == self._rows_per_file:
                self._flush()
        if self._waiting:
            # What waits must not keep the block alive.
            self._waiting[-1] = {name: values.copy() for name, values in self._waiting[-1].items()}

    def finish(self, facts: Mapping[str, Any] | None = None) -> Table:
        """Write what waits and the record; what an earlier table or a writer that was killed left is removed.

        Raises:
            InputError: when there are no rows at all: a table without rows has no columns.
        """
        if self._count:
            self._flush()
        if not self._files:
            raise InputError(f"There are no rows to write to {str(self.place)!r}.")
        record = {
            "rows": self._written,
            "rows_per_file": self._rows_per_file,
            "rows_per_group": self._rows_per_group,
            "columns": self._described,
            "files": self._files,
            "facts": dict(facts or {}),
        }
        self.place.write_json(_RECORD, record)
        for name in set(self.place.names()) - {f["name"] for f in self._files} - {_RECORD}:
            self.place.remove(name)
        return Table(self.place, record)

    def _flush(self) -> None:
        rows = _joined(self._waiting)
        self._described = self._described or {name: _describe(values) for name, values in rows.items()}
        encodings = {
            name if rows[name].ndim == 1 else f"{name}.list.element": encoding
            for name, encoding in self._encodings.items()
            if name in rows
        }
        buffer = io.BytesIO()
        pq.write_table(
            _as_arrow(rows),
            buffer,
            row_group_size=self._rows_per_group,
            compression="zstd",
            use_dictionary=[name for name, values in rows.items() if values.dtype == object],
            column_encoding=encodings or None,
            write_page_checksum=True,
            write_statistics=False,
        )
        contents = buffer.getbuffer()
        digest = hashlib.sha256(contents).hexdigest()
        name = f"{self._written:012d}-{digest[:16]}.parquet"
        if self.place.size(name) != len(contents):
            with self.place.replacing(name) as file:
                file.write(contents)
        entry = {"name": name, "rows": self._count, "bytes": len(contents), "digest": f"sha256:{digest}"}
        self._files.append(entry)
        if self._journal is not None:
            with self._journal.open("a") as journal:
                journal.write(json.dumps({"columns": self._described, "file": entry}) + "\n")
        self._written += self._count
        self._waiting, self._count = [], 0


def _joined(parts: Sequence[Columns]) -> Columns:
    return (
        parts[0] if len(parts) == 1 else {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    )


def _describe(values: np.ndarray) -> dict[str, Any]:
    return {"dtype": "text" if values.dtype == object else str(values.dtype), "shape": list(values.shape[1:])}


def _as_arrow(rows: Columns) -> pa.Table:
    columns = {}
    for name, values in rows.items():
        if values.dtype == object:
            columns[name] = pa.array(values.tolist(), pa.string())
        elif values.ndim == 1:
            columns[name] = pa.array(values)
        else:
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            columns[name] = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    return pa.table(columns)


def _as_numpy(found: pa.Table) -> Columns:
    columns: Columns = {}
    for name in found.column_names:
        values = found.column(name).combine_chunks()
        if isinstance(values, pa.ChunkedArray):
            values = pa.concat_arrays(values.chunks)
        if pa.types.is_string(values.type):
            columns[name] = np.array(values.to_pylist(), dtype=object)
        elif pa.types.is_fixed_size_list(values.type):
            flat = values.flatten().to_numpy(zero_copy_only=False)
            columns[name] = flat.reshape(len(values), values.type.list_size)
        else:
            columns[name] = values.to_numpy(zero_copy_only=False)
    return columns
