"""The words of some texts as arrays: what stands at each token, before it, and what sort of word it is.

L tokens at most, W texts. At each token stands the word up to and including that token, because a model has
read no further: at `mel|ody` first `mel`, then `melody`. Words are in lower case. A token that holds no
letter or digit is a word by itself, without the spaces around it; one of spaces alone is one space, or one
line break if it has any.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np

from pellucid.atlas.lexicon import FUNCTION_WORDS, LANGUAGES

_NUMBER = re.compile(r"[\d.,:/%°]*\d[\d.,:/%°]*")
_CODE_NAME = re.compile(r"\w*(_\w|[a-z][A-Z])\w*")
_ENDINGS = ("ing", "ed", "ly", "tion", "er", "est", "ment", "ness", "able", "ous", "ive", "al", "ity", "s")
_LANGUAGE_SHARE = 0.25
_LANGUAGE_WORDS = 3
SHAPES = (
    "number", "punctuation", "line break", "spaces", "capitalised", "capitals", "inside a word",
    "function word", "content word", "letters beyond English", "name in code",
    "first of a text", "beginning of a text",
    *(f"-{e}" for e in _ENDINGS),
)  # fmt: skip
"""Sorts of words; what each means is in `shapes_of`."""
_BIT = {name: 1 << i for i, name in enumerate(SHAPES)}


@dataclass(frozen=True)
class Words:
    """What stands at each token of one text."""

    prefixes: tuple[str, ...]
    """The word up to and including the token, as it is written."""
    lower: tuple[str, ...]
    """The same in lower case."""
    inside: tuple[bool, ...]
    """Whether the token goes on with a word."""
    shapes: tuple[int, ...]
    """Bits of `SHAPES`."""

    @classmethod
    def of(cls, pieces: Sequence[str]) -> Words:
        """The words of the pieces of a text."""
        prefixes: list[str] = []
        inside: list[bool] = []
        open_word = False
        for piece in pieces:
            bare, begins, ends = _edges(piece)
            goes_on = open_word and begins
            prefixes.append(prefixes[-1] + bare if goes_on else bare)
            inside.append(goes_on)
            open_word = ends
        lower = [p.lower() for p in prefixes]
        return cls(tuple(prefixes), tuple(lower), tuple(inside), tuple(map(shapes_of, prefixes, inside)))


@lru_cache(maxsize=1 << 18)
def _edges(piece: str) -> tuple[str, bool, bool]:
    """A piece without spaces around it, and whether it begins and ends with a letter or digit."""
    blank = "\n" if "\n" in piece else " "
    return piece.strip() or blank, piece[:1].isalnum(), piece[-1:].isalnum()


class Text(Protocol):
    """A text to find words in: a window is one."""

    @property
    def words(self) -> Words:
        """Its words."""

    @property
    def source(self) -> int:
        """The text source it is from."""

    @property
    def opens(self) -> bool:
        """Whether its first token is the first of a document."""


@dataclass(frozen=True)
class Grid:
    """Words of W texts, [W, L]; a number stands for a word, and -1 for none."""

    vocabulary: dict[str, int]
    here: np.ndarray
    """The word up to and including the token."""
    before: np.ndarray
    """The word before that one."""
    word: np.ndarray
    """The whole word, where it ends; elsewhere -1."""
    shapes: np.ndarray
    """Bits of `SHAPES`."""
    sources: tuple[str, ...]
    """[W] the name of each text's source."""
    valid: np.ndarray
    """Bool: whether there is a token."""

    @classmethod
    def of(cls, texts: Sequence[Text], source_names: Sequence[str]) -> Grid:
        """The words of some texts."""
        longest = max((len(t.words.prefixes) for t in texts), default=0)
        shape = (len(texts), longest)
        vocabulary: dict[str, int] = {}
        here, before, word = (np.full(shape, -1, np.int32) for _ in range(3))
        shapes, valid = np.zeros(shape, np.int64), np.zeros(shape, bool)
        for w, text in enumerate(texts):
            words = text.words
            count = len(words.prefixes)
            at = [vocabulary.setdefault(p, len(vocabulary)) for p in words.lower]
            ends = [not goes_on for goes_on in (*words.inside[1:], False)]
            valid[w, :count], shapes[w, :count], here[w, :count] = True, words.shapes, at
            word[w, :count] = [number if end else -1 for number, end in zip(at, ends, strict=True)]
            last = current = -1
            for t, number in enumerate(at):
                if not words.inside[t]:
                    last = current
                before[w, t], current = last, number
            if text.opens:
                shapes[w, : min(2, count)] |= _BIT["first of a text"]
                shapes[w, : min(8, count)] |= _BIT["beginning of a text"]
        sources = tuple(source_names[t.source] for t in texts)
        return cls(vocabulary, here, before, word, shapes, sources, valid)

    def numbers(self, words: Iterable[str]) -> np.ndarray:
        """The numbers of those words that occur."""
        return np.array([self.vocabulary[w] for w in words if w in self.vocabulary], np.int32)

    def has_shape(self, name: str) -> np.ndarray:
        """[W, L] bool: the tokens of one sort."""
        return (self.shapes & _BIT[name]) > 0

    @cached_property
    def _letters(self) -> np.ndarray:
        """[W, L] how many words of letters have been read."""
        numbers = np.array([i for w, i in self.vocabulary.items() if w.isalpha()], np.int32)
        found: np.ndarray = np.isin(self.word, numbers).cumsum(axis=1)
        return found

    def in_language(self, name: str) -> np.ndarray:
        """[W, L] bool: of the words read so far, at least three and a quarter are of a language's."""
        hits = np.isin(self.word, self.numbers(LANGUAGES[name])).cumsum(axis=1)
        found: np.ndarray = (hits >= _LANGUAGE_WORDS) & (hits >= _LANGUAGE_SHARE * self._letters) & self.valid
        return found

    def beginning(self, letters: str) -> np.ndarray:
        """[W, L] bool: the tokens whose word begins with these letters."""
        numbers = np.array([i for w, i in self.vocabulary.items() if w.startswith(letters)], np.int32)
        found: np.ndarray = np.isin(self.here, numbers) & self.valid
        return found

    def so_far(self, words: Iterable[str]) -> np.ndarray:
        """[W, L] bool: the tokens at which one of the words has been read."""
        read = np.isin(self.word, self.numbers(words)) & self.valid
        found: np.ndarray = np.logical_or.accumulate(read, axis=1) & self.valid
        return found


@lru_cache(maxsize=1 << 16)
def shapes_of(prefix: str, inside: bool) -> int:
    """Bits of the sorts that a word up to a token is of."""
    lower = prefix.lower()
    letters = any(c.isalpha() for c in prefix)
    found = {
        "number": bool(_NUMBER.fullmatch(prefix)),
        "punctuation": not letters and not any(c.isdigit() for c in prefix) and bool(prefix.strip()),
        "line break": prefix == "\n",
        "spaces": prefix == " ",
        "capitalised": prefix[:1].isupper() and prefix[1:].islower(),
        "capitals": len(prefix) > 1 and prefix.isupper(),
        "inside a word": inside and letters,
        "function word": lower in FUNCTION_WORDS,
        "content word": prefix.isalpha() and len(prefix) > 2 and lower not in FUNCTION_WORDS,
        "letters beyond English": letters and not prefix.isascii(),
        "name in code": bool(_CODE_NAME.fullmatch(prefix)),
    }
    for ending in _ENDINGS:
        found[f"-{ending}"] = lower.isalpha() and len(lower) > len(ending) + 1 and lower.endswith(ending)
    return sum(_BIT[name] for name, is_one in found.items() if is_one)
