"""What a slot holds is what would have been read: answers are the same to the last bit, and less is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pellucid.core.sites import Site
from pellucid.models.batching import Batch
from pellucid.models.generation import Pass, Sampling
from pellucid.models.model import Model
from pellucid.models.requests import Effect, Ended, Event, Read, Request, Wrote
from pellucid.models.steps import CompiledSteps, Steps, Tokens, Visits, steps_of
from pellucid.testing import tiny_model

SITE = Site("resid_post", 1)
SYSTEM = [3 + n % 40 for n in range(37)]


class Counting:
    """Steps that keep count of the tokens they read."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self.read: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._steps, name)

    def step(self, tokens: Tokens, wanted: Any, visits: Visits = (), looks: Visits = ()) -> Tensor:
        self.read.append(len(tokens.ids))
        return self._steps.step(tokens, wanted, visits, looks)


class Watching:
    """Keeps the activations themselves."""

    site = SITE

    def encode(self, x: Tensor, /) -> Tensor:
        return x.float().clone()


class Pushing:
    """An editor that says what it does."""

    def __init__(self, strength: float, phases: tuple[str, ...] = ("prompt", "answer")) -> None:
        self.strength, self.phases = strength, phases

    def __call__(self, x: Tensor, this: Pass) -> Tensor:
        if this.phase not in self.phases:
            return x
        return x + self.strength * torch.linspace(-1, 1, x.shape[-1]).to(x) * this.real[..., None]

    def mark(self, phase: str) -> tuple[float, ...]:
        return (self.strength,) if phase in self.phases else ()


WATCH = Watching()
EDITS: list[list[tuple[Site, Any]]] = [
    [],
    [(SITE, Pushing(2.0))],
    [(SITE, Pushing(-3.0, ("answer",)))],
    [(SITE, Pushing(1.0, ("prompt",)))],
    [(SITE, lambda x, _this: x + 0.5)],
]


def wrote(events: list[Event[Any]]) -> list[int]:
    return [e.token for e in events if isinstance(e, Wrote)]


def held(events: list[Event[Any]]) -> int:
    return next(e.held for e in events if isinstance(e, Read))


def told(events: list[Event[Any]]) -> list[Any]:
    """All that a reader hears, but for how much was held."""
    found: list[Any] = []
    for event in events:
        if isinstance(event, Wrote):
            codes = [s.codes[s.start : s.stop].tolist() for s in event.codes]
            found.append((event.token, event.logprob, event.alternatives, codes))
        elif isinstance(event, Read):
            found.append([torch.cat([s.codes[s.start : s.stop] for s in c]).tolist() for c in event.codes])
        elif isinstance(event, Ended):
            effect = event.effect
            found.append((event.reason, effect and (effect.before.tolist(), effect.divergence)))
        else:
            found.append(event)
    return found


def finish(batch: Batch[Any], *requests: Request[Any]) -> list[list[Event[Any]]]:
    events: dict[int, list[Event[Any]]] = {batch.submit(r): [] for r in requests}
    while batch.running or batch.waiting:
        for ticket, event in batch.step():
            events[ticket].append(event)
    return list(events.values())


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model("llama")


