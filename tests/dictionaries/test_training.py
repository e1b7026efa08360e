from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pellucid.activations.text import TextSource
from pellucid.activations.tokens import TokenStore
from pellucid.core.errors import InputError
from pellucid.core.runs import RunFolder
from pellucid.core.sites import Site
from pellucid.dictionaries import jumprelu, plain
from pellucid.dictionaries.architectures import Entries
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.beginning import geometric_median
from pellucid.dictionaries.crew import Crew
from pellucid.dictionaries.ports import Ports
from pellucid.dictionaries.settings import Architecture, TrainSettings
from pellucid.dictionaries.trainer import Trainer
from pellucid.dictionaries.training import Job, Spent, train, train_together
from pellucid.testing import WORDS, tiny_model

WIDTH, HIDDEN, ACTIVE = 24, 40, 3


pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass
class Synthetic:
    """Activations that are sums of a few known directions, with a centre and a scale far from the usual."""

    batch_tokens: int = 256
    num_batches: int = 10**9
    site: Site = field(default_factory=lambda: Site("resid_post", 1))
    model_digest: str = "sha256:0"

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(11)
        self.directions = torch.nn.functional.normalize(
            torch.randn(HIDDEN, WIDTH, generator=generator), dim=1
        )
        self.centre = 30 * torch.randn(WIDTH, generator=generator)

    def draw(self, tokens: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        which = torch.rand(tokens, HIDDEN, generator=generator).topk(ACTIVE, dim=1).indices
        sizes = torch.rand(tokens, ACTIVE, generator=generator) + 0.5
        codes = torch.zeros(tokens, HIDDEN).scatter_(1, which, sizes)
        return 50 * (codes @ self.directions) + self.centre

    def sample(self, tokens: int) -> Tensor:
        return self.draw(min(tokens, 2048), 10**6)

    def batches(self, position: tuple[int, int]) -> Iterator[tuple[tuple[int, int], Tensor]]:
        for number in range(position[1], self.num_batches):
            yield (0, number + 1), self.draw(self.batch_tokens, number)


PORTS = Ports.of(Site("resid_post", 1))
SETTINGS = TrainSettings(features=80, k=ACTIVE, tokens=256 * 600, batch_tokens=256, learning_rate=4e-3)


def trainer_of(settings: TrainSettings, start: Dictionary | None = None) -> Trainer:
    return Trainer(settings, Synthetic().sample(2048), PORTS, start)


def chosen(trainer: Trainer, x: Tensor) -> Entries:
    """The entries of [R, B, D] that the trainer would choose."""
    return trainer._select(x, *trainer._scores(x))


def silent_of(trainer: Trainer) -> tuple[list[int], int]:
    """How many features are silent, by the part that they read, and in all."""
    own: list[int] = trainer._silent_by_part.tolist()
    return own, sum(own)


def fvu(d: Dictionary, x: Tensor) -> float:
    rest = d.decode(d.encode(x)) - x
    return float(rest.square().sum() / (x - x.mean(0)).square().sum())


@pytest.fixture(scope="module", params=get_args(Architecture))
def learnt(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    figures: list[dict[str, float]] = []
    settings = replace(SETTINGS, architecture=request.param)

    def listen(_stage: str, _done: float, _total: float, /, **told: float) -> None:
        figures.append(told)

    with RunFolder.open(tmp_path_factory.mktemp("learnt") / "run", identity={}) as run:
        d, _ = train(Synthetic(), settings, run, progress=listen)
        return request.param, d, figures, run.events()


def test_training_finds_the_directions_that_the_data_are_made_of(learnt: tuple[Any, ...]) -> None:
    architecture, d, figures, _ = learnt
    # Prefixes of two and seven features must do with few; L1 shrinks what it keeps.
    share, left = {"matryoshka": (0.4, 0.2), "relu": (0.9, 0.5)}.get(architecture, (0.85, 0.1))
    stream = Synthetic()
    x = stream.draw(2000, seed=10**7)
    found = (stream.directions @ d.decoder.T).max(1).values
    assert float((found > 0.95).float().mean()) > share
    assert fvu(d, x) < left
    if architecture != "relu":
        assert np.mean([f["fvu"] for f in figures[-20:]]) < figures[0]["fvu"] / 3
    torch.testing.assert_close(d.decoder.norm(dim=1), torch.ones(80), rtol=1e-5, atol=1e-5)


def test_every_weight_is_trained(learnt: tuple[Any, ...]) -> None:
    architecture, d, _, _ = learnt
    start = trainer_of(replace(SETTINGS, architecture=architecture))
    first = start.dictionary(d.model_digest)
    for name in ("encoder", "encoder_bias", "decoder", "decoder_bias"):
        before, after = getattr(first, name), getattr(d, name)
        assert float((after != before).float().mean()) > 0.95, name


def test_as_many_features_are_active_as_were_asked_for(learnt: tuple[Any, ...]) -> None:
    architecture, d, figures, _ = learnt
    codes = d.encode(Synthetic().draw(2000, seed=10**7))
    if architecture == "topk":
        assert d.k == ACTIVE
        assert int(codes.offsets.diff().max()) <= ACTIVE
        assert all(f["l0"] <= ACTIVE for f in figures)
    else:
        assert d.activation == ("relu" if architecture == "relu" else "jumprelu")
    assert codes.mean_l0 == pytest.approx(ACTIVE, rel=0.1)
    exact = architecture in ("topk", "batchtopk", "matryoshka")
    assert np.mean([f["l0"] for f in figures[-50:]]) == pytest.approx(ACTIVE, rel=0.02 if exact else 0.1)


@pytest.mark.parametrize(("steps", "off"), [(15, 0.2), (60, 0.05)])
def test_the_threshold_of_a_short_run_keeps_as_many_as_were_asked_for(steps: int, off: float) -> None:
    trainer = trainer_of(replace(SETTINGS, architecture="batchtopk", tokens=256 * steps))
    for seed in range(steps):
        trainer.train_on(Synthetic().draw(256, seed))
    codes = trainer.dictionary("").encode(Synthetic().draw(2000, seed=10**7))
    assert codes.mean_l0 == pytest.approx(ACTIVE, rel=off)


def test_a_run_may_begin_from_a_dictionary_and_is_as_good_from_the_first_batch(
    learnt: tuple[Any, ...],
) -> None:
    architecture, d, _, _ = learnt
    stream = Synthetic()
    trainer = trainer_of(replace(SETTINGS, architecture=architecture), d)
    x = stream.draw(256, seed=10**7)
    if architecture != "topk":
        # What is selected in training is what the dictionary selects, up to the threshold of a batch.
        entries = chosen(trainer, x[None] * trainer.scale)
        assert float(entries.l0) == pytest.approx(d.encode(x).mean_l0, rel=0.1)
    trainer.train_on(x)
    again = trainer.dictionary(d.model_digest)
    y = stream.draw(2000, seed=10**8)
    assert fvu(again, y) < fvu(d, y) * 1.1 + 0.01


def test_a_dictionary_of_another_size_is_no_start(learnt: tuple[Any, ...]) -> None:
    with pytest.raises(InputError, match=r"has 80 features of width 24 at resid_post\.1, and 64 of width 24"):
        trainer_of(replace(SETTINGS, features=64), learnt[1])


def test_the_figures_of_a_run_are_logged(learnt: tuple[Any, ...]) -> None:
    _, _, figures, events = learnt
    assert [event["step"] for event in events] == list(range(50, 601, 50))
    for event in events:
        assert {k: event[k] for k in ("fvu", "l0", "silent", "rate")} == figures[event["step"] - 1]
        assert set(event["seconds"]) - {"keeping"} == {"reading", "training"}
        assert all(seconds > 0 for seconds in event["seconds"].values())


def test_a_run_says_where_its_time_went(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", identity={}) as run:
        assert Spent.sentence(run, 256) == "No step was taken."
        for step, seconds in (
            (50, {"reading": 3.0, "training": 1.0}),
            (100, {"reading": 4.0, "keeping": 2.0}),
        ):
            run.log({"step": step, "seconds": seconds})
        told = Spent.sentence(run, 256)
    assert (
        told == "Where the time went: reading 70%, training 10%, keeping 20%; 2,560 tokens a second in all."
    )


def test_the_fvu_told_is_that_of_the_batch_before_the_step() -> None:
    stream = Synthetic()
    trainer = trainer_of(replace(SETTINGS, architecture="topk"))
    d = trainer.dictionary(stream.model_digest)
    x = stream.draw(256, seed=5)
    told = trainer.train_on(x)["fvu"]
    spread = (stream.sample(2048) - geometric_median(stream.sample(2048))).square().sum(1).mean()
    expected = float((d.decode(d.encode(x)) - x).square().sum(1).mean() / spread)
    assert told == pytest.approx(expected, rel=0.02)  # a token at the edge of bf16 may choose otherwise


@pytest.mark.parametrize("architecture", get_args(Architecture))
def test_a_step_is_that_of_autograd_and_adam(architecture: Architecture) -> None:
    """The whole step in scaled units; where entries compete, through those the trainer chose."""
    stream = Synthetic()
    trainer = trainer_of(replace(SETTINGS, architecture=architecture))

    def now() -> dict[str, Tensor]:
        return {"encoder": trainer.encoder, "decoder": trainer.decoder, **trainer.vectors}

    weights = {name: torch.nn.Parameter(t.clone()) for name, t in now().items()}
    adam = torch.optim.Adam(weights.values(), betas=(0.9, 0.999), eps=6.25e-10)
    for step in range(3):
        x = stream.draw(256, seed=step)
        scaled = x * trainer.scale
        entries = chosen(trainer, scaled[None])
        active = torch.zeros(len(x), 80, dtype=torch.bool)
        active[entries.rows, entries.features] = entries.values > 0
        adam.zero_grad()
        _loss(architecture, scaled, active, weights, trainer.rule.numbers).backward()  # type: ignore[no-untyped-call]
        decoder = weights["decoder"]
        assert decoder.grad is not None
        decoder.grad -= (decoder.grad * decoder.data).sum(1, keepdim=True) * decoder.data
        adam.param_groups[0]["lr"] = trainer.rate()
        adam.step()
        decoder.data = torch.nn.functional.normalize(decoder.data, dim=1)
        trainer.train_on(x)
        for name, moved in now().items():
            # Adam divides by the size of a gradient, so that one that is nearly zero has no steady sign; and
            # an entry at the edge of bf16 may count or not.
            close = torch.isclose(moved, weights[name].data, rtol=1e-4, atol=1e-4)
            assert int((~close).sum()) <= max(2, close.numel() // 100), name
            weights[name].data.copy_(moved)


def _loss(
    architecture: Architecture, x: Tensor, active: Tensor, w: dict[str, Any], numbers: dict[str, float]
) -> Tensor:
    """The loss of an architecture, in a few lines of autograd."""
    pre = x @ w["encoder"].T + w["encoder_bias"]
    decoded = w["decoder"], w["decoder_bias"], float(WIDTH)
    if architecture == "relu":
        values = pre.relu()
        return plain.loss(x, values, *decoded) + numbers["penalty"] * values.sum(1).mean() / WIDTH
    if architecture == "jumprelu":
        bar, width = w["threshold"], jumprelu._BANDWIDTH
        off = plain.jump_count(pre, bar, width) / ACTIVE - 1
        return plain.loss(x, plain.jump(pre, bar, width), *decoded) + jumprelu._PENALTY * off.square()
    if architecture == "gated":
        values, gate = plain.gated(x, w["encoder"], w["encoder_bias"], w["stretch"], w["magnitude_bias"])
        held = plain.loss(x, gate, decoded[0].detach(), decoded[1].detach(), float(WIDTH))
        return plain.loss(x, values, *decoded) + held + numbers["penalty"] * gate.sum(1).mean() / WIDTH
    prefixes = (2, 7, 17, 37, 80) if architecture == "matryoshka" else ()
    return plain.loss(x, torch.where(active, pre, 0), *decoded, prefixes)


def test_the_gradients_of_the_auxiliary_loss_are_those_of_autograd() -> None:
    stream = Synthetic()
    settings = replace(SETTINGS, architecture="topk", silent_tokens=100)
    trainer = trainer_of(settings)
    silent = torch.tensor([3, 4, 10, 33, 34, 35, 60, 71, 72, 73, 74, 75, 76, 77, 79])
    trainer.silent_for[silent] = 100
    trainer.silent_for[5] = 99
    x = stream.draw(64, seed=1) * trainer.scale
    error = torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(2))
    (place, *matrices), by_bias = trainer._auxiliary(x[None], error, *silent_of(trainer))
    found = matrices[0], by_bias, matrices[1]
    assert len(by_bias) == len(silent)
    assert place[silent].tolist() == list(range(len(silent)))
    assert int((place >= 0).sum()) == len(silent)

    encoder, bias, decoder = (
        torch.nn.Parameter(w[silent].double())
        for w in (trainer.encoder, trainer.vectors["encoder_bias"], trainer.decoder)
    )
    scores = x.double() @ encoder.T + bias
    values, chosen = scores.topk(WIDTH // 2, dim=1)
    codes = torch.zeros_like(scores).scatter(1, chosen, values.relu())
    loss = (codes @ decoder + error.double()).square().sum() / error.double().square().sum() / 32
    loss.backward()  # type: ignore[no-untyped-call]
    for mine, parameter in zip(found, (encoder, bias, decoder), strict=True):
        assert parameter.grad is not None
        scale = float(parameter.grad.abs().max())
        np.testing.assert_allclose(mine.numpy(), parameter.grad.numpy(), rtol=1e-4, atol=1e-5 * scale)


def test_with_a_router_silent_features_of_the_groups_visited_explain_the_error_as_autograd_has_it() -> None:
    stream = Synthetic()
    trainer = trainer_of(replace(SETTINGS, architecture="topk", silent_tokens=100, visits=3, k=2))
    silent = torch.arange(0, 80, 3)
    trainer.silent_for[silent] = 100
    x = stream.draw(256, seed=1) * trainer.scale
    assert trainer.router is not None
    visited = torch.zeros(256, 8, dtype=torch.bool).scatter(1, trainer.router.groups(x), True)
    allowed = torch.zeros(256, 80, dtype=torch.bool)
    allowed[:, silent] = visited.repeat_interleave(10, dim=1)[:, silent]
    encoder, bias, decoder = (
        torch.nn.Parameter(w.double())
        for w in (trainer.encoder, trainer.vectors["encoder_bias"], trainer.decoder)
    )
    scores = (x.double() @ encoder.T + bias).masked_fill(~allowed, 0)
    # Which of two that are equal to bf16 is kept may differ: tokens on which none are.
    best = scores.detach().clamp(min=0).topk(3, dim=1).values
    clear = ((best[:, 1] - best[:, 2] > 0.05 * best[:, 0]) | (best[:, 1] == 0)).nonzero()[:64, 0]
    assert len(clear) == 64
    x, scores = x[clear], scores[clear]
    error = torch.randn(64, WIDTH, generator=torch.Generator().manual_seed(2))
    extra, by_bias = trainer._auxiliary(x[None], error, *silent_of(trainer))
    values, chosen = scores.topk(2, dim=1)
    codes = torch.zeros_like(scores).scatter(1, chosen, values.relu())
    loss = (codes @ decoder + error.double()).square().sum() / error.double().square().sum() / 32
    loss.backward()  # type: ignore[no-untyped-call]
    held = extra.place >= 0
    assert held.tolist() == (codes > 0).any(0).tolist()
    for mine, parameter in zip(
        (extra.encoder, by_bias, extra.decoder), (encoder, bias, decoder), strict=True
    ):
        assert parameter.grad is not None
        expected = parameter.grad[held]
        scale = float(expected.abs().max())
        torch.testing.assert_close(mine[extra.place[held]].double(), expected, rtol=1e-4, atol=1e-5 * scale)
        assert float(parameter.grad[~held].abs().max()) == 0


def test_silent_features_that_are_positive_nowhere_get_no_gradient() -> None:
    trainer = trainer_of(replace(SETTINGS, architecture="topk", silent_tokens=100, visits=3))
    trainer.silent_for[::3] = 100
    trainer.vectors["encoder_bias"][::3] = -1e9
    x = Synthetic().draw(64, seed=1) * trainer.scale
    extra, by_bias = trainer._auxiliary(x[None], torch.ones(64, WIDTH), *silent_of(trainer))
    assert bool((extra.place == -1).all())
    assert len(extra.encoder) == len(extra.decoder) == len(by_bias) == 0


@pytest.mark.parametrize("architecture", ["topk", "jumprelu"])
def test_visiting_every_group_learns_what_is_learnt_without_a_router(architecture: Architecture) -> None:
    """From the same start; they differ in the rows that have no gradient at a step."""
    stream = Synthetic()
    settings = replace(SETTINGS, architecture=architecture, visits=8, token_share=1)
    routed = trainer_of(settings)
    begun = {name: t.clone() for name, t in routed.state().items()}
    flat = Trainer.restore(replace(settings, visits=None), PORTS, begun)
    for seed in range(100):
        x = stream.draw(256, seed)
        mine, expected = routed.train_on(x)["fvu"], flat.train_on(x)["fvu"]
        assert mine == pytest.approx(expected, rel=0.02 if seed < 3 else 0.15)
    held = stream.draw(4000, seed=10**7)
    dictionaries = [t.dictionary(stream.model_digest) for t in (routed, flat)]
    assert fvu(dictionaries[0], held) == pytest.approx(fvu(dictionaries[1], held), rel=0.1)
    torch.testing.assert_close(dictionaries[0].decoder.norm(dim=1), torch.ones(80), rtol=1e-5, atol=1e-5)


def test_a_routed_run_begins_from_a_routed_dictionary_alone() -> None:
    stream = Synthetic()
    settings = replace(SETTINGS, architecture="topk", visits=3)
    trainer = trainer_of(settings)
    for seed in range(60):
        trainer.train_on(stream.draw(256, seed))
    d = trainer.dictionary(stream.model_digest)
    again = Trainer(settings, stream.sample(2048), PORTS, d)
    x = stream.draw(500, seed=10**7)
    found = again.dictionary(stream.model_digest)
    torch.testing.assert_close(found.encode(x).dense(), d.encode(x).dense(), rtol=1e-4, atol=1e-3)
    with pytest.raises(InputError, match="trained with visits 3, and None was asked for"):
        Trainer(replace(settings, visits=None), stream.sample(2048), PORTS, d)


def test_several_workers_are_refused_a_router() -> None:
    settings = replace(SETTINGS, visits=3)
    with pytest.raises(InputError, match="by one worker"):
        Trainer.restore(settings, PORTS, trainer_of(settings).state(), Crew(rank=0, size=2, shards=1))


def test_features_that_read_different_sites_are_not_routed() -> None:
    ports = Ports(
        (Site("resid_post", 0), Site("resid_post", 1)), (Site("resid_post", 2), Site("resid_post", 3))
    )
    with pytest.raises(InputError, match="a cross-layer transcoder"):
        Trainer(replace(SETTINGS, visits=3), torch.randn(300, 16), ports)


def test_no_silent_feature_gives_no_auxiliary_gradient() -> None:
    trainer = trainer_of(SETTINGS)
    x, error = torch.ones(1, 4, WIDTH), torch.ones(4, WIDTH)
    (place, encoder, decoder), bias = trainer._auxiliary(x, error, *silent_of(trainer))
    assert bool((place == -1).all())
    assert len(encoder) == len(bias) == len(decoder) == 0


def test_features_that_do_not_fire_are_counted_in_tokens() -> None:
    stream = Synthetic()
    trainer = trainer_of(replace(SETTINGS, architecture="topk"))
    expected = torch.zeros(80, dtype=torch.int64)
    for seed in range(4):
        x = stream.draw(256, seed)
        entries = chosen(trainer, x[None] * trainer.scale)
        features = entries.features[entries.values > 0]
        trainer.train_on(x)
        expected += 256
        expected[features.unique()] = 0
        assert torch.equal(trainer.silent_for, expected)


def test_the_folded_dictionary_reads_raw_activations_as_the_trainer_reads_scaled_ones() -> None:
    stream = Synthetic()
    trainer = trainer_of(replace(SETTINGS, architecture="topk"))
    for seed in range(20):
        trainer.train_on(stream.draw(256, seed))
    x = stream.draw(50, seed=99)
    scaled = plain.select_per_row(
        (x * trainer.scale) @ trainer.encoder.T + trainer.vectors["encoder_bias"], ACTIVE
    )
    d = trainer.dictionary(stream.model_digest)
    torch.testing.assert_close(d.encode(x).dense() * trainer.scale, scaled.dense(), rtol=1e-4, atol=1e-3)
    expected = plain.decode(scaled, trainer.decoder, trainer.vectors["decoder_bias"]) / trainer.scale
    torch.testing.assert_close(d.decode(d.encode(x)), expected, rtol=1e-4, atol=1e-2)


def test_the_scale_makes_the_mean_square_distance_the_width() -> None:
    sample = Synthetic().sample(2048)
    trainer = Trainer(SETTINGS, sample, PORTS)
    distances = (sample * trainer.scale - geometric_median(sample) * trainer.scale).square().sum(1)
    assert float(distances.mean()) == pytest.approx(WIDTH, rel=1e-4)


def test_the_rate_rises_holds_and_falls_to_zero() -> None:
    settings = TrainSettings(
        tokens=100, batch_tokens=1, learning_rate=1.0, warmup_steps=10, decay_fraction=0.2, features=4, k=1
    )
    trainer = Trainer(settings, torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), PORTS)
    rates = []
    for step in range(100):
        trainer.step = step
        rates.append(trainer.rate())
    assert rates[:10] == pytest.approx([(n + 1) / 10 for n in range(10)])
    assert rates[10:80] == [1.0] * 70
    assert rates[80:] == pytest.approx([(20 - n) / 20 for n in range(20)])


def test_settings_left_open_are_derived() -> None:
    resolved = TrainSettings(features=2**14, tokens=40_960_000).resolved()
    assert resolved.learning_rate == pytest.approx(6e-4)
    assert resolved.warmup_steps == 500
    assert resolved.silent_tokens == 600 * 2**14 // 32
    assert resolved.steps == 10_000
    assert resolved.resolved() == resolved
    assert TrainSettings(features=512, tokens=4096).resolved().learning_rate == 1e-3
    assert TrainSettings(features=64).as_json()["features"] == 64


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"k": 0}, "k must lie between 1 and the number of features"),
        ({"features": 8, "k": 9}, r"features \(8\); got 9"),
        ({"tokens": 0}, "must be positive; got 0"),
        ({"batch_tokens": -1}, "must be positive"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, int], words: str) -> None:
    with pytest.raises(InputError, match=words):
        TrainSettings(**settings).resolved()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_is_one_clear_error(bad: float) -> None:
    stream = Synthetic()
    trainer = trainer_of(SETTINGS)
    x = stream.draw(256, seed=0)
    x[3, 3] = bad
    with pytest.raises(InputError, match="loss is not a number at step 1"):
        trainer.train_on(x)


