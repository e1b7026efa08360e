"""Layers are compiled in their places and put back; their speed is measured by benchmarks/reading.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from pellucid.activations.reading import RowPool
from pellucid.core.sites import Site
from pellucid.models.compiling import CompiledLayers
from pellucid.models.families import FAMILIES
from pellucid.models.model import Model

IDS = torch.randint(3, 300, (3, 24), generator=torch.Generator().manual_seed(3))


class Compiled:
    """Stands in for the compiler of PyTorch, and counts how often a layer is called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0

        def compile_(function: Callable[..., Any], **options: object) -> Callable[..., Any]:
            assert options == {"backend": "inductor", "dynamic": False}

            def call(*args: Any, **kwargs: Any) -> Any:
                self.calls += 1
                return function(*args, **kwargs)

            return call

        monkeypatch.setattr(torch, "compile", compile_)


@pytest.mark.parametrize("family", FAMILIES)
def test_traced_layers_give_the_activations_of_the_modules(
    family: str, tiny_family: Callable[[str], Model]
) -> None:
    """Traced by the compiler's front end; the layer with a site inside is left to its hooks."""
    model = tiny_family(family)
    sites = [Site("resid_post", 0), Site("mlp_in", 1), Site("resid_pre", 3)]
    plain = model.capture(IDS, sites)
    layers = CompiledLayers(model.network, sites, backend="eager")
    assert len(layers._forwards) == model.num_layers - 1
    with layers.in_place():
        found = model.capture(IDS, sites)
    for site in sites:
        torch.testing.assert_close(found[site], plain[site])
    assert not any("forward" in module.__dict__ for module in model.network.modules())
    assert torch.equal(model.capture(IDS, sites)[sites[2]], plain[sites[2]])


def test_a_pool_gives_the_rows_it_was_given_in_parts_of_one_shape(
    tiny_family: Callable[[str], Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, site = tiny_family("llama"), Site("resid_post", 1)
    expected = RowPool(model, (site,)).read(IDS, 2)
    stand_in = Compiled(monkeypatch)
    shapes = set()
    pool = RowPool(model, (site,), compiled=True)
    columns = model.columns
    monkeypatch.setattr(
        Model, "columns", lambda _self, part, sites: shapes.add(part.shape) or columns(part, sites)
    )
    assert torch.equal(pool.read(IDS, 2), expected)
    assert shapes == {(2, 24)}
    assert stand_in.calls == 4  # two layers, for two parts of which the last is filled


def test_the_network_is_plain_again_after_an_error(tiny_family: Callable[[str], Model]) -> None:
    model = tiny_family("llama")
    layers = CompiledLayers(model.network, [Site("resid_post", 1)], backend="eager")
    with pytest.raises(ZeroDivisionError), layers.in_place():
        raise ZeroDivisionError
    assert not any("forward" in module.__dict__ for module in model.network.modules())
