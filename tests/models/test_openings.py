from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pellucid.core.sites import Site
from pellucid.models import hooks
from pellucid.models.families import FAMILIES
from pellucid.models.model import Model
from pellucid.models.openings import Opening

TEXT = "the river runs to the sea"


@pytest.mark.parametrize("family", FAMILIES)
def test_each_edit_gives_the_logits_of_a_whole_pass(tiny_family: Callable[[str], Model], family: str) -> None:
    model = tiny_family(family)
    opening, tokens = Opening.read(model, TEXT), torch.tensor([model.encode_text(TEXT)])
    assert tokens.shape[1] > 2
    added = [
        (Site.parse(name), torch.randn(3, model.width, generator=torch.Generator().manual_seed(n)))
        for n, name in enumerate(["attn_out.0", "resid_post.1"])
    ]
    with torch.inference_mode():
        plain = model.network(tokens).logits[:, -1]
        assert torch.allclose(opening.logits(), plain, atol=1e-4)
        found = opening.logits(added)
        for f in range(3):

            def adding(direction: torch.Tensor) -> hooks.Editor:
                return lambda x: x + direction * (torch.arange(x.shape[1]) > 0)[:, None]

            with hooks.edited(model.network, [(site, adding(each[f])) for site, each in added]):
                assert torch.allclose(found[f], model.network(tokens).logits[0, -1], atol=1e-4)
        # What was read first is as it was.
        assert torch.allclose(opening.logits(), plain, atol=1e-4)
