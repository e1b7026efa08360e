"""One thread drives the batch; whoever serves requests talks to it from an event loop.

Requests go in through a queue that is bounded, events come out through a queue for each request: a slow
reader fills its own, which holds no more than its own answer, and nobody waits for it. Whoever stops reading
cancels. A defect in the loop ends the requests that were running, each with an error; the next begin anew.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from pellucid.core.errors import InputError, PellucidError
from pellucid.dictionaries.codes import Codes
from pellucid.models.batching import Batch
from pellucid.models.generation import Sampling
from pellucid.models.requests import Ended, Event, Failed, Request, check
from pellucid.models.steps import Steps

_SWITCH = 5e-4
"""Seconds that the event loop may keep the engine waiting for the interpreter; Python's own are ten times as
many, which is half of a step."""


class BusyError(PellucidError):
    """More requests are waiting than the server keeps."""


class StoppedError(PellucidError):
    """The server is shutting down, or the loop failed."""


@dataclass(frozen=True)
class Load:
    """How busy the engine is."""

    running: int
    waiting: int


class Stream:
    """The events of one request. Iterate over it in the event loop it was made in."""

    def __init__(self, cancel: Callable[[Stream], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event[Codes] | PellucidError] = asyncio.Queue()
        self._cancel = cancel
        self._over = False

    def tell(self, event: Event[Codes] | PellucidError) -> None:
        """Called by the thread of the engine."""
        tell_all([(self, event)])

    def _take(self, event: Event[Codes] | PellucidError) -> None:
        self._events.put_nowait(event)

    async def __aiter__(self) -> AsyncIterator[Event[Codes]]:
        """The events up to `Ended`.

        Raises:
            PellucidError: when the request failed.
        """
        while not self._over:
            event = await self._events.get()
            if isinstance(event, PellucidError):
                self._over = True
                raise event
            if isinstance(event, Failed):
                self._over = True
                raise event.error
            self._over = isinstance(event, Ended)
            yield event

    def cancel(self) -> None:
        """Say that nobody reads on; a stream that has ended stays as it is."""
        if not self._over:
            self._over = True
            self._cancel(self)


def tell_all(told: Sequence[tuple[Stream, Event[Codes] | PellucidError]]) -> None:
    """Tell streams their events, in order; an event loop is woken once for all of its own."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[Stream, Event[Codes] | PellucidError]]] = {}
    for stream, event in told:
        by_loop.setdefault(stream._loop, []).append((stream, event))

    def take(mine: list[tuple[Stream, Event[Codes] | PellucidError]]) -> None:
        for stream, event in mine:
            stream._take(event)

    for loop, mine in by_loop.items():
        with suppress(RuntimeError):  # the loop has ended, and nobody listens
            loop.call_soon_threadsafe(take, mine)


class Answering(Protocol):
    """What answers the requests of a server."""

    @property
    def load(self) -> Load:
        """How busy it is."""

    @property
    def alive(self) -> bool:
        """Whether it takes requests."""

    @property
    def room(self) -> int:
        """Tokens that a prompt and its answer may have together."""

    @property
    def name(self) -> str:
        """What it computes with."""

    def start(self) -> None:
        """Begin to work."""

    def stop(self) -> None:
        """Take no more requests, and finish those there are."""

    async def submit(self, request: Request[Codes]) -> Stream:
        """Take a request on.

        Raises:
            BusyError, StoppedError, InputError: when it cannot be.
        """


class Engine:
    """A model that answers many requests, in a thread of its own."""

    def __init__(self, steps: Steps, *, waiting: int = 64) -> None:
        """Prepare; `waiting` is how many requests may wait for a slot before more are refused."""
        self.steps, self.most_waiting = steps, waiting
        self._commands: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._lock = threading.Lock()
        self._taken = 0
        self._draining = False
        self._streams: dict[int, Stream] = {}

    @property
    def load(self) -> Load:
        """Requests in slots, and those that wait for one."""
        taken = self._taken
        return Load(min(taken, self.steps.slots), max(0, taken - self.steps.slots))

    @property
    def alive(self) -> bool:
        """Whether the thread runs and takes requests."""
        return self._thread.is_alive() and not self._draining

    @property
    def room(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return self.steps.room

    @property
    def name(self) -> str:
        """What it computes with."""
        return type(self.steps).__name__

    def start(self) -> None:
        """Begin to work; from then on the threads of the process take turns more often."""
        sys.setswitchinterval(min(_SWITCH, sys.getswitchinterval()))
        self._thread.start()

    def stop(self, *, finish: bool = True, timeout: float = 60.0) -> None:
        """Take no more requests, finish those there are or drop them, and end the thread."""
        self._draining = True
        self._commands.put(("stop", finish))
        self._thread.join(timeout)

    async def submit(self, request: Request[Codes]) -> Stream:
        """Take a request on.

        Raises:
            BusyError: when too many wait already.
            StoppedError: when the engine is shutting down.
            InputError: when the request does not fit, see `batching.check`.
        """
        if self._draining:
            raise StoppedError("The server is shutting down. Try again in a moment.")
        check(request, self.steps.model, self.room)
        with self._lock:
            if self._taken >= self.steps.slots + self.most_waiting:
                raise BusyError(
                    f"{self.most_waiting} requests are waiting already. Try again in a few seconds."
                )
            self._taken += 1
        stream = Stream(lambda stream: self._commands.put(("cancel", stream)))
        self._commands.put(("submit", request, stream))
        return stream

    def _prepare(self) -> None:
        """Write two tokens for nobody: what a machine compiles once is compiled before anybody waits for it.

        What fails here fails again for whoever asks, and is told there.
        """
        with suppress(Exception):
            batch = Batch[Codes](self.steps)
            batch.submit(Request([0], Sampling(max_tokens=2)))
            while batch.running or batch.waiting:
                batch.step()

    def _run(self) -> None:
        self._prepare()
        batch = Batch[Codes](self.steps)
        stopping = False
        while not stopping or self._streams:
            try:
                command = self._commands.get(block=not self._streams)
            except queue.Empty:
                command = None
            if command is not None:
                stopping = self._obey(batch, command) or stopping
                continue
            try:
                told = []
                for ticket, event in batch.step():
                    stream = self._streams.get(ticket)
                    if stream is None:
                        continue
                    if isinstance(event, Ended | Failed):
                        self._forget(ticket)
                    told.append((stream, event))
                tell_all(told)
            except Exception as error:  # whatever it is, no request may wait for ever
                failure = StoppedError(f"The engine failed and begins anew: {type(error).__name__}: {error}.")
                failure.__cause__ = error
                for ticket in list(self._streams):
                    self._forget(ticket).tell(failure)
                batch = Batch[Codes](self.steps)

    def _obey(self, batch: Batch[Codes], command: Any) -> bool:
        """Carry out a command; whether it was to stop."""
        kind, *rest = command
        if kind == "submit":
            request, stream = rest
            try:
                self._streams[batch.submit(request)] = stream
            except InputError as error:
                self._free()
                stream.tell(error)
        elif kind == "cancel":
            for ticket in [t for t, s in self._streams.items() if s is rest[0]]:
                batch.cancel(ticket)
                self._forget(ticket)
        elif kind == "stop" and not rest[0]:
            for ticket in list(self._streams):
                batch.cancel(ticket)
                self._forget(ticket).tell(StoppedError("The server was stopped."))
        return bool(kind == "stop")

    def _forget(self, ticket: int) -> Stream:
        """Count the request off, before its reader hears of its end."""
        self._free()
        return self._streams.pop(ticket)

    def _free(self) -> None:
        with self._lock:
            self._taken -= 1
