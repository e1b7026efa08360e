from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.dictionaries import plain
from pellucid.dictionaries.base import Activation, Dictionary
from pellucid.dictionaries.codes import Codes
from pellucid.dictionaries.ports import Ports

SITE = Site("resid_post", 1)


def dictionary(
    activation: Activation, *, features: int = 40, width: int = 12, seed: int = 0, k: int = 5
) -> Dictionary:
    generator = torch.Generator().manual_seed(seed)
    decoder = torch.nn.functional.normalize(torch.randn(features, width, generator=generator), dim=1)
    only: dict[str, Any] = {"topk": {"k": k}, "relu": {}}.get(activation, {})
    if activation == "jumprelu":
        only = {"threshold": torch.rand(features, generator=generator) - 0.1}
    return Dictionary(
        Ports.of(SITE),
        "sha256:0",
        activation,
        encoder=torch.randn(features, width, generator=generator),
        encoder_bias=torch.randn(features, generator=generator) / 2,
        decoder=decoder,
        decoder_bias=torch.randn(width, generator=generator),
        **only,
    )


def activations(rows: int, width: int = 12, seed: int = 1) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))


def by_hand(d: Dictionary, x: Tensor) -> Tensor:
    """[T, N] dense codes by the definition of each architecture, in double precision."""
    scores = x.double() @ d.encoder.double().T + d.encoder_bias.double()
    if d.activation == "topk":
        assert d.k is not None
        return plain.select_per_row(scores, d.k).dense()
    bar = torch.zeros(()) if d.threshold is None else d.threshold.clamp(min=0)
    return torch.where(scores > bar, scores, 0).float()


