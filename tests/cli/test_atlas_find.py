"""What finds features, on a tiny model: what is printed, and that wrong input is one clear line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pellucid.activations.reading import Reader
from pellucid.activations.text import TextSource
from pellucid.activations.tokens import TokenStore
from pellucid.atlas import build as building
from pellucid.atlas import labels, tables
from pellucid.cli.session import Session
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.ports import Ports
from pellucid.models.model import Model
from tests.cli.shell import run

N = 40


@pytest.fixture(scope="module")
def built(tiny: Model, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dictionary]:
    """A dictionary of random directions with its atlas, effects, labels and text."""
    folder = tmp_path_factory.mktemp("find")
    text = folder / "source"
    text.mkdir()
    picks = np.random.default_rng(0).choice(["the rain", "dogs bark", "a model reads", "the moon"], (80, 20))
    for number, row in enumerate(picks):
        (text / f"{number}.txt").write_text(" ".join(row))
    store = TokenStore.build(tiny, [TextSource.parse(str(text))], length=32, folder=folder / "text")
    site = Site("resid_post", 1)
    rows = torch.nn.functional.normalize(
        torch.randn(N, tiny.width, generator=torch.Generator().manual_seed(0)), dim=1
    )
    dictionary = Dictionary(
        ports=Ports.of(site), model_digest=tiny.digest, activation="topk", k=6,
        encoder=rows, encoder_bias=torch.zeros(N), decoder=rows, decoder_bias=torch.zeros(tiny.width),
        maximum=torch.full((N,), 3.0), frequency=torch.full((N,), 0.02),
    )  # fmt: skip
    reader = Reader(tiny, store, site)
    building.build(
        [building.Target(dictionary, reader, folder / "atlas")],
        building.rows_of(len(store.tokens), None),
        settings=building.AtlasSettings(promoted=8),
    )
    said = [
        {"text": "rain and snow" if i == 3 else f"something else {i}", "reliable": i != 5} for i in range(N)
    ]
    tables.write(folder / "atlas" / labels.TABLE, [labels.columns_of(said)])
    np.save(folder / "vector.npy", rows[9].numpy())
    np.save(folder / "short.npy", np.ones(3, np.float32))
    return folder, dictionary


@pytest.fixture
def find(
    built: tuple[Path, Dictionary],
    tiny: Model,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Any:
    """Runs a verb of `pellucid atlas`; gives JSON, or what was printed, or the error."""
    folder, dictionary = built
    session = Session(folder, tiny, dictionary, {})  # type: ignore[arg-type]
    monkeypatch.setattr(Session, "open", classmethod(lambda *_, **__: session))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: object, fails: bool = False, table: bool = False) -> Any:
        code = run("atlas", *words, *([] if table or fails else ["--json"]))
        printed = capsys.readouterr()
        assert code == int(fails), printed.err
        if fails:
            return " ".join(printed.err.split())
        return printed.out + printed.err if table else json.loads(printed.out)

    return call


def test_words_find_labels_examples_and_promoted_tokens(find: Any) -> None:
    found = find("search", "snow")
    assert [r["feature"] for r in found] == [3]
    assert found[0]["label"] == "rain and snow"
    assert found[0]["promoted"]
    assert len(find("search", "moon", "--count", 5)) > 0, "no label holds it, but examples do"
    assert "rain and snow" in find("search", "snow", table=True)
    assert "no feature is found" in find("search", "unheardof", table=True)


def test_a_direction_is_a_file_or_two_sets(find: Any, built: tuple[Path, Dictionary]) -> None:
    folder, _ = built
    assert find("search", folder / "vector.npy", "--by", "direction")[0]["feature"] == 9
    named = find("search", "paris", "--by", "direction", "--count", 3)
    assert [r["cosine"] for r in named] == sorted((r["cosine"] for r in named), reverse=True)
    assert "Did you mean" in find("search", "parris", "--by", "direction", fails=True)
    assert "Expected a direction" in find("search", folder / "short.npy", "--by", "direction", fails=True)
    assert "atlas similar 7" in find("search", 7, "--by", "direction", fails=True)
    assert "not a vector" in find("search", folder / "none.npy", "--by", "direction", fails=True)
    (folder / "text.npy").write_text("no numbers")
    assert "not a vector" in find("search", folder / "text.npy", "--by", "direction", fails=True)
    np.save(folder / "words.npy", np.array(["a", "b"]))
    assert "vector of numbers" in find("search", folder / "words.npy", "--by", "direction", fails=True)


def test_a_prompt_shows_what_is_strongest_on_it(find: Any) -> None:
    found = find("search", "the rain and the moon", "--by", "prompt", "--count", 4)
    assert len(found) == 4
    assert [r["score"] for r in found] == sorted((r["score"] for r in found), reverse=True)
    assert all(r["piece"] for r in found)
    assert "damped" in find("search", "the rain", "--by", "prompt", "--chat", table=True)


def test_an_effect_is_confirmed_beside_chance(find: Any) -> None:
    found = find("search", "the", "--by", "effect")
    rises = [r["rise"] for r in found["features"]]
    assert rises == sorted(rises, reverse=True)
    assert found["chance"]["median"] <= found["chance"]["95 %"]
    assert "drawn at random" in find("search", "the", "--by", "effect", table=True)


def test_find_gives_effect_sizes_corrected_and_held_out(find: Any, tmp_path: Path) -> None:
    texts = tmp_path / "with.txt"
    texts.write_text("\n".join(f"dogs bark at the {w}" for w in ("moon", "rain", "fox", "town", "people")))
    without = [f"the {w} came in the morning" for w in ("moon", "rain", "fox", "town", "people")]
    found = find("find", "--with", f"@{texts}", "--without", *without, "--count", 3)
    assert found["tested"] == N
    best = found["features"][0]
    assert best["told"]["low"] <= best["told"]["auc"] <= best["told"]["high"]
    assert 0 < best["q"] <= 1
    assert best["held_out"] is not None
    assert set(found["baselines"]) == {"mean difference", "raw neuron", "random direction"}
    printed = find("find", "--with", f"@{texts}", "--without", *without, table=True)
    assert "corrected for all 40 features" in " ".join(printed.split())
    few = find("find", "--with", "dogs bark", "the moon", "--without", "people talk", table=True)
    assert "too few texts" in few
    assert find("find", "--with", "music", "--count", 2)["features"]


def test_families_report_a_verdict_beside_baselines(find: Any) -> None:
    found = find("families", "--only", "refusal")["smollm2"]["refusal"]
    assert set(found["baselines"]) == {"mean difference", "dense probe", "raw neuron", "random direction"}
    assert found["verdict"] in ("reliable", "no better", "none")
    assert "refusal" in find("families", "--only", "refusal", table=True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("search", "???"), "holds no word"),
        (("search", "  "), "empty"),
        (("search", "rain", "--count", 0), "1 or more"),
        (("search", "rain", "--dictionary", "a", "b"), "by prompt alone"),
        (("search", "rain", "--chat"), "belongs to --by prompt"),
        (("search", "rain", "--by", "meaning", "--embedder", "./nowhere"), "no embedding model"),
        (("search", "zzz", "--by", "effect"), "single letter"),
        (("find", "--with", "@/nowhere.txt"), "not a text file"),
        (("find", "--with", " "), "empty"),
        (("families", "--only", "refusals"), "Did you mean 'refusal'"),
    ],
)
def test_bad_input_is_one_clear_line(find: Any, words: tuple[object, ...], told: str) -> None:
    assert told in find(*words, fails=True)


def test_an_atlas_without_effects_says_so(find: Any, built: tuple[Path, Dictionary], tiny: Model) -> None:
    folder, dictionary = built
    bare = Session(folder / "source", tiny, dictionary, {})  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "open", classmethod(lambda *_, **__: bare))
        assert "has no atlas" in find("search", "rain", fails=True)
