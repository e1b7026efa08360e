"""A tiny dictionary, text, and what reads it: what the tests of the atlas share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from pellucid.activations.reading import Reader
from pellucid.activations.text import TextSource
from pellucid.activations.tokens import TokenStore
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.ports import Ports
from pellucid.models.model import Model

N = 48
SITE = Site("resid_post", 1)
WORDS = (
    "the", "rain", "dogs", "moon", "model", "reads",
    "token", "after", "another", "people", "town", "weather",
)  # fmt: skip


@pytest.fixture(scope="session")
def dictionary_at(tiny: Model) -> Callable[..., Dictionary]:
    """Makes dictionaries of random directions; the last feature of each is never active."""

    def make(site: Site, seed: int = 0) -> Dictionary:
        g = torch.Generator().manual_seed(seed)
        decoder = torch.nn.functional.normalize(torch.randn(N, tiny.width, generator=g), dim=1)
        bias = torch.zeros(N)
        bias[-1] = -1e6
        return Dictionary(
            ports=Ports.of(site),
            model_digest=tiny.digest,
            activation="topk",
            k=6,
            encoder=decoder.clone(),
            encoder_bias=bias,
            decoder=decoder,
            decoder_bias=torch.zeros(tiny.width),
            maximum=torch.full((N,), 3.0),
        )

    return make


@pytest.fixture(scope="session")
def dictionary(dictionary_at: Callable[..., Dictionary]) -> Dictionary:
    return dictionary_at(SITE)


@pytest.fixture(scope="session")
def store(tiny: Model, tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    """Two sources, rows of 32."""
    folder = tmp_path_factory.mktemp("store")
    picks = np.random.default_rng(0).choice(WORDS, (60, 40))
    for number, row in enumerate(picks):
        text = folder / ("first" if number < 40 else "second")
        text.mkdir(exist_ok=True)
        (text / f"{number}.txt").write_text(" ".join(row))
    sources = [TextSource.parse(str(folder / name)) for name in ("first", "second")]
    return TokenStore.build(tiny, sources, length=32, folder=folder / "store")


@pytest.fixture(scope="session")
def reader(tiny: Model, store: TokenStore) -> Reader:
    return Reader(tiny, store, SITE)
