"""Mean-difference vectors: the baseline beside every steered feature.

Marks and Tegmark 2023, arXiv 2310.06824.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.core.sites import Site
from pellucid.models.model import Model


def mean_activation(model: Model, texts: Sequence[str], site: Site) -> Tensor:
    """[D] the mean over texts of the mean activation of each text's tokens but the first."""
    found = []
    for text in texts:
        x = model.capture(torch.tensor([model.encode_text(text)]), [site])[site][0].float().cpu()
        found.append((x[1:] if len(x) > 1 else x).mean(0))
    return torch.stack(found).mean(0)


def mean_difference(model: Model, concept: Sequence[str], neutral: Sequence[str], site: Site) -> Tensor:
    """[D] from the mean of neutral texts to the mean of texts about a concept."""
    return mean_activation(model, concept, site) - mean_activation(model, neutral, site)
