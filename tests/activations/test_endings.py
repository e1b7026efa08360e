from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid.activations import endings
from pellucid.activations.tokens import separator_of
from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.models.model import Model
from pellucid.testing import WORDS

SITE = Site("resid_post", 2)


def texts(count: int) -> list[str]:
    generator = np.random.default_rng(3)
    return [" ".join(generator.choice(WORDS, generator.integers(1, 12))) + f" {i}" for i in range(count)]


def alone(model: Model, text: str, tokens: int) -> torch.Tensor:
    """[positions, D] of a text that is read by itself."""
    ids = [separator_of(model), *model.tokenizer(text, add_special_tokens=False).input_ids[-(tokens - 1) :]]
    return model.capture(torch.tensor([ids]), [SITE])[SITE][0]


def test_each_ending_is_that_of_the_text_read_alone(tiny: Model, home: Path) -> None:
    given = [*texts(30), "the rain", "the rain"]
    found = endings.read(tiny, SITE, given, tokens=8)
    for i, text in enumerate(given):
        read = alone(tiny, text, 8)
        np.testing.assert_allclose(found.last[i], read[-1], atol=1e-5)
        # The drawn token is one of the text, never the separator.
        distances = (read - torch.from_numpy(found.sample[i])).norm(dim=1)
        assert int(distances.argmin()) > 0
        assert float(distances.min()) < 1e-4
    assert np.array_equal(found.last[-1], found.last[-2])
    drawn = {i for i in range(30) if not np.allclose(found.last[i], found.sample[i], atol=1e-4)}
    assert 10 < len(drawn) < 30, "most drawn tokens are not the last"


def test_what_was_read_is_kept_and_a_killed_reading_goes_on(
    tiny: Model, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endings, "_TEXTS_AT_ONCE", 10)
    given = texts(35)
    whole = endings.read(tiny, SITE, given)
    kept = sorted((home / "kept" / "endings").iterdir())
    assert len(kept) == 4
    for file in kept[:2]:
        file.unlink()
    reads = []
    monkeypatch.setattr(endings, "_read", lambda *a, read=endings._read: reads.append(1) or read(*a))
    again = endings.read(tiny, SITE, given)
    assert len(reads) == 2
    assert np.array_equal(again.last, whole.last)
    assert np.array_equal(again.sample, whole.sample)
    endings.read(tiny, Site("resid_post", 1), given)
    assert len(reads) == 6, "another site is another reading"


def test_a_text_without_tokens_is_refused(tiny: Model, home: Path) -> None:
    with pytest.raises(InputError, match="holds no token"):
        endings.read(tiny, SITE, ["the rain", ""])
