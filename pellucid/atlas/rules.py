"""Rules: what a label without a model says, so exactly that it can be tested on text.

A rule is one condition, or two that hold on the same token. It gives for each token of a text whether the
feature should be active there, and says the same in words. See `wording` for what the words of a text are.

    here      the word at the token, up to and including it, is one of these
    begins    it begins with these letters
    before    the word before it is one of these
    so far    one of these words has been read
    shape     the word is of a sort: a number, capitalised, ends in -ing, …
    language  the words so far are of a language
    source    the text is from a source
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pellucid.atlas.lexicon import FUNCTION_WORDS, PUNCTUATION, topic_of
from pellucid.atlas.wording import Grid
from pellucid.core.errors import IntegrityError

ConditionKind = Literal["here", "begins", "before", "so far", "shape", "language", "source"]
_SHOWN = 4
"""Words of a condition that a label names."""

_SHAPE_TEXTS = {
    "number": "numbers",
    "punctuation": "punctuation",
    "line break": "line breaks",
    "spaces": "spaces",
    "capitalised": "capitalised words",
    "capitals": "words in capitals",
    "inside a word": "later parts of words",
    "function word": "function words",
    "content word": "words with a meaning of their own",
    "letters beyond English": "words with letters beyond English",
    "name in code": "names in code",
    "first of a text": "the very beginning of a text",
    "beginning of a text": "the first words of a text",
}


@dataclass(frozen=True)
class Condition:
    """Something that holds on some tokens."""

    kind: ConditionKind
    words: tuple[str, ...]
    """In lower case, the weightiest first; of `begins`, `shape`, `language` and `source` the one name."""

    def matches(self, grid: Grid) -> np.ndarray:
        """[W, L] bool: the tokens it holds on."""
        name = self.words[0]
        if self.kind == "here":
            found = np.isin(grid.here, grid.numbers(self.words))
        elif self.kind == "before":
            found = np.isin(grid.before, grid.numbers(self.words))
        elif self.kind == "begins":
            found = grid.beginning(name)
        elif self.kind == "so far":
            found = grid.so_far(self.words)
        elif self.kind == "shape":
            found = grid.has_shape(name)
        elif self.kind == "language":
            found = grid.in_language(name)
        else:
            found = np.array([s == name for s in grid.sources], bool)[:, None]
        both: np.ndarray = found & grid.valid
        return both


@dataclass(frozen=True)
class Rule:
    """All of its conditions hold."""

    conditions: tuple[Condition, ...]

    def matches(self, grid: Grid) -> np.ndarray:
        """[W, L] bool: the tokens on which the feature should be active."""
        found = grid.valid.copy()
        for condition in self.conditions:
            found &= condition.matches(grid)
        return found

    def text(self, shown: Mapping[str, str] | None = None) -> str:
        """The rule in words.

        Args:
            shown: how words in lower case are written; those it lacks are shown as they are.
        """
        written = shown or {}
        parts = {c.kind: c for c in self.conditions}
        if len(self.conditions) == 2 and self.conditions[0].kind == self.conditions[1].kind:
            first, second = (_alone(c, written) for c in self.conditions)
            return f"{first} that are also {second}"
        head = next((parts[k] for k in ("here", "begins", "shape") if k in parts), None)
        if len(self.conditions) == 1:
            return _alone(self.conditions[0], written)
        if head is None:
            head = parts.get("before", self.conditions[0])
        (tail,) = (c for c in self.conditions if c is not head)
        return f"{_alone(head, written)} {_behind(tail, written)}"

    def state(self) -> list[dict[str, Any]]:
        """The rule as a JSON value."""
        return [{"kind": c.kind, "words": list(c.words)} for c in self.conditions]

    @classmethod
    def from_state(cls, state: Any) -> Rule:
        """The rule of a JSON value.

        Raises:
            IntegrityError: when it is not one.
        """
        try:
            return cls(tuple(Condition(c["kind"], tuple(c["words"])) for c in state))
        except (TypeError, KeyError) as error:
            raise IntegrityError(f"Expected the conditions of a rule; got {state!r}.") from error


def _alone(condition: Condition, shown: Mapping[str, str]) -> str:
    """What a condition says by itself."""
    words = condition.words
    told = {
        "shape": lambda: _SHAPE_TEXTS.get(words[0], f"words ending in {words[0]}"),
        "begins": lambda: f"words beginning with {words[0]}-",
        "language": lambda: f"{words[0]} text",
        "source": lambda: f"texts from {words[0]}",
        "before": lambda: f"what follows {_named(words, shown, joined=' or ')}",
        "so far": lambda: _texts(words, shown),
        "here": lambda: _words(words, shown),
    }
    return told[condition.kind]()


def _words(words: Sequence[str], shown: Mapping[str, str]) -> str:
    """What words have in common, and some of them."""
    topic = topic_of([w for w in words if w not in FUNCTION_WORDS])
    if len(words) == 1:
        return f"the word {_quoted(words[0], shown)}" if _is_word(words[0]) else _quoted(words[0], shown)
    if all(w in FUNCTION_WORDS for w in words):
        return f"function words: {_listed(words, shown)}"
    if topic:
        return f"words about {topic}: {_listed(words, shown)}"
    if all(w in PUNCTUATION for w in words):
        return _named(words, shown, joined=" and ")
    kind = "the words " if all(map(_is_word, words)) else ""
    return f"{kind}{_named(words, shown, joined=', ')}"


def _behind(condition: Condition, shown: Mapping[str, str]) -> str:
    """What it says behind another condition."""
    if condition.kind == "before":
        return f"after {_named(condition.words, shown, joined=' or ')}"
    if condition.kind in ("so far", "language", "source"):
        told = _alone(condition, shown)
        return f"in {told}" if condition.kind != "source" else f"in {told.removeprefix('texts from ')}"
    return f"that are {_alone(condition, shown)}"


def _texts(words: Sequence[str], shown: Mapping[str, str]) -> str:
    topic = topic_of([w for w in words if w not in FUNCTION_WORDS])
    return f"texts about {topic}: {_listed(words, shown)}" if topic else f"texts with {_listed(words, shown)}"


def _listed(words: Sequence[str], shown: Mapping[str, str]) -> str:
    told = [shown.get(w, w) for w in words[:_SHOWN]]
    return ", ".join(told) + (", …" if len(words) > _SHOWN else "")


def _named(words: Sequence[str], shown: Mapping[str, str], *, joined: str) -> str:
    told = [_quoted(w, shown) for w in words[:_SHOWN]]
    return joined.join(told) + (f"{joined}…" if len(words) > _SHOWN else "")


def _quoted(word: str, shown: Mapping[str, str]) -> str:
    if word in PUNCTUATION:
        return PUNCTUATION[word]
    return f"“{shown.get(word, word)}”"


def _is_word(word: str) -> bool:
    return any(c.isalpha() for c in word)
