"""Several answers as one stream of events, and events as lines of a response."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from fastapi import Request
from pydantic_core import PydanticSerializationError, to_json, to_jsonable_python

from pellucid.core.errors import InputError
from pellucid.serving.writing import Finish, Piece

Event = tuple[int, Piece | Finish]
"""Which of the answers, and what came of it."""
Writing = AsyncGenerator[Piece | Finish]

STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The answer, whole or as a stream.", "content": {"text/event-stream": {}}}
}
"""For the OpenAPI document: what a route sends that streams if it is asked to."""
_LOOK_EVERY = 16
"""So many events between two looks whether the client is still there."""


async def merged(request: Request, writings: Sequence[Writing]) -> AsyncGenerator[Event]:
    """The events of several answers as they come. Whoever stops iterating ends all of them.

    The tokens of an answer that has ended are counted.

    Raises:
        Exception: the first that any of them raises; what is no `PellucidError` is a defect.
    """
    if len(writings) == 1:
        async with aclosing(writings[0]) as only:
            async for event in only:
                _count(request, event)
                yield 0, event
        return
    queue: asyncio.Queue[tuple[int, Piece | Finish | Exception | None]] = asyncio.Queue()

    async def pump(index: int, writing: Writing) -> None:
        try:
            async with aclosing(writing):
                async for event in writing:
                    queue.put_nowait((index, event))
            queue.put_nowait((index, None))
        except Exception as error:  # a defect too: whoever waits for its events must hear of it
            queue.put_nowait((index, error))

    tasks = [asyncio.create_task(pump(i, w)) for i, w in enumerate(writings)]
    try:
        left = len(tasks)
        while left:
            index, found = await queue.get()
            if isinstance(found, Exception):
                raise found
            if found is None:
                left -= 1
                continue
            _count(request, found)
            yield index, found
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _count(request: Request, event: Piece | Finish) -> None:
    if isinstance(event, Finish):
        tokens = request.app.state.metrics.tokens
        tokens.labels("prompt").inc(event.prompt_tokens)
        tokens.labels("held").inc(event.held_tokens)
        tokens.labels("answer").inc(event.answer_tokens)


async def begun(events: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
    """The same events, once the first is there: an error before it can still be told by the status.

    Raises:
        Exception: when there is an error before the first event.
    """
    first = await anext(events)

    async def rest() -> AsyncGenerator[Event]:
        async with aclosing(events):
            yield first
            async for event in events:
                yield event

    return rest()


async def gathered(request: Request, writings: Sequence[Writing]) -> list[tuple[list[Piece], Finish]]:
    """All answers whole; a client that goes away ends them.

    Raises:
        Exception: the first that any of them raises.
    """
    pieces: list[list[Piece]] = [[] for _ in writings]
    finishes: dict[int, Finish] = {}
    async with aclosing(merged(request, writings)) as events:
        count = 0
        async for index, event in events:
            count += 1
            if count % _LOOK_EVERY == 0 and await request.is_disconnected():
                raise InputError("The client has gone away.")
            if isinstance(event, Piece):
                pieces[index].append(event)
            else:
                finishes[index] = event
    return [(pieces[i], finishes[i]) for i in range(len(writings))]


def sent(value: Any, event: str | None = None) -> bytes:
    """One server-sent event (WHATWG HTML, section 9.2).

    What is half a character in UTF-16 cannot be sent, and is replaced.

    Raises:
        ValueError: when a number is none, or infinite.
    """
    head = f"event: {event}\n".encode() if event else b""
    try:
        told = to_json(value)
    except PydanticSerializationError:  # half a character
        told = _strictly(value)
    if b"NaN" in told or b"Infinity" in told:  # a number, or a text that holds the word
        told = _strictly(value)
    return head + b"data: " + told + b"\n\n"


def _strictly(value: Any) -> bytes:
    plain = json.dumps(to_jsonable_python(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return plain.encode("utf-8", "replace")


def room_for(request: Request, prompt: Sequence[int]) -> int:
    """So many tokens an answer to the prompt may have.

    Raises:
        InputError: when the prompt leaves none.
    """
    room: int = request.app.state.engine.room
    if len(prompt) >= room:
        raise InputError(
            f"The prompt has {len(prompt)} tokens, and with the answer there is room for {room}. Send "
            "less, or begin a new conversation."
        )
    return room - len(prompt)
