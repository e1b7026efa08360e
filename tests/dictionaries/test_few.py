from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pellucid.dictionaries import few, hopeful
from pellucid.dictionaries.few import Few
from pellucid.dictionaries.hopeful import Bytes, Halves, Hopeful
from pellucid.models import tiles

NO_AMX = pytest.mark.skipif(not tiles.has_tile_unit("int8"), reason="this processor has no AMX for int8")


class Widened(Halves):
    """As on a processor without a tile unit."""

    def __init__(self, encoder: Tensor, bias: Tensor, bar: Tensor) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tiles, "has_tile_unit", lambda: False)
            super().__init__(encoder, bias, bar)


ROUNDED = [pytest.param(Bytes, marks=NO_AMX), Halves, Widened]
SHAPES = [(1100, 40), (1024, 64), (1031, 576), (33, 1), (500, 130)]


def encoder_of(features: int, width: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of many sizes, one of zeros, and half of them whole numbers times a scale; biases and bars."""
    g = torch.Generator().manual_seed(seed)
    encoder = torch.randn(features, width, generator=g) * 10 ** torch.randn(features, 1, generator=g)
    scales = encoder[::2].abs().amax(1, keepdim=True) / 127
    encoder[::2] = (encoder[::2] / scales).round() * scales
    encoder[features // 3] = 0
    sizes = torch.linalg.vector_norm(encoder, dim=1)
    return encoder, torch.randn(features, generator=g), sizes * torch.rand(features, generator=g) * 2


def rows_of(rows: int, width: int, seed: int = 1) -> Tensor:
    """Activations of which every third has a dimension a thousand times the others, and one is zero."""
    x = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    x[::3, width // 2] *= 1000
    x[rows // 2] = 0
    return x


@pytest.mark.parametrize("rounded", ROUNDED)
@pytest.mark.parametrize(("features", "width"), SHAPES)
def test_codes_are_those_of_the_definition(rounded: type[Hopeful], features: int, width: int) -> None:
    encoder, bias, bar = encoder_of(features, width)
    subject = Few(encoder, bias, bar, rounded=rounded)
    for rows in (1, 2, 15, 16, 17, 33, 128):
        x = rows_of(rows, width, seed=rows)
        codes, scores = subject.encode(x), x.double() @ encoder.double().T + bias.double()
        unsure = 1e-6 * x.double().norm(dim=1, keepdim=True) * encoder.double().norm(dim=1) + 1e-6
        clear = (scores - bar).abs() > unsure
        found, wanted = codes.dense().double(), torch.where(scores > bar, scores, 0)
        assert bool(((found - wanted).abs() <= unsure)[clear].all())
        assert float(clear.double().mean()) > 0.999
        assert all(bool((values.diff() <= 0).all()) for _, values in codes)
        for row in range(0, rows, 7):
            alone = subject.encode(x[row : row + 1])
            assert torch.equal(alone.features, codes.row(row)[0]), "a row knows no other"
            assert torch.equal(alone.values, codes.row(row)[1])


@NO_AMX
@settings(max_examples=25)
@given(
    rows=st.integers(1, 40),
    width=st.integers(1, 200),
    features=st.integers(1, 200),
    exponent=st.integers(-44, 34),
    weight=st.integers(-8, 8),
)
def test_codes_are_the_same_however_they_are_found(
    rows: int, width: int, features: int, exponent: int, weight: int
) -> None:
    encoder, bias, bar = encoder_of(features, width, seed=rows)
    encoder, bar = encoder * 10.0**weight, bar * 10.0 ** max(-44, min(30, weight + exponent))
    bias = torch.where(bias > 0, 0, bias)
    x = (rows_of(rows, width, seed=width).double() * 10.0**exponent).float()
    one, other = (Few(encoder, bias, bar, rounded=kind).encode(x) for kind in (Bytes, Halves))
    assert torch.equal(one.offsets, other.offsets)
    assert torch.equal(one.features, other.features)
    assert torch.equal(one.values, other.values)


@pytest.mark.parametrize("rounded", ROUNDED)
def test_what_exceeds_its_bar_by_a_bit_is_found(rounded: type[Hopeful]) -> None:
    encoder, bias, _ = encoder_of(2000, 96)
    none = torch.zeros(2000)
    for scale in (1e-30, 1.0, 1e15):
        for x in rows_of(6, 96)[:, None] * scale:
            features, values = Few(encoder, bias, none, rounded=rounded).encode(x).row(0)
            bar = torch.full((2000,), torch.inf)
            bar[features.long()] = values
            assert len(Few(encoder, bias, bar, rounded=rounded).encode(x).features) == 0
            bar[features.long()] = values.nextafter(torch.zeros(()))
            again = Few(encoder, bias, bar, rounded=rounded).encode(x)
            assert torch.equal(again.features, features)
            assert torch.equal(again.values, values)


@pytest.mark.parametrize("rounded", ROUNDED)
def test_few_are_hopeful_that_are_not_active(rounded: type[Hopeful]) -> None:
    g = torch.Generator().manual_seed(0)
    encoder = torch.randint(-127, 128, (4090, 576), generator=g) / 1024
    x = torch.randn(20, 576, generator=g)
    x[:, 7] = 50
    bar = (x @ encoder.T).topk(2, dim=0).values.mean(0)
    shift = (1 - bar).clamp(min=0)
    bits = rounded(encoder, shift, bar + shift).among(x.numpy())
    assert bits.shape == (128, 20)
    assert 4090 <= int(np.bitwise_count(bits).sum()) <= 4090 * 1.5
    assert not (bits[-1] >> (4090 % 32)).any(), "what is padded never is"


def test_the_fastest_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "has_tile_unit", lambda kind: kind == "int8")
    assert hopeful.fastest(576) is Bytes
    assert hopeful.fastest(tiles.WIDEST) is Bytes
    assert hopeful.fastest(tiles.WIDEST + 1) is Halves, "sums would not fit"
    monkeypatch.setattr(tiles, "has_tile_unit", lambda kind: kind == "bf16")
    assert hopeful.fastest(576) is Halves
    monkeypatch.setattr(few, "fastest", lambda width: Widened)
    assert len(Few(*encoder_of(40, 3)).encode(rows_of(2, 3))) == 2
