"""JumpReLU: each feature has a threshold of its own, learnt (Rajamanoharan et al. 2024, arXiv 2407.14435).

A value below its threshold counts nothing, one above it counts in full. The gradient by a threshold is that
of the expected loss, estimated from the pre-activations near it: with ε the bandwidth and K one on
(−1/2, 1/2) and else zero,

    ∂value/∂θ = −θ/ε · K((p − θ)/ε)        ∂L0/∂θ = −1/ε · K((p − θ)/ε)

and the penalty is λ (L0/k − 1)², so that one asks for L0 itself.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pellucid.dictionaries.architectures import Decoded, Entries, Rule, Slopes, quantile_of
from pellucid.dictionaries.base import Dictionary

_BANDWIDTH = 0.5
"""ε, in units where activations have a variance of one per dimension."""
_PENALTY = 1.0
"""λ."""


class JumpReLU(Rule):
    """Keeps what exceeds the feature's own threshold."""

    def start(self, pre: Tensor) -> None:
        """Thresholds that k features of a token exceed."""
        bar = max(_BANDWIDTH / 2, quantile_of(pre, self.settings.k))
        self.vectors["threshold"] = torch.full_like(self.vectors["encoder_bias"], bar)

    def take_up(self, thresholds: Tensor) -> None:
        """Thresholds as they were."""
        self.vectors["threshold"] = thresholds

    @property
    def bar(self) -> Tensor:
        """Also pick up what lies within half a bandwidth below the threshold."""
        return (self.vectors["threshold"] - _BANDWIDTH / 2).clamp(min=0)

    def values(self, pre: Tensor, features: Tensor) -> Tensor:
        """All or nothing."""
        bar = self.vectors["threshold"][features]
        return torch.where(pre > bar.clamp(min=0), pre, 0)

    def slopes(self, entries: Entries, value_slopes: Tensor, decoded: Decoded) -> Slopes:
        """By the pre-activation of what is active; by the threshold of what is near."""
        bar = self.vectors["threshold"][entries.features]
        near = ((entries.pre - bar).abs() < _BANDWIDTH / 2) / _BANDWIDTH
        k = self.settings.k
        price = 2 * _PENALTY * (entries.l0 / k - 1) / (k * entries.num_rows)
        pre, found = super().slopes(entries, value_slopes, decoded)
        found["threshold"] = self.per_feature(entries, -near * (bar * value_slopes + price))
        return pre, found

    def dictionary(self, shared: dict[str, Any], unit: Tensor) -> Dictionary:
        """With its thresholds."""
        bar = self.vectors["threshold"].clamp(min=0) * unit
        return Dictionary(activation="jumprelu", threshold=bar, **shared)
