from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pellucid.activations import labelled
from pellucid.core.errors import InputError


def rows(label: str, start: int, count: int) -> list[tuple[str, str]]:
    return [(f"text {i}", label) for i in range(start, start + count)]


def test_two_labels_numbers_and_words_become_questions(home: Path, keep_tables: Callable[..., None]) -> None:
    numbers = [(f"number {i}", str(float(i))) for i in range(100)]
    keep_tables(
        home,
        {
            "1_two": rows("no", 0, 60) + rows("yes", 100, 80),
            "2_numbers": numbers,
            "3_words": rows("cat", 0, 40) + rows("ant", 100, 40) + rows("bee", 200, 40),
        },
    )
    two, many, words = labelled.read(texts=60)
    assert (two.name, two.question) == ("1_two", "is it yes")
    assert (many.question, words.question) == ("is it above 49.5", "is it ant")
    for one in (two, many, words):
        assert len(one.texts) == 60
        for side in (True, False):
            assert one.labels[one.training == side].sum() == 15
            assert (~one.labels[one.training == side]).sum() == 15
    assert {int(t.split()[1]) >= 100 for t, yes in zip(two.texts, two.labels, strict=True) if yes} == {True}
    assert all((float(t.split()[1]) > 49.5) == yes for t, yes in zip(many.texts, many.labels, strict=True))
    assert [t for s in labelled.read(texts=60) for t in s.texts] == [
        t for s in (two, many, words) for t in s.texts
    ]


def test_texts_with_both_labels_are_left_out_and_tables_choose_the_same_texts(
    home: Path, keep_tables: Callable[..., None]
) -> None:
    table = rows("no", 0, 200) + rows("yes", 200, 200)
    keep_tables(
        home,
        {
            "1_a": table + rows("yes", 0, 50),
            "2_b": table[::-1],
            "3_c": rows("x", 900, 60) + rows("y", 1000, 60),
        },
    )
    a, b, c = labelled.read(texts=80)
    assert not {f"text {i}" for i in range(50)} & set(a.texts)
    # Of the yes side, which both hold whole, they take the same texts.
    assert set(a.texts[40:]) == set(b.texts[40:])
    group = labelled.groups([a, b, c])
    assert group[0] == group[1] != group[2]


def test_groups_hold_together_what_overlaps_through_others() -> None:
    def made(*texts: int) -> labelled.LabelledSet:
        none = np.zeros(len(texts), bool)
        return labelled.LabelledSet("s", "q", tuple(map(str, texts)), none, none)

    chain = [made(*range(0, 20)), made(*range(40, 60)), made(*range(15, 45)), made(*range(100, 120))]
    assert len(set(labelled.groups(chain)[:3])) == 1
    assert len(set(labelled.groups(chain))) == 2
    assert len(set(labelled.groups([made(*range(20)), made(*range(18, 40))]))) == 2, "a tenth is no overlap"


def test_tables_that_cannot_serve_are_refused(home: Path, keep_tables: Callable[..., None]) -> None:
    keep_tables(home, {"1_few": rows("no", 0, 60) + rows("yes", 100, 19)})
    with pytest.raises(InputError, match="19 texts of one of its labels"):
        labelled.read()
    with pytest.raises(InputError, match="holds no table"):
        labelled.read("pypi:sae-probes==0.4.2#*.parquet")
