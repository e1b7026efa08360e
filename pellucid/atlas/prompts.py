"""What a model is told so that it writes a label or judges texts by one, and how its answers are read."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from pellucid.atlas.evidence import Evidence, Window
from pellucid.atlas.explainers import Marked
from pellucid.core.errors import LabelError

VERSION = 1
"""Part of what names a label: raised when a prompt changes."""
LABEL_TOKENS = 200
LIST_TOKENS = 100
_SHOWN = 20
"""Examples a label is written from."""
_LONGEST_LABEL = 200
_OPEN, _CLOSE = "«", "»"

_WRITE = """\
A feature of a language model is active on some tokens of text. Below are {count} texts in which it is \
active, the strongest first. The tokens it is active on stand between {open} and {close}, with how strongly, \
from 1 to 10, behind them; tokens before them may matter, tokens after them cannot.

{texts}

What do the marked tokens, or the texts before them, have in common? Answer with one short phrase that would \
let someone else find such tokens: name words, meaning, grammar or place in the text, whatever fits all of \
the texts. Do not mention marks or features. End with one line of this form:
Label: the phrase"""

_DETECT = """\
A feature of a language model is described like this: {label}

Below are {count} texts. In which of them does something occur that fits the description? There may be none, \
or all.

{texts}

Answer with their numbers alone, as a JSON list, such as [1, 4]; where none fits, []."""

_LOCATE = """\
A feature of a language model is described like this: {label}

Below are {count} texts, in each of which some tokens stand between {open} and {close}. In which texts \
are the marked tokens those that fit the description? There may be none, or all.

{texts}

Answer with their numbers alone, as a JSON list, such as [1, 4]; where none fits, []."""

_ONE = """\
A feature of a language model is described like this: {label}

Text: {text}

{question} Answer yes or no."""


def to_write(evidence: Evidence) -> str:
    """The prompt for a label, with examples over the whole range of activations."""
    step = max(1, -(-len(evidence.writing) // _SHOWN))
    chosen = evidence.writing[::step]
    top = max(max(w.values) for w in evidence.writing)
    texts = "\n".join(f"{i}. {_strengths(w, top)}" for i, w in enumerate(chosen, 1))
    return _WRITE.format(count=len(chosen), open=_OPEN, close=_CLOSE, texts=texts)


def to_detect(label: str, windows: Sequence[Window]) -> str:
    """The prompt that asks in which texts something fits a label."""
    texts = "\n".join(f"{i}. {_line(w.text)}" for i, w in enumerate(windows, 1))
    return _DETECT.format(label=label, count=len(windows), texts=texts)


def to_locate(label: str, marked: Sequence[Marked]) -> str:
    """The prompt that asks in which texts the marked tokens fit a label."""
    texts = "\n".join(f"{i}. {_line(marks(m))}" for i, m in enumerate(marked, 1))
    return _LOCATE.format(label=label, count=len(marked), open=_OPEN, close=_CLOSE, texts=texts)


def to_judge(label: str, text: str, *, marked: bool) -> str:
    """The prompt that asks of one text, for models that write no lists."""
    question = (
        f"Do the tokens between {_OPEN} and {_CLOSE} fit the description?"
        if marked
        else "Does something in the text fit the description?"
    )
    return _ONE.format(label=label, text=_line(text), question=question)


def label_in(answer: str) -> str:
    """The label of an answer.

    Raises:
        LabelError: when it has none.
    """
    found = re.findall(r"^\W*label\W*:\s*(.+)$", answer, re.IGNORECASE | re.MULTILINE)
    text = " ".join(found[-1].split()).strip("\"'“”*` .") if found else ""
    if not text or len(text) > _LONGEST_LABEL:
        raise LabelError(
            f"expected a line 'Label: …' of at most {_LONGEST_LABEL} characters; got {answer[:200]!r}"
        )
    return text


def numbers_in(answer: str, count: int) -> list[bool]:
    """For each of `count` texts, whether an answer names it.

    Raises:
        LabelError: when the answer holds no list of their numbers.
    """
    found = re.findall(r"\[[\d,\s]*\]", answer)
    try:
        numbers = set(json.loads(found[-1]))
    except (IndexError, ValueError) as error:
        raise LabelError(f"expected a JSON list of numbers; got {answer[:200]!r}") from error
    if not numbers <= set(range(1, count + 1)):
        raise LabelError(f"expected numbers from 1 to {count}; got {sorted(numbers)}")
    return [i in numbers for i in range(1, count + 1)]


def marks(marked: Marked) -> str:
    """A text with its marked tokens between marks."""
    return _between(marked.window, dict.fromkeys(marked.marks, ""))


def _strengths(window: Window, top: float) -> str:
    """A text with the tokens a feature is active on between marks, and how strongly."""
    told = {i: f"({max(1, round(10 * window.values[i] / top))})" for i in window.marked}
    return _line(_between(window, told))


def _between(window: Window, told: dict[int, str]) -> str:
    """Runs of marked tokens that say the same are put into one pair of marks."""
    found: list[str] = []
    for i, piece in enumerate(window.pieces):
        if i not in told:
            found.append(piece)
            continue
        begins = i - 1 not in told or told[i - 1] != told[i]
        ends = i + 1 not in told or told[i + 1] != told[i]
        space = piece[: len(piece) - len(piece.lstrip())] if begins else ""
        found.append(
            f"{space}{_OPEN if begins else ''}{piece[len(space) :]}{_CLOSE + told[i] if ends else ''}"
        )
    return "".join(found)


def _line(text: str) -> str:
    """A text in one line."""
    return text.replace("\n", "⏎").strip()
