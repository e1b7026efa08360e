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
from pellucid.atlas import promoted
from pellucid.cli import convert, journey
from pellucid.cli.session import Session
from pellucid.core.sites import Site
from pellucid.dictionaries import files, remeasure, shipped
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.files import Card
from pellucid.dictionaries.peers import Declared
from pellucid.dictionaries.ports import Ports
from pellucid.models.batching import Batch, Failed, Request, Wrote
from pellucid.models.generation import Sampling
from pellucid.models.model import Model, load
from pellucid.models.steps import steps_of
from pellucid.steering.edits import EditPlan, FeatureEdit
from pellucid.steering.steer import steer
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


@pytest.fixture(scope="module")
def shipped_dictionary() -> Dictionary:
    return files.load(shipped.resolve("smollm2"))[0]


@pytest.mark.model
def test_the_shipped_dictionary_does_there_what_it_does_here(
    smollm2: Model, shipped_dictionary: Dictionary, gpu: str, on: On
) -> None:
    """The small real model in fp32: what is read, written, steered, proved and promoted."""
    away, d = on(gpu, smollm2), shipped_dictionary
    tokens = torch.tensor([smollm2.encode_text(journey.TEXT)])
    for one in (d, d.to(gpu)):
        expected = d.encode(smollm2.capture(tokens, [d.site])[d.site][0]).dense()
        found = one.encode(away.capture(tokens, [d.site])[d.site][0]).to("cpu").dense()
        both = (expected > 0) & (found > 0)
        assert both.sum() > 0.99 * torch.maximum((expected > 0).sum(), (found > 0).sum())
        torch.testing.assert_close(found[both], expected[both], rtol=2e-3, atol=5e-3)
    prompts = ["Tell me about yourself.", "Write a short story about a dog and the rain.", "Hi!"]
    edit = FeatureEdit("set", int(expected[1:].amax(0).argmax()), 1.0)
    here, there = (
        steer(m, one, prompts, [edit], sampling=Sampling(24)) for m, one in ((smollm2, d), (away, d.to(gpu)))
    )
    for theirs, mine in zip(here, there, strict=True):
        assert (mine.plain, mine.steered) == (theirs.plain, theirs.steered)
        (one_receipt,), (other_receipt,) = theirs.receipts, mine.receipts
        for name in ("before", "asked", "reached", "kl"):
            assert getattr(other_receipt, name) == pytest.approx(getattr(one_receipt, name), rel=1e-2), name
    assert d.maximum is not None
    some = list(range(0, d.num_features, d.num_features // 32))
    effects = [promoted.measure(m, d, d.maximum, features=some, count=8) for m in (smollm2, away)]
    torch.testing.assert_close(effects[1].promoted_scores, effects[0].promoted_scores, rtol=1e-2, atol=1e-3)
    assert (effects[1].promoted[:, 0] == effects[0].promoted[:, 0]).float().mean() > 0.9


@pytest.mark.model
def test_the_shipped_dictionary_works_in_what_is_chosen_there(
    shipped_dictionary: Dictionary, gpu: str
) -> None:
    """Which is bf16: several answers at once, watched, edited and proved."""
    model, d = load("smollm2"), shipped_dictionary
    assert (model.device.type, model.dtype) == (gpu, torch.bfloat16)
    prompts = model.encode_prompts(["Tell me about yourself.", "Hi!", "Write about the sea. " * 30])
    edits = EditPlan.same(d, [FeatureEdit("add", 12058, 0.5)], 1)
    steps = steps_of(model, slots=4, room=512)
    for one in (d, d.to(gpu)):
        batch: Batch[Any] = Batch(steps)
        for prompt in prompts:
            batch.submit(Request(prompt, Sampling(16), watch=[one], editors=edits.editors))
        told = []
        while batch.running or batch.waiting:
            told += batch.step()
        assert not [e for _, e in told if isinstance(e, Failed)]
        assert sum(isinstance(e, Wrote) for _, e in told) > 20
    for found in steer(model, d, ["Tell me about yourself."], edits.rows[0], sampling=Sampling(16)):
        (receipt,) = found.receipts
        assert receipt.kl > 0
        assert receipt.reached > receipt.before
