"""Which feature became which: a dictionary in another order, one of another layer, worked cases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid.activations.reading import Reader
from pellucid.atlas import build as building
from pellucid.atlas import cofiring, succession
from pellucid.atlas.directions import Directions
from pellucid.atlas.pages import Atlas
from pellucid.atlas.succession import FATES, Side
from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary

Made = Callable[..., Side]


@pytest.fixture
def side(reader: Reader, tmp_path: Path) -> Made:
    """Builds the atlas of a dictionary."""

    def make(dictionary: Dictionary, *, rows: int | None = None, postings: bool = True) -> Side:
        own = Reader(reader.model, reader.store, dictionary.site)
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        chosen = building.rows_of(len(reader.store.tokens), rows)
        settings = building.AtlasSettings(promoted=0, postings=postings)
        building.build([building.Target(dictionary, own, folder)], chosen, settings=settings)
        return Side(Atlas.open(folder), Directions.of(dictionary))

    return make


def shuffled(dictionary: Dictionary) -> tuple[Dictionary, np.ndarray]:
    order = np.random.default_rng(0).permutation(dictionary.num_features)
    assert dictionary.maximum is not None
    return replace(
        dictionary,
        encoder=dictionary.encoder[order],
        encoder_bias=dictionary.encoder_bias[order],
        decoder=dictionary.decoder[order],
        maximum=dictionary.maximum[order],
    ), order


def test_features_in_another_order_are_found_again(dictionary: Dictionary, side: Made) -> None:
    other, order = shuffled(dictionary)
    found = succession.compare(side(dictionary), side(other))
    table = found.became.slice(0, found.became.rows)
    place = np.argsort(order)
    living = table["active"] > 0
    enough = table["active"] >= 8
    np.testing.assert_array_equal(table["direction"][living], place[living])
    np.testing.assert_array_equal(table["firing"][enough], place[enough])
    np.testing.assert_allclose(table["cofiring"][enough], 1)
    assert (table["fate"][enough & (table["cofiring_floor"] < 1)] == FATES.index("kept")).all()
    assert (table["fate"][~living] == FATES.index("silent")).all()
    counts = found.counts()
    assert counts["became"]["kept"] == counts["origins"]["kept"]
    assert sum(counts["became"].values()) == dictionary.num_features


def test_cofiring_is_what_brute_force_gives_across_layers(
    dictionary: Dictionary, dictionary_at: Callable[..., Dictionary], side: Made
) -> None:
    before, after = side(dictionary), side(dictionary_at(Site("resid_post", 2), seed=3))
    found = succession.compare(before, after)
    total = cofiring.needed(before.atlas, "rows").rows * before.atlas.record["length"]
    one, two = (s.atlas.active(0, total).dense().numpy() > 0 for s in (before, after))
    shared = one.T.astype(int) @ two.astype(int)
    cosine = shared / np.maximum(np.sqrt(np.outer(one.sum(0), two.sum(0))), 1)
    cosine[shared < 8] = 0
    table = found.became.slice(0, found.became.rows)
    np.testing.assert_allclose(table["cofiring"], cosine.max(1), rtol=1e-6)
    back = found.origins.slice(0, found.origins.rows)
    np.testing.assert_allclose(back["cofiring"], cosine.max(0), rtol=1e-6)
    rows = np.flatnonzero(table["answered"])
    np.testing.assert_array_equal(back["firing"][table["firing"][rows]], rows)
    np.testing.assert_allclose(table["inside"], table["together"] / np.maximum(one.sum(0), 1), rtol=1e-6)


def test_without_a_text_in_common_directions_alone_speak(dictionary: Dictionary, side: Made) -> None:
    other, order = shuffled(dictionary)
    found = succession.compare(side(dictionary), side(other, rows=20))
    assert "firing" not in found.became.columns
    table = found.became.slice(0, found.became.rows)
    kept = table["fate"] == FATES.index("kept")
    np.testing.assert_array_equal(table["direction"][kept], np.argsort(order)[kept])
    assert kept.sum() > 30


def columns(rows: list[tuple[int, float, int, int, float]], answered: list[bool]) -> dict[str, np.ndarray]:
    firing, cofiring, together, active, floor = (np.array(c) for c in zip(*rows, strict=True))
    return {
        "firing": firing, "cofiring": cofiring, "together": together, "active": active,
        "inside": together / np.maximum(active, 1), "cofiring_floor": floor, "answered": np.array(answered),
    }  # fmt: skip


def test_split_and_merged_and_lost_are_told_apart() -> None:
    # Feature 0 goes over into 0 and 1 of the other; 1 stays; 2 has nothing beyond chance; 3 was never active;
    # 4 shares a part with 2 of the other.
    before = columns(
        [
            (0, 0.6, 40, 100, 0.1), (3, 0.9, 50, 55, 0.1), (1, 0.1, 9, 90, 0.2), (-1, 0.0, 0, 0, 0.0),
            (2, 0.4, 30, 90, 0.1),
        ],
        [True, True, False, False, True],
    )  # fmt: skip
    after = columns(
        [
            (0, 0.6, 40, 44, 0.1), (0, 0.5, 30, 33, 0.1), (4, 0.4, 30, 70, 0.1), (1, 0.9, 50, 52, 0.1),
            (0, 0.05, 8, 300, 0.2),
        ],
        [True, False, True, True, False],
    )  # fmt: skip
    one = [FATES[f] for f in succession._fates(before, after, before["active"], {})]
    two = [FATES[f] for f in succession._fates(after, before, after["active"], {})]
    assert one == ["split", "kept", "lost", "silent", "changed"]
    # Seen from the other side they go into one: they are parts of what was.
    assert two == ["merged", "merged", "changed", "kept", "lost"]


def test_what_cannot_be_compared_is_refused(
    dictionary: Dictionary, dictionary_at: Callable[..., Dictionary], side: Made
) -> None:
    one = side(dictionary)
    with pytest.raises(InputError, match="same dictionary"):
        succession.compare(one, one)
    with pytest.raises(InputError, match="another dictionary"):
        succession.compare(one, Side(one.atlas, Directions.of(dictionary_at(dictionary.site, seed=9))))
    other = dictionary_at(dictionary.site, seed=4)
    wide = torch.cat([other.decoder, other.decoder], 1) / 2**0.5
    longer = side(other, postings=False)
    with pytest.raises(InputError, match="nothing to compare by"):
        record = {**longer.atlas.record, "dictionary": Directions(wide).digest}
        succession.compare(one, Side(Atlas(longer.atlas.place, record), Directions(wide)))
