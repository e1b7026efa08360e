from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.dictionaries import files, peers, plain, routing
from pellucid.dictionaries.base import Activation, Dictionary
from pellucid.dictionaries.codes import offsets_of
from pellucid.dictionaries.ports import Ports
from pellucid.dictionaries.routing import Router
from pellucid.dictionaries.settings import TrainSettings, groups_of

SITE = Site("resid_post", 1)
G, S, D = 6, 8, 12
N = G * S


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def router(visits: int, seed: int = 0) -> Router:
    return Router(draw(G, D, seed=seed), draw(G, seed=seed + 1), visits)


def dictionary(activation: Activation, visits: int | None, seed: int = 0) -> Dictionary:
    return Dictionary(
        Ports.of(SITE),
        "sha256:" + "0" * 64,
        activation,
        encoder=draw(N, D, seed=seed),
        encoder_bias=draw(N, seed=seed + 1) / 2,
        decoder=torch.nn.functional.normalize(draw(N, D, seed=seed + 2), dim=1),
        decoder_bias=draw(D, seed=seed + 3),
        k=5 if activation == "topk" else None,
        threshold=draw(N, seed=seed + 4).abs() if activation == "jumprelu" else None,
        router=None if visits is None else router(visits, seed),
    )


def visited(r: Router, x: Tensor) -> Tensor:
    """[T, N] which features are in the groups with the largest scores, by the definition."""
    scores = x.double() @ r.rows.double().T + r.bias.double()
    bar = scores.topk(r.visits, dim=1).values[:, -1:]
    return (scores >= bar).repeat_interleave(N // len(r.rows), dim=1)


@given(rows=st.integers(0, 40), visits=st.integers(1, G), seed=st.integers(0, 1000))
def test_a_routed_product_is_the_dense_one_in_the_groups_with_the_largest_scores(
    rows: int, visits: int, seed: int
) -> None:
    r, x, encoder, bias = router(visits, seed), draw(rows, D, seed=seed), draw(N, D), draw(N)
    scores, groups = r.scores(x, encoder, bias)
    places = torch.arange(rows).repeat_interleave(visits * S), torch.arange(visits * S).repeat(rows)
    features = r.features(groups, *places, N)
    dense = torch.full((rows, N), torch.nan)
    dense[places[0], features.long()] = scores.flatten()
    expected = torch.where(visited(r, x), x @ encoder.T + bias, torch.nan)
    torch.testing.assert_close(dense, expected, rtol=1e-5, atol=1e-5, equal_nan=True)
    assert bool((features.view(rows, visits * S).diff(dim=1) > 0).all()), "ascending within a row"


def test_products_of_many_groups_are_made_in_several_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "_GROUPS_AT_ONCE", 4)
    counts = torch.tensor([3, 0, 5, 1, 0, 2])
    rows, weights = draw(11, 16).bfloat16(), draw(G, S, 16, seed=1).bfloat16()
    expected = torch.cat([x @ w.T for x, w in zip(rows.split(counts.tolist()), weights, strict=True)])
    torch.testing.assert_close(
        routing._products(rows, weights, offsets_of(counts)), expected, rtol=1e-2, atol=1e-2
    )


@pytest.mark.parametrize("activation", ["topk", "jumprelu", "relu"])
@given(rows=st.integers(0, 40), visits=st.integers(1, G), seed=st.integers(0, 1000))
def test_routed_codes_are_those_of_the_definition(
    activation: Activation, rows: int, visits: int, seed: int
) -> None:
    d, x = dictionary(activation, visits, seed), draw(rows, D, seed=seed)
    assert d.router is not None
    scores = torch.where(visited(d.router, x), x @ d.encoder.T + d.encoder_bias, -torch.inf)
    if activation == "topk":
        found = d.encode(x).dense()
        best = plain.select_per_row(scores, 5).dense()
        # Which of two that tie in bf16 is the fifth is open; the fifth value then is not.
        torch.testing.assert_close(found.topk(5).values, best.topk(5).values, rtol=1e-2, atol=1e-2)
        values = torch.where(found > 0, scores, 0)
        torch.testing.assert_close(found, values, rtol=1e-5, atol=1e-5)
        return
    bar = torch.zeros(()) if d.threshold is None else d.threshold
    expected = torch.where(scores > bar, scores, 0)
    off = (d.encode(x).dense() - expected).abs() > 1e-4
    assert not bool((off & ((scores - bar).abs() > 1e-5)).any())


