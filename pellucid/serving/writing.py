"""One answer being written: tokens become text, stop sequences end it, and its end is proved.

What both chat APIs share. They differ in how they name things, and that is in their own files.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from pellucid.models.generation import Sampling
from pellucid.models.pieces import Pieces
from pellucid.models.requests import Effect, Ended, Read, Request, Wrote
from pellucid.serving.engine import Answering
from pellucid.serving.extension import Extension, FeatureOnToken, Instruments, TokenSeen
from pellucid.serving.served import Served

LEAST_LOGPROB = -9999.0
"""What OpenAI's API tells of a token that is all but impossible: JSON has no infinity."""


_PROVING = ThreadPoolExecutor(2, "receipts")
"""Receipts run the model: many at once would keep what is looked up for other requests waiting."""


@dataclass(frozen=True)
class Asked:
    """What an API asks for, in one form."""

    prompt: list[int]
    sampling: Sampling
    stops: Sequence[str] = ()
    alternatives: int = 0
    extension: Extension | None = None
    owner: str | None = None
    """Whose it is, see `permission.owner`."""


@dataclass(frozen=True)
class Piece:
    """A token of the answer."""

    text: str
    """What can be shown now; a character or a stop sequence that is not whole yet is held back."""
    token: int
    token_text: str
    logprob: float
    alternatives: list[tuple[int, float]]
    features: list[FeatureOnToken]


@dataclass(frozen=True)
class Finish:
    """How it ended."""

    reason: Literal["stop", "length", "sequence"]
    sequence: str | None
    """The stop sequence that was met."""
    text: str
    """What was held back and may be shown after all."""
    prompt_tokens: int
    held_tokens: int
    """So many of the prompt's, the first, had been read before."""
    answer_tokens: int
    prompt: list[TokenSeen] = field(default_factory=list)
    """The prompt's tokens with their features, where something watched."""
    receipts: list[dict[str, Any]] = field(default_factory=list)


class _Stops:
    """Looks for stop sequences in text that comes in pieces."""

    def __init__(self, sequences: Sequence[str]) -> None:
        self._sequences = [s for s in sequences if s]
        self._held = ""
        self.met: str | None = None

    def add(self, text: str) -> str:
        """What of the text may be shown: nothing that is, or may become, a stop sequence."""
        self._held += text
        found = [(at, s) for s in self._sequences if (at := self._held.find(s)) >= 0]
        if found:
            at, self.met = min(found)
            shown, self._held = self._held[:at], ""
            return shown
        keep = max(
            (n for s in self._sequences for n in range(1, len(s)) if self._held.endswith(s[:n])), default=0
        )
        shown = self._held[: len(self._held) - keep]
        self._held = self._held[len(shown) :]
        return shown

    def end(self) -> str:
        """What was held back."""
        shown, self._held = self._held, ""
        return shown


async def write(engine: Answering, served: Served, asked: Asked) -> AsyncGenerator[Piece | Finish]:
    """The pieces of an answer, then how it ended. Whoever stops iterating ends the writing.

    Raises:
        BusyError, StoppedError, InputError: before the first piece, or when the engine fails.
    """
    # Names in the extension may have to be read.
    instruments = await asyncio.to_thread(Instruments, served, asked.extension)
    stream = await engine.submit(
        Request(
            asked.prompt,
            asked.sampling,
            watch=instruments.watchers,
            editors=instruments.editors,
            alternatives=asked.alternatives,
            edited_at=instruments.edited_at,
            owner=asked.owner,
        )
    )
    model = served.model
    pieces, stops = Pieces(model.decode), _Stops(asked.stops)
    written: list[int] = []
    # What the prompt's tokens have is told at the end, and holds up none of the answer's.
    telling: asyncio.Task[list[TokenSeen]] | None = None
    held = 0
    effect: Effect | None = None
    reason: Literal["stop", "length", "sequence"] = "length"
    try:
        async for event in stream:
            if isinstance(event, Read):
                held = event.held
                if event.codes:
                    telling = asyncio.create_task(instruments.prompt(asked.prompt, event.codes))
            elif isinstance(event, Ended):
                reason, effect = event.reason, event.effect
            elif isinstance(event, Wrote):
                written.append(event.token)
                if event.token in model.end_ids:
                    continue
                text = pieces.add(event.token)
                yield Piece(
                    stops.add(text),
                    event.token,
                    model.decode([event.token]),
                    max(event.logprob, LEAST_LOGPROB),
                    [(token, max(value, LEAST_LOGPROB)) for token, value in event.alternatives],
                    await instruments.features(event.codes) if event.codes else [],
                )
                if stops.met is not None:
                    reason = "sequence"
                    break
        stream.cancel()
        answer = [t for t in written if t not in model.end_ids]
        left = "" if stops.met is not None else stops.add(pieces.end()) + stops.end()
        proved = []
        if answer and instruments.proves:
            loop = asyncio.get_running_loop()
            proved = await loop.run_in_executor(_PROVING, instruments.receipts, asked.prompt, answer, effect)
        prompt = await telling if telling is not None else []
        yield Finish(reason, stops.met, left, len(asked.prompt), held, len(written), prompt, proved)
    finally:
        stream.cancel()
        if telling is not None:
            telling.cancel()
