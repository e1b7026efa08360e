"""Neighbours by direction and by firing against brute force; a killed job; what does not fit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pellucid.activations.reading import Reader
from pellucid.atlas import build as building
from pellucid.atlas import cofiring, nearest, neighbours
from pellucid.atlas.cofiring import Firing
from pellucid.atlas.directions import Directions
from pellucid.atlas.pages import Atlas
from pellucid.core.errors import InputError
from pellucid.dictionaries.base import Dictionary


@pytest.fixture(scope="module")
def built(dictionary: Dictionary, reader: Reader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("near") / "atlas"
    rows = np.arange(len(reader.store.tokens))
    settings = building.AtlasSettings(promoted=0)
    building.build([building.Target(dictionary, reader, folder)], rows, settings=settings)
    return folder


@pytest.fixture
def atlas(built: Path, dictionary: Dictionary) -> Atlas:
    return Atlas.open(built, dictionary)


def fires(atlas: Atlas) -> np.ndarray:
    """[tokens, N] which feature is active on which token."""
    length, rows = atlas.record["length"], cofiring.needed(atlas, "rows").rows
    return atlas.active(0, rows * length).dense().numpy() > 0


def cosines_of(active: np.ndarray, other: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    other = active if other is None else other
    shared = active.T.astype(np.int64) @ other.astype(np.int64)
    length = np.sqrt(active.sum(0)[:, None].astype(float) * other.sum(0)[None])
    cosine = shared / np.maximum(length, 1)
    return np.where(shared >= cofiring.LEAST_SHARED, cosine, 0), shared


def random_directions(count: int, width: int, families: int, seed: int = 0) -> Directions:
    g = torch.Generator().manual_seed(seed)
    rows = torch.randn(families, width, generator=g)[torch.arange(count) % families]
    return Directions(
        torch.nn.functional.normalize(rows + 0.3 * torch.randn(count, width, generator=g), dim=1)
    )


def found_by(plan: nearest.Nearest) -> tuple[np.ndarray, np.ndarray]:
    ids = np.full((plan.queries.count, plan.count), -7)
    cosines = np.zeros(ids.shape, np.float32)
    for number in range(plan.parts):
        rows, some, values = plan.part(number)
        ids[rows], cosines[rows] = some, values
    return ids, cosines


@given(seed=st.integers(0, 100), silent=st.integers(0, 45))
def test_all_products_give_the_nearest(seed: int, silent: int) -> None:
    among = random_directions(50, 16, 5, seed)
    alive = np.random.default_rng(seed).permutation(50) >= silent
    ids, cosines = found_by(nearest.plan(among, among, alive=alive, count=6))
    rows = among.block(0, 50)
    products = rows @ rows.T
    np.fill_diagonal(products, -2)
    products[:, ~alive] = -2
    order = np.argsort(-products, axis=1, kind="stable")[:, :6]
    wanted = np.where(np.take_along_axis(products, order, 1) > -2, order, -1)
    np.testing.assert_array_equal(ids, wanted)
    np.testing.assert_allclose(cosines[ids >= 0], products[np.nonzero(ids >= 0)[0], ids[ids >= 0]], atol=1e-6)
    assert (cosines[ids < 0] == 0).all()


def test_cells_find_what_all_products_find_and_say_how_surely() -> None:
    among = random_directions(3000, 32, 60)
    alive = np.arange(3000) % 10 > 0
    cells = nearest.plan(among, among, alive=alive, exact_pairs=1)
    assert cells.facts["method"] == "cells"
    ids, _ = found_by(cells)
    exact, _ = found_by(nearest.plan(among, among, alive=alive))
    recall = np.mean([np.isin(a, b).mean() for a, b in zip(ids, exact, strict=True)])
    assert recall >= 0.95
    assert abs(recall - cells.facts["recall"]) < 0.03


def test_directions_without_structure_are_compared_one_by_one() -> None:
    among = random_directions(1000, 64, 1000)
    assert nearest.plan(among, among, exact_pairs=1).facts == {"method": "exact", "recall": 1.0}


def test_two_dictionaries_are_compared_in_cells_too() -> None:
    among, queries = random_directions(3000, 32, 60), random_directions(500, 32, 60, seed=0)
    ids, _ = found_by(nearest.plan(queries, among, count=3, exact_pairs=1))
    exact, _ = found_by(nearest.plan(queries, among, count=3))
    assert np.mean([np.isin(a, b).mean() for a, b in zip(ids, exact, strict=True)]) >= 0.95
    with pytest.raises(InputError, match="cannot be compared"):
        nearest.plan(random_directions(10, 16, 2), among)


def test_the_table_is_what_brute_force_gives(atlas: Atlas, dictionary: Dictionary) -> None:
    table = neighbours.build(atlas, Directions.of(dictionary))
    found = table.slice(0, table.rows)
    active = fires(atlas)
    cosine, shared = cosines_of(active)
    np.fill_diagonal(cosine, 0)
    np.testing.assert_allclose(found["coactivity"], -np.sort(-cosine, axis=1)[:, :10], rtol=1e-6)
    for i, (ids, together) in enumerate(zip(found["coactive"], found["together"], strict=True)):
        for j, many in zip(ids, together, strict=True):
            assert many == (shared[i, j] if j >= 0 else 0)
    # Moved by half the rows, positions kept.
    length = atlas.record["length"]
    moved = np.roll(active.reshape(-1, length, active.shape[1]), -(len(active) // length // 2), axis=0)
    by_chance, _ = cosines_of(active, moved.reshape(active.shape))
    np.fill_diagonal(by_chance, 0)
    np.testing.assert_allclose(found["coactivity_floor"], by_chance.max(1), rtol=1e-6)
    products = dictionary.decoder @ dictionary.decoder.T
    products.fill_diagonal_(-2)
    products[:, ~torch.from_numpy(active.any(0))] = -2
    np.testing.assert_array_equal(found["similar"], products.topk(10, dim=1).indices.numpy())
    facts = table.record["facts"]
    assert facts["tokens"] == atlas.record["tokens"]
    assert -1 < facts["cosine_floor"] < facts["cosine_floor_high"] < 1


def test_the_cosine_floor_is_that_of_random_directions(dictionary: Dictionary) -> None:
    among = Directions.of(dictionary)
    found = neighbours.by_chance(among, 4000)["cosine_floor"]
    drawn = torch.nn.functional.normalize(torch.randn(4000, among.width), dim=1)
    assert abs(found - float((dictionary.decoder @ drawn.T).max(1).values.mean())) < 0.03


def test_of_too_many_postings_rows_are_drawn(atlas: Atlas, tmp_path: Path) -> None:
    half = Firing.lay(atlas, tmp_path, most=int(atlas.record["postings"]) // 2)
    assert 0.4 < half.share < 0.6
    assert half.counts.sum() == len(half.features) < 0.6 * atlas.record["postings"]
    starts, tokens = cofiring.postings_of(atlas, 0, atlas.num_features)
    found = half.together(starts, tokens, np.arange(atlas.num_features))
    length = atlas.record["length"]
    kept = np.repeat(half.slots >= 0, length)
    cosine, _ = cosines_of(fires(atlas) & kept[:, None])
    np.fill_diagonal(cosine, 0)
    np.testing.assert_allclose(found["coactivity"][:, 0], cosine.max(1), rtol=1e-6)
    np.testing.assert_array_equal(found["active"], (fires(atlas) & kept[:, None]).sum(0))


def test_threads_and_ranges_leave_no_trace(
    atlas: Atlas, dictionary: Dictionary, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = neighbours.build(atlas, Directions.of(dictionary)).record["files"]
    monkeypatch.setattr(neighbours, "_RANGE", 7)
    monkeypatch.setattr(cofiring.numba, "get_num_threads", lambda: 3)
    assert neighbours.build(atlas, Directions.of(dictionary)).record["files"] == one


def test_what_does_not_fit_is_refused(
    atlas: Atlas,
    dictionary_at: Callable[..., Dictionary],
    dictionary: Dictionary,
    reader: Reader,
    tmp_path: Path,
) -> None:
    other = dictionary_at(dictionary.site, seed=5)
    with pytest.raises(InputError, match="another dictionary"):
        neighbours.build(atlas, Directions.of(other))
    rows = np.arange(len(reader.store.tokens))
    settings = building.AtlasSettings(promoted=0, postings=False)
    building.build([building.Target(dictionary, reader, tmp_path / "a")], rows, settings=settings)
    compact = Atlas.open(tmp_path / "a")
    with pytest.raises(InputError, match="no neighbours yet"):
        neighbours.of(compact)
    table = neighbours.build(compact, Directions.of(dictionary))
    assert "coactive" not in table.columns


_CHILD = """
import sys, time
import numpy as np, torch
from pellucid.atlas import cofiring, neighbours
from pellucid.atlas.directions import Directions
from pellucid.atlas.pages import Atlas
neighbours._RANGE = 2
together = cofiring.Firing.together
def slow(self, *arguments, **named):
    print("part", flush=True)
    time.sleep(0.05)
    return together(self, *arguments, **named)
