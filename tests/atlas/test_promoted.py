from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pellucid.atlas import promoted
from pellucid.atlas.promoted import OPENINGS, measure
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary
from pellucid.models import hooks
from pellucid.models.families import FAMILIES
from pellucid.models.model import Model


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["resid_post", "attn_out", "mlp_out"])
def test_effects_equal_one_feature_at_a_time(
    tiny_family: Callable[[str], Model],
    dictionary_at: Callable[..., Dictionary],
    family: str,
    kind: str,
) -> None:
    model, site = tiny_family(family), Site.parse(f"{kind}.1")
    dictionary = dictionary_at(site)
    assert dictionary.maximum is not None
    effects = measure(model, dictionary, dictionary.maximum, count=3, features=[5, 9])
    for place, feature in enumerate((5, 9)):
        rise = torch.zeros(len(model.tokenizer))
        for text in OPENINGS:
            tokens = torch.tensor([model.encode_text(text)])

            def push(x: torch.Tensor, feature: int = feature) -> torch.Tensor:
                x = x.clone()
                x[:, 1:] += 3.0 * dictionary.decoder[feature]
                return x

            with torch.inference_mode():
                before = model.network(tokens).logits[0, -1].softmax(-1)
                with hooks.edited(model.network, [(site, push)]):
                    after = model.network(tokens).logits[0, -1].softmax(-1)
            rise += ((after + 1e-4) / (before + 1e-4)).log() / len(OPENINGS)
        most, least = rise.topk(3), rise.topk(3, largest=False)
        assert effects.promoted_scores[place].tolist() == pytest.approx(most.values.tolist(), abs=1e-4)
        assert set(effects.promoted[place].tolist()) == set(most.indices.tolist())
        assert effects.suppressed_scores[place].tolist() == pytest.approx(least.values.tolist(), abs=1e-4)
        assert set(effects.suppressed[place].tolist()) == set(least.indices.tolist())


def test_effects_do_not_depend_on_how_features_are_shared_out(
    tiny: Model, dictionary_at: Callable[..., Dictionary], monkeypatch: pytest.MonkeyPatch
) -> None:
    dictionary = dictionary_at(Site("resid_post", 1))
    assert dictionary.maximum is not None
    told: list[float] = []
    whole = measure(tiny, dictionary, dictionary.maximum, count=3)
    monkeypatch.setattr(promoted, "_FEATURES_AT_ONCE", 7)
    parts = measure(
        tiny, dictionary, dictionary.maximum, count=3, progress=lambda _, done, __, **___: told.append(done)
    )
    assert torch.allclose(whole.promoted_scores, parts.promoted_scores, atol=1e-4)
    assert torch.allclose(whole.suppressed_scores, parts.suppressed_scores, atol=1e-4)
    assert told == sorted(told)
    assert told[-1] == dictionary.num_features


def test_a_feature_that_was_silent_promotes_nothing(
    tiny: Model, dictionary_at: Callable[..., Dictionary]
) -> None:
    dictionary = dictionary_at(Site("resid_post", 1))
    units = torch.ones(dictionary.num_features)
    units[4] = 0
    effects = measure(tiny, dictionary, units, count=3, features=[3, 4])
    assert effects.promoted_scores.abs().sum(1).bool().tolist() == [True, False]
    assert effects.suppressed_scores.abs().sum(1).bool().tolist() == [True, False]
