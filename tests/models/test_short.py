"""Attention over short texts is the model's own, to rounding, in texts whole and in those read on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from pellucid.models import short
from pellucid.models.families import FAMILIES
from pellucid.models.model import Model
from pellucid.models.openings import Opening
from pellucid.testing import tiny_model

TEXT = "the river runs to the sea"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_logits_are_those_of_the_model(family: str, dtype: torch.dtype) -> None:
    model = tiny_model(family)
    model.network.to(dtype)
    tokens = torch.tensor([model.encode_text(TEXT)] * 3)
    tokens[1:] += torch.arange(tokens.shape[1])[None] % 3
    mine = short.attending(model)
    with torch.inference_mode():
        wanted = model.network(tokens).logits.float()
        found = mine.network(tokens).logits.float()
    close = 1e-5 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(found, wanted, atol=close * float(wanted.abs().max()), rtol=0)
    read_on = Opening.read(mine, TEXT).logits().float()
    torch.testing.assert_close(read_on[0], wanted[0, -1], atol=close * float(wanted.abs().max()), rtol=0)


def test_the_weights_are_shared_and_the_model_stays_as_it_was(
    tiny_family: Callable[[str], Model],
) -> None:
    model = tiny_family("llama")
    before = model.config._attn_implementation
    mine = short.attending(model)
    assert mine.config._attn_implementation != before
    assert model.config._attn_implementation == before
    for (name, one), (other, two) in zip(
        model.network.named_parameters(), mine.network.named_parameters(), strict=True
    ):
        assert name == other
        assert one is two


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_what_attends_in_another_way_is_left_alone(tiny_family: Callable[[str], Model], family: str) -> None:
    model = tiny_family(family)
    assert short.attending(model) is model
