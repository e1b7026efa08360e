"""Labelled sets: texts with a label, from the tables of a package, as questions with two answers.

The 155 tables are those of Kantamneni et al. 2025 (arXiv 2502.16681), in the package `sae-probes`: fetched by
reference, read, never installed. 113 have two labels and are taken as they are. Of the other 42, numbers are
asked whether they are above the median, and words whether they are the first in alphabetical order.

Which texts of a table are taken is decided by the digest of each text, so that it is the same in every run
and on every machine, and so that tables that share texts choose the same ones, which are then read once.
"""

from __future__ import annotations

import csv
import hashlib
import io
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

import numpy as np

from pellucid.activations.text import decompressed
from pellucid.core.errors import InputError
from pellucid.models import packages, references

SOURCE = "pypi:sae-probes==0.4.2#sae_probes/data/cleaned_data/*.csv.zst"
_FEWEST = 20
"""A set with fewer texts of a label is refused: an AUC over ten of them says nothing."""


@dataclass(frozen=True)
class LabelledSet:
    """Some texts, half of which the answer is yes for."""

    name: str
    """The name of its table."""
    question: str
    """What is asked of the label."""
    texts: tuple[str, ...]
    """As many of each answer."""
    labels: np.ndarray
    """[texts] bool."""
    training: np.ndarray
    """[texts] bool: which serve to fit a probe; the others test it. Half of each answer."""


def read(source: str = SOURCE, *, texts: int = 200) -> list[LabelledSet]:
    """Read the labelled sets of a package, in the order of their names.

    Args:
        source: a reference to tables with the columns `prompt` and `target`.
        texts: how many texts to take of each, half of them with the answer yes; fewer of a small table.

    Raises:
        InputError: when there is no table, or one has no two labels with enough texts.
        IntegrityError, UpstreamError: see `packages`.
    """
    reference = references.parse(source)
    archive = packages.fetch(reference)
    found = [
        _chosen(name, _rows(name, stream), texts)
        for name, stream in packages.members(archive, reference.inside or "*")
    ]
    if not found:
        raise InputError(f"{source!r} holds no table.")
    return found


def groups(sets: list[LabelledSet]) -> np.ndarray:
    """[sets] the number of each set's group: sets whose chosen texts overlap are of one group.

    Two overlap when one holds more than a tenth of the other's texts. Figures of such sets are alike, and an
    interval must draw them together.
    """
    held = [frozenset(s.texts) for s in sets]
    group = np.arange(len(sets))
    for i, one in enumerate(held):
        for j in range(i):
            if len(one & held[j]) > min(len(one), len(held[j])) / 10:
                group[group == group[j]] = group[i]
    return np.unique(group, return_inverse=True)[1]


def digest_of(text: str) -> bytes:
    """What texts are put in order by."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _rows(name: str, stream: IO[bytes]) -> list[tuple[str, str]]:
    """Texts and labels of a table."""
    csv.field_size_limit(sys.maxsize)
    _, stream = decompressed(name, stream)
    with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="") as text:
        rows = csv.DictReader(text)
        if not {"prompt", "target"} <= set(rows.fieldnames or ()):
            raise InputError(f"{name!r} has no columns `prompt` and `target`; it has {rows.fieldnames}.")
        return [(row["prompt"], row["target"]) for row in rows if row["prompt"].strip()]


def _chosen(name: str, rows: list[tuple[str, str]], count: int) -> LabelledSet:
    question, answers = _asked([label for _, label in rows])
    said: dict[str, set[bool]] = defaultdict(set)
    for (text, _), answer in zip(rows, answers, strict=True):
        said[text].add(answer)
    sides = [
        sorted((t for t, given in said.items() if given == {answer}), key=digest_of)
        for answer in (False, True)
    ]
    each = min(count // 2, *map(len, sides))
    if each < _FEWEST:
        raise InputError(
            f"{name!r} has {each} texts of one of its labels, and at least {_FEWEST} are needed."
        )
    texts = tuple(t for side in sides for t in side[:each])
    within = np.tile(np.arange(each), 2)
    return LabelledSet(
        name=PurePosixPath(name).name.partition(".csv")[0],
        question=question,
        texts=texts,
        labels=np.repeat([False, True], each),
        training=within % 2 == 0,
    )


def _asked(labels: list[str]) -> tuple[str, list[bool]]:
    """A question with two answers for some labels, and its answers."""
    distinct = sorted(set(labels))
    if len(distinct) == 2:
        return f"is it {distinct[1]}", [label == distinct[1] for label in labels]
    numbers = list(_numbers(labels))
    if len(numbers) == len(labels):
        middle = float(np.median(numbers))
        return f"is it above {middle:g}", [n > middle for n in numbers]
    return f"is it {distinct[0]}", [label == distinct[0] for label in labels]


def _numbers(labels: list[str]) -> Iterator[float]:
    for label in labels:
        try:
            yield float(label)
        except ValueError:
            return
