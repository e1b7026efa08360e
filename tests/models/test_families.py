from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from pellucid.core.errors import InputError, UnknownNameError
from pellucid.core.sites import KINDS, LAYER_KINDS, Site
from pellucid.models import families
from pellucid.models.families import FAMILIES
from pellucid.models.model import Model

Maker = Callable[[str], Model]
every_family = pytest.mark.parametrize("family", FAMILIES)


def rows(model: Model, num_rows: int = 2, positions: int = 80) -> torch.Tensor:
    """Token rows longer than the window of the families that have one."""
    generator = torch.Generator().manual_seed(7)
    return torch.randint(3, len(model.tokenizer), (num_rows, positions), generator=generator)


@every_family
def test_the_residual_stream_is_what_transformers_calls_hidden_states(
    family: str, tiny_family: Maker
) -> None:
    model = tiny_family(family)
    ids, last = rows(model), model.num_layers - 1
    with torch.inference_mode():
        states = model.network(ids, output_hidden_states=True).hidden_states
    sites = [Site("resid_pre", n) for n in range(last + 1)] + [Site("resid_post", n) for n in range(last)]
    found = model.capture(ids, [*sites, Site("resid_final")])
    for site in sites:
        assert site.layer is not None
        assert torch.equal(found[site], states[site.layer + (site.kind == "resid_post")]), site
    assert torch.equal(found[Site("resid_final")], states[-1])


@every_family
def test_what_attention_and_the_mlp_add_makes_the_stream_bit_for_bit(family: str, tiny_family: Maker) -> None:
    model = tiny_family(family)
    sites = [Site(kind, n) for n in range(model.num_layers) for kind in LAYER_KINDS]
    found = model.capture(rows(model), sites)
    for n in range(model.num_layers):
        before, attention, mlp, after = (
            found[Site(kind, n)] for kind in ("resid_pre", "attn_out", "mlp_out", "resid_post")
        )
        if family == "gpt_neox":  # attention and MLP side by side, summed in this order
            assert torch.equal(mlp + attention + before, after)
        else:
            assert torch.equal(before + attention + mlp, after)
        assert attention.abs().max() > 0
        assert mlp.abs().max() > 0


@every_family
def test_what_the_mlp_reads_is_what_it_turns_into_its_output(family: str, tiny_family: Maker) -> None:
    model = tiny_family(family)
    found = model.capture(rows(model), [Site("mlp_in", 2), Site("mlp_out", 2)])
    layer = model.network.get_submodule(f"{FAMILIES[family].layers}.2")
    with torch.inference_mode():
        out = layer.get_submodule("mlp")(found[Site("mlp_in", 2)])
        if family in ("gemma2", "gemma3_text"):
            out = layer.get_submodule("post_feedforward_layernorm")(out)
    assert torch.equal(out, found[Site("mlp_out", 2)])


@every_family
def test_the_ends_of_the_model_are_its_embedding_and_what_the_unembedding_reads(
    family: str, tiny_family: Maker
) -> None:
    model = tiny_family(family)
    network = cast(Any, model.network)
    ids = rows(model)
    found = model.capture(ids, [Site("embed"), Site("resid_post", model.num_layers - 1), Site("resid_final")])
    with torch.inference_mode():
        assert torch.equal(found[Site("embed")], network.get_input_embeddings()(ids))
        final = model.final_norm(found[Site("resid_post", model.num_layers - 1)])
        assert torch.equal(found[Site("resid_final")], final)
        read = final @ model.unembedding.T
        cap = getattr(model.config, "final_logit_softcapping", None)
        expected = network(ids).logits
    torch.testing.assert_close(torch.tanh(read / cap) * cap if cap else read, expected, rtol=1e-5, atol=1e-4)


@every_family
def test_the_layers_are_counted(family: str, tiny_family: Maker) -> None:
    assert families.num_layers(tiny_family(family).network) == 4


@every_family
@pytest.mark.parametrize("kind", LAYER_KINDS)
def test_a_site_that_does_not_exist_names_the_layers_that_do(
    family: str, kind: str, tiny_family: Maker
) -> None:
    model = tiny_family(family)
    assert model.check_site(Site(kind, 3)) == Site(kind, 3)
    with pytest.raises(InputError, match=rf"no site '{kind}\.4': the model has layers 0 to 3") as caught:
        model.check_site(Site(kind, 4))
    assert all(k in str(caught.value) for k in KINDS)


def test_an_unsupported_architecture_suggests_the_nearest() -> None:
    network = cast(Any, SimpleNamespace(config=SimpleNamespace(model_type="gemma3")))
    with pytest.raises(UnknownNameError, match="no supported architecture 'gemma3'") as caught:
        families.of(network)
    assert caught.value.nearest in ("gemma", "gemma2", "gemma3_text")