def test_a_loss_beyond_all_numbers_is_refused_before_a_weight_moves() -> None:
    trainer = trainer_of(SETTINGS)
    before = {name: t.clone() for name, t in trainer.state().items()}
    x = Synthetic().draw(256, seed=0) * 1e20
    assert math.isfinite(float((x * trainer.scale).sum()))
    with pytest.raises(InputError, match="loss is not a number at step 1"):
        trainer.train_on(x)
    for name, tensor in trainer.state().items():
        assert torch.equal(tensor, before[name]), name


def test_text_that_runs_out_says_how_far_it_went(tmp_path: Path) -> None:
    with (
        RunFolder.open(tmp_path / "run", identity={}) as run,
        pytest.raises(InputError, match=r"ran out after 7 of 600 steps.*about 1,792"),
    ):
        train(Synthetic(num_batches=7), SETTINGS, run)


def test_the_geometric_median_has_the_least_summed_distance_and_ignores_outliers() -> None:
    points = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    points[0] = 1e6
    centre = geometric_median(points, iterations=100)

    def total(at: Tensor) -> float:
        return float((points.double() - at.double()).norm(dim=1).sum())

    assert float(centre.norm()) < 1
    for axis in torch.eye(5):
        assert total(centre) <= min(total(centre + 0.01 * axis), total(centre - 0.01 * axis))


