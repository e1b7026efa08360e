"""Slots for texts that are read again from a layer on: what stands before it says how far two are alike.

A conversation that is edited is read again, without its edits, after each of its answers. What stood before
the layer is, token by token, what stood there the last time, and so is all that follows from it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

import numpy as np


class Rereading:
    """Some slots, and what was read in them."""

    def __init__(self, slots: Iterable[int]) -> None:
        """Nothing is held; of these the one used longest ago comes first."""
        nothing = (None, np.empty((0, 0), np.float32))
        self._held: dict[int, tuple[Hashable, np.ndarray]] = dict.fromkeys(slots, nothing)

    def place(self, key: Hashable, x: np.ndarray, most: int) -> tuple[int, int, int]:
        """Where a text is to be read again.

        Args:
            key: from which layer on, and whose it is: only what has the same is taken.
            x: [T, D] what stands before the layer.
            most: tokens that need not be read.

        Returns:
            The slot; another, or the same, that holds its beginning; and the length of that. The slot counts
            as holding the whole text from now on.
        """
        shared = {slot: alike(held, x[:most]) if of == key else 0 for slot, (of, held) in self._held.items()}
        source = max(shared, key=shared.__getitem__)
        # A longer text is not given up for the few tokens with which both begin.
        whole = 2 * shared[source] >= len(self._held[source][1])
        slot = source if whole and shared[source] else next(iter(self._held))
        del self._held[slot]
        self._held[slot] = key, x.copy()
        return slot, source, shared[source]


def alike(one: np.ndarray, other: np.ndarray) -> int:
    """How many entries or rows, from the first, are the same."""
    length = min(len(one), len(other))
    if not length:
        return 0
    apart = np.flatnonzero((one[:length] != other[:length]).reshape(length, -1).any(1))
    return int(apart[0]) if len(apart) else length
