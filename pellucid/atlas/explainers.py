"""Explainers: what writes a label from examples, and judges texts by it that it was not written from.

An explainer is shown examples (`Evidence.writing`) and writes a label. Told a label alone, it says of texts
whether the feature is active in them, and of marked tokens whether they are those it is active on. It may
refuse one feature with a `LabelError`; the job records it and goes on with the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pellucid.atlas.evidence import Evidence, Window
from pellucid.atlas.rules import Rule


@dataclass(frozen=True)
class Written:
    """A label as it was written."""

    text: str
    rule: Rule | None = None
    """What the label says exactly, where a rule wrote it."""


@dataclass(frozen=True)
class Marked:
    """A text with some of its tokens marked."""

    window: Window
    marks: tuple[int, ...]


@dataclass(frozen=True)
class Sheet:
    """The texts of a test."""

    active: Sequence[Marked]
    """Examples with the right tokens marked."""
    moved: Sequence[Marked]
    """The same examples with as many silent tokens marked."""
    silent: Sequence[Window]
    """Texts in which the feature is silent."""
    source_names: tuple[str, ...]


@dataclass(frozen=True)
class Judged:
    """What is said of a sheet: by the label, is the feature active in a text, or on its marked tokens?"""

    active: Sequence[bool]
    """Of the examples as texts."""
    silent: Sequence[bool]
    """Of the texts in which it is silent."""
    marked: Sequence[bool]
    """Of the rightly marked tokens of the examples."""
    moved: Sequence[bool]
    """Of the silent ones that were marked instead."""


class Explainer(Protocol):
    """Writes labels, and judges texts by them."""

    @property
    def name(self) -> str:
        """What it is called in the table of labels."""

    @property
    def at_once(self) -> int:
        """How many features it takes at a time, each in a thread of its own."""

    def identity(self) -> dict[str, Any]:
        """All that its labels depend on beside the evidence, as JSON values."""

    def write(self, evidence: Evidence) -> Written:
        """Write a label from the examples that are for writing.

        Raises:
            LabelError: when none comes of it.
        """

    def judge(self, label: Written, sheet: Sheet) -> Judged:
        """Say of each text whether a feature of that label is active in it, knowing nothing but the label.

        Raises:
            LabelError: when there is no answer.
        """
