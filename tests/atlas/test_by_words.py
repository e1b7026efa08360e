from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.atlas import by_words
from pellucid.atlas.by_words import WordIndex, words_of
from pellucid.atlas.scans import largest
from pellucid.core.errors import InputError, IntegrityError

FIELDS = {"label": 2.0, "examples": 0.5}
LABELS = ["loans and banks", "a bank of the river", "Café, naïve", "", "banking", "rivers"]
EXAMPLES = ["the bank lent the money", "", "river river river", "the the", "", "café"]


def said(labels: list[str], examples: list[str], at_once: int = 4) -> Iterator[tuple[int, by_words.Said]]:
    for at in range(0, len(labels), at_once):
        yield at, {"label": labels[at : at + at_once], "examples": examples[at : at + at_once]}


def index(
    labels: list[str] = LABELS, examples: list[str] = EXAMPLES, key: object = "one", at_once: int = 4
) -> WordIndex:
    return WordIndex.opened(key, len(labels), FIELDS, said(labels, examples, at_once))


def brute_force(labels: list[str], examples: list[str], query: str) -> dict[int, float]:
    """BM25F in plain Python, without the rounding of the weights."""
    documents = [
        Counter({w: 2.0 * c for w, c in Counter(words_of(one)).items()})
        + Counter({w: 0.5 * c for w, c in Counter(words_of(two)).items()})
        for one, two in zip(labels, examples, strict=True)
    ]
    lengths = [sum(d.values()) for d in documents]
    usual = float(np.mean([n for n in lengths if n] or [1]))
    scores: dict[int, float] = {}
    for word in dict.fromkeys(words_of(query)):
        holding = [i for i, d in enumerate(documents) if d[word]]
        rarity = math.log(1 + (len(documents) - len(holding) + 0.5) / (len(holding) + 0.5))
        for i in holding:
            weight = documents[i][word]
            scores[i] = scores.get(i, 0) + rarity * weight / (weight + 1.2 * (0.5 + 0.5 * lengths[i] / usual))
    return scores


SOME = ("ab", "ba", "ca", "da", "eb", "fa", "gas", "ties")
words = st.lists(st.sampled_from(SOME), max_size=6).map(" ".join)


@given(texts=st.lists(st.tuples(words, words), min_size=1, max_size=12), query=words.filter(bool))
def test_scores_are_those_of_brute_force(texts: list[tuple[str, str]], query: str) -> None:
    labels, examples = map(list, zip(*texts, strict=True))
    found = index(labels, examples, key=[texts, query]).search(query, 20)
    wanted = brute_force(labels, examples, query)
    assert {h.feature for h in found} == set(wanted)
    # A weight is rounded up to a 255th, and no word is rarer than one of so many features.
    slack = len(query.split()) * math.log(1 + len(texts) / 0.5) / 255
    for hit in found:
        assert wanted[hit.feature] - 1e-4 <= hit.score <= wanted[hit.feature] + slack + 1e-4
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


def test_words_are_found_without_case_accents_and_plurals() -> None:
    made = index()
    assert {h.feature for h in made.search("BANK")} == {0, 1}
    assert made.search("banks") == made.search("bank")
    assert {h.feature for h in made.search("cafe")} == {2, 5}
    assert {h.feature for h in made.search("naive café")} == {2, 5}
    assert {h.feature for h in made.search("bank*")} == {0, 1, 4}
    assert made.search("unheard") == []


def test_a_word_counts_more_in_a_label_and_when_it_is_rare() -> None:
    made = index()
    assert [h.feature for h in made.search("money")] == [0]
    river = [h.feature for h in made.search("river")]
    assert set(river) == {1, 2, 5}
    assert made.search("loan")[0].score > made.search("the")[0].score


@given(query=st.text())
def test_any_query_is_taken_as_words_or_refused(query: str) -> None:
    made = index()
    if any(c.isalnum() for c in by_words._plain(query)):
        made.search(query)
    else:
        with pytest.raises(InputError, match="no word"):
            made.search(query)


def test_an_index_is_made_once_and_per_key(home: Path) -> None:
    first = index(key="k")

    def never() -> Iterator[tuple[int, by_words.Said]]:
        raise AssertionError("the index is there")
        yield

    again = WordIndex.opened("k", len(LABELS), FIELDS, never())
    assert again.search("bank river") == first.search("bank river")
    with pytest.raises(AssertionError):
        WordIndex.opened("other", len(LABELS), FIELDS, never())
    assert [p.name for p in (home / "indices" / "words").iterdir() if p.name.startswith(".")] == []


def test_an_index_of_several_shards_finds_what_one_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = index(key="whole").search("bank river the", 10)
    monkeypatch.setattr(by_words, "SHARD", 3)
    parts = index(key="parts", at_once=6).search("bank river the", 10)
    assert {h.feature for h in parts} == {h.feature for h in whole}


@pytest.mark.parametrize("name", ["features.npy", "terms.txt", "index.json"])
def test_a_truncated_index_is_refused(home: Path, name: str) -> None:
    index()
    (path,) = (home / "indices" / "words").glob(f"*/{name}")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(IntegrityError, match=r"damaged|readable"):
        index()


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 8))
def test_largest_is_a_stable_sort(values: list[int], count: int) -> None:
    scores = np.array(values, np.float32)
    wanted = sorted(range(len(values)), key=lambda i: (-values[i], i))[:count]
    assert largest(scores, count).tolist() == wanted
