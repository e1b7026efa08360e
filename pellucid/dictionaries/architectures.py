"""What architectures differ in: how pre-activations become a code, and what sparsity costs.

The trainer computes one dense product and hands it to a rule. The rule picks the entries that count,
says what they are worth, and turns the gradient by a value into the gradient by its pre-activation. Whatever
a rule learns beside encoder and decoder is a vector of one number per feature, in `vectors` beside the
biases, and moved by Adam like them; whatever it remembers from step to step is in `numbers`. Both are part of
a checkpoint.

B rows of a batch, N features, E entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from pellucid.dictionaries import kernels
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.codes import rows_of
from pellucid.dictionaries.crew import ALONE
from pellucid.dictionaries.kernels import ByFeature
from pellucid.dictionaries.settings import TrainSettings


@dataclass(frozen=True)
class Entries:
    """The entries of a batch that count, in compressed rows."""

    offsets: Tensor
    """[B+1] where each row begins."""
    features: Tensor
    """[E] int32."""
    pre: Tensor
    """[E] float32, encoder row · x + encoder bias."""
    values: Tensor
    """[E] float32, what each is worth: zero for one that only bears on a threshold."""
    active: Tensor
    """No axes, float64: how many are worth something, those of other workers among them."""
    num_features: int
    """N."""

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.offsets) - 1

    @property
    def l0(self) -> Tensor:
        """No axes: active features per row."""
        return self.active / self.num_rows

    @cached_property
    def rows(self) -> Tensor:
        """[E] int64, the row of the batch each belongs to."""
        return rows_of(self.offsets.diff(), len(self.features))

    @cached_property
    def by_feature(self) -> ByFeature:
        """The entries, sorted."""
        return kernels.by_feature(self.features, self.num_features)


@dataclass(frozen=True)
class Decoded:
    """What a rule with a loss of its own needs beside the entries."""

    aim: Tensor
    """[B, D] what is to be reconstructed, scaled."""
    decoder: Tensor
    """[N, D]."""
    rebuild: Callable[[Entries, Tensor], Tensor]
    """[G, B, D] what entries would reconstruct if they were worth the values [E]."""
    weight: float
    """By which a squared error enters the loss."""


Slopes = tuple[Tensor, dict[str, Tensor]]
"""The gradient by each entry's pre-activation [E], and by each vector of the rule, `encoder_bias` among them
[N]."""


class Rule:
    """Keeps what is positive: the ground that the architectures stand on."""

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        self.vectors: dict[str, Tensor] = {}
        self.numbers: dict[str, float] = {}
        self.crew = ALONE

    def start(self, pre: Tensor) -> None:
        """Begin from the pre-activations [T, N] of a sample: add vectors, set numbers."""

    def take_up(self, thresholds: Tensor) -> None:
        """Begin from a trained dictionary, with its biases in `vectors` and its thresholds [N], if any."""

    @property
    def bar(self) -> Tensor | float:
        """What a pre-activation must exceed for its entry to be picked up: a number, or one per feature."""
        return 0.0

    @property
    def prefixes(self) -> tuple[int, ...]:
        """How many of the first features must reconstruct by themselves; ends with N."""
        return (self.settings.features,)

    def select(self, product: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Which entries count: per row how many [B], and their features [E].

        Args:
            product: [B, N] bf16, the pre-activations less the bar.
            step: from 0.
        """
        return kernels.positive(product)

    def values(self, pre: Tensor, features: Tensor) -> Tensor:
        """What entries are worth, by their pre-activation [E]."""
        return pre.clamp(min=0)

    def slopes(self, entries: Entries, value_slopes: Tensor, decoded: Decoded) -> Slopes:
        """From the gradient by each value, with the rule's own penalty, to that by what it learns."""
        pre = torch.where(entries.values > 0, value_slopes, 0)
        return pre, {"encoder_bias": self.per_feature(entries, pre)}

    def per_feature(self, entries: Entries, slopes: Tensor) -> Tensor:
        """[N] the sum of the entries of each feature."""
        return kernels.sums(entries.by_feature, slopes)

    def seen(self, entries: Entries) -> Tensor:
        """No axes: what is to be learnt from a batch, for `learn`; sent for with the loss."""
        return entries.l0

    def learn(self, seen: float, step: int) -> None:
        """After a step (from 1): remember what the dictionary will need."""

    def dictionary(self, shared: dict[str, Any], unit: Tensor) -> Dictionary:
        """The dictionary to keep, in the units of the model.

        Args:
            shared: what all architectures have in common, in those units already.
            unit: [N] what one unit of training is in them, by feature.
        """
        return Dictionary(activation="relu", **shared)


def quantile_of(pre: Tensor, active: float) -> float:
    """The number that `active` pre-activations per token exceed."""
    wanted = min(pre.numel() - 1, max(1, round(active * len(pre))))
    return float(pre.flatten().topk(wanted + 1).values[-1])


class Penalised(Rule):
    """Pays for active features: the weight of the penalty moves until as many are active as were asked for.

    At every step it is multiplied by a power of how far the running average of L0 is off, so that one number,
    k, asks for the same of every architecture.
    """

    _FIRST_ACTIVE = 4  # times k: where training starts
    _GAIN = 0.01
    _MEMORY = 0.95

    def start(self, pre: Tensor) -> None:
        """Lower the encoder bias until a few times k features are active."""
        active = min(self._FIRST_ACTIVE * self.settings.k, self.settings.features // 2)
        self.vectors["encoder_bias"] -= quantile_of(pre, active)
        self.numbers = {"penalty": 1.0, "l0": float(active)}

    def take_up(self, thresholds: Tensor) -> None:
        """Begin with as many active as were asked for."""
        self.numbers = {"penalty": 1.0, "l0": float(self.settings.k)}

    def learn(self, seen: float, step: int) -> None:
        """Move the weight of the penalty, by L0."""
        average = self._MEMORY * self.numbers["l0"] + (1 - self._MEMORY) * seen
        off = math.log(max(average, 1e-3) / self.settings.k)
        self.numbers = {
            "penalty": self.numbers["penalty"] * math.exp(self._GAIN * max(-2.0, min(2.0, off))),
            "l0": average,
        }


def of(settings: TrainSettings) -> Rule:
    """The rule of an architecture."""
    from pellucid.dictionaries.batchtopk import BatchTopK
    from pellucid.dictionaries.gated import Gated
    from pellucid.dictionaries.jumprelu import JumpReLU
    from pellucid.dictionaries.matryoshka import Matryoshka
    from pellucid.dictionaries.relu import ReLU
    from pellucid.dictionaries.topk import TopK

    rules: dict[str, type[Rule]] = {
        "topk": TopK,
        "batchtopk": BatchTopK,
        "matryoshka": Matryoshka,
        "jumprelu": JumpReLU,
        "gated": Gated,
        "relu": ReLU,
    }
    return rules[settings.architecture](settings)
