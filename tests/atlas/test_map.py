"""Maps: quality by full ranks, tiles that hold every feature once, names beside chance, a killed layout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pellucid.activations.reading import Reader
from pellucid.atlas import build as building
from pellucid.atlas import map as mapping
from pellucid.atlas import naming, nearest, neighbours, tables, tiles
from pellucid.atlas.directions import Directions
from pellucid.atlas.map import MapSettings
from pellucid.atlas.pages import Atlas
from pellucid.core.errors import InputError
from pellucid.dictionaries.base import Dictionary

pytest.importorskip("openTSNE", reason="the extra `atlas` is not installed")


@pytest.fixture(scope="module")
def place(dictionary: Dictionary, reader: Reader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas with neighbours."""
    folder = tmp_path_factory.mktemp("map") / "atlas"
    os.environ["PELLUCID_HOME"] = str(folder.parent / "home")
    rows = np.arange(len(reader.store.tokens))
    settings = building.AtlasSettings(promoted=3)
    building.build([building.Target(dictionary, reader, folder)], rows, settings=settings)
    neighbours.build(Atlas.open(folder), Directions.of(dictionary))
    return folder


def piece(token: int) -> str:
    return f" word{token}"


def families(count: int, width: int, many: int) -> Directions:
    g = torch.Generator().manual_seed(0)
    rows = torch.randn(many, width, generator=g)[torch.arange(count) % many]
    rows = rows + 0.5 * torch.randn(count, width, generator=g)
    return Directions(torch.nn.functional.normalize(rows, dim=1))


def test_a_map_holds_every_living_feature_and_says_what_it_left_out(
    place: Path, dictionary: Dictionary
) -> None:
    atlas = Atlas.open(place)
    table = mapping.build(atlas, Directions.of(dictionary), piece, settings=MapSettings(clusters=4))
    found = table.slice(0, table.rows)
    alive = atlas.features.column("count") > 0
    assert table.record["facts"]["left_out"] == (~alive).sum() >= 1
    assert np.isnan(found["x"][~alive]).all()
    assert (found["cluster"][~alive] == -1).all()
    for axis in ("x", "y"):
        assert ((found[axis][alive] >= 0) & (found[axis][alive] < 1)).all()
    clusters = tables.Table.open(place / "map_clusters").slice(0, 4)
    np.testing.assert_array_equal(clusters["features"], np.bincount(found["cluster"][alive]))
    points = tables.Table.open(place / "map_points").slice(0, int(alive.sum()))
    np.testing.assert_array_equal(np.sort(points["feature"]), np.flatnonzero(alive))
    np.testing.assert_array_equal(points["x"], found["x"][points["feature"]])
    assert set(table.record["facts"]["quality"]) == {"map", "pca", "random"}


def test_the_layout_keeps_more_neighbours_than_two_components_and_chance() -> None:
    among = families(800, 24, 40)
    living = np.arange(800)
    similar = np.concatenate([nearest.plan(among, among).part(0)[1]])
    components = mapping.principal(among, living)
    layouts = {
        "map": np.random.default_rng(0).standard_normal((40, 2))[living % 40] * 50 + components,
        "pca": components,
        "random": np.random.default_rng(1).random((800, 2)),
    }
    found = mapping.quality(among, living, similar, layouts)
    assert found["map"]["kept"] > 2 * found["pca"]["kept"] > 2 * found["random"]["kept"]
    assert found["map"]["trustworthiness"] > 0.95
    assert abs(found["random"]["trustworthiness"] - 0.5) < 0.03


def test_quality_is_that_of_scikit_learn() -> None:
    from sklearn.manifold import trustworthiness

    among = families(400, 24, 20)
    living = np.arange(400)
    similar = nearest.plan(among, among).part(0)[1]
    layout = mapping.principal(among, living)
    found = mapping.quality(among, living, similar, {"pca": layout})["pca"]
    # On unit vectors the order by cosine is the order by distance.
    assert abs(found["trustworthiness"] - trustworthiness(among.block(0, 400), layout, n_neighbors=10)) < 1e-3


def test_components_are_those_of_all_rows() -> None:
    among = families(500, 12, 9)
    rows = among.block(0, 500) - among.block(0, 500).mean(0)
    found = mapping.principal(among, np.arange(500))
    values = np.linalg.svd(rows, compute_uv=False)[:2]
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), values, rtol=1e-4)


