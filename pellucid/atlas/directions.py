"""The decoder directions of a dictionary, read as they are needed: a million need not fit into memory.

Rows come as unit vectors in float32, N of them, D long. Of a dictionary on disk, a run of rows is read from
its file, and scattered rows through a memory map, so that nothing stays. The safetensors header says where
the rows are; both forms of a dictionary are read, float32 rows and int8 rows with a scale.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pellucid.core import digests, kept
from pellucid.core.errors import InputError, IntegrityError
from pellucid.dictionaries.base import Dictionary

_ROWS_AT_ONCE = 65_536
_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "I8": np.dtype("i1")}


@dataclass(frozen=True)
class _Stored:
    """A matrix in a safetensors file."""

    path: Path
    start: int
    """Its first byte in the file."""
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def read(self, first: int, stop: int) -> np.ndarray:
        wide = int(np.prod(self.shape[1:], dtype=np.int64))
        found = np.fromfile(
            self.path,
            self.dtype,
            (stop - first) * wide,
            offset=self.start + first * wide * self.dtype.itemsize,
        )
        return found.reshape(stop - first, *self.shape[1:])

    @cached_property
    def mapped(self) -> np.ndarray:
        return np.memmap(self.path, self.dtype, "r", self.start, self.shape)


class Directions:
    """Rows of a decoder, in memory or on disk."""

    def __init__(self, rows: Tensor | _Stored, scale: np.ndarray | None = None) -> None:
        self._rows, self._scale = rows, scale
        self.count, self.width = (int(n) for n in rows.shape)

    @classmethod
    def of(cls, dictionary: Dictionary) -> Directions:
        """Those of a dictionary in memory."""
        return cls(dictionary.decoder.detach().cpu())

    @classmethod
    def open(cls, folder: str | Path) -> Directions:
        """Those of a dictionary on disk; nothing but the header of its file is read, and no digest checked.

        Raises:
            InputError: when there is none.
            IntegrityError: when the file is cut short or is not one.
        """
        path = Path(folder).expanduser() / "dictionary.safetensors"
        if not path.is_file():
            raise InputError(f"There is no dictionary in {str(folder)!r}: dictionary.safetensors is missing.")
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
            rows = _stored(path, 8 + length, header["decoder"])
            ends = [int(t["data_offsets"][1]) for name, t in header.items() if name != "__metadata__"]
            whole = path.stat().st_size == 8 + length + max(ends)
            scale = None
            if whole and rows.dtype == np.int8:
                there = _stored(path, 8 + length, header["decoder.scale"])
                scale = there.read(0, there.shape[0])
        except (KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
            raise IntegrityError(
                f"{str(path)!r} is damaged: its header does not say where the decoder is ({error!r}). Fetch "
                "or make the dictionary again."
            ) from error
        if not whole:
            raise IntegrityError(f"{str(path)!r} is cut short. Fetch or make the dictionary again.")
        return cls(rows, scale)

    def block(self, start: int, stop: int) -> np.ndarray:
        """Rows from `start` to before `stop`, [rows, D]."""
        if isinstance(self._rows, Tensor):
            return self._unit(self._rows[start:stop].numpy(), slice(start, stop))
        return self._unit(self._rows.read(start, stop), slice(start, stop))

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Rows by their numbers, [rows, D]."""
        held = self._rows.numpy() if isinstance(self._rows, Tensor) else self._rows.mapped
        return self._unit(np.asarray(held[rows]), rows)

    @cached_property
    def digest(self) -> str:
        """What names the features of the dictionary, as an atlas does.

        Reads all rows; of a file it is kept in the cache until the file changes.
        """
        if isinstance(self._rows, Tensor):
            return self._digest()
        state = self._rows.path.stat()
        key = [str(self._rows.path.resolve()), state.st_size, state.st_mtime_ns, state.st_ino]
        return str(kept.json_value("directions", key, self._digest))

    def _digest(self) -> str:
        found = hashlib.sha256((4 * self.count * self.width).to_bytes(8, "little"))
        for at in range(0, self.count, _ROWS_AT_ONCE):
            found.update(memoryview(self.block(at, min(self.count, at + _ROWS_AT_ONCE)).data).cast("B"))
        return digests.PREFIX + found.hexdigest()

    def _unit(self, rows: np.ndarray, which: slice | np.ndarray) -> np.ndarray:
        if isinstance(self._rows, Tensor):
            return rows
        if self._scale is not None:
            rows = rows.astype(np.float32) * self._scale[which][:, None]
        # As a dictionary normalises them when it is loaded, to the same bits.
        unit: np.ndarray = torch.nn.functional.normalize(torch.from_numpy(rows), dim=1).numpy()
        return unit


def _stored(path: Path, after: int, entry: dict[str, Any]) -> _Stored:
    return _Stored(path, after + int(entry["data_offsets"][0]), tuple(entry["shape"]), _TYPES[entry["dtype"]])
