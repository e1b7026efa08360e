"""What is read of a model on an accelerator is what is read on the processor, in the same order."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pellucid.activations import endings, spelling
from pellucid.activations.reading import Reader
from pellucid.activations.text import TextSource
from pellucid.activations.tokens import TokenStore
from pellucid.core.sites import Site
from pellucid.models.model import Model
from pellucid.testing import WORDS, tiny_model

On = Callable[..., Model]
SITE, FURTHER = Site("resid_post", 1), Site("mlp_out", 2)
CLOSE = {"rtol": 5e-4, "atol": 5e-4}


@pytest.fixture
def store(tiny: Model, tmp_path: Path) -> TokenStore:
    draw = np.random.default_rng(0)
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(" ".join(draw.choice(WORDS, 30)) for _ in range(60)))
    return TokenStore.build(tiny, [TextSource.parse(str(text))], length=16, folder=tmp_path / "store")


def test_batches_come_in_the_same_order(tiny: Model, store: TokenStore, device: str, on: On) -> None:
    """Of two sites of two models; there the next block is read while one is used."""
    options: dict[str, Any] = {"batch_tokens": 100, "block_rows": 40, "seed": 3, "further": (FURTHER,)}
    other = tiny_model(seed=1)
    here = Reader(tiny, store, SITE, beside=other, **options)
    there = Reader(on(device, tiny), store, SITE, beside=on(device, other), **options)
    torch.testing.assert_close(there.sink_norms.cpu(), here.sink_norms, **CLOSE)
    for (position, expected), (my_position, found) in zip(here.batches(), there.batches(), strict=True):
        assert my_position == position
        assert found.device.type == device
        torch.testing.assert_close(found.cpu(), expected, **CLOSE)
    torch.testing.assert_close(there.sample(100).cpu(), here.sample(100), **CLOSE)
    rows = np.asarray(store.tokens[:5])
    for expected, found in zip(here.read(rows), there.read(rows), strict=True):
        assert found.device.type == "cpu"
        torch.testing.assert_close(found, expected, **CLOSE)


def test_texts_and_words_are_read_the_same(
    tiny: Model, device: str, on: On, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = ["the dog", "the rain in the town", "a fox and a moon"]
    found = []
    for name, model in (("here", tiny), ("there", on(device, tiny))):
        monkeypatch.setenv("PELLUCID_HOME", str(tmp_path / name))
        ends = endings.read(model, SITE, texts, tokens=4)
        found.append((ends.last, ends.sample, spelling.read(model, SITE, words=3).activations))
    for expected, mine in zip(*found, strict=True):
        np.testing.assert_allclose(mine, expected, **CLOSE)
