"""Results that are kept on disk, under the digest of all they depend on, so that they are computed once.

Arrays are kept as `.npz`, JSON values as `.json`, in a folder of the user's cache. A result is whole or
absent, so work that was killed goes on behind the last result that was kept. What a result depends on is for
the caller to name: the module knows nothing of what is in one. The folder may be removed at any time.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.core import digests, files, paths
from pellucid.core.errors import IntegrityError


def json_value(kind: str, key: Any, make: Callable[[], Any]) -> Any:
    """A JSON value that is made if it is not kept.

    Args:
        kind: what sort of result it is; names its folder.
        key: all that the result depends on, as JSON values.
        make: computes it.

    Raises:
        IntegrityError: when the file is damaged.
    """
    path = _place(kind, key, ".json")
    if not path.is_file():
        files.write_json(path, make())
    return files.read_json(path)


def arrays(kind: str, key: Any, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Named arrays that are made if they are not kept; see `json_value`.

    Raises:
        IntegrityError: when the file is damaged.
    """
    path = _place(kind, key, ".npz")
    if not path.is_file():
        values = make()
        with files.replacing(path) as file:
            np.savez(file, **values)  # type: ignore[arg-type]
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as bundle:
            return {name: bundle[name] for name in bundle.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise IntegrityError(
            f"The kept result {str(path)!r} is damaged ({error}). Remove it and repeat."
        ) from error


def _place(kind: str, key: Any, suffix: str) -> Path:
    return paths.home() / "kept" / kind / (digests.of_json(key).removeprefix(digests.PREFIX)[:24] + suffix)
