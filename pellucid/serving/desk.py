"""What is looked up beside the batch: in threads, a few at a time, with a bound on how many wait.

A page of the atlas or a search may read tables far away, or run the model over a text. None of it holds the
event loop, and none of it takes more of the processors than the desk has places. Who goes away before it is
their turn is not served.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from fastapi import Request

from pellucid.core.errors import InputError
from pellucid.serving.engine import BusyError

T = TypeVar("T")

_PLACES = 2
_MOST_WAITING = 64
_LOOK_S = 0.5
"""So often it is seen whether who waits is still there."""


class Desk:
    """Takes on work and answers in the order it came."""

    def __init__(self, places: int = _PLACES, waiting: int = _MOST_WAITING) -> None:
        self._places = asyncio.Semaphore(places)
        self._most = places + waiting
        self._taken = 0

    async def ask(self, request: Request, work: Callable[[], T]) -> T:
        """What the work returns, or raises.

        Raises:
            BusyError: when too many wait already.
            InputError: when the client goes away before its turn.
        """
        if self._taken >= self._most:
            raise BusyError(f"{self._most} look-ups are under way or wait. Try again in a few seconds.")
        self._taken += 1
        try:
            while True:
                try:
                    await asyncio.wait_for(self._places.acquire(), _LOOK_S)
                    break
                except TimeoutError:
                    if await request.is_disconnected():
                        raise InputError("The client has gone away.") from None
            try:
                return await asyncio.to_thread(work)
            finally:
                self._places.release()
        finally:
            self._taken -= 1
