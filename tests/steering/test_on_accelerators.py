"""Edits, their proof and their effects with a model that is on an accelerator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from pellucid.atlas import promoted
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.ports import Ports
from pellucid.models.generation import Sampling
from pellucid.models.model import Model
from pellucid.steering import effects, finding, receipts, vectors
from pellucid.steering.edits import EditPlan, FeatureEdit, VectorEdit
from pellucid.steering.steer import steer

On = Callable[..., Model]
PROMPTS = ("The rain came", "Dogs bark at the moon")
EDITS = [
    FeatureEdit("set", 7, 4.0),
    FeatureEdit("add", 3, 2.0, "answer"),
    FeatureEdit("scale", 11, 3.0),
    FeatureEdit("cap", 20, 0.1, "prompt"),
    FeatureEdit("ablate", 30),
]


@pytest.fixture(params=["dictionary beside the model", "dictionary on the processor"])
def place(request: pytest.FixtureRequest, device: str) -> str:
    """Where the dictionary lies while the model is on the device."""
    return device if "beside" in request.param else "cpu"


def kinds(dictionary: Dictionary) -> list[Dictionary]:
    """One with thresholds, one whose features compete, one that writes another site."""
    elsewhere = Ports(dictionary.ports.reads, (Site("resid_post", 2),))
    return [
        dictionary,
        replace(dictionary, activation="topk", k=8, threshold=None),
        replace(dictionary, ports=elsewhere),
    ]


def close(found: receipts.Receipt, expected: receipts.Receipt) -> None:
    """Whether a receipt says the same, but for digits."""
    assert (found.edit, found.feature, found.tokens) == (expected.edit, expected.feature, expected.tokens)
    for name in ("before", "asked", "reached", "kl", "kept"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name), rel=1e-3, abs=1e-3), name


@pytest.mark.parametrize("kind", range(3))
def test_steering_writes_and_proves_the_same(
    tiny: Model, dictionary: Dictionary, kind: int, device: str, place: str, on: On
) -> None:
    d = kinds(dictionary)[kind]
    vector = torch.randn(tiny.width, generator=torch.Generator().manual_seed(2))
    away = on(device, tiny)
    for edits in (EDITS, [VectorEdit(vector, 2.0)]):
        expected, found = (
            steer(m, one, PROMPTS, edits, sampling=Sampling(max_tokens=8))
            for m, one in ((tiny, d), (away, d.to(place)))
        )
        for theirs, mine in zip(expected, found, strict=True):
            assert (mine.plain, mine.steered) == (theirs.plain, theirs.steered)
            for one, other in zip(theirs.receipts, mine.receipts, strict=True):
                close(other, one)


def test_in_bf16_an_edit_is_proved_too(
    tiny: Model, dictionary: Dictionary, device: str, place: str, on: On
) -> None:
    away = on(device, tiny, torch.bfloat16)
    found = steer(away, dictionary.to(place), PROMPTS, [FeatureEdit("set", 7, 4.0)], sampling=Sampling(6))
    for one in found:
        (receipt,) = one.receipts
        assert receipt.reached > receipt.before
        assert receipt.kl > 0
        assert receipt.kept < 0.05


def test_what_is_measured_while_it_is_written_is_proved(
    tiny: Model, dictionary: Dictionary, place: str
) -> None:
    plan = EditPlan.same(dictionary, [FeatureEdit("set", 7, 4.0)], 1)
    before = tiny.capture(torch.tensor([tiny.encode_text(PROMPTS[1])]), [dictionary.site])[dictionary.site][0]
    expected, found = (
        receipts.of_written(EditPlan(d, plan.rows), before, 3, 0.5)
        for d in (dictionary, dictionary.to(place))
    )
    close(found[0], expected[0])


def test_features_are_found_and_tried_the_same(
    tiny: Model, dictionary: Dictionary, device: str, place: str, on: On
) -> None:
    concept, neutral = ["the rain in the town", "rain and more rain"], ["dogs bark", "a lazy fox"]
    assert dictionary.maximum is not None
    effect = promoted.measure(tiny, dictionary, dictionary.maximum, count=6)
    told = []
    for model, d in ((tiny, dictionary), (on(device, tiny), dictionary.to(place))):
        found = finding.by_contrast(
            model, d, concept, neutral, promoted=(effect.promoted, effect.promoted_scores), count=4
        )
        judges = [effects.by_words(["the", "rain"])]
        tried = finding.trial(model, d, found[:2], [1.0, 2.0], PROMPTS, judges, max_tokens=5)
        difference = vectors.mean_difference(model, concept, neutral, d.site)
        _, vector = effects.least_vector(
            model, d, difference, [1.0], model.encode_prompts(PROMPTS), Sampling(4), judges, wanted=1
        )
        told.append((found, tried, vector))
    (found, tried, vector), (my_found, my_tried, my_vector) = told
    assert [c.feature for c in my_found] == [c.feature for c in found]
    for one, other in zip(tried, my_tried, strict=True):
        assert (other.candidate.feature, other.strength, other.hits) == (
            one.candidate.feature, one.strength, one.hits
        )  # fmt: skip
        assert other.perplexity == pytest.approx(one.perplexity, rel=1e-3)
    assert my_vector.token_ids == vector.token_ids
    assert my_vector.perplexity == pytest.approx(vector.perplexity, rel=1e-3)
