from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pellucid.activations.reading import Reader
from pellucid.atlas import build as building
from pellucid.atlas import captions as captioning
from pellucid.atlas import labels, tables
from pellucid.atlas.captions import Captions, texts_of
from pellucid.atlas.pages import Atlas
from pellucid.core.errors import InputError
from pellucid.dictionaries.base import Dictionary
from pellucid.models.model import Model


def test_captions_are_those_of_the_pages_read_a_group_at_a_time(
    tiny: Model, dictionary: Dictionary, reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = building.AtlasSettings(promoted=6)
    building.build(
        [building.Target(dictionary, reader, tmp_path / "atlas")],
        np.arange(len(reader.store.tokens)),
        settings=settings,
    )
    bare = Captions(Atlas.open(tmp_path / "atlas"), tiny)
    assert bare.label(3) is None
    rows = [
        {"text": f"label {f}", "reliable": f % 3 > 0, "score": 0.9, "explainer": "words"}
        for f in range(dictionary.num_features)
    ]
    tables.write(tmp_path / "atlas" / labels.TABLE, [labels.columns_of(rows)])
    monkeypatch.setattr(captioning, "_GROUP", 10)
    monkeypatch.setattr(captioning, "_KEPT", 2)
    atlas = Atlas.open(tmp_path / "atlas")
    found = Captions(atlas, tiny)
    assert not found.at_hand(3)
    for feature in (3, 9, 47, 12, 3):
        assert found.reliable(feature) == (f"label {feature}" if feature % 3 else None)
        assert found.promoted(feature) == texts_of(tiny, atlas.page(feature).promoted or ())
        assert found.at_hand(feature)
    assert not found.at_hand(47)  # two groups are kept
    with pytest.raises(InputError, match="features 0 to 47"):
        found.label(48)
