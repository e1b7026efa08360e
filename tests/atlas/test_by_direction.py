from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid.activations.reading import Reader
from pellucid.atlas import build as building
from pellucid.atlas import neighbours
from pellucid.atlas.by_direction import DirectionIndex
from pellucid.atlas.directions import Directions
from pellucid.atlas.pages import Atlas
from pellucid.core.errors import InputError
from pellucid.dictionaries.base import Dictionary


@pytest.fixture
def atlas(dictionary: Dictionary, reader: Reader, tmp_path: Path) -> Atlas:
    settings = building.AtlasSettings(promoted=0)
    rows = np.arange(len(reader.store.tokens))
    building.build([building.Target(dictionary, reader, tmp_path / "atlas")], rows, settings=settings)
    return Atlas.open(tmp_path / "atlas", dictionary)


def test_directions_are_found_as_by_brute_force(dictionary: Dictionary) -> None:
    vector = torch.randn(dictionary.width, generator=torch.Generator().manual_seed(5))
    cosines = torch.nn.functional.cosine_similarity(dictionary.decoder, vector[None])
    index = DirectionIndex.opened(Directions.of(dictionary))
    found = index.search(vector.numpy(), 5)
    assert [h.feature for h in found] == cosines.topk(5).indices.tolist()
    assert found[0].score == pytest.approx(float(cosines.max()), abs=1e-6)
    before = dictionary.decoder.clone()
    assert index.search((2 * dictionary.decoder[7]).numpy(), 1)[0].feature == 7
    assert index.search(dictionary.decoder[7].numpy(), 1)[0].feature == 7
    assert torch.equal(dictionary.decoder, before), "the vector may be a row of it"
    for bad in (np.zeros(dictionary.width), np.full(dictionary.width, np.nan), np.ones(3)):
        with pytest.raises(InputError):
            index.search(bad)


def test_neither_the_feature_itself_nor_silent_ones_lie_near_it(atlas: Atlas, dictionary: Dictionary) -> None:
    silent = int(np.flatnonzero(atlas.frequency == 0)[0])
    index = DirectionIndex.opened(Directions.of(dictionary), atlas)
    assert index.floor is None
    everything = {h.feature for h in index.near(3, atlas.num_features)}
    assert everything == {*np.flatnonzero(atlas.frequency > 0).tolist()} - {3}
    assert silent not in {h.feature for h in index.search(dictionary.decoder[silent].numpy(), 48)}
    table = neighbours.build(atlas, Directions.of(dictionary))
    again = DirectionIndex.opened(Directions.of(dictionary), Atlas.open(str(atlas.place)))
    assert again.floor is not None
    assert again.floor.usual == table.record["facts"]["cosine_floor"] < again.floor.high
    assert [h.feature for h in again.near(3)] == table.row(3)["similar"].tolist()


def test_signs_of_another_dictionary_are_refused(atlas: Atlas, dictionary: Dictionary) -> None:
    neighbours.build(atlas, Directions.of(dictionary))
    other = Directions(dictionary.decoder.flip(0).contiguous())
    with pytest.raises(InputError, match="another dictionary"):
        DirectionIndex.opened(other, Atlas.open(str(atlas.place)))
