"""Mean-difference vectors: the baseline beside every steered feature.

Marks and Tegmark 2023, arXiv 2310.06824.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.core.sites import Site
from pellucid.models.model import Model


def text_activations(model: Model, text: str, site: Site) -> Tensor:
    """[T, D] the activations of a text's tokens, in fp32; the first is left out where there are others."""
    x: Tensor = model.capture(torch.tensor([model.encode_text(text)]), [site])[site][0].float().cpu()
    return x[1:] if len(x) > 1 else x


def mean_activation(model: Model, texts: Sequence[str], site: Site) -> Tensor:
    """[D] the mean over texts of the mean activation of each text's tokens but the first."""
    return torch.stack([text_activations(model, text, site).mean(0) for text in texts]).mean(0)


def mean_difference(model: Model, concept: Sequence[str], neutral: Sequence[str], site: Site) -> Tensor:
    """[D] from the mean of neutral texts to the mean of texts about a concept."""
    return mean_activation(model, concept, site) - mean_activation(model, neutral, site)
