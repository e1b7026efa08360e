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
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import InputError, PellucidError
from pellucid.core.sites import Site
from pellucid.models import distributions
from pellucid.models.beginnings import Beginnings, Reading, Sight
from pellucid.models.generation import UNSOUND, Editor, Pass, Phase, Sampling, Watcher, at_temperature, drawn
from pellucid.models.model import Model
from pellucid.models.steps import Edited, Steps, Tokens, Visit

C = TypeVar("C")

PIECE = 64
"""Tokens of prompts that are read in one step."""
_TOGETHER = 8
"""Texts whose effects are measured together: reading the weights once for all is half of the work."""
_PATIENCE = 8
"""Steps that a text may wait for others to be measured with, while there is other work."""


@dataclass(frozen=True)
class Request(Generic[C]):
    """What one text is to be."""

    prompt: Sequence[int]
    """Token ids."""
    sampling: Sampling = field(default_factory=Sampling)
    watch: Sequence[Watcher[C]] = ()
    """What reads along; codes come with each token."""
    editors: Sequence[tuple[Site, Editor]] = ()
    """What edits its activations, in order; each sees [1, positions, D]."""
    alternatives: int = 0
    """So many of the likeliest tokens are told beside each that is written."""
    edited_at: Site | None = None
    """Where its editors act, if what they change is to be told at the end."""
    owner: Hashable = None
    """Whose it is: what was read of one owner's prompts is not used for another's."""


@dataclass(frozen=True)
class Seen(Generic[C]):
    """What a watcher made of some tokens, in one step."""

    codes: C
    """Of all tokens of the step that it watched, whosever they are."""
    start: int
    """The first row of these tokens."""
    stop: int
    """The row after the last."""


@dataclass(frozen=True)
class Read(Generic[C]):
    """The prompt has been read."""

    codes: list[list[Seen[C]]]
    """For each watcher, the codes of the prompt's tokens, piece by piece."""
    held: int
    """So many of them, the first, had been read before."""


@dataclass(frozen=True)
class Wrote(Generic[C]):
    """A token of the answer."""

    token: int
    logprob: float
    """The natural logarithm of its probability under the model as edited."""
    alternatives: list[tuple[int, float]]
    """The likeliest tokens with theirs, the likeliest first."""
    codes: list[Seen[C]]
    """For each watcher, the codes of this token: what was active when the model read it."""


@dataclass(frozen=True)
class Effect:
    """What editors changed."""

    before: Tensor
    """[tokens read, D] the activations where they act, before they did."""
    divergence: float
    """KL(plain ‖ edited) of the predictions along the answer, nats per token."""


@dataclass(frozen=True)
class Ended:
    """Nothing more comes."""

    reason: Literal["stop", "length"]
    """`stop` where the model ended its answer itself."""
    effect: Effect | None = None
    """Where it was asked for, and steps measure it."""


@dataclass(frozen=True)
class Failed:
    """Nothing more comes: an edit or a watcher raised an error, or no token can be chosen."""

    error: PellucidError


Event = Read[C] | Wrote[C] | Ended | Failed


@dataclass
class _Running(Generic[C]):
    request: Request[C]
    reading: Reading
    ticket: int
    slot: int
    random: torch.Generator
    read: int = 0
    """Tokens of the prompt read so far."""
    written: int = 0
    pending: Wrote[C] | None = None
    """The token that is chosen and not read yet."""
    last: bool = False
    """Whether that token is the last one, read for its codes alone, if at all."""
    seen: list[list[Seen[C]]] = field(default_factory=list)
    """For each watcher, the codes of each piece of the prompt."""
    held: int | None = None
    """Tokens of the prompt that the slot held; none until its turn to be read has come."""
    final: list[Tensor] = field(default_factory=list)
    """The final activations [D] from which each token was chosen, where its effect is measured."""

    @cached_property
    def alike(self) -> bool:
        """Whether tokens of the answer are read as those of a prompt would be."""
        edits = _edits(self.request.editors, "prompt")
        return edits is not None and edits == _edits(self.request.editors, "answer")


