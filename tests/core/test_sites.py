from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.core.errors import InputError, UnknownNameError
from pellucid.core.sites import KINDS, LAYER_KINDS, Site

SITES = st.one_of(
    st.builds(Site, st.sampled_from(LAYER_KINDS), st.integers(0, 200)),
    st.sampled_from([Site("embed"), Site("resid_final")]),
)


@given(SITES)
def test_a_site_is_read_back_from_how_it_is_written(site: Site) -> None:
    assert Site.parse(str(site)) == site
    assert Site.parse(site) is site


def test_sites_sort_in_the_order_of_the_forward_pass() -> None:
    layers = [f"{kind}.{layer}" for layer in range(12) for kind in LAYER_KINDS]
    in_order = [Site.parse(text) for text in ("embed", *layers, "resid_final")]
    mixed = random.Random(0).sample(in_order, len(in_order))
    assert sorted(mixed, key=lambda site: site.depth) == in_order


def test_layers_sort_as_numbers_and_not_as_words() -> None:
    assert Site("resid_post", 9).depth < Site("resid_pre", 10).depth


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("resid_pos.3", "resid_post"),
        ("resid.3", "resid_pre"),
        ("mlpout.0", "mlp_out"),
        ("embedding", "embed"),
    ],
)
def test_an_unknown_site_suggests_the_nearest(text: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError, match=rf"Did you mean '{nearest}'") as caught:
        Site.parse(text)
    assert caught.value.nearest == nearest
    assert all(kind in str(caught.value) for kind in KINDS)


@pytest.mark.parametrize("text", ["resid_post", "mlp_in", "attn_out"])
def test_a_kind_with_layers_needs_one(text: str) -> None:
    with pytest.raises(InputError, match="needs a layer"):
        Site.parse(text)


@pytest.mark.parametrize("text", ["embed.0", "resid_final.3"])
def test_a_kind_without_layers_takes_none(text: str) -> None:
    with pytest.raises(InputError, match="takes no layer"):
        Site.parse(text)


@pytest.mark.parametrize(
    "text", ["resid_post.", "resid_post.x", "resid_post.-1", "resid_post.1.2", "resid_post.1 "]
)
def test_a_malformed_layer_is_refused_with_the_form_and_what_came(text: str) -> None:
    with pytest.raises(InputError, match=r"written like 'resid_post\.9'; got '" + text.replace(".", r"\.")):
        Site.parse(text)


def test_a_negative_layer_is_refused() -> None:
    with pytest.raises(InputError, match="count from 0; got -1"):
        Site("resid_post", -1)
