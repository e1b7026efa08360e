"""Dictionaries that read several sites and write others, on data whose features are known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.dictionaries import files, plain, quality
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.ports import Ports
from pellucid.dictionaries.settings import TrainSettings
from pellucid.dictionaries.trainer import Trainer
from pellucid.models.model import Model

WIDTH, HIDDEN, ACTIVE = 24, 30, 3
PRE, POST = Site("mlp_in", 1), Site("mlp_out", 1)
LATE, LAST = Site("mlp_in", 2), Site("mlp_out", 2)
KINDS = {
    "transcoder": Ports((PRE,), (POST,)),
    "skip": Ports((PRE,), (POST,)),
    "crosscoder": Ports.of(PRE, LATE),
    "cross-layer": Ports((PRE, LATE), (POST, LAST)),
}


pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class World:
    """Activations whose features are known, each site of another size, away from the origin."""

    kind: str

    def drawn(self, *shape: int, seed: int) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

    def directions(self, name: int) -> Tensor:
        return torch.nn.functional.normalize(self.drawn(HIDDEN, WIDTH, seed=name), dim=1)

    def columns(self, tokens: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        codes = []
        for _ in range(2):
            which = torch.rand(tokens, HIDDEN, generator=generator).topk(ACTIVE, dim=1).indices
            sizes = torch.rand(tokens, ACTIVE, generator=generator) + 0.5
            codes.append(torch.zeros(tokens, HIDDEN).scatter_(1, which, sizes))
        one, two = codes
        read = one @ self.directions(1)
        found = {
            "transcoder": [read, one @ self.directions(2)],
            "skip": [read, one @ self.directions(2) + read @ self.drawn(WIDTH, WIDTH, seed=7) / 5],
            "crosscoder": [read, one @ self.directions(2)],
            "cross-layer": [
                read,
                two @ self.directions(3),
                one @ self.directions(2),
                one @ self.directions(4) + two @ self.directions(5),
            ],
        }[self.kind]
        return torch.cat([(10 + 20 * n) * x + 5 * n for n, x in enumerate(found)], dim=1)


def settings(kind: str, **options: Any) -> TrainSettings:
    """Twice the features that there are; a layer has as many as the single site."""
    layers, active = (2, 2 * ACTIVE) if kind == "cross-layer" else (1, ACTIVE)
    base = TrainSettings(
        features=60 * layers, k=active, tokens=256 * 500, batch_tokens=256, learning_rate=4e-3,
        skip=kind == "skip", architecture="topk",
    )  # fmt: skip
    return replace(base, **options)


def trainer_of(kind: str, **options: Any) -> Trainer:
    return Trainer(settings(kind, **options), World(kind).columns(2048, 10**6), KINDS[kind])


@pytest.fixture(scope="module", params=list(KINDS))
def learnt(request: pytest.FixtureRequest) -> tuple[str, Dictionary]:
    kind = request.param
    trainer = trainer_of(kind)
    for seed in range(500):
        trainer.train_on(World(kind).columns(256, seed))
    return kind, trainer.dictionary("sha256:0")


def unexplained(d: Dictionary, columns: Tensor) -> float:
    aim = d.ports.written(columns)
    rest = d.reconstruct(d.ports.read(columns))[0] - aim
    return float(rest.square().sum() / (aim - aim.mean(0)).square().sum())


def test_what_is_written_is_explained_and_its_directions_are_found(learnt: tuple[str, Dictionary]) -> None:
    kind, d = learnt
    world = World(kind)
    assert unexplained(d, world.columns(2000, 10**7)) < 0.15
    true = {
        "transcoder": world.directions(2),
        "crosscoder": torch.cat([10 * world.directions(1), 30 * world.directions(2)], dim=1),
        "cross-layer": torch.cat([50 * world.directions(2), 70 * world.directions(4)], dim=1),
    }.get(kind)
    if true is not None:
        near = (torch.nn.functional.normalize(true, dim=1) @ d.decoder.T).max(1).values
        assert float((near > 0.95).float().mean()) > 0.7


def test_the_linear_map_of_a_skip_transcoder_leaves_less_unexplained() -> None:
    left = []
    for kind in ("skip", "transcoder"):
        trainer = Trainer(settings(kind), World("skip").columns(2048, 10**6), KINDS["skip"])
        for seed in range(200):
            trainer.train_on(World("skip").columns(256, seed))
        left.append(unexplained(trainer.dictionary(""), World("skip").columns(2000, 10**7)))
    assert left[0] < 0.7 * left[1]


def test_a_feature_of_a_later_layer_writes_nothing_earlier(learnt: tuple[str, Dictionary]) -> None:
    kind, d = learnt
    if kind != "cross-layer":
        pytest.skip("its features are all of one layer")
    assert bool((d.decoder[60:, :WIDTH] == 0).all())
    assert float(d.decoder[:60, WIDTH:].abs().max()) > 0.1


@pytest.mark.parametrize("kind", list(KINDS))
def test_codes_and_single_activations_are_those_of_the_definition(kind: str) -> None:
    trainer = trainer_of(kind, architecture="jumprelu")
    for seed in range(20):
        trainer.train_on(World(kind).columns(256, seed))
    d = trainer.dictionary("sha256:0")
    x = d.ports.read(World(kind).columns(200, 5))
    if kind == "cross-layer":
        pre = torch.cat([x[:, :WIDTH] @ d.encoder[:60].T, x[:, WIDTH:] @ d.encoder[60:].T], dim=1)
    else:
        pre = x @ d.encoder.T
    pre = pre + d.encoder_bias
    assert d.threshold is not None
    expected = torch.where(pre > d.threshold, pre, 0)
    scale = float(expected.max())
    torch.testing.assert_close(d.encode(x).dense(), expected, rtol=1e-4, atol=1e-4 * scale)
    torch.testing.assert_close(d.encode(x[:3]).dense(), expected[:3], rtol=1e-4, atol=1e-4 * scale)
    some = torch.tensor([1, 40, d.num_features - 1])
    torch.testing.assert_close(d.activations_of(x, some), expected[:, some], rtol=1e-4, atol=1e-4 * scale)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_step_is_that_of_autograd_and_adam(kind: str) -> None:
    trainer = trainer_of(kind, silent_tokens=10**9)

    def now() -> dict[str, Tensor]:
        return {"encoder": trainer.encoder, "decoder": trainer.decoder, **trainer.vectors}

    weights = {name: torch.nn.Parameter(t.clone()) for name, t in now().items()}
    adam = torch.optim.Adam(weights.values(), betas=(0.9, 0.999), eps=6.25e-10)
    for step in range(3):
        columns = World(kind).columns(256, step)
        scaled = columns * trainer._columns
        inputs, aim = trainer.ports.inputs(scaled), trainer.ports.written(scaled)
        entries = trainer._select(inputs, *trainer._scores(inputs))
        active = torch.zeros(256, trainer.settings.features, dtype=torch.bool)
        active[entries.rows, entries.features.long()] = entries.values > 0
        adam.zero_grad()
        rows = weights["encoder"].chunk(len(inputs))
        pre = torch.cat([x @ mine.T for x, mine in zip(inputs, rows, strict=True)], dim=1)
        codes = torch.where(active, pre + weights["encoder_bias"], 0)
        aim = aim - inputs[0] @ weights["skip"].T if kind == "skip" else aim
        decoder = weights["decoder"]
        loss = plain.loss(aim, codes, decoder, weights["decoder_bias"], trainer.variance)
        loss.backward()  # type: ignore[no-untyped-call]
        assert decoder.grad is not None
        decoder.grad *= torch.arange(aim.shape[1]) >= trainer.wiring.start[:, None]
        decoder.grad -= (decoder.grad * decoder.data).sum(1, keepdim=True) * decoder.data
        adam.param_groups[0]["lr"] = trainer.rate()
        adam.step()
        decoder.data = torch.nn.functional.normalize(decoder.data, dim=1)
        trainer.train_on(columns)
        for name, moved in now().items():
            close = torch.isclose(moved, weights[name].data, rtol=1e-4, atol=1e-4)
            assert int((~close).sum()) <= max(2, close.numel() // 100), name
            weights[name].data.copy_(moved)


@pytest.mark.parametrize("kind", list(KINDS))
def test_put_down_and_taken_up_it_goes_on_with_the_same_bits(kind: str) -> None:
    whole = trainer_of(kind, silent_tokens=512)
    for seed in range(8):
        whole.train_on(World(kind).columns(256, seed))
        if seed == 3:
            kept = {name: tensor.clone() for name, tensor in whole.state().items()}
    again = Trainer.restore(whole.settings, KINDS[kind], kept)
    for seed in range(4, 8):
        again.train_on(World(kind).columns(256, seed))
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, again.state()[name]), name


def test_it_comes_back_from_disk_and_may_be_begun_from(
    learnt: tuple[str, Dictionary], tmp_path: Path
) -> None:
    kind, d = learnt
    columns = World(kind).columns(64, 9)
    read = d.ports.read(columns)
    files.save(d, tmp_path / "kept", card={}, fixture=read)
    back, card = files.load(tmp_path / "kept")
    assert back.ports == d.ports
    assert card["format"] == 2
    torch.testing.assert_close(back.reconstruct(read)[0], d.reconstruct(read)[0], rtol=1e-5, atol=1e-4)
    begun = Trainer(settings(kind), World(kind).columns(2048, 10**6), KINDS[kind], back)
    again = begun.dictionary("sha256:0")
    assert unexplained(again, columns) == pytest.approx(unexplained(d, columns), rel=1e-3)


@dataclass
class Rows:
    """Reads rows of the tiny model without a store; the first position is left out."""

    model: Model
    sites: tuple[Site, ...]

    @property
    def models(self) -> tuple[Model, ...]:
        return (self.model,)

    def read(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        keep = torch.ones(rows.shape, dtype=torch.bool)
        keep[:, 0] = False
        return self.model.columns(torch.from_numpy(rows.astype(np.int64)), self.sites), keep

    def sample(self, tokens: int) -> Tensor:
        x, keep = self.read(np.random.default_rng(5).integers(3, 300, (40, 32)))
        return x[keep][:tokens]


def test_quality_replaces_every_site_that_is_written(tiny: Model) -> None:
    """A crosscoder that copies recovers everything; one that gives each site its mean explains nothing."""
    ports = Ports.of(Site("resid_post", 0), Site("resid_post", 2))
    eye = torch.eye(2 * tiny.width)
    both = torch.cat([eye, -eye])
    nothing = torch.zeros(4 * tiny.width), torch.zeros(2 * tiny.width)
    copy = Dictionary(ports, tiny.digest, "relu", both, nothing[0], both, nothing[1])
    reader = Rows(tiny, ports.sites)
    rows = np.random.default_rng(0).integers(3, 300, (8, 24))
    found = quality.measure(copy, reader, rows)
    assert found.methods["dictionary"].unexplained.value == pytest.approx(0, abs=1e-6)
    assert found.methods["dictionary"].ce_recovered.value == pytest.approx(1, abs=1e-3)
    assert found.by_site == pytest.approx([0, 0], abs=1e-6)
    mean = reader.sample(10**4).float().mean(0)
    mute = replace(copy, encoder_bias=torch.full((4 * tiny.width,), -1e4), decoder_bias=mean)
    found = quality.measure(mute, reader, rows)
    assert found.methods["dictionary"].unexplained.value == pytest.approx(1, abs=0.05)
    assert all(0.9 < left < 1.1 for left in found.by_site)


def test_ports_name_what_a_dictionary_is() -> None:
    kinds = ["transcoder", "transcoder", "crosscoder", "cross-layer transcoder"]
    assert [ports.kind for ports in KINDS.values()] == kinds
    assert Ports.of(PRE).kind == "sparse autoencoder"
    assert str(KINDS["cross-layer"]) == "mlp_in.1, mlp_in.2 to mlp_out.1, mlp_out.2"
    assert Ports.from_json(KINDS["cross-layer"].as_json()) == KINDS["cross-layer"]
    assert Ports((PRE, PRE), (PRE, PRE), "sha256:1").kind == "crosscoder"
    with pytest.raises(InputError, match=r"A crosscoder reads mlp_in\.1, mlp_in\.2, and this needs"):
        KINDS["crosscoder"].site  # noqa: B018


@pytest.mark.parametrize(
    ("reads", "writes", "beside", "words"),
    [
        ((PRE, PRE), (PRE, PRE), None, "Sites must differ"),
        ((), (), None, "Sites must differ"),
        ((PRE,), (POST, LAST), None, "a target for every site"),
        ((PRE, LATE), (POST, LATE), None, "a target for every site"),
        ((POST,), (PRE,), None, "must reach a site before its target"),
        ((LATE, PRE), (LAST, POST), None, "in the order"),
        ((PRE,), (POST,), "sha256:1", "Sites must differ"),
        ((PRE, LATE), (PRE, LATE), "sha256:1", "Sites must differ"),
    ],
)
def test_ports_that_make_no_sense_are_refused(
    reads: Any, writes: Any, beside: str | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        Ports(reads, writes, beside)


def test_what_does_not_go_together_is_refused() -> None:
    sample = World("cross-layer").columns(200, 0)
    with pytest.raises(InputError, match="61 features cannot be shared out evenly over 2 sites"):
        Trainer(settings("cross-layer", features=61), sample, KINDS["cross-layer"])
    with pytest.raises(InputError, match="do not go together"):
        Trainer(settings("cross-layer", architecture="matryoshka"), sample, KINDS["cross-layer"])
    with pytest.raises(InputError, match="belongs to a transcoder; this is a crosscoder"):
        Trainer(settings("crosscoder", skip=True), sample[:, : 2 * WIDTH], KINDS["crosscoder"])
    with pytest.raises(InputError, match="activations of 4 sites of one width; got 49 columns"):
        Trainer(settings("cross-layer"), torch.randn(200, 49), KINDS["cross-layer"])