@pytest.mark.parametrize("visits", [None, 3])
@pytest.mark.parametrize("architecture", get_args(Architecture))
def test_a_trainer_put_down_and_taken_up_goes_on_with_the_same_bits(
    architecture: Architecture, visits: int | None
) -> None:
    stream = Synthetic()
    settings = replace(SETTINGS, architecture=architecture, silent_tokens=512, visits=visits)
    whole = trainer_of(settings)
    for seed in range(8):
        whole.train_on(stream.draw(256, seed))
        if seed == 3:
            kept = {name: tensor.clone() for name, tensor in whole.state().items()}
    again = Trainer.restore(settings, PORTS, kept)
    for seed in range(4, 8):
        again.train_on(stream.draw(256, seed))
    assert whole.state().keys() == again.state().keys()
    for name, tensor in whole.state().items():
        assert torch.equal(tensor, again.state()[name]), name


def test_runs_on_one_reading_end_as_they_would_alone_though_one_was_put_down_earlier(tmp_path: Path) -> None:
    settings = [replace(SETTINGS, tokens=256 * 40, architecture=a) for a in ("batchtopk", "gated")]
    alone = []
    for number, each in enumerate(settings):
        with RunFolder.open(tmp_path / f"alone{number}", identity={}) as run:
            alone.append(train(Synthetic(), each, run)[0])
    # The first run stopped after 15 steps, the second not even begun.
    with (
        RunFolder.open(tmp_path / "first", identity={}) as run,
        pytest.raises(InputError, match="ran out after 15"),
    ):
        train(Synthetic(num_batches=15), settings[0], run, checkpoint_every_s=0)
    with (
        RunFolder.open(tmp_path / "first", identity={}) as one,
        RunFolder.open(tmp_path / "second", identity={}) as two,
    ):
        jobs = [Job(each, run) for each, run in zip(settings, (one, two), strict=True)]
        found, position = train_together(Synthetic(), jobs)
        assert [e["step"] for e in one.events()] == [e["step"] for e in two.events()] == [40]
    assert position == (0, 40)
    for mine, expected in zip(found, alone, strict=True):
        assert torch.equal(mine.encoder, expected.encoder)
        assert torch.equal(mine.decoder, expected.decoder)


