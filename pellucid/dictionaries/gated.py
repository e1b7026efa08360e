"""Gated: one path decides whether a feature is active, another how much.

Rajamanoharan et al. 2024, arXiv 2404.16014. Both read the same encoder rows z = W·x. The gate is open where
p = z + b_gate > 0; the value is max(e^r z + b_mag, 0). The L1 penalty is on max(p, 0) alone, so that it does
not shrink values; and because the gate gets no gradient from the values, max(p, 0) must also reconstruct,
with the decoder held fixed.

Trained, this is a JumpReLU dictionary with rows e^r W, bias b_mag and threshold b_mag − e^r b_gate (section
3.3 of the paper), and is kept as one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pellucid.dictionaries import kernels
from pellucid.dictionaries.architectures import Decoded, Entries, Penalised, Slopes
from pellucid.dictionaries.base import Dictionary


class Gated(Penalised):
    """Gate and magnitude apart. The trainer's encoder bias is that of the gate."""

    def start(self, pre: Tensor) -> None:
        """Magnitudes as they are; the gate lowered until a few times k are open."""
        bias = self.vectors["encoder_bias"]
        self.vectors |= {"magnitude_bias": bias.clone(), "stretch": torch.zeros_like(bias)}
        super().start(pre)

    def take_up(self, thresholds: Tensor) -> None:
        """The same function at a stretch of one: the gate opens where the magnitude passes its threshold."""
        bias = self.vectors["encoder_bias"]
        self.vectors |= {"magnitude_bias": bias.clone(), "stretch": torch.zeros_like(bias)}
        bias -= thresholds
        super().take_up(thresholds)

    def values(self, pre: Tensor, features: Tensor) -> Tensor:
        """The magnitude where the gate is open."""
        stretch = self.vectors["stretch"][features].exp()
        magnitude = stretch * self._raw(pre, features) + self.vectors["magnitude_bias"][features]
        return torch.where(pre > 0, magnitude.clamp(min=0), 0)

    def _raw(self, pre: Tensor, features: Tensor) -> Tensor:
        return pre - self.vectors["encoder_bias"][features]

    def slopes(self, entries: Entries, value_slopes: Tensor, decoded: Decoded) -> Slopes:
        """Values move the magnitude's path; the penalty and the gate's own reconstruction move the gate."""
        features = entries.features
        gate = entries.pre.clamp(min=0)
        slope = (decoded.rebuild(entries, gate)[-1] - decoded.aim) * (2 * decoded.weight)
        by_gate = kernels.dots(slope, decoded.decoder, entries.offsets, features)
        by_gate += self.numbers["penalty"] * decoded.weight
        by_gate = torch.where(entries.pre > 0, by_gate, 0)
        by_value = torch.where(entries.values > 0, value_slopes, 0)
        stretch = self.vectors["stretch"][features].exp()
        return by_gate + stretch * by_value, {
            "encoder_bias": self.per_feature(entries, by_gate),
            "magnitude_bias": self.per_feature(entries, by_value),
            "stretch": self.per_feature(entries, by_value * stretch * self._raw(entries.pre, features)),
        }

    def dictionary(self, shared: dict[str, Any], unit: Tensor) -> Dictionary:
        """As JumpReLU."""
        stretch, bias = self.vectors["stretch"].exp(), self.vectors["magnitude_bias"] * unit
        found = {
            **shared,
            "encoder": shared["encoder"] * stretch[:, None],
            "encoder_bias": bias,
            "threshold": (bias - stretch * shared["encoder_bias"]).clamp(min=0),
        }
        return Dictionary(activation="jumprelu", **found)
