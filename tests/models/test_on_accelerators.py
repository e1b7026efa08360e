"""What a model does on an accelerator is what it does on the processor, within the last digits of fp32."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from pellucid.core.sites import Site
from pellucid.models import generation
from pellucid.models.batching import Batch, Read, Request, Wrote
from pellucid.models.families import FAMILIES
from pellucid.models.generation import Generator, Pass, Sampling
from pellucid.models.model import Model
from pellucid.models.openings import Opening
from pellucid.models.steps import ModuleSteps, steps_of

On = Callable[..., Model]
SITE = Site("resid_post", 1)
SITES = [Site(kind, 1) for kind in ("resid_pre", "attn_out", "mlp_in", "mlp_out", "resid_post")]
CLOSE = {"rtol": 5e-4, "atol": 5e-4}


class Watching:
    """Keeps the activations themselves."""

    site = SITE

    def encode(self, x: Tensor, /) -> Tensor:
        return x.float().cpu()


def pushing(strength: float) -> Any:
    def edit(x: Tensor, this: Pass) -> Tensor:
        amount = strength if this.phase == "answer" else -strength
        return x + amount * torch.linspace(-1, 1, x.shape[-1]).to(x) * this.real[..., None]

    return [(SITE, edit)]


def prompts_of(model: Model) -> list[list[int]]:
    """Of several lengths, so that shorter ones are padded."""
    return model.encode_prompts(["Tell me about dogs.", "The rain in the town " * 12, "Hi!"])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_read_and_writes(
    family: str, tiny_family: Callable[[str], Model], device: str, on: On
) -> None:
    model = tiny_family(family)
    away = on(device, model)
    prompts = prompts_of(model)
    tokens = torch.tensor([prompts[0]])
    expected, found = model.capture(tokens, SITES), away.capture(tokens, SITES)
    for site in SITES:
        assert found[site].device.type == away.device.type == device
        torch.testing.assert_close(found[site].cpu(), expected[site], **CLOSE)
    told = [
        generation.answers(Generator(m, prompts, Sampling(max_tokens=6), editors=pushing(1.0)))
        for m in (model, away)
    ]
    assert [a.token_ids for a in told[1]] == [a.token_ids for a in told[0]]
    written = [a.token_ids for a in told[0]]
    for mine, theirs in zip(
        *(generation.logprobs_of(m, prompts, written, editors=pushing(1.0)) for m in (away, model)),
        strict=True,
    ):
        assert mine.device.type == "cpu"
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("sampling", [Sampling(8), Sampling(8, 0.8, 0.7, 5)])
def test_what_is_watched_while_it_writes_is_the_same(
    tiny: Model, device: str, on: On, sampling: Sampling
) -> None:
    prompts = prompts_of(tiny)
    (read, *steps), (my_read, *my_steps) = (
        list(Generator(m, prompts, sampling, watch=[Watching()], editors=pushing(2.0)))
        for m in (tiny, on(device, tiny))
    )
    for expected, found in zip(read.codes[0], my_read.codes[0], strict=True):
        torch.testing.assert_close(found, expected, **CLOSE)
    for step, mine in zip(steps, my_steps, strict=True):
        assert (mine.token_ids, mine.live) == (step.token_ids, step.live)
        assert mine.logprobs == pytest.approx(step.logprobs, abs=1e-3)
        torch.testing.assert_close(mine.codes[0], step.codes[0], **CLOSE)


def requests_of(model: Model) -> list[Request[Any]]:
    dogs, rain, hi = prompts_of(model)
    return [
        Request(dogs, Sampling(9, 1.0, seed=3), editors=pushing(2.0)),
        Request(rain, Sampling(12), watch=[Watching()]),
        Request(hi, Sampling(7, 0.8, 0.7, 5), alternatives=4),
        Request(hi, Sampling(12), editors=pushing(-3.0), watch=[Watching()]),
    ]


def told(batch: Batch[Any], requests: list[Request[Any]]) -> list[list[Any]]:
    """The events of each request."""
    tickets = [batch.submit(r) for r in requests]
    events: dict[int, list[Any]] = {}
    while batch.running or batch.waiting:
        for ticket, event in batch.step():
            events.setdefault(ticket, []).append(event)
    return [events[t] for t in tickets]


def same(found: list[Any], expected: list[Any]) -> None:
    """Whether a request's events are the same, but for digits."""
    assert [type(e) for e in found] == [type(e) for e in expected]
    for mine, theirs in zip(found, expected, strict=True):
        if isinstance(mine, Wrote):
            assert mine.token == theirs.token
            assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-3)
            assert [t for t, _ in mine.alternatives] == [t for t, _ in theirs.alternatives]
            for a, b in zip(mine.codes, theirs.codes, strict=True):
                torch.testing.assert_close(codes_of([a]), codes_of([b]), **CLOSE)
        elif isinstance(mine, Read):
            for some, others in zip(mine.codes, theirs.codes, strict=True):
                torch.testing.assert_close(codes_of(some), codes_of(others), **CLOSE)


def codes_of(pieces: list[Any]) -> Tensor:
    return torch.cat([p.codes[p.start : p.stop] for p in pieces])


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_requests_of_a_batch_are_answered_as_each_alone_on_the_processor(
    family: str, tiny_family: Callable[[str], Model], device: str, on: On
) -> None:
    """Prompts are longer than a piece, and there are more requests than slots."""
    model = tiny_family(family)
    alone = [told(Batch(ModuleSteps(model, 1, 400)), [r])[0] for r in requests_of(model)]
    steps = steps_of(on(device, model), slots=3, room=400)
    assert isinstance(steps, ModuleSteps)
    for expected, found in zip(alone, told(Batch(steps), requests_of(model)), strict=True):
        same(found, expected)


def test_what_slots_hold_is_read_on(tiny: Model, device: str, on: On) -> None:
    """In the slot that holds it, and in another."""
    rain, watcher = prompts_of(tiny)[1], Watching()
    batch: Batch[Any] = Batch(steps_of(on(device, tiny), slots=2, room=400))
    longer = [Request([*rain, *more], Sampling(3), watch=[watcher]) for more in ([5, 9, 40], [7, 8])]
    told(batch, [Request(rain, Sampling(3), watch=[watcher])])
    for request, found in zip(longer, told(batch, longer), strict=True):
        assert found[0].held >= len(rain)
        same(found, told(Batch(ModuleSteps(tiny, 1, 400)), [request])[0])


def test_openings_turn_many_directions_up_at_once(tiny: Model, device: str, on: On) -> None:
    added = [(SITE, torch.randn(5, tiny.width, generator=torch.Generator().manual_seed(0)))]
    expected, found = (Opening.read(m, "I think the") for m in (tiny, on(device, tiny)))
    for some in ((), added):
        torch.testing.assert_close(found.logits(some).cpu(), expected.logits(some), **CLOSE)


def test_in_bf16_all_of_it_runs(tiny: Model, device: str, on: On) -> None:
    """Which is what an accelerator computes in unless it is told otherwise."""
    away = on(device, tiny, torch.bfloat16)
    tokens = torch.tensor([prompts_of(tiny)[0]])
    exact, rough = (m.capture(tokens, [SITE])[SITE].float().cpu() for m in (tiny, away))
    assert (exact - rough).norm() / exact.norm() < 0.02
    for events in told(Batch(steps_of(away, slots=2, room=400)), requests_of(away)):
        assert all(e.logprob <= 0 for e in events if isinstance(e, Wrote))
    assert all(generation.answers(Generator(away, prompts_of(away), Sampling(4), editors=pushing(1.0))))
