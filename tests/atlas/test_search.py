"""The search by signs against all products, on directions with structure and without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pellucid.atlas import search, tables
from pellucid.atlas.build import decoder_digest
from pellucid.atlas.directions import Directions
from pellucid.atlas.search import Search
from pellucid.core.errors import InputError, IntegrityError
from pellucid.core.sites import Site
from pellucid.dictionaries import files
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.ports import Ports


def directions(count: int, width: int = 96, *, families: int | None = None, seed: int = 0) -> Directions:
    """Random ones; with families, such as lie around so many others."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, width, generator=g)
    if families is not None:
        rows = rows * 0.6 + torch.randn(families, width, generator=g)[torch.arange(count) % families]
    return Directions(torch.nn.functional.normalize(rows, dim=1))


def exact(among: Directions, query: np.ndarray, count: int) -> np.ndarray:
    cosines = among.block(0, among.count) @ (query / np.linalg.norm(query))
    return np.argsort(-cosines, kind="stable")[:count]


@pytest.mark.parametrize("families", [None, 100])
def test_the_ten_nearest_are_found_among_many(families: int | None) -> None:
    among = directions(6000, families=families)
    found = Search.build(among)
    rng = np.random.default_rng(0)
    queries = [*among.take(np.arange(0, 6000, 200)), *rng.standard_normal((30, 96), dtype=np.float32)]
    kept = [np.isin(found.nearest(q, 10)[0], exact(among, q, 10)).mean() for q in queries]
    assert np.mean(kept) >= 0.95


@given(seed=st.integers(0, 1000), count=st.integers(1, 12))
def test_cosines_are_exact_and_descend(seed: int, count: int) -> None:
    among = directions(200, 70, seed=seed)
    query = np.random.default_rng(seed).standard_normal(70).astype(np.float32)
    ids, cosines = Search.build(among).nearest(3 * query, count)
    # So few are all tried.
    np.testing.assert_array_equal(ids, exact(among, query, count))
    np.testing.assert_allclose(cosines, among.take(ids) @ query / np.linalg.norm(query), rtol=1e-4, atol=1e-6)
    assert (np.diff(cosines) <= 0).all()


def test_the_estimate_errs_as_it_is_said_to() -> None:
    among = directions(4000, 128)
    made = Search.build(among)
    query = among.take(np.array([5]))[0]
    estimates = np.empty(4000, np.float32)
    search.near_kernels.estimate(
        made.codes, made.scale, *search._planes(query @ search.rotation(128)), estimates
    )
    error = np.delete(estimates - among.block(0, 4000) @ query, 5)
    assert abs(error.mean()) < 0.01
    assert 0.8 < error.std() / np.sqrt((np.pi / 2 - 1) / 128) < 1.1


def test_only_those_that_may_be_found_are() -> None:
    among = directions(300, 64)
    allowed = np.arange(300) % 3 == 0
    ids, _ = Search.build(among).nearest(among.take(np.array([1]))[0], 10, among=allowed)
    assert (ids % 3 == 0).all()
    few = np.arange(300) < 4
    assert len(Search.build(among).nearest(np.ones(64), 10, among=few)[0]) == 4


def test_a_table_of_signs_finds_the_same(tmp_path: Path) -> None:
    among = directions(500, 96)
    table = tables.write(tmp_path, search.blocks(among))
    query = np.linspace(-1, 1, 96)
    for kept, made in zip(
        Search.open(table, among).nearest(query), Search.build(among).nearest(query), strict=True
    ):
        np.testing.assert_array_equal(kept, made)
    with pytest.raises(IntegrityError, match="500 directions"):
        Search.open(table, directions(499, 96))


@pytest.mark.parametrize(
    ("query", "message"), [(np.ones(5), "Expected a direction"), (np.zeros(96), "needs a length")]
)
def test_what_is_no_direction_is_refused(query: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Search.build(directions(20, 96)).nearest(query)


@pytest.fixture(scope="module", params=[False, True], ids=["float32", "compact"])
def saved(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Dictionary]:
    g = torch.Generator().manual_seed(0)
    rows = torch.nn.functional.normalize(torch.randn(70, 24, generator=g), dim=1)
    ports, bias, centre = Ports.of(Site("resid_post", 1)), torch.zeros(70), torch.zeros(24)
    made = Dictionary(ports, "sha256:0", "topk", rows.clone(), bias, rows, centre, k=4)
    folder = tmp_path_factory.mktemp("saved") / "dictionary"
    files.save(made, folder, card={}, fixture=torch.randn(8, 24, generator=g), compact=request.param)
    return folder, files.load(folder)[0]


def test_directions_on_disk_are_those_of_the_dictionary(saved: tuple[Path, Dictionary]) -> None:
    folder, dictionary = saved
    found = Directions.open(folder)
    np.testing.assert_array_equal(found.block(3, 50), dictionary.decoder[3:50].numpy())
    np.testing.assert_array_equal(found.take(np.array([60, 2])), dictionary.decoder[[60, 2]].numpy())
    assert found.digest == Directions.of(dictionary).digest == decoder_digest(dictionary)


def test_a_file_that_was_cut_short_is_an_error(saved: tuple[Path, Dictionary], tmp_path: Path) -> None:
    contents = (saved[0] / "dictionary.safetensors").read_bytes()
    for harmed, message in ((contents[:-2000], "cut short"), (b"\x10" + contents[1:], "does not say")):
        (tmp_path / "dictionary.safetensors").write_bytes(harmed)
        with pytest.raises(IntegrityError, match=message):
            Directions.open(tmp_path)
    with pytest.raises(InputError, match="no dictionary"):
        Directions.open(tmp_path / "nothing")
