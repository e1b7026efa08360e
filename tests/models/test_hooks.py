from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.sites import LAYER_KINDS, Site
from pellucid.models import hooks
from pellucid.models.families import FAMILIES
from pellucid.models.model import Model

Maker = Callable[[str], Model]
every_family = pytest.mark.parametrize("family", FAMILIES)
ALL_SITES = [Site("embed"), *(Site(k, n) for n in range(4) for k in LAYER_KINDS), Site("resid_final")]
IDS = torch.randint(3, 300, (2, 24), generator=torch.Generator().manual_seed(3))


def logits(model: Model, ids: Tensor = IDS) -> Tensor:
    with torch.inference_mode():
        return cast(Tensor, cast(Any, model.network)(ids).logits)


def num_hooks(model: Model) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.network.modules())


@every_family
def test_reading_every_site_changes_no_logit(family: str, tiny_family: Maker) -> None:
    model = tiny_family(family)
    plain, before = logits(model), num_hooks(model)
    seen: list[Site] = []
    with hooks.watched(model.network, [(s, lambda _x, s=s: seen.append(s)) for s in ALL_SITES]):
        assert torch.equal(logits(model), plain)
    assert seen == ALL_SITES, "readers are called in the order of the forward pass"
    model.capture(IDS, [Site("mlp_out", 1)])
    assert num_hooks(model) == before
    assert torch.equal(logits(model), plain)


@every_family
def test_what_is_captured_alone_is_what_is_captured_together(family: str, tiny_family: Maker) -> None:
    model = tiny_family(family)
    together = model.capture(IDS, ALL_SITES)
    for site in ALL_SITES:
        assert torch.equal(model.capture(IDS, [site])[site], together[site]), site


@every_family
@pytest.mark.parametrize(
    ("site", "layers_run"),
    [("embed", 0), ("resid_pre.0", 0), ("attn_out.1", 1), ("resid_post.1", 2), ("resid_final", 4)],
)
def test_layers_after_the_deepest_site_are_not_run(
    family: str, site: str, layers_run: int, tiny_family: Maker
) -> None:
    model = tiny_family(family)
    finished: Counter[str] = Counter()
    with ExitStack() as stack:
        for name, module in model.network.named_modules():
            handle = module.register_forward_hook(lambda *_args, name=name: finished.update([name]))
            stack.callback(handle.remove)
        model.capture(IDS, [Site("embed"), Site.parse(site)])
    paths = FAMILIES[family]
    ran = [n for n in range(4) if finished[f"{paths.layers}.{n}"]]
    # A hook that was attached before ours runs before ours, so the layer that holds the site itself counts.
    assert ran == list(range(layers_run))
    assert finished[paths.final] == (site == "resid_final")
    assert finished["lm_head"] + finished["embed_out"] == 0, "reading needs no unembedding"
    if site == "attn_out.1":
        assert finished[f"{paths.layers}.1.mlp"] == 0
    assert max(finished.values()) == 1


def test_stopping_early_leaves_nothing_behind(tiny: Model) -> None:
    network = cast(Any, tiny.network)
    with torch.inference_mode():
        plain = network(IDS, output_hidden_states=True).hidden_states
        for site in ALL_SITES:
            tiny.capture(IDS, [site])
        again = network(IDS, output_hidden_states=True).hidden_states
    assert len(plain) == len(again) == 5
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_padding_is_left_out_of_attention(tiny: Model) -> None:
    site = Site("resid_post", 2)
    mask = torch.ones_like(IDS)
    mask[1, -6:] = 0
    other = IDS.clone()
    other[1, -6:] = 5
    one = tiny.capture(IDS, [site], attention_mask=mask)[site]
    two = tiny.capture(other, [site], attention_mask=mask)[site]
    assert torch.equal(one[mask.bool()], two[mask.bool()])
    alone = tiny.capture(IDS[1:, :-6], [site])[site]
    torch.testing.assert_close(one[1:, :-6], alone, rtol=1e-5, atol=1e-5)


def test_captured_activations_are_cut_from_the_graph(tiny: Model) -> None:
    found = tiny.capture(IDS, [Site("resid_post", 1)])[Site("resid_post", 1)]
    assert not found.requires_grad
    assert found.shape == (2, 24, tiny.width)
    assert found.dtype == tiny.dtype


def test_naming_no_site_is_an_input_error(tiny: Model) -> None:
    with pytest.raises(InputError, match="name at least one site"):
        tiny.capture(IDS, [])


def test_a_site_that_does_not_exist_leaves_no_hook_behind(tiny: Model) -> None:
    before = num_hooks(tiny)
    with pytest.raises(InputError, match="layers 0 to 3"):
        tiny.capture(IDS, [Site("resid_post", 0), Site("resid_post", 9)])
    with (
        pytest.raises(InputError, match="layers 0 to 3"),
        hooks.edited(tiny.network, [(Site("embed"), lambda x: x), (Site("mlp_in", 4), lambda x: x)]),
    ):
        pytest.fail("the block must not be entered")
    assert num_hooks(tiny) == before


