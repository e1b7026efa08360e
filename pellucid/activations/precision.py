"""What computing in bf16 costs: activations against those of the same model in fp32."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from pellucid.activations.tokens import TokenStore
from pellucid.core.sites import Site
from pellucid.models.model import Model, load

_ROWS = 4


@dataclass(frozen=True)
class PrecisionError:
    """How far activations are from those in fp32."""

    dtype: str
    site: Site
    median_relative: float
    """Median over tokens of ‖x − x₃₂‖ / ‖x₃₂‖."""
    worst_relative: float
    cosine: float
    """Mean over tokens."""
    tokens: int

    def sentence(self) -> str:
        """For people."""
        if self.dtype == "float32":
            return "The model is read in fp32."
        return (
            f"The model is read in {self.dtype}: against fp32 the activations at {self.site} are off by "
            f"{self.median_relative:.2%} (median of {self.tokens} tokens; worst {self.worst_relative:.1%}; "
            f"mean cosine {self.cosine:.5f})."
        )


def precision_error(model: Model, reference: str, store: TokenStore, site: Site) -> PrecisionError:
    """Measure on a few rows of a store; loads a second copy of the model, in fp32."""
    name = str(model.dtype).removeprefix("torch.")
    if model.dtype == torch.float32:
        return PrecisionError(name, site, 0.0, 0.0, 1.0, 0)
    exact = load(reference, precision="fp32", device=str(model.device))
    tokens = torch.from_numpy(np.asarray(store.tokens[:_ROWS]).astype(np.int64))
    a = model.capture(tokens, [site])[site][:, 1:].float().flatten(0, 1)
    b = exact.capture(tokens, [site])[site][:, 1:].float().flatten(0, 1)
    relative = (a - b).norm(dim=1) / b.norm(dim=1)
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1)
    return PrecisionError(
        name, site, float(relative.median()), float(relative.max()), float(cosine.mean()), len(a)
    )
