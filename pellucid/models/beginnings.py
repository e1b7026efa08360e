"""Slots and what they hold: a prompt that begins as a text read before is read on from where the two part.

A conversation comes back with one more turn, and many conversations begin with the same instructions. So a
slot keeps what it read when its request has left. Whoever comes next reads as much of its prompt as no slot
holds; what another slot holds is copied.

What is held of one text is what would be computed for another only if both are read alike: by the same edits.
And only what one asker sent is used for that asker, as it could be told by the time to the first token what
others had sent.

    S slots, R room of a slot in tokens, D width
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pellucid.core.sites import Site
from pellucid.models.rereading import alike
from pellucid.models.steps import Steps

Sight = tuple[Literal["before", "after"], Site]
"""The activations of a site, before its edits or after them."""


@dataclass(frozen=True)
class Reading:
    """How a text is read."""

    prompt: Sequence[int]
    edits: Hashable | None
    """What is edited on the prompt; none where that cannot be compared, and then nothing is shared."""
    owner: Hashable
    """Whose it is."""
    sights: Collection[Sight]
    """What must be known of each token."""

    def shared(self, other: Reading) -> int:
        """How many tokens it could take from another text once that is read; never its last one."""
        if self.alike is None or self.alike != other.alike or not set(self.sights) <= set(other.sights):
            return 0
        return alike(np.array(self.prompt[:-1]), np.array(other.prompt))

    @property
    def alike(self) -> tuple[Hashable, Hashable] | None:
        """What must be the same in a text of which something is taken; none where nothing is."""
        return None if self.edits is None else (self.owner, self.edits)


class Beginnings:
    """The slots of a model, and the texts in them."""

    def __init__(self, steps: Steps) -> None:
        """All are free, and nothing is held."""
        self._steps = steps
        self._free = deque(range(steps.slots))
        self._ids = np.zeros((steps.slots, steps.room), np.int64)
        self._lengths = np.zeros(steps.slots, np.int64)
        self._alike: list[tuple[Hashable, Hashable] | None] = [None] * steps.slots
        self._rows: dict[Sight, np.ndarray] = {}
        self._counts: dict[Sight, np.ndarray] = {}
        """[S] of how many tokens, from the first, a sight is held."""

    @property
    def free(self) -> int:
        """How many slots are."""
        return len(self._free)

    def take(self, reading: Reading) -> int:
        """A free slot: the one whose text goes on in this one, or the one left longest ago.

        A longer text is not given up for the few tokens with which both begin: those can be copied.
        """
        shared = self._shared(reading)
        best = max(self._free, key=lambda slot: shared[slot])
        if not shared[best] or 2 * shared[best] < self._lengths[best]:
            best = self._free[0]
        self._free.remove(best)
        return best

    def find(self, slot: int, reading: Reading) -> tuple[int, int]:
        """The slot that holds most of a prompt, itself if others hold no more; how many tokens, never all."""
        shared = self._shared(reading)
        source = slot if shared[slot] == shared.max() else int(np.argmax(shared))
        return source, int(shared[source])

    def begin(self, slot: int, reading: Reading, source: int, count: int) -> None:
        """Have a slot hold the first tokens of a prompt, which `find` found in another or in itself."""
        if source != slot:
            self._steps.copy(source, slot, count)
            self._ids[slot, :count] = self._ids[source, :count]
            for sight in reading.sights:
                self._rows[sight][slot, :count] = self._rows[sight][source, :count]
        for sight, counts in self._counts.items():
            held = counts[source] if source == slot or sight in reading.sights else 0
            counts[slot] = min(count, held)
        self._lengths[slot] = count
        self._alike[slot] = reading.alike

    def keep(self, sight: Sight, slots: np.ndarray, places: np.ndarray, x: Tensor) -> None:
        """Keep the activations x [m, D] of some tokens."""
        if sight not in self._rows:
            # Pages of the operating system become real when they are first written.
            shape = self._steps.slots, self._steps.room, x.shape[1]
            self._rows[sight] = np.zeros(shape, np.float32)
            self._counts[sight] = np.zeros(self._steps.slots, np.int64)
        self._rows[sight][slots, places] = x.float().cpu().numpy()

    def kept(self, sight: Sight, slot: int, count: int) -> Tensor:
        """A copy of the activations [count, D] of a slot's first tokens."""
        return torch.from_numpy(self._rows[sight][slot, :count].copy())

    def read(self, slot: int, ids: Sequence[int], place: int, sights: Collection[Sight]) -> None:
        """A slot has read tokens from a place on, of which sights were kept; what leaves a gap is no use."""
        for sight in sights:
            if self._counts[sight][slot] == place:
                self._counts[sight][slot] += len(ids)
        if self._lengths[slot] == place:
            self._ids[slot, place : place + len(ids)] = ids
            self._lengths[slot] += len(ids)

    def leave(self, slot: int, *, sound: bool = True) -> None:
        """Free a slot; what it holds is kept if it is sound."""
        if not sound:
            self._alike[slot] = None
        self._free.append(slot)

    def _shared(self, reading: Reading) -> np.ndarray:
        """[S] how many tokens of the prompt each slot holds as they would be read; never the last one."""
        prompt = np.array(reading.prompt[:-1], np.int64)
        found = np.zeros(len(self._lengths), np.int64)
        for slot in np.flatnonzero(self._lengths).tolist():
            if reading.alike is None or self._alike[slot] != reading.alike:
                continue
            most = min(len(prompt), int(self._lengths[slot]))
            for sight in reading.sights:
                most = min(most, int(self._counts[sight][slot]) if sight in self._counts else 0)
            found[slot] = alike(self._ids[slot, :most], prompt[:most])
        return found
