from __future__ import annotations

import json

import pytest

from pellucid.serving.streams import sent


@pytest.mark.parametrize("text", ["plain", "NaN", "-Infinity and Über", 'quoted "\n'])
def test_an_event_says_what_it_was_given(text: str) -> None:
    value = {"text": text, "numbers": [0.1, -3], "nothing": None}
    told = sent(value, "piece")
    assert told.startswith(b"event: piece\ndata: {")
    assert told.endswith(b"}\n\n")
    assert told.count(b"\n") == 3
    assert json.loads(told.split(b"data: ")[1]) == value


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_refused(number: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        sent({"value": [number]})


def test_half_a_character_is_replaced() -> None:
    assert sent({"text": "a\ud800b"}) == b'data: {"text":"a?b"}\n\n'
