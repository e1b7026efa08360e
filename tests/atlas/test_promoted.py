from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

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
