"""BatchTopK: the B·k largest pre-activations of a whole batch (Bussmann et al. 2024, arXiv 2412.06410).

A token that needs more features gets more. At use there is no batch to compare with: the dictionary is kept
with a threshold, the running average of the smallest value that was kept, and is read as JumpReLU.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pellucid.dictionaries.architectures import Entries, Rule
from pellucid.dictionaries.base import Dictionary

_MEMORY = 100
"""Steps that the running average spans, or a tenth of the run: bars move, and a slower one lags."""


class BatchTopK(Rule):
    """Keeps the B·k largest of the batch."""

    def start(self, pre: Tensor) -> None:
        """No threshold yet."""
        self.numbers = {"threshold": 0.0}

    def take_up(self, thresholds: Tensor) -> None:
        """The mean of the thresholds stands until the first batch gives one."""
        self.numbers = {"threshold": float(thresholds.mean())}

    def select(self, product: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The largest positive entries of the batch."""
        return self.crew.select_in_batch(product, self.settings.k_at(step))

    def seen(self, entries: Entries) -> Tensor:
        """The smallest value that was kept; infinity if none was."""
        values = entries.values
        kept = torch.where(values > 0, values, torch.inf)
        return kept.min() if len(kept) else values.new_tensor(torch.inf)

    def learn(self, seen: float, step: int) -> None:
        """Average it."""
        lowest = self.crew.least(seen)
        if lowest < math.inf:
            span = max(1, min(_MEMORY, self.settings.steps // 10, step))
            keep = 1 - 1 / span
            self.numbers["threshold"] = self.numbers["threshold"] * keep + lowest * (1 - keep)

    def dictionary(self, shared: dict[str, Any], unit: Tensor) -> Dictionary:
        """With the one threshold for all features."""
        bar = self.numbers["threshold"] * unit
        return Dictionary(activation="jumprelu", threshold=bar, **shared)
