"""Segments: sorted runs of postings on disk, from which an index larger than memory is merged.

A posting says that a feature is active on a token, and how much. Postings come in the order of the text; a
segment holds those of some rows of text, sorted by feature and then by token. Segments are written one after
another and are whole or absent, so that reading that was killed goes on behind the last of them.

A merge takes a range of features from all segments at once. A fence, every so many postings, tells where in
a file a feature lies, and all fences together tell how many features a range may have: nothing is as long
as there are features. This is the sort-based inversion of Witten, Moffat and Bell, Managing Gigabytes,
chapter 5, with features in the place of words.

    segments/000000000/segment.json    rows of the text from .. to, postings of each dictionary
                       0.features      [postings] int32 of dictionary 0, ascending; 0.tokens int64; 0.values
                       0.fences        int32, every so-manyth of those features
                       0.kept          [rows] int32 tokens that were used; 0.active [rows] int64 postings
                       0.ids           [V] int64 how often each token id was used
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.atlas.kernels import place
from pellucid.core import files
from pellucid.core.errors import IntegrityError

BYTES_PER_POSTING = 64
"""Memory for each posting that is sorted or merged: the posting, its copy in order, and what it becomes."""
_FENCE = 1024
_TYPES: dict[str, np.dtype[Any]] = {
    "features": np.dtype(np.int32),
    "tokens": np.dtype(np.int64),
    "values": np.dtype(np.float32),
}
POSITIONS = 16
"""Parts of a row in which tokens are counted."""


class Gathering:
    """What one dictionary gives for the rows read since the last segment."""

    def __init__(self, length: int, vocabulary: int) -> None:
        self._length = length
        self._parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._kept: list[np.ndarray] = []
        self._active: list[np.ndarray] = []
        self._ids = np.zeros(vocabulary, np.int64)
        self._positions = np.zeros(POSITIONS, np.int64)
        self.postings = 0

    def add(
        self,
        rows: np.ndarray,
        ids: np.ndarray,
        keep: np.ndarray,
        offsets: np.ndarray,
        features: np.ndarray,
        values: np.ndarray,
    ) -> None:
        """Take in the codes of some rows of text.

        Args:
            rows: [R] their numbers in the token store, ascending, after all that came before.
            ids: [R, length] their token ids.
            keep: [R, length] the tokens that are used, T in all.
            offsets: [T + 1] where the codes of each begin.
            features: [entries].
            values: [entries].
        """
        row_of, position_of = np.nonzero(keep)
        tokens = rows[row_of].astype(np.int64) * self._length + position_of
        self._parts.append((features, np.repeat(tokens, np.diff(offsets)), values))
        self._kept.append(keep.sum(1).astype(np.int32))
        active = np.bincount(row_of, np.diff(offsets), minlength=len(rows))
        self._active.append(active.astype(np.int64))
        self._ids += np.bincount(ids[keep], minlength=len(self._ids))
        self._positions += np.bincount(position_of * POSITIONS // self._length, minlength=POSITIONS)
        self.postings += len(features)

    def write(self, folder: Path, number: int) -> dict[str, Any]:
        """Write it as that of dictionary `number` into a segment, and say what there is."""
        arrays = [np.concatenate(parts) for parts in zip(*self._parts, strict=True)]
        self._parts = []
        order = np.argsort(arrays[0], kind="stable")
        for name, array in zip(_TYPES, arrays, strict=True):
            array[order].astype(_TYPES[name]).tofile(folder / f"{number}.{name}")
        arrays[0][order[::_FENCE]].astype(np.int32).tofile(folder / f"{number}.fences")
        np.concatenate(self._kept).tofile(folder / f"{number}.kept")
        np.concatenate(self._active).tofile(folder / f"{number}.active")
        self._ids.tofile(folder / f"{number}.ids")
        return {"postings": len(order), "positions": self._positions.tolist()}


@dataclass(frozen=True)
class Segment:
    """A segment on disk."""

    folder: Path
    record: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Segment:
        """Open one.

        Raises:
            IntegrityError: when a file is not as long as it was.
        """
        record = files.read_json(folder / "segment.json")
        for number, facts in enumerate(record["dictionaries"]):
            for name, kind in _TYPES.items():
                file = folder / f"{number}.{name}"
                if not file.is_file() or file.stat().st_size != facts["postings"] * kind.itemsize:
                    raise IntegrityError(
                        f"{str(file)!r} is damaged: it is not as long as it was. Remove the folder "
                        f"{str(folder.parent)!r} and repeat, to read the text again."
                    )
        return cls(folder, record)


class Segments:
    """The postings of one dictionary in all segments."""

    def __init__(self, segments: Sequence[Segment], number: int) -> None:
        self._segments, self._number = segments, number
        self.sizes = [int(s.record["dictionaries"][number]["postings"]) for s in segments]
        """Postings in each segment."""
        self._fences = list(self.facts("fences", np.int32))

    def __len__(self) -> int:
        return sum(self.sizes)

    def ranges(self, num_features: int, *, most: int, features: int) -> Iterator[tuple[int, int]]:
        """Ranges of features, one after another, that cover all.

        Args:
            num_features: N.
            most: about so many postings in each; a range is one feature at least.
            features: at most so many features in each.
        """
        fences = np.sort(np.concatenate(self._fences))
        steps = max(1, most // _FENCE)
        start = 0
        while start < num_features:
            ahead = int(np.searchsorted(fences, start)) + steps
            stop = int(fences[ahead]) if ahead < len(fences) else num_features
            stop = max(start + 1, min(stop, start + features, num_features))
            yield start, stop
            start = stop

    @property
    def positions(self) -> np.ndarray:
        """[16] tokens used in each part of a row."""
        parts = [s.record["dictionaries"][self._number]["positions"] for s in self._segments]
        total: np.ndarray = np.sum(parts, axis=0)
        return total

    def below(self, feature: int) -> np.ndarray:
        """[segments] how many postings of each segment are of smaller features."""
        return np.array([self._below(s, feature) for s in range(len(self._segments))], np.int64)

    def merged(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The postings of features from `start` to before `stop`.

        Returns:
            Where each feature begins, [features + 1]; tokens int64 and values float32 by feature, then token.
        """
        begins, ends = self.below(start), self.below(stop)
        counts = np.zeros(stop - start + 1, np.int64)
        for s in range(len(self._segments)):
            part = self._read(s, "features", begins[s], ends[s])
            counts[1:] += np.bincount(part - start, minlength=stop - start)
        starts = np.cumsum(counts)
        tokens, values = np.empty(starts[-1], np.int64), np.empty(starts[-1], np.float32)
        cursor = starts[:-1].copy()
        for s in range(len(self._segments)):
            columns = [self._read(s, name, begins[s], ends[s]) for name in _TYPES]
            place(*columns, start, cursor, tokens, values)
        return starts, tokens, values

    def by_token(self, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tokens, features and values of one segment, by token and then by feature."""
        features, tokens, values = (self._read(number, name, 0, self.sizes[number]) for name in _TYPES)
        order = np.argsort(tokens, kind="stable")
        return tokens[order], features[order], values[order]

    def facts(self, name: str, kind: type) -> Iterator[np.ndarray]:
        """What each segment says beside its postings: `fences`, `kept`, `active` or `ids`."""
        for segment in self._segments:
            yield np.fromfile(segment.folder / f"{self._number}.{name}", kind)

    def _below(self, s: int, feature: int) -> int:
        fence = int(np.searchsorted(self._fences[s], feature))
        if fence == 0:
            return 0
        begin = (fence - 1) * _FENCE
        part = self._read(s, "features", begin, min(begin + _FENCE, self.sizes[s]))
        return begin + int(np.searchsorted(part, feature))

    def _read(self, s: int, name: str, begin: int, end: int) -> np.ndarray:
        kind = _TYPES[name]
        file = self._segments[s].folder / f"{self._number}.{name}"
        found: np.ndarray = np.fromfile(file, kind, count=int(end - begin), offset=int(begin) * kind.itemsize)
        return found
