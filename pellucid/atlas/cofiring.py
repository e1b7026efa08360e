"""Which features fire on the same tokens, from the postings of one atlas or of two over the same text.

For a feature with n tokens, one that fires on m, and c tokens shared, the cosine of their firing is
c / sqrt(n · m): 1 where they always fire together, 0 where never. Chance alone gives sqrt(n · m) / T over T
tokens, and the largest of many is larger still, so each feature has a floor of its own: the largest cosine it
reaches when its tokens are moved by a number of rows, to text that it has nothing to do with. Positions,
frequencies and what features have to do with each other stay as they are. Pairs that share fewer than eight
tokens say too little and are not looked at.

The count is exact while the postings are no more than can be held (`most`, one GB as they are laid down on
disk); beyond that, on rows of text that are drawn once, and their share is told. Its work is the sum over
tokens of the square of the features active there.

T tokens of the rows that are looked at, N features counted, F features that are asked for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np

from pellucid.atlas.near_kernels import fire_together
from pellucid.atlas.pages import Atlas
from pellucid.core import files
from pellucid.core.errors import InputError
from pellucid.core.progress import Progress, silent

LEAST_SHARED = 8
"""Tokens that two features must share."""
MOST_POSTINGS = 1 << 28
"""Postings that are laid down; of more, rows are drawn."""
_BLOCK = 1 << 20
_POSTINGS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Firing:
    """The features active on each token, and how often each is, over the rows that are looked at."""

    length: int
    slots: np.ndarray
    """[rows of the store] int32: the place of each row among those that are looked at, or -1."""
    offsets: np.ndarray
    """[T + 1] int64: where the features of each token begin."""
    features: np.ndarray
    """[postings] int32, on disk: the features of each token."""
    counts: np.ndarray
    """[N] int64: on how many of these tokens each feature is active."""
    tokens: int
    """Tokens read in these rows."""
    share: float
    """The share of the rows that were read."""

    @classmethod
    def lay(
        cls, atlas: Atlas, folder: Path, *, most: int = MOST_POSTINGS, progress: Progress = silent
    ) -> Firing:
        """Lay down the tokens of an atlas in a folder, where they are found again by the same call.

        Raises:
            InputError: when the atlas has no postings.
        """
        rows = needed(atlas, "rows")
        table = needed(atlas, "tokens")
        length = int(atlas.record["length"])
        read = np.flatnonzero(rows.column("tokens"))
        kept = read
        if table.rows > most:
            drawn = np.random.default_rng(0).permutation(read)
            kept = np.sort(drawn[: max(2, int(len(read) * most / table.rows))])
        slots = np.full(rows.rows, -1, np.int32)
        slots[kept] = np.arange(len(kept))
        path, told = folder / "features.i32", folder / "firing.json"
        if not told.exists():
            per_token = np.zeros(len(kept) * length, np.int32)
            counts = np.zeros(atlas.num_features, np.int64)
            with files.replacing(path) as file:
                for at, block in table.blocks(["token", "feature"], _BLOCK):
                    place = _place(block["token"], slots, length)
                    found = block["feature"][place >= 0]
                    place = place[place >= 0]
                    if len(place):
                        low = int(place[0])
                        many = np.bincount(place - low).astype(np.int32)
                        per_token[low : low + len(many)] += many
                    counts += np.bincount(found, minlength=len(counts))
                    file.write(found.astype(np.int32).tobytes())
                    progress("tokens", at + len(block["token"]), table.rows)
            np.save(folder / "per_token.npy", per_token)
            np.save(folder / "counts.npy", counts)
            files.write_text(told, json.dumps({"postings": int(counts.sum())}))
        per_token, counts = np.load(folder / "per_token.npy"), np.load(folder / "counts.npy")
        offsets = np.concatenate([[0], np.cumsum(per_token, dtype=np.int64)])
        laid = np.memmap(path, np.int32, "r") if counts.sum() else np.zeros(0, np.int32)
        tokens = int(rows.column("tokens")[kept].sum())
        return cls(length, slots, offsets, np.asarray(laid), counts, tokens, len(kept) / len(read))

    def places(self, tokens: np.ndarray) -> np.ndarray:
        """[n] int64 where tokens of the store are among those that are looked at, -1 of others."""
        return _place(tokens, self.slots, self.length)

    def moved(self, places: np.ndarray) -> np.ndarray:
        """The same positions, half as many rows further as there are: text of another kind, as a rule."""
        total = (len(self.offsets) - 1) // self.length
        row, position = np.divmod(places, self.length)
        moved: np.ndarray = np.where(places < 0, -1, (row + total // 2) % total * self.length + position)
        return moved

    def together(
        self, starts: np.ndarray, tokens: np.ndarray, own: np.ndarray | None, count: int = 10
    ) -> dict[str, np.ndarray]:
        """The features that fire with each of F features, and its floor.

        Args:
            starts: [F + 1] where the postings of each begin.
            tokens: their tokens, as numbers of the store.
            own: [F] numbers of the F among the features counted; none where they are of another dictionary.
            count: how many to find of each.

        Returns:
            `coactive` [F, count] int32 (-1 where there are fewer), `coactivity` [F, count] float32,
            `together` [F, count] int64 tokens shared, `coactivity_floor` [F] float32, and `active` [F] int64:
            their tokens that were looked at.
        """
        places = self.places(tokens)
        size = len(starts) - 1
        others = np.add.reduceat(np.append(places >= 0, False).astype(np.int64), starts[:-1])
        others[np.diff(starts) == 0] = 0
        # Shares of the work, by postings.
        threads = numba.get_num_threads()
        cuts = np.searchsorted(starts, np.linspace(starts[0], starts[-1], threads + 1)[1:-1])
        bounds = np.concatenate([[0], np.clip(cuts, 0, size), [size]]).astype(np.int64)
        own = np.full(size, -1, np.int64) if own is None else own.astype(np.int64)

        def counted(at: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
            found = (
                np.full((size, room), -1, np.int32),
                np.zeros((size, room), np.float32),
                np.zeros((size, room), np.int64),
            )
            fire_together(
                bounds, starts, at, self.offsets, self.features, own, self.counts, others, LEAST_SHARED, found
            )
            return found

        ids, cosines, shared = counted(places, count)
        floor = counted(self.moved(places), 1)[1][:, 0]
        return {
            "coactive": ids,
            "coactivity": cosines,
            "together": shared,
            "coactivity_floor": floor,
            "active": others,
        }


def postings_of(atlas: Atlas, first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the postings of features `first` to before `stop` begin [F + 1], and their tokens."""
    found = atlas.features.slice(first, stop, ["start", "count"])
    start, count = found["start"], found["count"]
    low, high = int(start[0]), int(start[-1] + count[-1])
    tokens = needed(atlas, "postings").slice(low, high, ["token"])["token"]
    return np.append(start, high) - low, tokens


def ranges(atlas: Atlas, rows: int) -> list[tuple[int, int]]:
    """Features cut into ranges of at most so many, and of no more postings than are read at once."""
    counts = atlas.features.column("count")
    total = np.concatenate([[0], np.cumsum(counts)])
    cuts, at = [], 0
    while at < len(counts):
        most = int(np.searchsorted(total, total[at] + _POSTINGS_AT_ONCE, side="right")) - 1
        stop = min(len(counts), at + rows, max(most, at + 1))
        cuts.append((at, stop))
        at = stop
    return cuts


def needed(atlas: Atlas, name: str) -> Any:
    """A table that only an atlas with postings has.

    Raises:
        InputError: when it is not there.
    """
    found = atlas.table(name)
    if found is None:
        raise InputError(
            f"The atlas {str(atlas.place)!r} has no table {name!r}: it was built in compact form. Build it "
            "whole with 'pellucid atlas build'."
        )
    return found


def _place(tokens: np.ndarray, slots: np.ndarray, length: int) -> np.ndarray:
    row, position = np.divmod(tokens, length)
    slot = slots[row].astype(np.int64)
    found: np.ndarray = np.where(slot < 0, -1, slot * length + position)
    return found
