from __future__ import annotations

import numpy as np
import pytest

from pellucid.atlas.lexicon import topic_of
from pellucid.atlas.rules import Condition, Rule
from pellucid.atlas.wording import SHAPES, Grid, Words
from pellucid.core.errors import IntegrityError
from tests.atlas.label_cases import SOURCES, window


def matched(rule: Rule, text: str, **options: int) -> list[str]:
    """The words of a text on which a rule holds."""
    one = window(text, **options)
    found = rule.matches(Grid.of([one], SOURCES))[0]
    return [one.words.prefixes[i] for i in np.flatnonzero(found)]


def rule(*conditions: tuple[str, tuple[str, ...]]) -> Rule:
    return Rule(tuple(Condition(kind, words) for kind, words in conditions))  # type: ignore[arg-type]


def test_a_word_grows_token_by_token() -> None:
    words = Words.of(["The", " mel", "ody", ",", " 19", "99", "\n"])
    assert words.prefixes == ("The", "mel", "melody", ",", "19", "1999", "\n")
    assert words.inside == (False, False, True, False, False, True, False)


CASES = [
    (rule(("here", ("melody", "song"))), "A song and a mel +ody .", ["song", "melody"]),
    (rule(("here", ("mel",))), "A song and a mel +ody .", ["mel"]),
    (rule(("before", ("and",))), "salt and pep +per and .", ["pep", "pepper", "."]),
    (rule(("begins", ("pep",))), "salt and pe +p +per .", ["pep", "pepper"]),
    (rule(("so far", ("piano",))), "the pia +no is loud", ["piano", "is", "loud"]),
    (rule(("shape", ("number",))), "in 19 +99 , 3.5 % or v2", ["19", "1999", "3.5"]),
    (rule(("shape", ("capitalised",))), "Old Paris USA is A", ["Old", "Paris"]),
    (rule(("shape", ("-ing",))), "sing singing king running", ["singing", "running"]),
    (rule(("shape", ("inside a word",))), "melo +dy is", ["melody"]),
    (rule(("shape", ("name in code",))), "my_name camelCase plain", ["my_name", "camelCase"]),
    (rule(("language", ("French",))), "le chat est dans la rue", ["dans", "la", "rue"]),
    (rule(("shape", ("number",)), ("so far", ("page",))), "1 page 2 of 3", ["2", "3"]),
    (rule(("here", ("home",)), ("before", ("went",))), "home went home", ["home"]),
]


@pytest.mark.parametrize(("tried", "text", "expected"), CASES)
def test_a_rule_holds_where_it_says(tried: Rule, text: str, expected: list[str]) -> None:
    assert matched(tried, text) == expected
    assert Rule.from_state(tried.state()) == tried


def test_a_source_is_that_of_the_text() -> None:
    tried = rule(("source", ("code",)))
    assert matched(tried, "a b", source=1) == ["a", "b"]
    assert matched(tried, "a b", source=0) == []


TEXTS = [
    (rule(("here", ("home",))), "the word “home”"),
    (rule(("here", (",", "."))), "commas and full stops"),
    (rule(("here", ("of", "in"))), "function words: of, in"),
    (rule(("here", ("song", "melody", "piano"))), "words about music: song, melody, piano"),
    (rule(("here", ("table", "quick"))), "the words “table”, “quick”"),
    (rule(("before", ("went",))), "what follows “went”"),
    (rule(("shape", ("number",)), ("before", ("page",))), "numbers after “page”"),
    (rule(("before", ("page",)), ("shape", ("number",))), "numbers after “page”"),
    (rule(("shape", ("number",)), ("so far", ("match", "goal", "team"))),
     "numbers in texts about sport: match, goal, team"),
    (rule(("so far", ("violin", "xylem", "quartz"))), "texts with violin, xylem, quartz"),
    (rule(("language", ("German",))), "German text"),
    (rule(("here", ("\n",)), ("source", ("django",))), "line breaks in django"),
    (rule(("begins", ("pos",))), "words beginning with pos-"),
    (rule(("shape", ("-ing",)), ("shape", ("capitalised",))),
     "words ending in -ing that are also capitalised words"),
]  # fmt: skip


@pytest.mark.parametrize(("told", "text"), TEXTS)
def test_a_rule_is_told_in_plain_words(told: Rule, text: str) -> None:
    assert told.text() == text


def test_words_are_shown_as_they_are_written() -> None:
    assert rule(("here", ("paris",))).text({"paris": "Paris"}) == "the word “Paris”"


def test_every_shape_has_a_text_and_every_rule_of_one_can_be_tested() -> None:
    grid = Grid.of([window("The 3 dogs , ran_on élan\n")], SOURCES)
    for shape in SHAPES:
        assert rule(("shape", (shape,))).text()
        assert rule(("shape", (shape,))).matches(grid).shape == grid.valid.shape


def test_a_topic_needs_two_words_and_half_of_all() -> None:
    assert topic_of(["song", "melody", "quartz"]) == "music"
    assert topic_of(["song", "quartz"]) is None
    assert topic_of(["song", "melody", "quartz", "xylem", "opaque"]) is None
    assert topic_of([]) is None


def test_a_state_that_is_no_rule_is_refused() -> None:
    with pytest.raises(IntegrityError, match="conditions of a rule"):
        Rule.from_state([{"kind": "here"}])
