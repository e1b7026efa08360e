"""Search indices: arrays that are made once from an atlas, kept in the user's cache, and mapped into memory.

An index is a folder under the digest of all it is made from, so that an atlas that changes gets another. It
is whole or absent: `index.json`, which lists its files with their sizes, is written with them. The folder may
be removed at any time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.core import digests, files, paths
from pellucid.core.errors import IntegrityError

_RECORD = "index.json"


@dataclass(frozen=True)
class Index:
    """An index on disk."""

    folder: Path
    record: dict[str, Any]

    def array(self, name: str) -> np.ndarray:
        """One of its arrays, mapped into memory.

        Raises:
            IntegrityError: when it is not readable as one.
        """
        try:
            found: np.ndarray = np.load(self.folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise self.damaged(f"{name}.npy is not readable ({error})") from error
        return found

    def damaged(self, why: str) -> IntegrityError:
        """The error for what is wrong with it."""
        return IntegrityError(
            f"The search index {str(self.folder)!r} is damaged: {why}. Remove the folder and repeat."
        )


def opened(kind: str, key: Any, make: Callable[[Path], dict[str, Any]]) -> Index:
    """An index, made if it is not kept.

    Args:
        kind: what sort of index it is; names its folder.
        key: all it is made from, as JSON values.
        make: writes its files into a folder, and returns facts to keep beside them.

    Raises:
        IntegrityError: when one of its files is missing or has another size than it was written with.
    """
    folder = paths.home() / "indices" / kind / digests.of_json(key).removeprefix(digests.PREFIX)[:24]
    if not folder.exists():
        with files.new_folder(folder, shared=True) as partial:
            facts = make(partial)
            sizes = {path.name: path.stat().st_size for path in sorted(partial.iterdir())}
            files.write_json(partial / _RECORD, {"key": key, "facts": facts, "files": sizes})
    if not (folder / _RECORD).is_file():
        raise Index(folder, {}).damaged(f"{_RECORD} is missing")
    record = files.read_json(folder / _RECORD)
    found = Index(folder, record)
    for name, size in record["files"].items():
        path = folder / name
        if not path.is_file():
            raise found.damaged(f"{name} is missing")
        if path.stat().st_size != size:
            raise found.damaged(f"{name} has {path.stat().st_size} bytes of {size}")
    return found