@every_family
@pytest.mark.parametrize("kind", ["embed", *LAYER_KINDS, "resid_final"])
def test_an_edit_changes_what_comes_after_it_and_nothing_before(
    family: str, kind: str, tiny_family: Maker
) -> None:
    model = tiny_family(family)
    site = Site(kind, 1 if kind in LAYER_KINDS else None)
    plain, plain_logits = model.capture(IDS, ALL_SITES), logits(model)
    at = 10

    def shift(x: Tensor) -> Tensor:
        moved = x.clone()
        moved[0, at] += torch.linspace(-1, 1, x.shape[-1])
        return moved

    with hooks.edited(model.network, [(site, shift)]):
        changed, changed_logits = model.capture(IDS, ALL_SITES), logits(model)
    # In gpt_neox the MLP reads the stream beside attention, so what attention adds does not reach it.
    beside = {Site("mlp_in", 1), Site("mlp_out", 1)} if (family, kind) == ("gpt_neox", "attn_out") else set()
    for other in ALL_SITES:
        same = torch.equal(changed[other], plain[other])
        assert same == (other.depth < site.depth or other in beside), other
        assert torch.equal(changed[other][0, :at], plain[other][0, :at]), (
            "earlier tokens do not see later ones"
        )
        assert torch.equal(changed[other][1], plain[other][1]), "rows do not see each other"
    assert torch.equal(changed[site], shift(plain[site])), "a reader inside the block sees what the edit left"
    assert not torch.equal(changed_logits[0, at:], plain_logits[0, at:])
    assert torch.equal(logits(model), plain_logits)


@every_family
def test_an_edit_that_changes_nothing_changes_no_logit(family: str, tiny_family: Maker) -> None:
    model = tiny_family(family)
    plain = logits(model)
    with hooks.edited(model.network, [(site, lambda x: x.clone()) for site in ALL_SITES]):
        assert torch.equal(logits(model), plain)


@every_family
def test_two_names_of_one_place_take_the_same_edit_to_the_same_logits(
    family: str, tiny_family: Maker
) -> None:
    model = tiny_family(family)
    found = []
    for site in (Site("resid_post", 1), Site("resid_pre", 2)):
        with hooks.edited(model.network, [(site, lambda x: x * 1.5)]):
            found.append(logits(model))
    assert torch.equal(*found)


def test_an_activation_put_in_by_hand_gives_the_logits_it_belongs_to(tiny: Model) -> None:
    other = IDS.flip(1)
    site = Site("resid_post", 2)
    wanted = tiny.capture(other, [site])[site]
    with hooks.edited(tiny.network, [(site, lambda _x: wanted)]):
        assert torch.equal(logits(tiny), logits(tiny, other))


def test_edits_at_one_site_apply_in_order(tiny: Model) -> None:
    site = Site("mlp_out", 0)
    plain = tiny.capture(IDS, [site])[site]
    with hooks.edited(tiny.network, [(site, lambda x: x + 1), (site, lambda x: x * 2)]):
        assert torch.equal(tiny.capture(IDS, [site])[site], (plain + 1) * 2)


def test_an_error_in_a_reader_or_an_editor_comes_out_and_leaves_no_hook(tiny: Model) -> None:
    before, plain = num_hooks(tiny), logits(tiny)

    def fail(_x: Tensor) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), hooks.edited(tiny.network, [(Site("embed"), fail)]):
        logits(tiny)
    with pytest.raises(KeyError, match="mine"), hooks.watched(tiny.network, [(Site("mlp_in", 1), fail)]):
        logits(tiny)
    assert num_hooks(tiny) == before
    assert torch.equal(logits(tiny), plain)


def test_an_edit_acts_only_in_the_thread_that_opened_it(tiny: Model) -> None:
    plain = logits(tiny)
    opened, done = threading.Event(), threading.Event()

    def editing_thread() -> Tensor:
        with hooks.edited(
            tiny.network, [(s, torch.zeros_like) for s in (Site("mlp_in", 0), Site("resid_post", 2))]
        ):
            opened.set()
            assert done.wait(60)
            return logits(tiny)

    with ThreadPoolExecutor(1) as pool:
        edited = pool.submit(editing_thread)
        assert opened.wait(60)
        try:
            assert torch.equal(logits(tiny), plain)
            assert tiny.capture(IDS, [Site("resid_post", 2)])[Site("resid_post", 2)].abs().max() > 0
        finally:
            done.set()
        assert not torch.equal(edited.result(), plain)
    assert torch.equal(logits(tiny), plain)


def test_many_threads_edit_and_read_one_model_at_a_time(tiny: Model) -> None:
    site = Site("resid_post", 1)
    plain, before = tiny.capture(IDS, [site])[site], num_hooks(tiny)
    together = threading.Barrier(4)

    def work(factor: int) -> list[bool]:
        good = []
        for _ in range(10):
            together.wait(60)
            with hooks.edited(tiny.network, [(site, lambda x: x * factor)]):
                good.append(torch.equal(tiny.capture(IDS, [site])[site], plain * factor))
        return good

    with ThreadPoolExecutor(4) as pool:
        assert all(all(good) for good in pool.map(work, range(1, 5)))
    assert num_hooks(tiny) == before