cofiring.Firing.together = slow
neighbours.build(Atlas.open(sys.argv[1]), Directions(torch.from_numpy(np.load(sys.argv[2]))))
"""


def test_a_killed_job_goes_on_to_the_same_tables(
    atlas: Atlas, dictionary: Dictionary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = neighbours.build(atlas, Directions.of(dictionary)).record["files"]
    for name in (*atlas.place.names(), *(atlas.place / "neighbours").names()):
        (atlas.place / "neighbours").remove(name)
    monkeypatch.setenv("PELLUCID_HOME", str(tmp_path / "home"))
    np.save(tmp_path / "rows.npy", dictionary.decoder.numpy())
    command = [sys.executable, "-c", _CHILD, str(atlas.place), str(tmp_path / "rows.npy")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ) as child:
        assert child.stdout is not None
        for _ in range(5):
            assert child.stdout.readline() == b"part\n"
        child.send_signal(signal.SIGKILL)
    assert not neighbours.Table.exists(atlas.place / "neighbours")
    (work,) = (tmp_path / "home" / "building").iterdir()
    done = list(work.glob("firing-*.npz"))
    assert len(done) >= 4
    monkeypatch.setattr(neighbours, "_RANGE", 2)
    counted = []
    together = Firing.together
    monkeypatch.setattr(Firing, "together", lambda *a: counted.append(1) or together(*a))
    assert neighbours.build(atlas, Directions.of(dictionary)).record["files"] == wanted
    assert len(counted) == atlas.num_features // 2 - len(done)
    assert not work.exists()
