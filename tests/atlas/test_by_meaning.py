from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from pellucid.atlas import by_meaning, embedding
from pellucid.atlas.by_meaning import MeaningIndex
from pellucid.core.errors import InputError, IntegrityError

VOCABULARY = [f"w{i}" for i in range(200)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A static model over a few words."""
    made = tmp_path / "static"
    made.mkdir()
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(VOCABULARY)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(made / "tokenizer.json"))
    matrix = np.random.default_rng(0).normal(size=(200, 96)) * np.linspace(2, 0.1, 96)
    save_file({"embeddings": matrix.astype(np.float32)}, made / "model.safetensors")
    return made


def texts(count: int) -> list[str]:
    picks = np.random.default_rng(1).integers(1, 200, (count, 4))
    return [" ".join(VOCABULARY[i] for i in row) if n % 7 else "" for n, row in enumerate(picks)]


def opened(folder: Path, said: list[str], key: str = "one") -> MeaningIndex:
    def blocks() -> Iterator[tuple[int, list[str]]]:
        for at in range(0, len(said), 100):
            yield at, said[at : at + 100]

    return MeaningIndex.opened(key, len(said), embedding.load(str(folder)), blocks)


def test_embeddings_are_the_mean_of_their_tokens(folder: Path) -> None:
    model = embedding.load(str(folder))
    found = model.embed(["w1 w2", "", "w3"])
    wanted = model.matrix[[1, 2]].mean(0)
    np.testing.assert_allclose(found[0], wanted / np.linalg.norm(wanted), rtol=1e-5)
    assert not found[1].any()
    np.testing.assert_allclose(np.linalg.norm(found[2]), 1, rtol=1e-6)


def test_search_finds_what_exact_products_find(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = texts(600)
    model = embedding.load(str(folder))
    exact = model.embed(said) @ model.embed(["w5 w9"])[0]
    wanted = set(np.argsort(-exact)[:10].tolist())
    for ranked in (1000, 200):  # without and with the first pass over the heads
        monkeypatch.setattr(by_meaning, "_RANKED", ranked)
        found = opened(folder, said).search("w5 w9", 10)
        assert len(wanted & {h.feature for h in found}) >= 9
        for hit in found:
            assert hit.score == pytest.approx(exact[hit.feature], abs=0.02)


def test_features_of_which_nothing_is_said_are_never_found(folder: Path) -> None:
    said = texts(20)
    found = opened(folder, said).search("w5", 20)
    assert {h.feature for h in found} == {i for i, text in enumerate(said) if text}


def test_bad_queries_models_and_indices_are_refused(folder: Path, home: Path, tmp_path: Path) -> None:
    made = opened(folder, texts(20))
    with pytest.raises(InputError, match="empty"):
        made.search("  ")
    with pytest.raises(InputError, match="no embedding model"):
        embedding.load(str(tmp_path / "nowhere"))
    (path,) = (home / "indices" / "meaning").glob("*/vectors.npy")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match=r"vectors\.npy"):
        opened(folder, texts(20))
    (folder / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(IntegrityError, match="cannot be read"):
        embedding.load(str(folder))
    save_file(
        {"a": np.zeros((2, 2), np.float32), "b": np.zeros((2, 2), np.float32)}, folder / "model.safetensors"
    )
    with pytest.raises(InputError, match="one matrix"):
        embedding.load(str(folder))


@pytest.mark.model
def test_the_default_model_puts_like_meanings_close() -> None:
    model = embedding.load()
    query, *labels = model.embed(
        ["sailing the sea", "boats and harbours", "loans and banks", "bread and cakes"]
    )
    assert int(np.argmax(np.stack(labels) @ query)) == 0