def check(request: Request[C], model: Model, room: int) -> None:
    """Refuse what cannot be answered.

    Raises:
        InputError: when it is empty, does not fit in a slot, or names a site the model does not have.
    """
    length = len(request.prompt)
    if not length:
        raise InputError("The prompt is empty. Give at least one word.")
    if length + request.sampling.max_tokens > room:
        raise InputError(
            f"The prompt has {length} tokens and may be answered with {request.sampling.max_tokens}: "
            f"together more than the {room} there is room for. Shorten one of them."
        )
    for site in (*(w.site for w in request.watch), *(s for s, _ in request.editors)):
        model.check_site(site)


class Batch(Generic[C]):
    """Requests that are being written together."""

    def __init__(self, steps: Steps) -> None:
        """Begin with none; `steps` is the model, with the slots there are."""
        self.steps = steps
        self._waiting: deque[tuple[int, Request[C]]] = deque()
        self._running: dict[int, _Running[C]] = {}
        self._measured: deque[_Measured] = deque()
        self._beginnings = Beginnings(steps)
        self._tickets = self._steps_taken = 0

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
            self._running[ticket] = _Running(
                request,
                reading,
                ticket,
                self._beginnings.take(reading),
                torch.Generator().manual_seed(request.sampling.seed),
                seen=[[] for _ in request.watch],
            )
        self._steps_taken += 1
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
        before, after = self._keeping(parts, spans, tokens)
        visits = [
            *before,
            *_editing(parts, spans, failed),
            *_final([r for r in asked if self._measures(r.request)], spans),
        ]
        looks = [*after, *self._watching(parts, spans, seen, failed)]
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
        return Reading(request.prompt, _edits(request.editors, "prompt"), request.owner, set(sights))

    def _parts(self) -> list[_Part[C]]:
        """What is read in this step: a token of all that are being written, some tokens of prompts.

        Of two prompts that begin alike the second waits until it can take that from the first.
        """
        parts = [
            _Part(r, [r.pending.token], len(r.request.prompt) + r.written - 1)
            for r in self._running.values()
            if r.pending is not None
        ]
        left, now = PIECE, list[_Running[C]]()
        for running in self._running.values():
            prompt, reading = running.request.prompt, running.reading
            if running.pending is not None:
                continue
            read = running.read
            if running.held is None:
                read = self._beginnings.held(reading)
                if any(reading.shared(other.reading) > read for other in now):
                    continue
            ids = list(prompt[read : read + PIECE])
            if len(ids) > left:
                break
            if running.held is None:
                running.held = running.read = self._beginnings.begin(running.slot, reading)
            parts.append(_Part(running, ids, running.read))
            now.append(running)
            left -= len(ids)
        return parts

    def _moved(self, part: _Part[C], found: list[Seen[C]]) -> Iterator[Event[C]]:
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

    def _next(self, running: _Running[C], chosen: Wrote[C]) -> Iterator[Event[C]]:
        """A token was chosen: it is told at once, unless its codes are wanted, which come when it is read."""
        running.written += 1
        running.pending = chosen
        stops = chosen.token in self.steps.model.end_ids
        running.last = stops or running.written == running.request.sampling.max_tokens
        if not running.request.watch:
            yield chosen
            if running.last:
                yield from self._end(running, len(running.request.prompt) + running.written - 1)

    def _end(self, running: _Running[C], read: int) -> Iterator[Ended]:
        """So many tokens of a request were read, and it is over; its effect is told once it is measured."""
        request = running.request
        stopped = running.pending is not None and running.pending.token in self.steps.model.end_ids
        reason: Literal["stop", "length"] = "stop" if stopped else "length"
        written = running.written - stopped
        if self._measures(request) and written:
            assert request.edited_at is not None
            before = self._beginnings.kept(("before", request.edited_at), running.slot, read)
            final = torch.stack(running.final[:written])
            text = Edited(request.edited_at, before, len(request.prompt) - 1, final)
            self._measured.append(_Measured(running.ticket, reason, text, self._steps_taken))
        else:
            yield Ended(reason)
        self._leave(running)

    def _ended(self) -> Iterator[tuple[int, Ended]]:
        """Measure the effects of some texts, if there are enough of them or they have waited enough."""
        if not self._measured:
            return
        waited = self._steps_taken - self._measured[0].since
        if self._running and waited < _PATIENCE and len(self._measured) < _TOGETHER:
            return
        found = [self._measured.popleft() for _ in range(min(_TOGETHER, len(self._measured)))]
        for one, divergence in zip(found, self.steps.divergences([o.text for o in found]), strict=True):
            yield one.ticket, Ended(one.reason, Effect(one.text.before, divergence))

    def _measures(self, request: Request[C]) -> bool:
        return request.edited_at is not None and self.steps.measures(request.edited_at)

    def _leave(self, running: _Running[C], *, sound: bool = True) -> None:
        del self._running[running.ticket]
        self._beginnings.leave(running.slot, sound=sound)

    def _keeping(
        self, parts: Sequence[_Part[C]], spans: Spans, tokens: Tokens
    ) -> tuple[list[tuple[Site, Visit]], list[tuple[Site, Visit]]]:
        """Keep what sights need: before editors act, and after."""
        by_sight: dict[Sight, list[_Part[C]]] = {}
        for part in parts:
            for sight in part.of.reading.sights:
                by_sight.setdefault(sight, []).append(part)

        def keep(sight: Sight, mine: Sequence[_Part[C]]) -> tuple[Site, Visit]:
            wanted = np.zeros(len(tokens.ids), bool)
            for part in mine:
                wanted[slice(*spans[part.of.ticket])] = True

            def visit(x: Tensor, which: np.ndarray) -> None:
                here = np.flatnonzero(wanted[which])
                if len(here):
                    rows = x if len(here) == len(which) else x[torch.from_numpy(here)]
                    self._beginnings.keep(sight, tokens.slots[which[here]], tokens.places[which[here]], rows)

            return sight[1], visit

        visits = {sight: keep(sight, mine) for sight, mine in by_sight.items()}
        before, after = ([v for s, v in visits.items() if s[0] == when] for when in ("before", "after"))
        return before, after

    def _watching(
        self,
        parts: Sequence[_Part[C]],
        spans: Spans,
        seen: dict[tuple[int, int], Seen[C]],
        failed: dict[int, PellucidError],
    ) -> list[tuple[Site, Visit]]:
        """For each watcher, all tokens of the step that it watches, put together; `seen` is filled.

        Those that were read before come first. What cannot be watched together is watched one by one, to
        know whose activations they are.
        """
        jobs: dict[int, tuple[Watcher[C], list[tuple[_Part[C], int]]]] = {}
        for part in parts:
            for number, watcher in enumerate(part.of.request.watch):
                jobs.setdefault(id(watcher), (watcher, []))[1].append((part, number))

        def visit_of(watcher: Watcher[C], who: list[tuple[_Part[C], int]]) -> Visit:
            def visit(x: Tensor, which: np.ndarray) -> None:
                pieces: dict[tuple[int, int], Tensor] = {}
                for part, number in who:
                    rows = _rows(which, *spans[part.of.ticket])
                    if rows is None:
                        continue
                    piece = x[rows]
                    if part.place and part.place == part.of.held:
                        held = self._beginnings.kept(("after", watcher.site), part.of.slot, part.place)
                        piece = torch.cat([held.to(piece), piece])
                    pieces[part.of.ticket, number] = piece
                if not pieces:
                    return
                try:
                    codes = watcher.encode(torch.cat(list(pieces.values())))
                    stops = np.cumsum([len(p) for p in pieces.values()]).tolist()
                    for (key, piece), stop in zip(pieces.items(), stops, strict=True):
                        seen[key] = Seen(codes, stop - len(piece), stop)
                except PellucidError:
                    for key, piece in pieces.items():
                        try:
                            seen[key] = Seen(watcher.encode(piece), 0, len(piece))
                        except PellucidError as error:
                            failed[key[0]] = error

            return visit

        return [(watcher.site, visit_of(watcher, who)) for watcher, who in jobs.values()]