@given(
    asked=st.lists(
        st.tuples(
            st.sampled_from([0, 5, 20, 37]),
            st.lists(st.integers(3, 60), min_size=1, max_size=90),
            st.integers(0, len(EDITS) - 1),
            st.booleans(),
            st.booleans(),
            st.sampled_from(["a", "b"]),
        ),
        min_size=1,
        max_size=7,
    ),
    at_once=st.integers(1, 4),
    again=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_every_answer_is_the_one_written_alone(
    model: Model, asked: list[Any], at_once: int, again: bool
) -> None:
    """In any order and company, whoever asked before, prompts grown from answers among them."""
    steps = steps_of(model, slots=3, room=400)
    batch = Batch[Any](steps)
    grown: list[int] = []
    for at in range(0, len(asked), at_once):
        requests = []
        for shared, rest, edits, watched, measured, owner in asked[at : at + at_once]:
            prompt = [*SYSTEM[:shared], *rest]
            if again and grown and len(grown) < 250:
                prompt = [*grown, *rest]
            requests.append(
                Request[Any](
                    prompt,
                    Sampling(max_tokens=6, temperature=0.9, seed=len(rest)),
                    watch=[WATCH] if watched else [],
                    editors=EDITS[edits],
                    edited_at=SITE if measured and edits else None,
                    owner=owner,
                )
            )
        for request, events in zip(requests, finish(batch, *requests), strict=True):
            (alone,) = finish(Batch[Any](steps_of(model, slots=1, room=400)), request)
            assert told(events) == told(alone)
            assert 0 <= held(events) < len(request.prompt)
            grown = [*request.prompt, *wrote(events)]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_conversation_is_read_on_from_its_last_turn(family: str) -> None:
    model = tiny_model(family)
    steps = Counting(steps_of(model, slots=3, room=400))
    batch = Batch[Any](steps)
    first = Request[Any](SYSTEM, Sampling(max_tokens=8), watch=[WATCH])
    (events,) = finish(batch, first)
    assert held(events) == 0
    # The last token of an answer is read for its features alone; without a watcher it is not read.
    second = replace(first, prompt=[*SYSTEM, *wrote(events), 5, 6, 7])
    steps.read.clear()
    (more,) = finish(batch, second)
    assert held(more) == len(SYSTEM) + len(wrote(events))
    assert steps.read[0] == 3
    (alone,) = finish(Batch[Any](steps_of(model, slots=1, room=400)), second)
    assert wrote(more) == wrote(alone)


def test_prompts_that_begin_alike_are_read_once_and_what_is_left_together(model: Model) -> None:
    steps = Counting(steps_of(model, slots=8, room=400))
    requests = [Request[Any]([*SYSTEM, 50 + n, 9], Sampling(max_tokens=4)) for n in range(8)]
    answers = finish(Batch[Any](steps), *requests)
    assert [held(e) for e in answers] == [0] + [len(SYSTEM)] * 7
    # One token of the first is written beside what is left of the others.
    assert steps.read[:2] == [len(SYSTEM) + 2, 1 + 7 * 2]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({}, {}, 36),
        ({}, {"owner": "somebody else"}, 0),
        ({}, {"watch": [WATCH]}, 0),
        ({"watch": [WATCH]}, {}, 36),
        ({"watch": [WATCH]}, {"editors": EDITS[2], "edited_at": SITE}, 0),
        ({"editors": EDITS[1]}, {"editors": [(SITE, Pushing(2.0))]}, 36),
        ({"editors": EDITS[1], "edited_at": SITE}, {"editors": EDITS[1], "edited_at": SITE}, 36),
        ({"editors": EDITS[1]}, {"editors": [(SITE, Pushing(2.5))]}, 0),
        ({"editors": EDITS[1]}, {}, 0),
        ({"editors": EDITS[2]}, {}, 36),
        ({}, {"editors": EDITS[2]}, 36),
        ({}, {"editors": EDITS[3]}, 0),
        ({"editors": EDITS[4]}, {"editors": EDITS[4]}, 0),
    ],
)
def test_what_is_read_alike_is_shared_and_nothing_else(
    model: Model, one: dict[str, Any], other: dict[str, Any], expected: int
) -> None:
    batch = Batch[Any](steps_of(model, slots=2, room=400))
    finish(batch, Request[Any](SYSTEM, Sampling(max_tokens=2), **one))
    (events,) = finish(batch, Request[Any](SYSTEM, Sampling(max_tokens=2), **other))
    assert held(events) == expected


@pytest.mark.parametrize(("edits", "whole"), [(0, True), (1, True), (2, False), (3, False)])
def test_an_answer_is_held_if_a_prompt_would_be_read_as_it_was(model: Model, edits: int, whole: bool) -> None:
    batch = Batch[Any](steps_of(model, slots=2, room=400))
    request = Request[Any](SYSTEM, Sampling(max_tokens=5), editors=EDITS[edits])
    (events,) = finish(batch, request)
    (more,) = finish(batch, replace(request, prompt=[*SYSTEM, *wrote(events), 4, 4]))
    assert held(more) == len(SYSTEM) + (len(wrote(events)) - 1 if whole else 0)


