"""What a dictionary must beat: random directions, and principal components of equal L0.

Both stand behind the same protocol as a dictionary: activations in; what it writes, and how many units are
active, out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.ports import Ports
from pellucid.dictionaries.settings import TrainSettings
from pellucid.dictionaries.trainer import Trainer


class Reconstructor(Protocol):
    """Something that stands in for activations."""

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What it makes of activations [T, C], and the number of active units of each token.

        C are the columns of all sites that are read or written. What is made, [T, D], is of those written.
        """


@dataclass(frozen=True)
class ByDictionary:
    """A dictionary as a reconstructor."""

    dictionary: Dictionary

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode and decode where the dictionary lies."""
        rebuilt, codes = self.dictionary.reconstruct(self.dictionary.ports.read(x))
        return rebuilt.to(x.device), codes.offsets.diff().to(x.device)


@dataclass(frozen=True)
class ByComponents:
    """The first principal components of what is written: the best reconstruction from fixed directions.

    For a transcoder they know more than it does: they see what it must write.
    """

    ports: Ports
    mean: Tensor
    """[D]"""
    components: Tensor
    """[K, D] orthonormal."""

    @classmethod
    def fit(cls, sample: Tensor, count: int, ports: Ports) -> ByComponents:
        """Fit to [T, C]."""
        x = ports.written(sample)
        mean = x.mean(0)
        _, _, directions = torch.linalg.svd(x - mean, full_matrices=False)
        return cls(ports, mean, directions[:count])

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Project."""
        codes = (self.ports.written(x) - self.mean) @ self.components.T
        return codes @ self.components + self.mean, torch.full((len(x),), len(self.components))


def random_dictionary(
    sample: Tensor, *, features: int, k: int, ports: Ports, model_digest: str, seed: int = 0
) -> Dictionary:
    """Random directions with everything else done well: a dictionary as it is before its first step.

    The centre of the sample [T, C] as bias, the k best per token, the length that reconstructs best (least
    squares); where what is written is not what is read, each feature writes the mean of what is written while
    it is among the best.
    """
    settings = TrainSettings(features=features, k=k, architecture="topk", seed=seed)
    return Trainer(settings, sample, ports).dictionary(model_digest)
