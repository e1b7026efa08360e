from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pellucid.core.errors import InputError, PellucidError
from pellucid.core.sites import Site
from pellucid.models import generation
from pellucid.models.batching import Batch
from pellucid.models.generation import Generator, Pass, PromptRead, Sampling, Step
from pellucid.models.model import Model
from pellucid.models.requests import Ended, Failed, Read, Request, Wrote
from pellucid.models.steps import Steps, steps_of
from pellucid.testing import tiny_model

SITE = Site("resid_post", 1)


class Watching:
    """Keeps the activations themselves."""

    site = SITE

    def encode(self, x: Tensor, /) -> Tensor:
        return x.clone()


def pushing(strength: float) -> Any:
    def edit(x: Tensor, this: Pass) -> Tensor:
        amount = strength if this.phase == "answer" else -strength
        return x + amount * torch.linspace(-1, 1, x.shape[-1]) * this.real[..., None]

    return [(SITE, edit)]


def drive(batch: Batch[Any], requests: list[Request[Any]], *, late: int = 0) -> list[list[Any]]:
    """Submit, the last few only after some steps, and gather the events of each."""
    tickets = [batch.submit(r) for r in requests[: len(requests) - late]]
    events: dict[int, list[Any]] = {}
    steps = 0
    while batch.running or batch.waiting or len(tickets) < len(requests):
        if steps >= 3 and len(tickets) < len(requests):
            tickets.append(batch.submit(requests[len(tickets)]))
        for ticket, event in batch.step():
            events.setdefault(ticket, []).append(event)
        steps += 1
    return [events[t] for t in tickets]


def requests_of(model: Model) -> list[Request[Any]]:
    chats = model.encode_prompts(["Tell me about dogs.", "The rain in the town " * 12, "Hi!", "Who are you?"])
    return [
        Request(chats[0], Sampling(max_tokens=9, temperature=1.0, seed=3), editors=pushing(2.0)),
        Request(chats[1], Sampling(max_tokens=12), watch=[Watching()]),
        Request(chats[2], Sampling(max_tokens=7, temperature=0.8, top_p=0.7, seed=5), alternatives=4),
        Request(
            chats[3],
            Sampling(max_tokens=12, temperature=1.0, seed=9),
            editors=pushing(-3.0),
            watch=[Watching()],
        ),
    ]


@pytest.fixture(params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest) -> Model:
    return tiny_model(request.param)


@pytest.fixture
def steps(model: Model) -> Steps:
    return steps_of(model, slots=2, room=400)


def test_an_answer_is_the_one_the_generator_writes(model: Model, steps: Steps) -> None:
    for request, events in zip(
        requests_of(model), drive(Batch(steps), requests_of(model), late=2), strict=True
    ):
        generator = Generator(
            model, [request.prompt], request.sampling, watch=request.watch, editors=request.editors
        )
        wanted = list(generator)
        read, *wrote, ended = events
        assert isinstance(read, Read)
        assert isinstance(ended, Ended)
        assert all(isinstance(w, Wrote) for w in wrote)
        steps_wanted = [s for s in wanted if isinstance(s, Step)]
        assert [w.token for w in wrote] == [s.token_ids[0] for s in steps_wanted]
        for mine, theirs in zip(wrote, steps_wanted, strict=True):
            assert mine.logprob == pytest.approx(theirs.logprobs[0], abs=1e-4)
            for seen, codes in zip(mine.codes, theirs.codes, strict=True):
                torch.testing.assert_close(seen.codes[seen.start : seen.stop], codes, rtol=1e-3, atol=1e-4)
        assert isinstance(wanted[0], PromptRead)
        for pieces, codes in zip(read.codes, wanted[0].codes, strict=True):
            joined = torch.cat([p.codes[p.start : p.stop] for p in pieces])
            torch.testing.assert_close(joined, codes[0], rtol=1e-3, atol=1e-4)
        stopped = wrote[-1].token in model.end_ids
        assert ended.reason == ("stop" if stopped else "length")


def test_company_changes_no_bit(tiny: Model) -> None:
    alone = [drive(Batch(steps_of(tiny, slots=1, room=400)), [r])[0] for r in requests_of(tiny)]
    together = drive(Batch(steps_of(tiny, slots=3, room=400)), requests_of(tiny), late=1)
    for one, other in zip(alone, together, strict=True):
        assert [(w.token, w.logprob, w.alternatives) for w in one if isinstance(w, Wrote)] == [
            (w.token, w.logprob, w.alternatives) for w in other if isinstance(w, Wrote)
        ]


def test_alternatives_are_the_likeliest_tokens(tiny: Model) -> None:
    request = Request(tiny.encode_prompts(["Hello"])[0], Sampling(max_tokens=3), alternatives=5)
    (events,) = drive(Batch[Any](steps_of(tiny, slots=1, room=100)), [request])
    written = [e for e in events if isinstance(e, Wrote)]
    (answer,) = generation.answers(Generator(tiny, [request.prompt], request.sampling))
    assert len(written) >= len(answer.token_ids)
    for event in written:
        assert event.alternatives[0] == (event.token, event.logprob)
        values = [v for _, v in event.alternatives]
        assert len(values) == 5
        assert values == sorted(values, reverse=True)


