"""A reading shared out: each worker runs the model over its part of the rows, and all get all activations.

The rows go through the model in the same groups as for one worker, so that every worker holds the very bits
that one worker alone would have read, and cuts the same batches from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from pellucid.activations.reading import Reader, rows_at_once


class Readers(Protocol):
    """Those who share a reading."""

    @property
    def rank(self) -> int:
        """The number of this worker."""

    @property
    def size(self) -> int:
        """How many there are."""

    def gather(self, x: Tensor) -> Tensor:
        """The parts of all, one after another."""


@dataclass(frozen=True)
class SharedReader(Reader):
    """A reader that reads a part and is given the rest; all workers must ask for the same rows."""

    readers: Readers = field(kw_only=True)

    def _run(self, tokens: Tensor) -> Tensor:
        at_once = rows_at_once(self.model)
        share = -(-len(tokens) // (at_once * self.readers.size)) * at_once
        mine = tokens[self.readers.rank * share : (self.readers.rank + 1) * share]
        return self.readers.gather(super()._run(mine) if len(mine) else self._nothing(tokens))

    def _nothing(self, tokens: Tensor) -> Tensor:
        columns = sum(model.width for model in self.models) * len(self.sites)
        return torch.zeros(0, tokens.shape[1], columns, dtype=self.model.dtype, device=self.model.device)
