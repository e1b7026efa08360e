from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.dictionaries import agreement as room
from pellucid.dictionaries.agreement import agreement, partners
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.ports import Ports

G = torch.Generator().manual_seed(2)


def unit(rows: int, width: int = 64) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(rows, width, generator=G), dim=1)


def made(decoder: Tensor) -> Dictionary:
    n, width = decoder.shape
    return Dictionary(
        ports=Ports.of(Site("resid_post", 1)),
        model_digest="sha256:0",
        activation="relu",
        encoder=decoder,
        encoder_bias=torch.zeros(n),
        decoder=decoder,
        decoder_bias=torch.zeros(width),
        frequency=torch.full((n,), 0.1),
    )


def test_a_dictionary_in_another_order_is_the_same_and_a_random_one_is_at_the_floor() -> None:
    rows = unit(300)
    same = agreement(made(rows), made(rows[torch.randperm(300, generator=G)]))
    assert same.partners == 1.0
    assert same.nearest == pytest.approx(1.0, abs=1e-5)
    other = agreement(made(rows), made(unit(300)))
    assert other.partners == other.random_partners == 0.0
    assert other.nearest == pytest.approx(other.random_nearest, abs=0.02)


def test_the_floor_is_no_start_of_a_training() -> None:
    # Trainings begin with directions drawn from their seed, and some features stay near them.
    start = torch.nn.functional.normalize(
        torch.randn(300, 64, generator=torch.Generator().manual_seed(0)), dim=1
    )
    found = agreement(made(start), made(unit(300)))
    assert found.random_partners == 0.0


def test_half_shared_is_half_found() -> None:
    rows = unit(200)
    found = agreement(made(rows), made(torch.cat([unit(150), rows[:100] + 0.02 * unit(100)])))
    assert found.partners == 0.5
    # The interval of a share of 200: 1.96 times the root of 1/4 over 200, to either side.
    assert found.partners_low == pytest.approx(0.43, abs=0.015)
    assert found.partners_high == pytest.approx(0.57, abs=0.015)


def test_features_that_were_silent_do_not_count() -> None:
    rows = unit(100)
    frequency = torch.full((100,), 0.1)
    frequency[50:] = 0
    assert agreement(replace(made(rows), frequency=frequency), made(rows[:50])).partners == 1.0
    with pytest.raises(InputError, match="was silent"):
        agreement(replace(made(rows), frequency=torch.zeros(100)), made(rows))


def test_partners_are_those_of_brute_force_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_ROWS_AT_ONCE", 7)
    one = unit(50, 4)
    two = torch.nn.functional.normalize(one[:30] + 0.3 * unit(30, 4), dim=1)
    chosen, best = partners(one, two)
    cosine = one @ two.T
    for i in range(50):
        j = int(cosine[i].argmax())
        mutual = int(cosine[:, j].argmax()) == i
        assert float(best[i]) == pytest.approx(float(cosine[i, j]))
        assert int(chosen[i]) == (j if mutual and cosine[i, j] >= 0.7 else -1)


def test_only_dictionaries_of_one_site_are_compared() -> None:
    one = made(unit(10))
    with pytest.raises(InputError, match=r"resid_post\.1 and resid_post\.2"):
        agreement(one, replace(one, ports=Ports.of(Site("resid_post", 2))))
