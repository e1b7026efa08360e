"""Tokens become text one by one, so that the pieces joined are the text.

Some tokenizers drop the space that opens a text, and some characters are spread over several tokens: each
token is decoded behind those before it, and a piece that may end within a character waits for the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

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


def bytes_of(tokenizer: Any, token: int) -> bytes:
    """The bytes that a token stands for, which need not be whole characters.

    Of byte-level vocabularies (Radford et al. 2019, section 2.2) and of those that fall back to bytes written
    `<0xE2>`; the token's text in UTF-8 otherwise.
    """
    name = tokenizer.convert_ids_to_tokens(token)
    text = str(tokenizer.decode([token], clean_up_tokenization_spaces=False))
    if _MARK not in text or not isinstance(name, str):
        return text.encode()
    if written := re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", name):
        return bytes.fromhex(written[1])
    values = [_bytes_by_character().get(c) for c in name]
    return text.encode() if None in values else bytes(v for v in values if v is not None)


@cache
def _bytes_by_character() -> dict[str, int]:
    """The character that stands for each byte: itself where it can be seen, else one from 256 on."""
    seen = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    unseen = [b for b in range(256) if b not in seen]
    return {chr(b): b for b in seen} | {chr(256 + i): b for i, b in enumerate(unseen)}