@given(seed=st.integers(0, 1000), count=st.integers(1, 3000), same=st.booleans())
def test_every_point_is_in_one_tile_that_holds_it(seed: int, count: int, same: bool) -> None:
    rng = np.random.default_rng(seed)
    places = rng.random((count, 2), dtype=np.float32) ** 3
    if same:
        places[: count // 2] = places[0]
    first = rng.random(count) < 0.3
    columns = {"features": np.arange(count), "cluster": np.zeros(count, np.int64)}
    points, index = tiles.cut(places, columns, first=first, seed=seed)
    assert sorted(points["feature"].tolist()) == list(range(count))
    covered = 0
    for number, (level, column, row, start, stop, below) in enumerate(
        zip(*(index[n] for n in ("level", "column", "row", "start", "stop", "below")), strict=True)
    ):
        assert start == covered < stop
        covered = stop
        x, y = points["x"][start:stop] * 2.0**level, points["y"][start:stop] * 2.0**level
        assert ((np.floor(x) == column) & (np.floor(y) == row)).all()
        inside = (np.floor(places * 2.0**level) == [column, row]).all(1)
        if number == 0:
            assert below == count - (stop - start)
        if level < tiles.LEVELS - 1:
            assert stop - start <= tiles.SQUARES**2
            squares = {tuple(s) for s in np.floor(places[inside] * tiles.SQUARES * 2.0**level).tolist()}
            # Something of every square is shown by this level or above it.
            at = np.flatnonzero(index["level"] <= level)
            ranges = [np.arange(index["start"][t], index["stop"][t]) for t in at]
            shown = points["feature"][np.concatenate(ranges)]
            seen = {tuple(s) for s in np.floor(places[shown] * tiles.SQUARES * 2.0**level).tolist()}
            assert squares <= seen
    assert covered == count


def test_names_are_what_is_said_of_a_cluster_and_of_few_others(place: Path) -> None:
    class Labelled:
        """An atlas whose labels say what its features are about."""

        def table(self, name: str) -> tables.Table | None:
            return self.labels if name == "labels" else None

    rng = np.random.default_rng(0)
    cluster = np.arange(300) % 3
    about = np.array(["the sea and boats", "the bread of bakers", "nothing the same"], object)
    texts = about[cluster] + np.array([f" number{i}" for i in rng.integers(0, 1000, 300)], object)
    texts[cluster == 2] = [f"alone{i} the" for i in range(100)]
    labelled = Labelled()
    labelled.labels = tables.write(  # type: ignore[attr-defined]
        place.parent / "labels", [{"text": texts, "reliable": np.arange(300) % 10 > 0}]
    )
    found = naming.names(labelled, cluster, np.arange(300), 3, piece)  # type: ignore[arg-type]
    assert set(found["name"][0].split(" · ")) >= {"sea", "boats"}
    assert "bread" in found["name"][1]
    assert found["name"][2] == ""
    assert found["share"][0] == pytest.approx(0.9)
    assert found["background"][0] == pytest.approx(0.3)


_CHILD = """
import sys
import numpy as np, torch
from pellucid.atlas import map as mapping
from pellucid.atlas.directions import Directions
from pellucid.atlas.map import MapSettings
from pellucid.atlas.pages import Atlas
def told(stage, done, total, **_):
    print(stage, done, flush=True)
directions = Directions(torch.from_numpy(np.load(sys.argv[2])))
mapping.build(Atlas.open(sys.argv[1]), directions, lambda t: f" word{t}",
    settings=MapSettings(seed=1), progress=told)
"""


def test_a_killed_layout_goes_on_to_the_same_map(
    place: Path, dictionary: Dictionary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PELLUCID_HOME", str(tmp_path / "home"))
    np.save(tmp_path / "rows.npy", dictionary.decoder.numpy())
    command = [sys.executable, "-c", _CHILD, str(place), str(tmp_path / "rows.npy")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line == b"layout 300\n":
                break
        child.send_signal(signal.SIGKILL)
    atlas, directions, settings = Atlas.open(place), Directions.of(dictionary), MapSettings(seed=1)
    steps: list[float] = []
    resumed = mapping.build(
        atlas, directions, piece, settings=settings, progress=lambda _, done, *__, **___: steps.append(done)
    )
    assert steps[0] in (350, 400)
    files = resumed.record["files"]
    assert mapping.build(Atlas.open(place), directions, piece, settings=settings).record == resumed.record
    for name in (place / "map").iterdir():
        name.unlink()
    assert mapping.build(Atlas.open(place), directions, piece, settings=settings).record["files"] == files


def test_what_does_not_fit_is_refused(dictionary: Dictionary, reader: Reader, tmp_path: Path) -> None:
    settings = building.AtlasSettings(promoted=0)
    rows = np.arange(len(reader.store.tokens))
    building.build([building.Target(dictionary, reader, tmp_path / "a")], rows, settings=settings)
    with pytest.raises(InputError, match="no neighbours yet"):
        mapping.build(Atlas.open(tmp_path / "a"), Directions.of(dictionary), piece)