@dataclass(frozen=True)
class _Measured:
    """A text that has ended, and whose effect is to be measured."""

    ticket: int
    reason: Literal["stop", "length"]
    text: Edited
    since: int
    """The step in which it ended."""


@dataclass(frozen=True)
class _Part(Generic[C]):
    """Tokens of one request in a step."""

    of: _Running[C]
    ids: list[int]
    place: int
    """Of the first of them, in the request's slot."""


Spans = dict[int, tuple[int, int]]
"""For each ticket its tokens in a step, from the first to before the second."""


def _final(measured: Sequence[_Running[C]], spans: Spans) -> list[tuple[Site, Visit]]:
    """Keep that from which tokens are chosen."""

    def visit(x: Tensor, _which: np.ndarray) -> None:
        for running in measured:
            running.final.append(x[spans[running.ticket][1] - 1].clone())

    return [(Site("resid_final", None), visit)] if measured else []


class Kindred(Protocol):
    """An editor that others may be like: together they edit their tokens in one call."""

    @property
    def kin(self) -> object | None:
        """The same object for all that are alike; none where it edits alone."""

    def together(self, x: Tensor, jobs: Sequence[tuple[Any, slice, Phase]], /) -> None:
        """Edit rows of x [M, D] float32 on the processor, in place, each by the editor beside it."""


