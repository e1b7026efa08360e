"""Tokens become text one by one, so that the pieces joined are the text.

Some tokenizers drop the space that opens a text, and some characters are spread over several tokens: each
token is decoded behind those before it, and a piece that may end within a character waits for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

_MARK = "\N{REPLACEMENT CHARACTER}"


class Pieces:
    """The text of a growing row of tokens."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._before: list[int] = []
        self._pending: list[int] = []
        self._given = 0

    def add(self, token: int) -> str:
        """The text that a token adds; empty while a character is not whole."""
        self._pending.append(int(token))
        text = self._decode([*self._before, *self._pending])
        # Marks at the end may be the first bytes of a character: they wait for what follows.
        until = max(self._given, len(text.rstrip(_MARK)))
        piece = text[self._given : until]
        self._given = until
        if not text.endswith(_MARK):
            self._before, self._pending = self._pending, []
            self._given = len(self._decode(self._before))
        return piece

    def end(self) -> str:
        """What was held back, as it is."""
        return self._decode([*self._before, *self._pending])[self._given :] if self._pending else ""