def test_runs_of_different_lengths_cannot_share_a_reading(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", identity={}) as run, pytest.raises(InputError, match="same tokens"):
        train_together(Synthetic(), [Job(SETTINGS, run), Job(replace(SETTINGS, tokens=256), run)])


# Kills, in processes of their own.

CHILD = Path(__file__).with_name("training_child.py")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    dice = random.Random(1)
    for n in range(300):
        path = folder / "text" / f"{n}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{n} " + " ".join(dice.choices(WORDS, k=dice.randint(3, 25))))
    model = tiny_model(layers=2, width=16)
    made = TokenStore.build(
        model, [TextSource.parse(str(folder / "text"))], length=16, folder=folder / "store"
    )
    return made.folder


KILLS: dict[str, tuple[float, list[int]]] = {
    "batchtopk": (0.0, [5, -2, 9]),
    "batchtopk+2": (0.0, [8, -3]),
    "topk": (0.01, [7, -1]),
    "matryoshka": (0.0, [4]),
    "jumprelu": (0.0, [-3, 6]),
    "gated": (0.0, [11]),
    "relu": (0.0, [-2]),
}
"""By architecture, and after a + visits: seconds between checkpoints, and when sittings are killed, after
batches, or in a write of a checkpoint."""


@pytest.fixture(scope="module")
def runs(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a whole and a killed run of each architecture."""
    folder = tmp_path_factory.mktemp("runs")
    sittings: list[tuple[str, float, int]] = []
    expected: list[int] = []
    for architecture, (checkpoint_s, kills) in KILLS.items():
        sittings.append((str(folder / f"{architecture}-whole"), 1000.0, 0))
        sittings += [(str(folder / f"{architecture}-killed"), checkpoint_s, kill) for kill in [*kills, 0]]
        expected += [0, *[-signal.SIGKILL] * len(kills), 0]
    done = subprocess.run(
        [sys.executable, str(CHILD), str(store), json.dumps(sittings)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "NUMBA_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [str(int(code)) for code in expected], done.stderr
    return folder


@pytest.mark.parametrize("architecture", KILLS)
def test_a_run_killed_at_any_moment_ends_in_the_very_weights_of_one_that_was_not(
    runs: Path, architecture: str
) -> None:
    whole, killed = runs / f"{architecture}-whole", runs / f"{architecture}-killed"
    one, two = (load_file(folder / "weights.safetensors") for folder in (whole, killed))
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name
    assert len(list((killed / "checkpoints").iterdir())) <= 2, "what kills left behind is cleared away"
