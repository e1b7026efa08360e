"""TopK: the k largest pre-activations of each token (Gao et al. 2024, arXiv 2406.04093).

L0 is k exactly, and there is no penalty to tune.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pellucid.dictionaries.architectures import Rule
from pellucid.dictionaries.base import Dictionary


class TopK(Rule):
    """Keeps the k largest of each token."""

    def select(self, product: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The k largest positive entries of each row."""
        return self.crew.select_per_row(product, self.settings.k_at(step))

    def dictionary(self, shared: dict[str, Any], unit: Tensor) -> Dictionary:
        """With its k."""
        return Dictionary(activation="topk", k=self.settings.k, **shared)
