from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pellucid.atlas import by_prompt
from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary
from pellucid.models.model import Model

TEXT = "the lazy dog and the brown fox bark at the moon"


def brute_force(model: Model, dictionary: Dictionary, text: str) -> dict[int, tuple[float, float, int]]:
    """Score, peak and position of each active feature, token by token."""
    ids = model.encode_text(text)
    x = model.columns(torch.tensor([ids]), dictionary.ports.reads)[0].float()
    norms = x.norm(dim=1)
    found: dict[int, tuple[float, float, int]] = {}
    assert dictionary.maximum is not None
    assert dictionary.frequency is not None
    for position in range(1, len(ids)):
        if norms[position] >= 5 * norms[1:].median():
            continue
        features, values = dictionary.encode(x[position : position + 1]).row(0)
        for f, v in zip(features.tolist(), values.tolist(), strict=True):
            damped = min(1.0, math.log(float(dictionary.frequency[f])) / math.log(0.01))
            score = v / float(dictionary.maximum[f]) * damped
            if f not in found or v > found[f][1] + 1e-5:
                found[f] = (score, v, position)
    return found


def with_frequencies(dictionary: Dictionary) -> Dictionary:
    frequency = torch.linspace(0.0001, 0.9, dictionary.num_features)
    return dataclasses.replace(dictionary, frequency=frequency)


def test_the_strongest_are_those_of_brute_force(
    tiny: Model, dictionary_at: Callable[..., Dictionary]
) -> None:
    dictionaries = {
        "low": with_frequencies(dictionary_at(Site("resid_post", 1))),
        "high": with_frequencies(dictionary_at(Site("resid_post", 2), seed=1)),
    }
    ids, found = by_prompt.strongest(tiny, dictionaries, TEXT, count=12)
    assert ids == tiny.encode_text(TEXT)
    wanted = {
        (name, f): facts
        for name, d in dictionaries.items()
        for f, facts in brute_force(tiny, d, TEXT).items()
    }
    best = sorted((score for score, _, _ in wanted.values()), reverse=True)[:12]
    np.testing.assert_allclose([f.score for f in found], best, rtol=1e-3)
    assert {f.dictionary for f in found} == {"low", "high"}
    for one in found:
        score, value, position = wanted[one.dictionary, one.feature]
        assert (one.score, one.value) == pytest.approx((score, value), rel=1e-3)
        assert one.position == position
        assert one.share == pytest.approx(one.value / 3)


def test_several_dictionaries_cost_one_reading(
    tiny: Model, dictionary_at: Callable[..., Dictionary], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    capture = type(tiny).capture

    def counted(self: Model, *arguments: object, **options: object) -> object:
        calls.append(1)
        return capture(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(type(tiny), "capture", counted)
    several = {str(layer): dictionary_at(Site("resid_post", layer)) for layer in (0, 1, 2)}
    by_prompt.strongest(tiny, several, TEXT)
    assert len(calls) == 1


@given(st.floats(1e-9, 1), st.floats(1e-9, 1))
def test_what_is_on_more_often_is_damped_more(one: float, other: float) -> None:
    low, high = by_prompt.damping(np.array(sorted([one, other])))
    assert 0 <= high <= low <= 1


def test_the_rule_is_the_one_that_is_stated(tiny: Model, dictionary: Dictionary) -> None:
    assert by_prompt.damping(np.array([0.0, 0.001, 0.01, 0.1, 1.0])) == pytest.approx([1, 1, 1, 0.5, 0])
    _, found = by_prompt.strongest(tiny, {"bare": dictionary}, TEXT)
    assert all(f.frequency >= by_prompt.RARE for f in found), "by this text, where a dictionary holds none"


def test_empty_text_and_missing_maxima_are_refused(tiny: Model, dictionary: Dictionary) -> None:
    with pytest.raises(InputError, match="empty"):
        by_prompt.strongest(tiny, {"one": dictionary}, "")
    with pytest.raises(InputError, match="maxima"):
        by_prompt.strongest(tiny, {"one": dataclasses.replace(dictionary, maximum=None)}, TEXT)