def _editing(
    parts: Sequence[_Part[C]], spans: Spans, failed: dict[int, PellucidError]
) -> list[tuple[Site, Visit]]:
    """For each site the edits of all requests there, each on its own tokens."""
    at: dict[Site, dict[tuple[int, int], list[tuple[int, Editor, Phase]]]] = {}
    for part in parts:
        phase: Phase = "prompt" if part.of.pending is None else "answer"
        for place, (site, editor) in enumerate(part.of.request.editors):
            # The edits of a request keep their order; those at one place of several may be made together.
            alike = _kin(editor)
            key = place, id(editor if alike is None else alike.kin)
            at.setdefault(site, {}).setdefault(key, []).append((part.of.ticket, editor, phase))

    def visit_of(groups: Sequence[list[tuple[int, Editor, Phase]]]) -> Visit:
        def visit(x: Tensor, which: np.ndarray) -> Tensor:
            changed = x.clone()
            for jobs in groups:
                found = [
                    (ticket, editor, phase, rows)
                    for ticket, editor, phase in jobs
                    if ticket not in failed and (rows := _rows(which, *spans[ticket])) is not None
                ]
                alike = _kin(jobs[0][1])
                if found and alike is not None and x.dtype == torch.float32 and x.device.type == "cpu":
                    alike.together(changed, [(editor, rows, phase) for _, editor, phase, rows in found])
                    continue
                for ticket, editor, phase, rows in found:
                    piece = changed[rows][None]
                    real = torch.ones(piece.shape[:2], dtype=torch.bool, device=x.device)
                    try:
                        changed[rows] = editor(piece, Pass(phase, real))[0]
                    except PellucidError as error:
                        failed[ticket] = error
            return changed

        return visit

    return [(site, visit_of([groups[key] for key in sorted(groups)])) for site, groups in at.items()]


def _edits(editors: Sequence[tuple[Site, Editor]], phase: Phase) -> Hashable | None:
    """What editors do in a phase, to be compared; none where one does not say."""
    found = []
    for site, editor in editors:
        told = editor.mark(phase) if hasattr(editor, "mark") else None
        if told is None:
            return None
        if told:
            found.append((str(site), told))
    return tuple(found)


def _kin(editor: Any) -> Kindred | None:
    """The editor, if there may be others like it."""
    return editor if getattr(editor, "kin", None) is not None else None


def _rows(which: np.ndarray, start: int, stop: int) -> slice | None:
    """Where the tokens from `start` to `stop` of a step are among those shown, if they are."""
    if start < len(which) and which[start] == start:
        return slice(start, stop)
    found = np.flatnonzero(which == start)
    return slice(int(found[0]), int(found[0]) + stop - start) if len(found) else None


class _Best(NamedTuple):
    """Of some rows of logits, see `distributions.likeliest`."""

    tokens: np.ndarray
    logits: np.ndarray
    sums: np.ndarray


def _chosen(asked: Sequence[_Running[C]], logits: Tensor, best: _Best) -> list[Wrote[C]]:
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