@pytest.mark.parametrize("activation", ["topk", "jumprelu", "relu"])
def test_visiting_every_group_is_reading_without_a_router(activation: Activation) -> None:
    x = draw(100, D)
    found, expected = (dictionary(activation, visits).encode(x).dense() for visits in (G, None))
    assert float((found - expected).abs().amax(1).gt(1e-4).float().mean()) < 0.05  # ties in bf16
    torch.testing.assert_close(found.topk(5).values, expected.topk(5).values, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("activation", ["topk", "jumprelu", "relu"])
def test_activations_of_some_features_are_their_columns_of_the_codes(activation: Activation) -> None:
    d, x = dictionary(activation, 2), draw(70, D)
    wanted = torch.tensor([3, 40, 3, 0, 17])
    torch.testing.assert_close(d.activations_of(x, wanted), d.encode(x).dense()[:, wanted])


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("activation", ["topk", "jumprelu"])
def test_a_routed_dictionary_is_read_as_it_was_written(
    tmp_path: Path, activation: Activation, compact: bool
) -> None:
    x = draw(40, D, seed=9)
    written = files.save(dictionary(activation, 2), tmp_path / "d", card={}, fixture=x[:8], compact=compact)
    read, card = files.load(tmp_path / "d")
    assert (card["format"], card["visits"]) == (2, 2)
    assert read.router is not None
    torch.testing.assert_close(read.encode(x).dense(), written.encode(x).dense())
    with pytest.raises(InputError, match="no router"):
        peers.write(read, tmp_path / "other", "saelens", model="a")


def test_clusters_are_found_and_features_begin_at_tokens_of_their_own() -> None:
    generator = torch.Generator().manual_seed(4)
    centres = torch.nn.functional.normalize(torch.randn(5, 32, generator=generator), dim=1)
    which = torch.randint(5, (600,), generator=generator)
    sizes = torch.rand(600, 1, generator=generator) * 9 + 1
    x = sizes * (centres[which] + 0.05 * torch.randn(600, 32, generator=generator))
    made = routing.cluster(x, 20, 2, generator)
    assert bool(((made.rows @ centres.T).amax(1) > 0.9).all())
    assert bool(((made.rows @ centres.T).amax(0) > 0.9).all())
    begun = routing.directions_of(x[None], 100, made, generator)
    unit = torch.nn.functional.normalize(x, dim=1)
    assert bool(((begun @ unit.T).amax(1) > 0.999).all()), "each is a token"
    nearest = (begun @ made.rows.T).argmax(1)
    assert float((nearest == torch.arange(100) // 5).float().mean()) == 1


def test_a_group_without_a_token_begins_at_its_router_row() -> None:
    rows = torch.eye(3, 4)
    x = torch.tensor([[2.0, 0.1, 0, 0], [0, 0.1, 3, 0]])
    begun = routing.directions_of(x[None], 6, Router(rows, torch.zeros(3), 1), torch.Generator())
    assert torch.equal(begun[2:4], rows[1].expand(2, 4))


def test_a_router_reads_raw_activations_as_it_read_centred_and_scaled_ones() -> None:
    x, centre, scale = draw(50, D), draw(D, seed=2), draw(D, seed=3).abs() + 0.1
    made = Router(draw(G, D, seed=4), torch.zeros(G), 2)
    moved = made.centred_at(centre).reading(scale)
    assert torch.equal(moved.groups(x), made.groups(x * scale - centre))


@pytest.mark.parametrize(
    ("features", "groups"), [(2**18, 512), (2**25, 4096), (2**17, 256), (4608, 64), (80, 8), (48, 6)]
)
def test_groups_are_about_as_many_as_they_have_features(features: int, groups: int) -> None:
    assert groups_of(features) == groups


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"features": 4099, "visits": 2}, "4099 features cannot be divided into about 64 groups"),
        ({"features": 64, "k": 2, "visits": 9}, r"number of groups \(8\); got 9"),
        ({"features": 64, "k": 2, "visits": 0}, "between 1 and"),
        ({"features": 64, "k": 9, "visits": 1}, "1 groups hold 8 features, fewer than k"),
    ],
)
def test_settings_that_cannot_be_routed_are_refused(settings: dict[str, int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        replace(TrainSettings(k=2), **settings).resolved()
