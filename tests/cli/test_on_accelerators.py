"""What the verbs measure with a model that is on an accelerator, and a dictionary that is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pellucid.activations.reading import Reader
from pellucid.activations.text import TextSource
from pellucid.activations.tokens import TokenStore
from pellucid.cli import convert, journey
from pellucid.cli.session import Session
from pellucid.core.sites import Site
from pellucid.dictionaries import remeasure
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.files import Card
from pellucid.dictionaries.peers import Declared
from pellucid.dictionaries.ports import Ports
from pellucid.models.model import Model
from pellucid.testing import WORDS

On = Callable[..., Model]
SITE = Site("resid_post", 1)


@pytest.fixture(params=["jumprelu", "topk"])
def dictionary(request: pytest.FixtureRequest, tiny: Model) -> Dictionary:
    g = torch.Generator().manual_seed(0)
    decoder = torch.nn.functional.normalize(torch.randn(64, tiny.width, generator=g), dim=1)
    return Dictionary(
        ports=Ports.of(SITE),
        model_digest=tiny.digest,
        activation=request.param,
        encoder=decoder.clone(),
        encoder_bias=torch.zeros(64),
        decoder=decoder,
        decoder_bias=torch.zeros(tiny.width),
        k=8 if request.param == "topk" else None,
        threshold=torch.full((64,), 0.5) if request.param == "jumprelu" else None,
        maximum=torch.full((64,), 3.0),
    )


def test_the_demonstration_sees_the_same(
    tiny: Model, dictionary: Dictionary, device: str, on: On, tmp_path: Path
) -> None:
    told: list[dict[str, Any]] = []
    for model in (tiny, on(device, tiny)):
        session = Session(tmp_path, model, dictionary, Card({}))
        reading = journey.read(session, "the rain in the town", tops=3)
        lit = journey._lit(session, 7, model.encode_text("the dog"), model.encode_text("and the moon"))
        told.append({"reading": reading, "lit": lit, "found": journey.find(session, ["ocean"], count=3)})
    here, there = told
    assert there["reading"]["pieces"] == here["reading"]["pieces"]
    for mine, theirs in zip(there["reading"]["tops"], here["reading"]["tops"], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3)
    assert there["lit"]["values"] == pytest.approx(here["lit"]["values"], abs=1e-3)
    assert [c.feature for c in there["found"]["ocean"]] == [c.feature for c in here["found"]["ocean"]]


def test_a_file_is_held_against_other_sites(
    tiny: Model, dictionary: Dictionary, device: str, on: On, tmp_path: Path
) -> None:
    draw = np.random.default_rng(0)
    text = tmp_path / "text.txt"
    text.write_text("\n\n".join(" ".join(draw.choice(WORDS, 30)) for _ in range(20)))
    store = TokenStore.build(tiny, [TextSource.parse(str(text))], length=16, folder=tmp_path / "store")
    d = dictionary
    declared = Declared(
        "saelens", d.encoder, d.encoder_bias, d.decoder, d.decoder_bias, d.activation, d.k, d.threshold
    )
    here, there = (
        remeasure.fits(declared, SITE, convert._activations(Reader(m, store, SITE)))
        for m in (tiny, on(device, tiny))
    )
    assert len({f.value for f in there if f.field == "site"}) > 3
    for mine, theirs in zip(there, here, strict=True):
        assert (mine.field, mine.value) == (theirs.field, theirs.value)
        assert mine.unexplained == pytest.approx(theirs.unexplained, rel=1e-3)
