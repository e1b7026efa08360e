"""What a dictionary must beat: random directions, and principal components of equal L0.

Both stand behind the same protocol as a dictionary: activations in, reconstruction and number of active units
out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary


class Reconstructor(Protocol):
    """Something that stands in for activations."""

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[T, D] in; the reconstruction [T, D] and the number of active units of each token [T] out."""


@dataclass(frozen=True)
class ByDictionary:
    """A dictionary as a reconstructor."""

    dictionary: Dictionary

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode and decode."""
        codes = self.dictionary.encode(x)
        return self.dictionary.decode(codes), codes.offsets.diff()


@dataclass(frozen=True)
class ByComponents:
    """The first principal components of a sample: the best reconstruction from fixed directions."""

    mean: Tensor
    """[D]"""
    components: Tensor
    """[K, D] orthonormal."""

    @classmethod
    def fit(cls, sample: Tensor, count: int) -> ByComponents:
        """Fit to [T, D]."""
        mean = sample.mean(0)
        _, _, directions = torch.linalg.svd(sample - mean, full_matrices=False)
        return cls(mean, directions[:count])

    def reconstruct(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Project."""
        codes = (x - self.mean) @ self.components.T
        return codes @ self.components + self.mean, torch.full((len(x),), len(self.components))


def random_dictionary(
    sample: Tensor, *, features: int, k: int, site: Site, model_digest: str, seed: int = 0
) -> Dictionary:
    """Random directions with everything else done well.

    The sample's mean as bias, the k best per token, the length that reconstructs the sample best (least
    squares).
    """
    generator = torch.Generator().manual_seed(seed)
    directions = torch.nn.functional.normalize(
        torch.randn(features, sample.shape[1], generator=generator), dim=1
    )
    mean = sample.mean(0)

    def scaled(factor: float) -> Dictionary:
        return Dictionary(
            site=site,
            model_digest=model_digest,
            activation="topk",
            k=k,
            encoder=directions * factor,
            encoder_bias=-(directions @ mean) * factor,
            decoder=directions,
            decoder_bias=mean,
        )

    tied = scaled(1.0)
    shape = tied.decode(tied.encode(sample)) - mean
    return scaled(float(((sample - mean) * shape).sum() / shape.square().sum()))
