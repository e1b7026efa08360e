from __future__ import annotations

import pytest
import torch

from pellucid.dictionaries import product
from pellucid.dictionaries.product import Product


@pytest.mark.parametrize("arithmetic", [True, False])
@pytest.mark.parametrize("rows", [1, 256, 300])
def test_the_product_is_that_of_the_definition_up_to_bf16(
    arithmetic: bool, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product, "has_bf16_arithmetic", lambda: arithmetic)
    generator = torch.Generator().manual_seed(rows)
    multiply = Product()
    for _ in range(2):  # the second time into the same buffers
        x, encoder = (torch.randn(n, 24, generator=generator) for n in (rows, 70))
        bias = torch.randn(70, generator=generator)
        found = multiply(x[None], encoder, bias)
        exact = x.double() @ encoder.double().T + bias.double()
        assert found.dtype == torch.bfloat16
        # Rounded inputs, or a rounded result alone: 8 bits of each factor, or of the sum.
        size = (
            x.abs().double() @ encoder.abs().double().T + bias.abs().double() if arithmetic else exact.abs()
        )
        assert bool(((found.double() - exact).abs() <= size / 64 + 1e-5).all())


def test_another_size_gets_other_buffers() -> None:
    multiply = Product()
    assert multiply(torch.ones(1, 3, 4), torch.ones(5, 4), torch.zeros(5)).tolist() == [[4.0] * 5] * 3
    assert multiply(torch.ones(1, 2, 6), torch.ones(7, 6), torch.ones(7)).tolist() == [[7.0] * 7] * 2
