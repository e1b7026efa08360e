from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.dictionaries import quality
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.ports import Ports
from pellucid.models.model import Model

SITE = Site("resid_post", 2)


@dataclass
class Rows:
    """Reads rows without a store; the first position is left out."""

    model: Model
    sites: tuple[Site, ...] = (SITE,)

    @property
    def models(self) -> tuple[Model, ...]:
        return (self.model,)

    def read(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        found = self.model.capture(torch.from_numpy(rows.astype(np.int64)), self.sites)
        x = torch.cat([found[site] for site in self.sites], dim=-1)
        keep = torch.ones(rows.shape, dtype=torch.bool)
        keep[:, 0] = False
        return x, keep

    def sample(self, tokens: int) -> Tensor:
        rows = np.random.default_rng(5).integers(3, 300, (40, 32))
        x, keep = self.read(rows)
        return x[keep][:tokens]


def identity(model: Model) -> Dictionary:
    """Two opposite features along each axis: it reconstructs everything."""
    eye = torch.eye(model.width)
    both = torch.cat([eye, -eye])
    return Dictionary(
        ports=Ports.of(SITE),
        model_digest=model.digest,
        activation="relu",
        encoder=both,
        encoder_bias=torch.zeros(2 * model.width),
        decoder=both,
        decoder_bias=torch.zeros(model.width),
    )


def test_a_perfect_dictionary_recovers_everything(tiny: Model) -> None:
    rows = np.random.default_rng(0).integers(3, 300, (12, 24))
    found = quality.measure(identity(tiny), Rows(tiny), rows, loss_rows=8)
    q = found.methods["dictionary"]
    assert q.unexplained.value == pytest.approx(0, abs=1e-6)
    assert q.ce_recovered.value == pytest.approx(1, abs=1e-3)
    assert q.kl.value == pytest.approx(0, abs=1e-4)
    assert q.l0.value == pytest.approx(tiny.width)
    assert found.tokens == 8 * 23
    assert found.dead_tokens == 12 * 23


def test_figures_equal_a_calculation_by_hand(tiny: Model) -> None:
    rows = np.random.default_rng(1).integers(3, 300, (4, 16))
    reader = Rows(tiny)
    found = quality.measure(identity(tiny), reader, rows, loss_rows=4)
    x, keep = reader.read(rows)
    flat = x[keep]
    spread = (flat - flat.mean(0)).square().sum()
    pca = quality.ByComponents.fit(reader.sample(16_384).float(), tiny.width, Ports.of(SITE))
    rebuilt, _ = pca.reconstruct(flat)
    expected = float((rebuilt - flat).square().sum() / spread)
    assert found.methods["pca"].unexplained.value == pytest.approx(expected, abs=1e-4)
    logits = tiny.network(torch.from_numpy(rows)).logits.log_softmax(-1)
    loss = -logits[:, 1:-1].gather(-1, torch.from_numpy(rows)[:, 2:, None]).mean()
    assert found.ce_plain == pytest.approx(float(loss.detach()), rel=1e-4)


def test_the_random_baseline_is_worse_and_intervals_hold_the_value(tiny: Model) -> None:
    rows = np.random.default_rng(2).integers(3, 300, (16, 24))
    found = quality.measure(identity(tiny), Rows(tiny), rows, loss_rows=16)
    assert found.methods["random"].unexplained.value > 0.05
    for method in found.methods.values():
        for figure in (method.unexplained, method.ce_recovered, method.kl, method.l0):
            assert figure.low <= figure.value + 1e-9
            assert figure.value <= figure.high + 1e-9


def test_every_part_of_the_held_out_text_is_measured(tiny: Model) -> None:
    # A store is in the order of its sources: what comes first is not like what comes last.
    rows = np.sort(np.random.default_rng(3).integers(3, 300, (12, 16)), axis=0)
    some = quality.measure(identity(tiny), Rows(tiny), rows, loss_rows=3)
    assert some.ce_plain == quality.measure(identity(tiny), Rows(tiny), rows[[0, 4, 8]]).ce_plain
    assert some.tokens == 3 * 15


def test_no_held_out_text_is_an_error(tiny: Model) -> None:
    with pytest.raises(InputError, match="no held-out text"):
        quality.measure(identity(tiny), Rows(tiny), np.zeros((0, 16), np.int64))