def test_a_long_text_is_not_given_up_for_a_short_beginning(model: Model) -> None:
    batch = Batch[Any](steps_of(model, slots=2, room=400))
    long = [*SYSTEM[:10], *range(3, 90)]
    finish(batch, Request[Any](long, Sampling(max_tokens=2)))
    (events,) = finish(batch, Request[Any]([*SYSTEM[:10], 91, 92], Sampling(max_tokens=2)))
    assert held(events) == 10
    (events,) = finish(batch, Request[Any]([*long, 7], Sampling(max_tokens=2)))
    assert held(events) == len(long)


def test_what_failed_is_not_held(model: Model) -> None:
    class Spoiling(Pushing):
        def __call__(self, x: Tensor, this: Pass) -> Tensor:
            return x * float("nan") if this.phase == "answer" else x

        def mark(self, phase: str) -> tuple[float, ...]:
            return ()

    batch = Batch[Any](steps_of(model, slots=1, room=400))
    finish(batch, Request[Any](SYSTEM, Sampling(max_tokens=4), editors=[(SITE, Spoiling(0.0))]))
    (events,) = finish(batch, Request[Any](SYSTEM, Sampling(max_tokens=4)))
    assert held(events) == 0
    (alone,) = finish(
        Batch[Any](steps_of(model, slots=1, room=400)), Request[Any](SYSTEM, Sampling(max_tokens=4))
    )
    assert told(events) == told(alone)


def test_effects_of_texts_that_end_together_are_those_of_each(model: Model) -> None:
    steps = steps_of(model, slots=12, room=400)
    requests = [
        Request[Any]([*SYSTEM[: 3 + n], 40], Sampling(max_tokens=3 + n % 3), editors=EDITS[1], edited_at=SITE)
        for n in range(12)
    ]
    together = finish(Batch[Any](steps), *requests)
    for request, events in zip(requests, together, strict=True):
        (alone,) = finish(Batch[Any](steps_of(model, slots=1, room=400)), request)
        assert isinstance(events[-1], Ended)
        assert isinstance(events[-1].effect, Effect)
        assert told(events) == told(alone)


def test_what_a_text_is_read_again_for_is_not_read_a_third_time(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = steps_of(model, slots=2, room=400)
    assert isinstance(steps, CompiledSteps)
    read: list[int] = []
    whole = steps._through

    def through(first: int, last: int, x: Any, *more: Any) -> None:
        read.append(len(x))
        whole(first, last, x, *more)

    def measured(prompt: list[int]) -> tuple[Effect, list[int], int]:
        request = Request[Any](prompt, Sampling(max_tokens=5), editors=EDITS[1], edited_at=SITE)
        batch = Batch[Any](steps)
        batch.submit(request)
        events: list[Event[Any]] = []
        while not batch._measured:
            events += [event for _, event in batch.step()]
        with monkeypatch.context() as patch:
            patch.setattr(steps, "_through", through)
            read.clear()
            events += [event for _, event in batch.step()]
        ((_, alone),) = [(None, finish(Batch[Any](steps_of(model, slots=1, room=400)), request)[0])]
        assert told(events) == told(alone)
        assert isinstance(events[-1], Ended)
        assert events[-1].effect is not None
        return events[-1].effect, wrote(events), read[0]

    _, answer, first = measured(SYSTEM)
    assert first == len(SYSTEM) + len(answer) - 1
    grown = [*SYSTEM, *answer, 4, 5]
    _, answer, second = measured(grown)
    # All that stood there before but the last token, which was not read then, and what is new.
    assert second == 1 + 2 + len(answer) - 1
    # Another text with the same beginning takes that, and leaves the longer one where it is.
    _, other, third = measured([*SYSTEM[:12], 50])
    assert third == 1 + len(other) - 1
    _, more, fourth = measured([*grown, *answer, 7])
    assert fourth == 1 + 1 + len(more) - 1
