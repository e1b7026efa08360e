"""Continuous batching: requests join and leave while others are being written.

Each request has its own prompt, sampling, stop tokens, edits and watchers. In a step every running request
writes a token, and those that are new read a piece of their prompts, of so many tokens together that a long
prompt holds nobody up. The beginning of a prompt is not read if a slot holds it (`beginnings`).
What a request writes does not depend on the others where the steps are compiled (`steps.CompiledSteps`):
its edits see its own tokens alone, and it draws from its own seed.

`Batch` is one loop's state, moved by `step`, for one thread; threads, queues and networks are the business of
whoever drives it. Events of a request come in this order: `Read`, `Wrote` …, `Ended`; or `Failed` at any
point, when one of its edits or watchers cannot go on, or its logits are no numbers: the others are not
touched by it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import InputError, PellucidError
from pellucid.models import distributions
from pellucid.models.beginnings import Beginnings, Reading, Sight
from pellucid.models.generation import UNSOUND, at_temperature, drawn
from pellucid.models.requests import C, Effect, Ended, Event, Failed, Read, Request, Seen, Wrote, check
from pellucid.models.steps import Edited, Steps, Tokens
from pellucid.models.visiting import Part, Running, editing, final, keeping, marks, watching

PIECE = 64
"""Tokens of prompts that are read in one step."""


class Batch(Generic[C]):
    """Requests that are being written together."""

    def __init__(self, steps: Steps) -> None:
        """Begin with none; `steps` is the model, with the slots there are."""
        self.steps = steps
        self._waiting: deque[tuple[int, Request[C]]] = deque()
        self._running: dict[int, Running[C]] = {}
        self._measured: deque[_Measured] = deque()
        self._beginnings = Beginnings(steps)
        self._tickets = 0

    @property
    def waiting(self) -> int:
        """Requests for which there is no slot yet."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests that are being read or written, or whose effect is being measured."""
        return len(self._running) + len(self._measured)

    def submit(self, request: Request[C]) -> int:
        """Take a request on; its ticket, by which its events are told.

        Raises:
            InputError: see `check`.
        """
        check(request, self.steps.model, self.steps.room)
        self._tickets += 1
        self._waiting.append((self._tickets, request))
        return self._tickets

    def cancel(self, ticket: int) -> None:
        """Forget a request; one that has ended is forgotten already."""
        self._waiting = deque(w for w in self._waiting if w[0] != ticket)
        self._measured = deque(m for m in self._measured if m.ticket != ticket)
        if ticket in self._running:
            self._leave(self._running[ticket])

    def step(self) -> list[tuple[int, Event[C]]]:
        """Move every request on by a token, and prompts by a piece; what came of it, by ticket."""
        while self._waiting and self._beginnings.free:
            ticket, request = self._waiting.popleft()
            reading = self._reading(request)
            self._running[ticket] = Running(
                request,
                reading,
                ticket,
                self._beginnings.take(reading),
                torch.Generator().manual_seed(request.sampling.seed),
                seen=[[] for _ in request.watch],
            )
        events: list[tuple[int, Event[C]]] = [*self._ended()]
        parts = self._parts()
        if not parts:
            return events
        spans, stop = {}, 0
        for part in parts:
            spans[part.of.ticket] = (stop, stop + len(part.ids))
            stop += len(part.ids)
        tokens = Tokens(
            np.concatenate([np.array(p.ids, np.int64) for p in parts]),
            np.concatenate([np.full(len(p.ids), p.of.slot) for p in parts]),
            np.concatenate([np.arange(p.place, p.place + len(p.ids)) for p in parts]),
        )
        asked = [p.of for p in parts if p.place + len(p.ids) >= len(p.of.request.prompt) and not p.of.last]
        seen: dict[tuple[int, int], Seen[C]] = {}
        failed: dict[int, PellucidError] = {}
        before, after = keeping(self._beginnings, parts, spans, tokens)
        visits = [
            *before,
            *editing(parts, spans, failed),
            *final([r for r in asked if self._measures(r.request)], spans),
        ]
        looks = [*after, *watching(self._beginnings, parts, spans, seen, failed)]
        logits = self.steps.step(tokens, [spans[r.ticket][1] - 1 for r in asked], visits, looks)
        best = _Best(*distributions.likeliest(logits.numpy()))
        for row in np.flatnonzero(~np.isfinite(best.logits)):
            failed.setdefault(asked[row].ticket, InputError(UNSOUND))
        for part in parts:
            if part.of.ticket in failed:
                self._leave(part.of, sound=False)
                events.append((part.of.ticket, Failed(failed[part.of.ticket])))
                continue
            found = [seen[part.of.ticket, number] for number in range(len(part.of.request.watch))]
            events += [(part.of.ticket, e) for e in self._moved(part, found)]
        going = [row for row, running in enumerate(asked) if running.ticket not in failed]
        if len(going) < len(asked):
            asked, logits, best = [asked[r] for r in going], logits[going], _Best(*(b[going] for b in best))
        for running, chosen in zip(asked, _chosen(asked, logits, best), strict=True):
            events += [(running.ticket, e) for e in self._next(running, chosen)]
        return events

    def _reading(self, request: Request[C]) -> Reading:
        sights: list[Sight] = [("after", w.site) for w in request.watch]
        if self._measures(request):
            assert request.edited_at is not None
            sights.append(("before", request.edited_at))
        return Reading(request.prompt, marks(request.editors, "prompt"), request.owner, set(sights))

    def _parts(self) -> list[Part[C]]:
        """What is read in this step: a token of all that are being written, some tokens of prompts.

        Of two prompts that begin alike the second waits until it can take that from the first.
        """
        parts = [
            Part(r, [r.pending.token], len(r.request.prompt) + r.written - 1)
            for r in self._running.values()
            if r.pending is not None
        ]
        left, now = PIECE, list[Running[C]]()
        for running in self._running.values():
            prompt, reading = running.request.prompt, running.reading
            if running.pending is not None:
                continue
            read = running.read
            if running.held is None:
                source, read = self._beginnings.find(running.slot, reading)
                if any(reading.shared(other.reading) > read for other in now):
                    continue
            ids = list(prompt[read : read + PIECE])
            if len(ids) > left:
                break
            if running.held is None:
                self._beginnings.begin(running.slot, reading, source, read)
                running.held = running.read = read
            parts.append(Part(running, ids, running.read))
            now.append(running)
            left -= len(ids)
        return parts

    def _moved(self, part: Part[C], found: list[Seen[C]]) -> Iterator[Event[C]]:
        """What the reading of its tokens tells of a request."""
        running = part.of
        if running.pending is not None:
            if running.request.watch:
                yield replace(running.pending, codes=found)
            if running.alike:
                self._beginnings.read(running.slot, part.ids, part.place, running.reading.sights)
            if running.last:
                yield from self._end(running, part.place + 1)
            running.pending = None
            return
        self._beginnings.read(running.slot, part.ids, part.place, running.reading.sights)
        running.read += len(part.ids)
        for kept, new in zip(running.seen, found, strict=True):
            kept.append(new)
        if running.read == len(running.request.prompt):
            yield Read(running.seen, running.held or 0)

    def _next(self, running: Running[C], chosen: Wrote[C]) -> Iterator[Event[C]]:
        """A token was chosen: it is told at once, unless its codes are wanted, which come when it is read."""
        running.written += 1
        running.pending = chosen
        stops = chosen.token in self.steps.model.end_ids
        running.last = stops or running.written == running.request.sampling.max_tokens
        if not running.request.watch:
            yield chosen
            if running.last:
                yield from self._end(running, len(running.request.prompt) + running.written - 1)

    def _end(self, running: Running[C], read: int) -> Iterator[Ended]:
        """So many tokens of a request were read, and it is over; its effect is told once it is measured."""
        request = running.request
        stopped = running.pending is not None and running.pending.token in self.steps.model.end_ids
        reason: Literal["stop", "length"] = "stop" if stopped else "length"
        written = running.written - stopped
        if self._measures(request) and written:
            assert request.edited_at is not None
            before = self._beginnings.kept(("before", request.edited_at), running.slot, read)
            final = torch.stack(running.final[:written])
            text = Edited(request.edited_at, before, len(request.prompt) - 1, final, request.owner)
            self._measured.append(_Measured(running.ticket, reason, text))
        else:
            yield Ended(reason)
        self._leave(running)

    def _ended(self) -> Iterator[tuple[int, Ended]]:
        """Measure the effect on a text that is over: on one in a step, as those being written wait for it."""
        if self._measured:
            one = self._measured.popleft()
            yield one.ticket, Ended(one.reason, Effect(one.text.before, self.steps.divergence(one.text)))

    def _measures(self, request: Request[C]) -> bool:
        return request.edited_at is not None and self.steps.measures(request.edited_at)

    def _leave(self, running: Running[C], *, sound: bool = True) -> None:
        del self._running[running.ticket]
        self._beginnings.leave(running.slot, sound=sound)


