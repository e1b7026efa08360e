"""What requests see and change on the way: the activations of a step, each request's own tokens.

In a step several requests stand side by side. Their edits are made where they belong, what they watch is
encoded together, and what must be known of tokens that are not read again is kept.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, Protocol

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import PellucidError
from pellucid.core.sites import Site
from pellucid.models.beginnings import Beginnings, Reading, Sight
from pellucid.models.generation import Editor, Pass, Phase, Watcher
from pellucid.models.requests import C, Request, Seen, Wrote
from pellucid.models.steps import Tokens, Visit


@dataclass
class Running(Generic[C]):
    """A request in its slot."""

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
        edits = marks(self.request.editors, "prompt")
        return edits is not None and edits == marks(self.request.editors, "answer")


@dataclass(frozen=True)
class Part(Generic[C]):
    """Tokens of one request in a step."""

    of: Running[C]
    ids: list[int]
    place: int
    """Of the first of them, in the request's slot."""


Spans = dict[int, tuple[int, int]]
"""For each ticket its tokens in a step, from the first to before the second."""


def keeping(
    beginnings: Beginnings, parts: Sequence[Part[C]], spans: Spans, tokens: Tokens
) -> tuple[list[tuple[Site, Visit]], list[tuple[Site, Visit]]]:
    """Keep what sights need: before editors act, and after."""
    by_sight: dict[Sight, list[Part[C]]] = {}
    for part in parts:
        for sight in part.of.reading.sights:
            by_sight.setdefault(sight, []).append(part)

    def keep(sight: Sight, mine: Sequence[Part[C]]) -> tuple[Site, Visit]:
        wanted = np.zeros(len(tokens.ids), bool)
        for part in mine:
            wanted[slice(*spans[part.of.ticket])] = True

        def visit(x: Tensor, which: np.ndarray) -> None:
            here = np.flatnonzero(wanted[which])
            if len(here):
                rows = x if len(here) == len(which) else x[torch.from_numpy(here)]
                beginnings.keep(sight, tokens.slots[which[here]], tokens.places[which[here]], rows)

        return sight[1], visit

    visits = {sight: keep(sight, mine) for sight, mine in by_sight.items()}
    before, after = ([v for s, v in visits.items() if s[0] == when] for when in ("before", "after"))
    return before, after


def watching(
    beginnings: Beginnings,
    parts: Sequence[Part[C]],
    spans: Spans,
    seen: dict[tuple[int, int], Seen[C]],
    failed: dict[int, PellucidError],
) -> list[tuple[Site, Visit]]:
    """For each watcher, all tokens of the step that it watches, put together; `seen` is filled.

    Those that were read before come first. What cannot be watched together is watched one by one, to
    know whose activations they are.
    """
    jobs: dict[int, tuple[Watcher[C], list[tuple[Part[C], int]]]] = {}
    for part in parts:
        for number, watcher in enumerate(part.of.request.watch):
            jobs.setdefault(id(watcher), (watcher, []))[1].append((part, number))

    def visit_of(watcher: Watcher[C], who: list[tuple[Part[C], int]]) -> Visit:
        def visit(x: Tensor, which: np.ndarray) -> None:
            pieces: dict[tuple[int, int], Tensor] = {}
            for part, number in who:
                rows = _rows(which, *spans[part.of.ticket])
                if rows is None:
                    continue
                piece = x[rows]
                if part.place and part.place == part.of.held:
                    held = beginnings.kept(("after", watcher.site), part.of.slot, part.place)
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


def final(measured: Sequence[Running[C]], spans: Spans) -> list[tuple[Site, Visit]]:
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


def editing(
    parts: Sequence[Part[C]], spans: Spans, failed: dict[int, PellucidError]
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


def marks(editors: Sequence[tuple[Site, Editor]], phase: Phase) -> Hashable | None:
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
