from __future__ import annotations

import numpy as np
import pytest

from pellucid.atlas.evidence import Evidence, Window
from pellucid.atlas.explainer_words import WordsExplainer, _Search
from pellucid.atlas.scoring import score, sheet_of
from tests.atlas.label_cases import evidence, window

ING = (
    "walking", "singing", "reading", "eating", "going", "doing",
    "lending", "sailing", "cooking", "asking", "fishing", "holding",
)  # fmt: skip
NOUNS = ("bread", "stone", "cloud", "river", "table", "engine", "paper", "market")


def made(active: list[str], silent: list[str], *, feature: int = 0) -> Evidence:
    """Evidence of texts in which the words in capitals are active; capitals are then taken away."""

    def read(text: str, number: int) -> Window:
        words = text.split(" ")
        on = {i: 1.0 + number % 7 for i, w in enumerate(words) if w.startswith("*")}
        return window(" ".join(w.removeprefix("*") for w in words), on, token=64 * number)

    on, off = ([read(t, i) for i, t in enumerate(some)] for some in (active, silent))
    return evidence(on[::2], off[::2], on[1::2], off[1::2], feature=feature)


def noun(i: int) -> str:
    return NOUNS[i % len(NOUNS)]


CASES = [
    ([f"we saw the *home of {noun(i)} again" for i in range(24)],
     [f"we saw the {noun(i)} of gold again" for i in range(24)],
     "the word “home”"),
    ([f"they went *{noun(i)} then came {noun(i + 3)} back" for i in range(24)],
     [f"they came {noun(i)} then saw {noun(i + 3)} back" for i in range(24)],
     "what follows “went”"),
    ([f"{noun(i)} has *{i + 10} {noun(i + 1)} now" for i in range(24)],
     [f"{noun(i)} has {noun(i + 2)} {noun(i + 1)} now" for i in range(24)],
     "numbers"),
    ([f"the *{('song', 'melody', 'piano', 'guitar')[i % 4]} of {noun(i)}" for i in range(24)],
     [f"the {noun(i + 3)} of {noun(i)}" for i in range(24)],
     "words about music: "),
    ([f"page *{i + 10} of {noun(i)} and {i + 40}" for i in range(24)],
     [f"the {i + 10} of {noun(i)} and {i + 40}" for i in range(24)],
     "what follows “page”"),
    ([f"we *{w} the {noun(i)}" for i, w in enumerate(ING * 2)],
     [f"we {noun(i + 1)} the {noun(i)}" for i in range(24)],
     "words ending in -ing"),
]  # fmt: skip


@pytest.mark.parametrize(("active", "silent", "text"), CASES)
def test_what_switches_a_feature_on_is_found_and_said(
    active: list[str], silent: list[str], text: str
) -> None:
    one = made(active, silent)
    words = WordsExplainer()
    label = words.write(one)
    assert label.text.startswith(text), label.text
    judged = words.judge(label, sheet_of(one))
    assert all(judged.active)
    assert not any(judged.silent)
    assert words.write(made(active, silent)) == label, "the same examples, the same label"


def test_a_topic_that_was_read_before_is_found() -> None:
    """After a word about music, any word may be one of the active ones."""
    random = np.random.default_rng(0)

    def text(number: int, *, active: bool) -> str:
        words = [noun(int(i)) for i in random.integers(len(NOUNS), size=12)]
        if active:
            words[1] = ("song", "melody", "piano", "guitar")[number % 4]
        return " ".join(
            ("*" if active and i > 1 and random.random() < 0.5 else "") + w for i, w in enumerate(words)
        )

    one = made([text(i, active=True) for i in range(80)], [text(i, active=False) for i in range(80)])
    label = WordsExplainer().write(one)
    assert "texts about music: " in label.text, label.text
    assert all(WordsExplainer().judge(label, sheet_of(one)).active)


def test_two_conditions_are_joined_where_one_is_not_enough() -> None:
    one = made(
        [f"the page {noun(i)} {noun(i // 2)} *{10 + i} of {noun(i + 1)}" for i in range(40)],
        [
            f"the page {noun(i)} {noun(i // 2)} of all" if i % 4 < 2 else f"the {noun(i)} {10 + i} of all"
            for i in range(40)
        ],
    )
    assert WordsExplainer().write(one).text == "numbers in texts with page"


def test_worth_equals_its_definition() -> None:
    random = np.random.default_rng(0)

    def text(active: bool) -> str:
        words = [NOUNS[i] for i in random.integers(len(NOUNS), size=9)]
        return " ".join(("*" if active and i % 4 == 1 else "") + w for i, w in enumerate(words))

    search = _Search(made([text(True) for _ in range(20)], [text(False) for _ in range(20)]))
    matches = random.random(search.grid.valid.shape) < 0.2
    active = search.active
    texts = (matches[:active].any(1).mean() + 1 - matches[active:].any(1).mean()) / 2
    hits = np.mean([matches[w, search.marks[w]].mean() for w in range(active)])
    wrong = matches[:active][search.silent[:active]].mean()
    assert search.worth(matches) == pytest.approx((texts + (hits + 1 - wrong) / 2) / 2)


def test_a_feature_of_nothing_gets_a_label_that_does_not_hold() -> None:
    random = np.random.default_rng(1)

    def text(active: bool) -> str:
        words = [NOUNS[i] for i in random.integers(len(NOUNS), size=12)]
        on = int(random.integers(12)) if active else -1
        return " ".join(("*" if i == on else "") + w for i, w in enumerate(words))

    def one(feature: int) -> Evidence:
        texts = [[text(active) for _ in range(80)] for active in (True, False)]
        return made(*texts, feature=feature)

    words = WordsExplainer()
    others = [one(f) for f in range(100, 108)]
    found = []
    for feature in range(20):
        this = one(feature)
        found.append(score(words, words.write(this), this, others).reliable)
    assert sum(found) <= 1
