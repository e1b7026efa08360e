from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.dictionaries import diffing
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.ports import Ports
from pellucid.dictionaries.settings import TrainSettings
from pellucid.dictionaries.trainer import Trainer
from pellucid.models.model import Model

WIDTH = 20
SITE = Site("resid_post", 1)
PORTS = Ports((SITE, SITE), (SITE, SITE), "sha256:1")


def direction(axis: int) -> Tensor:
    return torch.eye(WIDTH)[axis]


@dataclass
class Pairs:
    """Activations of two models: three features of both, one of the first, two of the second."""

    models: tuple[Model, ...] = ()

    def columns(self, tokens: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        on = torch.rand(tokens, 6, generator=generator) < 1 / 6
        codes = on * (torch.rand(tokens, 6, generator=generator) + 0.5)
        one = codes[:, :4] @ torch.eye(WIDTH)[:4]
        two = codes[:, [0, 1, 2, 4, 5]] @ torch.eye(WIDTH)[[10, 11, 12, 13, 14]]
        return torch.cat([one, two], dim=1) + 0.01 * torch.randn(tokens, 2 * WIDTH, generator=generator)

    def read(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        x = torch.stack([self.columns(rows.shape[1], int(seed)) for seed in rows[:, 0]])
        return x, torch.ones(rows.shape, dtype=torch.bool)

    def sample(self, tokens: int) -> Tensor:
        return self.columns(tokens, 10**6)


def crosscoder(rows: list[tuple[Tensor, Tensor]]) -> Dictionary:
    """A dictionary with these directions in the two models, tied, read exactly."""
    decoder = torch.stack([torch.cat(pair) for pair in rows])
    unit = decoder.norm(dim=1, keepdim=True)
    return Dictionary(
        PORTS, "sha256:0", "jumprelu", decoder / unit, torch.zeros(len(rows)), decoder / unit,
        torch.zeros(2 * WIDTH), threshold=torch.full((len(rows),), 0.3),
    )  # fmt: skip


def test_features_are_shared_out_by_the_lengths_of_their_directions() -> None:
    nothing = torch.zeros(WIDTH)
    pairs = [(direction(n), direction(10 + n)) for n in range(3)]
    d = crosscoder([*pairs, (direction(3), nothing), (nothing, direction(13)), (nothing, direction(14))])
    found = diffing.difference(d, Pairs(), np.arange(8)[:, None].repeat(50, 1))
    assert (found.first, found.second, found.shared, found.silent) == ([3], [4, 5], 3, 0)
    assert found.tokens == 400
    assert all(abs(share) < 0.1 for share in found.elsewhere.values())
    assert found.refuted == []
    dead = replace(d, frequency=torch.tensor([0.1, 0.1, 0.1, 0.1, 0.1, 0.0]))
    again = diffing.difference(dead, Pairs(), np.arange(2)[:, None].repeat(50, 1))
    assert (again.second, again.silent) == ([4], 1)


def test_a_feature_that_the_other_model_has_too_is_found_out() -> None:
    """Its direction in the second model is missing from the dictionary, and stands in the error."""
    nothing = torch.zeros(WIDTH)
    pairs = [(direction(n), direction(10 + n)) for n in range(1, 3)]
    d = crosscoder([(direction(0), nothing), *pairs, (nothing, direction(13))])

    class Same(Pairs):
        def columns(self, tokens: int, seed: int) -> Tensor:
            x = super().columns(tokens, seed)
            x[:, WIDTH] = x[:, 0]  # the second model writes the feature along the same direction
            return x

    found = diffing.difference(d, Same(), np.arange(8)[:, None].repeat(50, 1))
    assert found.first == [0]
    assert found.refuted == [0]
    assert found.elsewhere[0] == pytest.approx(1, abs=0.1)


def test_training_on_two_models_finds_what_one_has_and_the_other_lacks() -> None:
    settings = TrainSettings(
        features=12, k=1, tokens=256 * 800, batch_tokens=256, learning_rate=4e-3, architecture="batchtopk"
    )
    trainer = Trainer(settings, Pairs().sample(2048), PORTS)
    for seed in range(800):
        trainer.train_on(Pairs().columns(256, seed))
    d = trainer.dictionary("sha256:0")
    found = diffing.difference(d, Pairs(), np.arange(20)[:, None].repeat(50, 1))

    def axes(features: list[int]) -> set[int]:
        return {int(d.decoder[f].abs().argmax()) for f in features if float(d.decoder[f].abs().max()) > 0.9}

    assert 3 in axes(found.first)
    assert {WIDTH + 13, WIDTH + 14} <= axes(found.second)
    assert not found.refuted


def test_a_dictionary_of_one_model_has_no_shares() -> None:
    d = replace(crosscoder([(direction(0), direction(1))]), ports=Ports.of(SITE, Site("resid_post", 2)))
    with pytest.raises(InputError, match="Only a dictionary of two models"):
        diffing.shares(d)
