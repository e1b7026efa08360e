from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pellucid.activations.reading import Reader
from pellucid.activations.tokens import TokenStore
from pellucid.atlas import build as building
from pellucid.atlas.build import AtlasSettings, Target
from pellucid.atlas.pages import Atlas, snippets
from pellucid.core.errors import InputError, IntegrityError
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary
from pellucid.models.model import Model

N = 48
FEW = AtlasSettings(examples=5, per_band=3, promoted=0)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of an atlas."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def every_row(reader: Reader) -> np.ndarray:
    return building.rows_of(len(reader.store.tokens), None)


@pytest.fixture(scope="module")
def atlas(dictionary: Dictionary, reader: Reader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of all text, with effects."""
    folder = tmp_path_factory.mktemp("atlases") / "whole"
    settings = replace(FEW, promoted=4)
    building.build([Target(dictionary, reader, folder)], every_row(reader), settings=settings)
    return folder


@pytest.fixture(scope="module")
def dense(dictionary: Dictionary, reader: Reader) -> torch.Tensor:
    """[rows · length, N] what the atlas was made from."""
    activations, keep = reader.read(np.asarray(reader.store.tokens))
    found = torch.zeros(*keep.shape, dictionary.num_features)
    found[keep] = dictionary.encode(activations[keep]).dense()
    return found.reshape(-1, dictionary.num_features)


def test_postings_and_codes_are_those_of_the_text(
    atlas: Path, dense: torch.Tensor, dictionary: Dictionary, reader: Reader
) -> None:
    opened = Atlas.open(atlas, dictionary)
    for feature in range(dictionary.num_features):
        tokens, values = opened.postings(feature)
        mine = dense[:, feature]
        assert tokens.tolist() == mine.nonzero()[:, 0].tolist()
        assert torch.equal(torch.from_numpy(values.copy()), mine[mine > 0])
    for start, stop in ((0, 5), (31, 33), (40, 40), (70, 300), (len(dense) - 40, len(dense))):
        assert torch.equal(opened.active(start, stop).dense(), dense[start:stop])
    with pytest.raises(InputError, match="not in the text"):
        opened.active(0, len(dense) + 1)


def test_the_record_and_the_text_tables_count_what_was_read(
    atlas: Path, dense: torch.Tensor, reader: Reader
) -> None:
    opened, store = Atlas.open(atlas), reader.store
    keep = reader.read(np.asarray(store.tokens))[1].numpy()
    record = opened.record
    assert record["tokens"] == keep.sum()
    assert record["postings"] == int((dense > 0).sum())
    assert [s["tokens"] for s in record["sources"]] == [
        int(keep[np.asarray(store.sources) == s].sum()) for s in (0, 1)
    ]
    assert record["position_tokens"] == keep.reshape(len(keep), 16, 2).sum((0, 2)).tolist()
    words, rows = opened.table("vocabulary"), opened.table("rows")
    assert words is not None
    assert rows is not None
    counts = words.column("count")
    assert counts.tolist() == np.bincount(store.tokens[keep], minlength=len(counts)).tolist()
    assert rows.column("tokens").tolist() == keep.sum(1).tolist()


def test_part_of_the_text_is_read_as_the_whole_is(
    dictionary: Dictionary, reader: Reader, dense: torch.Tensor, tmp_path: Path
) -> None:
    rows = building.rows_of(len(reader.store.tokens), 20, seed=3)
    building.build([Target(dictionary, reader, tmp_path / "a")], rows, settings=FEW)
    opened = Atlas.open(tmp_path / "a")
    part = torch.zeros_like(dense).reshape(len(reader.store.tokens), -1)
    part[rows] = dense.reshape(part.shape)[rows]
    assert torch.equal(opened.active(0, len(dense)).dense(), part.reshape(dense.shape))
    assert opened.record["rows"] == 20


@pytest.mark.parametrize("memory_bytes", [1, 64 * 3000])
def test_memory_leaves_no_trace(
    atlas: Path, dictionary: Dictionary, reader: Reader, tmp_path: Path, memory_bytes: int
) -> None:
    settings = replace(FEW, promoted=4, memory_bytes=memory_bytes)
    building.build([Target(dictionary, reader, tmp_path / "a")], every_row(reader), settings=settings)
    assert contents(tmp_path / "a") == contents(atlas)


def test_dictionaries_that_share_a_reading_get_what_each_gets_alone(
    atlas: Path,
    tiny: Model,
    store: TokenStore,
    dictionary: Dictionary,
    dictionary_at: Callable[..., Dictionary],
    reader: Reader,
    tmp_path: Path,
) -> None:
    deeper = Site("resid_post", 2)
    targets = [
        Target(dictionary, reader, tmp_path / "first"),
        Target(dictionary_at(deeper, seed=1), Reader(tiny, store, deeper), tmp_path / "second"),
    ]
    settings = replace(FEW, promoted=4)
    building.build(targets, every_row(reader), settings=settings)
    assert contents(tmp_path / "first") == contents(atlas)
    alone = replace(targets[1], address=tmp_path / "alone")
    building.build([alone], every_row(reader), settings=settings)
    assert contents(tmp_path / "second") == contents(tmp_path / "alone")


def test_an_object_store_holds_the_same_atlas(atlas: Path, dictionary: Dictionary, reader: Reader) -> None:
    address = "memory://atlases/one"
    settings = replace(FEW, promoted=4)
    building.build([Target(dictionary, reader, address)], every_row(reader), settings=settings)
    here, there = Atlas.open(atlas), Atlas.open(address, dictionary)
    assert there.record == here.record
    assert there.page(3) == here.page(3)
    with pytest.raises(InputError, match="exists already"):
        building.build([Target(dictionary, reader, address)], every_row(reader), settings=settings)


def test_without_postings_pages_are_the_same(
    atlas: Path, dictionary: Dictionary, reader: Reader, tmp_path: Path
) -> None:
    settings = replace(FEW, promoted=4, postings=False)
    building.build([Target(dictionary, reader, tmp_path / "a")], every_row(reader), settings=settings)
    here, small = Atlas.open(atlas), Atlas.open(tmp_path / "a")
    assert [small.page(i) for i in range(N)] == [here.page(i) for i in range(N)]
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["atlas.json", "effects", "features"]
    with pytest.raises(InputError, match="no table 'postings'"):
        small.postings(3)


def test_snippets_show_the_peak_where_the_pointer_says(
    atlas: Path, tiny: Model, dictionary: Dictionary, reader: Reader
) -> None:
    page = Atlas.open(atlas).page(3)
    shown = snippets(page, reader.store, tiny, dictionary, count=2, before=4, after=2)
    for snippet, example in zip(shown, page.examples, strict=False):
        assert max(snippet.values) >= example.value * (1 - 1e-4)
        assert "".join(snippet.pieces) in tiny.decode(reader.store.tokens[example.row].tolist())


def test_what_does_not_fit_is_refused(
    tiny: Model, dictionary: Dictionary, reader: Reader, store: TokenStore, atlas: Path, tmp_path: Path
) -> None:
    rows = every_row(reader)
    with pytest.raises(InputError, match="no text"):
        building.build([Target(dictionary, reader, tmp_path / "a")], rows[:0])
    elsewhere = Reader(tiny, store, Site("resid_post", 2))
    with pytest.raises(InputError, match="another model"):
        building.build([Target(dictionary, elsewhere, tmp_path / "a")], rows)
    with pytest.raises(InputError, match="exists already"):
        building.build([Target(dictionary, reader, atlas)], rows)
    silent = replace(dictionary, encoder_bias=torch.full((N,), -1e6))
    with pytest.raises(InputError, match="No feature is active"):
        building.build([Target(silent, reader, tmp_path / "silent")], rows)
    other = replace(dictionary, decoder=dictionary.decoder.flip(0))
    with pytest.raises(InputError, match="another dictionary"):
        Atlas.open(atlas, other)
    with pytest.raises(InputError, match="another model"):
        Atlas.open(atlas, replace(dictionary, model_digest="sha256:0"))
    with pytest.raises(InputError, match=f"0 to {N - 1}"):
        Atlas.open(atlas).page(N)
    with pytest.raises(InputError, match="no atlas"):
        Atlas.open(tmp_path / "nowhere")


@pytest.mark.parametrize("harm", ["format", "cut", "gone", "exchanged"])
def test_damage_is_one_clear_error(dictionary: Dictionary, reader: Reader, tmp_path: Path, harm: str) -> None:
    folder = tmp_path / "a"
    building.build([Target(dictionary, reader, folder)], every_row(reader), settings=FEW)
    if harm == "format":
        (folder / "atlas.json").write_text('{"format": 1}')
    elif harm == "cut":
        file = next((folder / "postings").glob("*.parquet"))
        file.write_bytes(file.read_bytes()[:-100])
    elif harm == "gone":
        (folder / "postings" / "table.json").unlink()
    else:
        shorter = tmp_path / "b"
        building.build([Target(dictionary, reader, shorter)], every_row(reader)[:9], settings=FEW)
        for file in (folder / "postings").iterdir():
            file.unlink()
        for file in (shorter / "postings").iterdir():
            (folder / "postings" / file.name).write_bytes(file.read_bytes())
    with pytest.raises(IntegrityError, match="again"):
        Atlas.open(folder).postings(3)