@dataclass(frozen=True)
class _Measured:
    """A text that has ended, and whose effect is to be measured."""

    ticket: int
    reason: Literal["stop", "length"]
    text: Edited


class _Best(NamedTuple):
    """Of some rows of logits, see `distributions.likeliest`."""

    tokens: np.ndarray
    logits: np.ndarray
    sums: np.ndarray


def _chosen(asked: Sequence[Running[C]], logits: Tensor, best: _Best) -> list[Wrote[C]]:
    """A token for each request, by its own sampling."""
    tokens, told = best.tokens.tolist(), (best.logits - best.sums).tolist()
    drawing = [i for i, r in enumerate(asked) if r.request.sampling.temperature > 0]
    if drawing:
        logprobs = logits[drawing] - torch.from_numpy(best.sums[drawing])[:, None]
        settings = [asked[i].request.sampling for i in drawing]
        draws = torch.stack([torch.rand(1, generator=asked[i].random) for i in drawing])
        temperature, top_p = (
            torch.tensor([[getattr(s, name)] for s in settings]) for name in ("temperature", "top_p")
        )
        chosen = drawn(at_temperature(logprobs, temperature), top_p, draws)
        likelihoods = logprobs.gather(-1, chosen[:, None])[:, 0]
        for i, token, logprob in zip(drawing, chosen.tolist(), likelihoods.tolist(), strict=True):
            tokens[i], told[i] = token, logprob
    found = []
    for number, (running, token, logprob) in enumerate(zip(asked, tokens, told, strict=True)):
        others: list[tuple[int, float]] = []
        if running.request.alternatives:
            values, ids = logits[number].topk(running.request.alternatives)
            others = list(zip(ids.tolist(), (values - float(best.sums[number])).tolist(), strict=True))
        found.append(Wrote[C](token, logprob, others, []))
    return found
