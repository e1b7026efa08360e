"""A small dictionary over the tiny model, with maxima."""

from __future__ import annotations

import pytest
import torch

from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.ports import Ports
from pellucid.models.model import Model

FEATURES = 96


@pytest.fixture(scope="session")
def dictionary(tiny: Model) -> Dictionary:
    """Random unit directions, tied, with a threshold low enough that features fire."""
    g = torch.Generator().manual_seed(0)
    decoder = torch.nn.functional.normalize(torch.randn(FEATURES, tiny.width, generator=g), dim=1)
    return Dictionary(
        ports=Ports.of(Site("resid_post", 1)),
        model_digest=tiny.digest,
        activation="jumprelu",
        encoder=decoder.clone(),
        encoder_bias=torch.zeros(FEATURES),
        decoder=decoder,
        decoder_bias=torch.zeros(tiny.width),
        threshold=torch.full((FEATURES,), 0.2),
        maximum=torch.linspace(1, 3, FEATURES).index_fill(0, torch.tensor([FEATURES - 1]), 0.0),
        frequency=torch.full((FEATURES,), 0.1),
    )