def test_a_cancelled_request_makes_room_and_tells_nothing_more(tiny: Model) -> None:
    batch = Batch[Any](steps_of(tiny, slots=1, room=100))
    prompt = tiny.encode_prompts(["Hello"])[0]
    first, second = (batch.submit(Request(prompt, Sampling(max_tokens=20))) for _ in range(2))
    batch.step()
    assert (batch.running, batch.waiting) == (1, 1)
    batch.cancel(first)
    told = set()
    while batch.running or batch.waiting:
        told |= {ticket for ticket, _ in batch.step()}
    assert told == {second}
    batch.cancel(second)
    third = batch.submit(Request(prompt))
    batch.cancel(third)
    assert batch.step() == []


def test_what_does_not_fit_is_refused(tiny: Model) -> None:
    batch = Batch[Any](steps_of(tiny, slots=1, room=20))
    with pytest.raises(InputError, match="empty"):
        batch.submit(Request([]))
    with pytest.raises(InputError, match="more than the 20"):
        batch.submit(Request([1] * 10, Sampling(max_tokens=11)))
    with pytest.raises(PellucidError, match="no site"):
        batch.submit(Request([1], Sampling(max_tokens=2), editors=[(Site("resid_post", 99), lambda x, _: x)]))


class Refusing(Watching):
    """Cannot watch activations that are not finite."""

    def encode(self, x: Tensor, /) -> Tensor:
        if not bool(torch.isfinite(x).all()):
            raise InputError("not finite")
        return x.clone()


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_request_that_fails_leaves_the_others_as_they_are(family: str) -> None:
    model = tiny_model(family)
    watcher = Refusing()
    prompt = model.encode_prompts(["Hello, how are you?"])[0]
    good = Request(prompt, Sampling(max_tokens=8), watch=[watcher])

    def spoil(x: Tensor, this: Pass) -> Tensor:
        return x * float("nan") if this.phase == "answer" else x

    def refuse(_x: Tensor, _this: Pass) -> Tensor:
        raise InputError("no such edit")

    bad = [
        Request(prompt, Sampling(max_tokens=8), editors=[(SITE, e)], watch=[watcher]) for e in (spoil, refuse)
    ]
    (alone,) = drive(Batch[Any](steps_of(model, slots=1, room=100)), [good])
    batch = Batch[Any](steps_of(model, slots=3, room=100))
    first, spoilt, refused = drive(batch, [good, *bad])
    assert [type(e) for e in spoilt] == [Read, Failed]
    assert [type(e) for e in refused] == [Failed]
    assert [e.token for e in first if isinstance(e, Wrote)] == [
        e.token for e in alone if isinstance(e, Wrote)
    ]
    (later,) = drive(batch, [good])
    assert [e.token for e in later if isinstance(e, Wrote)] == [
        e.token for e in alone if isinstance(e, Wrote)
    ]


@pytest.mark.parametrize("worth", [float("nan"), float("inf")])
def test_a_request_whose_logits_are_no_numbers_fails_alone(worth: float) -> None:
    model = tiny_model("llama")
    prompt = model.encode_prompts(["Hello, how are you?"])[0]
    drawing = Sampling(max_tokens=8, temperature=0.8, top_p=0.7, seed=5)

    def spoil(x: Tensor, this: Pass) -> Tensor:
        return x * worth if this.phase == "answer" else x

    good = Request[Any](prompt, drawing)
    (alone,) = drive(Batch[Any](steps_of(model, slots=1, room=100)), [good])
    batch = Batch[Any](steps_of(model, slots=2, room=100))
    first, spoilt = drive(batch, [good, Request(prompt, drawing, editors=[(SITE, spoil)])])
    assert [type(e) for e in spoilt] == [Read, Wrote, Failed]
    assert first == alone


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 5e-324), (5e-324, 1.0), (5e-324, 0.5)])
def test_numbers_too_small_to_keep_leave_the_likeliest_token(
    tiny: Model, temperature: float, top_p: float
) -> None:
    prompt = tiny.encode_prompts(["Hello, how are you?"])[0]
    found = [
        [e.token for e in events if isinstance(e, Wrote)]
        for events in drive(
            Batch[Any](steps_of(tiny, slots=2, room=100)),
            [Request(prompt, Sampling(6)), Request(prompt, Sampling(6, temperature, top_p, 3))],
        )
    ]
    assert found[0] == found[1]


def test_an_effect_is_told_as_two_passes_over_the_text_find_it(tiny: Model) -> None:
    requests = [
        Request(
            r.prompt, Sampling(max_tokens=r.sampling.max_tokens, temperature=1.0), editors=e, edited_at=SITE
        )
        for r, e in zip(
            requests_of(tiny), [pushing(2.0), pushing(0.0), pushing(-3.0), pushing(0.5)], strict=True
        )
    ]
    for request, events in zip(
        requests, drive(Batch[Any](steps_of(tiny, slots=2, room=400)), requests, late=1), strict=True
    ):
        ended = events[-1]
        assert isinstance(ended, Ended)
        written = [e.token for e in events if isinstance(e, Wrote)]
        answer = written[:-1] if ended.reason == "stop" else written
        if not answer:
            continue
        assert ended.effect is not None
        read = [*request.prompt, *written[:-1]]
        captured = tiny.capture(torch.tensor([read]), [SITE])[SITE][0]
        torch.testing.assert_close(ended.effect.before, captured, rtol=1e-3, atol=1e-4)
        plain, edited = (
            generation.logprobs_of(tiny, [request.prompt], [answer], editors=e)[0]
            for e in ([], request.editors)
        )
        wanted = torch.nn.functional.kl_div(edited, plain, log_target=True, reduction="sum") / len(answer)
        assert ended.effect.divergence == pytest.approx(float(wanted), rel=1e-2, abs=1e-5)
        if request is requests[1]:
            assert ended.effect.divergence == 0, "an edit that changes nothing has no effect, to the last bit"
