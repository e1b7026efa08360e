from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid.activations import spelling
from pellucid.activations.tokens import separator_of
from pellucid.core.sites import Site
from pellucid.models.model import Model

SITE = Site("resid_post", 2)


def test_words_are_read_behind_examples_of_their_own_side(
    tiny: Model, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spelling, "_FEWEST", 1)
    monkeypatch.setattr(spelling, "_EXAMPLES", 2)
    monkeypatch.setattr(spelling, "_WORDS_IN_A_ROW", 5)
    laid: list[tuple[list[int], list[int]]] = []
    monkeypatch.setattr(
        spelling, "_read", lambda pool, rows, read=spelling._read: laid.extend(rows) or read(pool, rows)
    )
    found = spelling.read(tiny, SITE)
    assert len(found.words) == len(set(found.words)) > 10
    assert all(
        spelling.LETTERS[letter] == w.strip()[0].lower()
        for letter, w in zip(found.letters, found.words, strict=True)
    )
    assert len(found.activations) == len(found.letters) == len(found.training) == len(found.words)
    # Every word is looked at once, where it stands, in a row that says the letter of each.
    looked_at = [tiny.decode([tokens[place]]) for tokens, places in laid for place in places]
    assert tuple(looked_at) == found.words
    training = {w for w, side in zip(found.words, found.training, strict=True) if side}
    at = 0
    for tokens, places in laid:
        assert tokens[0] == separator_of(tiny)
        text = tiny.decode(tokens[1:])
        lines = [line for line in text.split("\n") if line]
        assert len(lines) == len(places) + 2
        for line in lines:
            word, _, answer = line.partition(" has the first letter:")
            assert answer == " " + word[1].upper()
            assert (word in training) == found.training[at]
        read = tiny.capture(torch.tensor([tokens]), [SITE])[SITE][0].numpy()
        np.testing.assert_allclose(found.activations[at : at + len(places)], read[places], atol=1e-5)
        at += len(places)
    again = spelling.read(tiny, SITE)
    assert np.array_equal(again.activations, found.activations)
    assert at == len(found.words)


def test_letters_with_few_words_are_left_out(tiny: Model, home: Path) -> None:
    found = spelling.read(tiny, SITE)
    assert found.words == ()
    assert found.activations.shape == (0, tiny.width)


@pytest.mark.model
def test_the_vocabulary_of_the_real_model_holds_words_of_nearly_every_letter(smollm2: Model) -> None:
    words = spelling.words_of(smollm2, 300)
    assert "".join(words) == "abcdefghijklmnopqrstuvwyz"
    assert max(map(len, words.values())) == 300
    assert all(smollm2.decode([i])[1].lower() == letter for letter, own in words.items() for i in own)