@pytest.mark.parametrize("activation", ["topk", "jumprelu", "relu"])
@given(rows=st.integers(0, 70), seed=st.integers(0, 1000))
def test_codes_are_those_of_the_definition(activation: Activation, rows: int, seed: int) -> None:
    d, x = dictionary(activation, seed=seed), activations(rows, seed=seed)
    codes = d.encode(x)
    torch.testing.assert_close(codes.dense(), by_hand(d, x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        d.decode(codes), plain.decode(codes, d.decoder, d.decoder_bias), rtol=1e-5, atol=1e-5
    )
    assert bool((codes.values > 0).all())


def test_the_fast_way_for_topk_keeps_values_in_fp32_and_all_but_near_ties() -> None:
    d = dictionary("topk", features=2048, width=64, k=8)
    x = activations(200, width=64)
    codes, exact = d.encode(x), by_hand(d, x)
    dense = codes.dense()
    chosen = dense > 0
    assert int(chosen.sum(1).max()) == int(chosen.sum(1).min()) == 8
    scores = x.double() @ d.encoder.double().T + d.encoder_bias.double()
    torch.testing.assert_close(dense[chosen], scores[chosen].float(), rtol=1e-5, atol=1e-5)
    # bf16 has eight bits, so that only entries within about a hundredth of the last one may change places.
    bar = exact.topk(8, dim=1).values[:, -1:]
    assert bool((dense[chosen] >= (0.97 * bar).expand_as(dense)[chosen]).all())
    assert float((chosen == (exact > 0)).float().mean()) > 0.999
    alone = torch.cat([d.encode(row[None]).dense() for row in x[:8]])
    assert float(((alone > 0) == chosen[:8]).float().mean()) > 0.999


@pytest.mark.parametrize("activation", ["topk", "jumprelu", "relu"])
def test_many_rows_are_encoded_as_each_part_of_them(
    activation: Activation, monkeypatch: pytest.MonkeyPatch
) -> None:
    d, x = dictionary(activation), activations(50)
    whole = d.encode(x)
    monkeypatch.setattr("pellucid.dictionaries.base._ROWS_AT_ONCE", 7)
    parts = d.encode(x)
    torch.testing.assert_close(parts.dense(), whole.dense(), rtol=1e-6, atol=1e-6)
    assert torch.equal(parts.offsets, whole.offsets)


def test_more_features_asked_for_than_there_are_gives_all_positive_ones() -> None:
    d = dictionary("topk", k=500)
    x = activations(30)
    torch.testing.assert_close(d.encode(x).dense(), by_hand(d, x), rtol=1e-5, atol=1e-5)


def test_activations_in_other_dtypes_are_read_in_fp32() -> None:
    d, x = dictionary("relu"), activations(20).bfloat16()
    assert torch.equal(d.encode(x).dense(), d.encode(x.float()).dense())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_an_activation_that_is_no_number_is_counted_and_refused(bad: float) -> None:
    x = activations(10)
    x[3, 2] = x[7, 0] = x[7, 1] = bad
    with pytest.raises(InputError, match=r"2 of 10 activations at resid_post\.1 are NaN or infinite.*fp32"):
        dictionary("topk").encode(x)


def test_large_activations_are_numbers_though_their_sum_is_none() -> None:
    x = torch.full((2, 12), 3e38)
    assert not torch.isfinite(x.sum())
    assert len(dictionary("relu").encode(x)) == 2


@pytest.mark.parametrize("shape", [(10, 11), (10,), (2, 5, 12)])
def test_another_width_is_refused_with_both(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=rf"\[tokens, 12\], got \[{', '.join(map(str, shape))}\]"):
        dictionary("topk").encode(torch.zeros(shape))


@pytest.mark.parametrize("feature", [-1, 40])
def test_a_feature_that_does_not_exist_names_those_that_do(feature: int) -> None:
    assert dictionary("relu").check_feature(39) == 39
    with pytest.raises(
        InputError, match=f"Feature {feature} does not exist: the dictionary has features 0 to 39"
    ):
        dictionary("relu").check_feature(feature)


@pytest.mark.parametrize(
    ("activation", "options", "words"),
    [
        ("topk", {}, "k belongs to topk alone"),
        ("relu", {"k": 3}, "k belongs to topk alone"),
        ("jumprelu", {}, "jumprelu dictionary without threshold"),
        ("relu", {"threshold": torch.zeros(40)}, "relu dictionary with threshold"),
    ],
)
def test_what_belongs_to_another_architecture_is_refused(
    activation: Activation, options: dict[str, Any], words: str
) -> None:
    d = dictionary("relu")
    with pytest.raises(InputError, match=words):
        Dictionary(d.ports, "", activation, d.encoder, d.encoder_bias, d.decoder, d.decoder_bias, **options)


def test_decoding_no_codes_gives_the_bias() -> None:
    d = dictionary("relu")
    assert d.decode(Codes.from_dense(torch.zeros(0, 40))).shape == (0, 12)
    assert torch.equal(d.decode(Codes.from_dense(torch.zeros(3, 40))), d.decoder_bias.expand(3, 12))
    assert (d.num_features, d.width) == (40, 12)


@pytest.mark.parametrize("activation", ["jumprelu", "relu"])
def test_codes_of_few_rows_are_all_that_are_above_their_bars(activation: Activation) -> None:
    d, x = dictionary(activation, features=1100, width=40), activations(9, width=40)
    found = d.encode(x)
    torch.testing.assert_close(found.dense(), by_hand(d, x), rtol=1e-5, atol=1e-5)
    for row, (features, values) in enumerate(found):
        assert bool((values.diff() <= 0).all())
        alone = d.encode(x[row : row + 1])
        assert torch.equal(alone.features, features), "a row knows no other"
        assert torch.equal(alone.values, values)


def test_a_few_rows_have_the_codes_they_have_among_many() -> None:
    g = torch.Generator().manual_seed(0)
    decoder = torch.nn.functional.normalize(torch.randn(2048, 64, generator=g), dim=1)
    dictionary = Dictionary(
        ports=Ports.of(Site("resid_post", 0)),
        model_digest="sha256:" + "0" * 64,
        activation="jumprelu",
        encoder=decoder * 0.6,
        encoder_bias=torch.randn(2048, generator=g),
        decoder=decoder,
        decoder_bias=torch.zeros(64),
        threshold=torch.full((2048,), 3.0),
    )
    x = torch.randn(200, 64, generator=g) * 5
    together = dictionary.encode(x).dense()
    assert int((together > 0).sum()) > 1000
    for at in range(0, 200, 5):
        few = dictionary.encode(x[at : at + 5]).dense()
        torch.testing.assert_close(few, together[at : at + 5], atol=1e-4, rtol=1e-4)
