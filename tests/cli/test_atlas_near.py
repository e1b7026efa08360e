"""`atlas neighbours`, `similar`, `compare` and `map` on a tiny dictionary: what they print and refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pellucid.activations.reading import Reader
from pellucid.activations.text import TextSource
from pellucid.activations.tokens import TokenStore
from pellucid.atlas import build as building
from pellucid.core.sites import Site
from pellucid.dictionaries import files
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.ports import Ports
from pellucid.models.model import Model, load
from tests.cli.shell import run

N = 48


@pytest.fixture(scope="module")
def made(tiny: Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two dictionaries with atlases over the same text."""
    folder = tmp_path_factory.mktemp("near")
    model = folder / "model"
    tiny.network.save_pretrained(model)  # type: ignore[operator]
    tiny.tokenizer.save_pretrained(model)
    loaded = load(str(model), precision="fp32")
    words = ["the rain", "dogs bark", "a model reads", "people talk", "the moon", "in the morning"]
    picks = np.random.default_rng(0).integers(0, len(words), (60, 20))
    (folder / "text.txt").write_text("\n\n".join(" ".join(words[i] for i in row) for row in picks))
    store = TokenStore.build(
        loaded, [TextSource.parse(str(folder / "text.txt"))], length=32, folder=folder / "store"
    )
    places = {}
    for seed, name in enumerate(("one", "two")):
        g = torch.Generator().manual_seed(seed)
        rows = torch.nn.functional.normalize(torch.randn(N, tiny.width, generator=g), dim=1)
        ports = Ports.of(Site("resid_post", 1 + seed))
        dictionary = Dictionary(
            ports, loaded.digest, "topk", rows.clone(), torch.zeros(N), rows, torch.zeros(tiny.width), k=6,
            maximum=torch.full((N,), 3.0),
        )  # fmt: skip
        places[name] = folder / name
        card = {"model_reference": str(model)}
        dictionary = files.save(
            dictionary, places[name], card=card, fixture=torch.randn(4, tiny.width, generator=g)
        )
        target = building.Target(dictionary, Reader(loaded, store, ports.reads[0]), places[name] / "atlas")
        rows_read = np.arange(len(store.tokens))
        building.build([target], rows_read, settings=building.AtlasSettings(promoted=3))
    return places


def answer(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    assert run(*words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def failure(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert run(*words) == 1
    return " ".join(capsys.readouterr().err.split())


def test_neighbours_are_found_and_looked_up(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    one = ("--dictionary", made["one"])
    before = answer(capsys, "atlas", "similar", 3, *one)
    assert before["cosine_floor"] is None
    assert "no neighbours yet" in failure(capsys, "atlas", "similar", 3, "--by", "firing", *one)
    assert answer(capsys, "atlas", "neighbours", *one)["method"] == "exact"
    found = answer(capsys, "atlas", "similar", 3, *one)
    assert [s["feature"] for s in found["similar"]] == [s["feature"] for s in before["similar"]]
    assert found["cosine_floor"] > 0
    assert len(answer(capsys, "atlas", "similar", 3, "--count", 14, *one)["similar"]) == 14
    np.save(tmp_path / "v.npy", 2 * files.load(made["one"])[0].decoder[7].numpy())
    by_vector = ("atlas", "search", tmp_path / "v.npy", "--by", "direction", "--count", 1, *one)
    assert [r["feature"] for r in answer(capsys, *by_vector)] == [7]
    assert run(*by_vector) == 0
    assert "by chance" in " ".join(capsys.readouterr().err.split())
    firing = answer(capsys, "atlas", "similar", 3, "--by", "firing", *one)
    assert all(s["together"] >= 8 for s in firing["similar"])
    for by, said in (("direction", "by chance"), ("firing", "By chance")):
        assert run("atlas", "similar", 3, "--by", by, *one) == 0
        printed = capsys.readouterr()
        assert said in " ".join(printed.err.split())
        assert "feature" in printed.out


def test_dictionaries_are_compared(
    made: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    found = answer(capsys, "atlas", "compare", made["one"], made["two"])
    assert sum(found["fates"]["became"].values()) == sum(found["fates"]["origins"].values()) == N
    assert {"firing", "direction"} <= found.keys()
    assert run("atlas", "compare", made["one"], made["two"]) == 0
    printed = capsys.readouterr()
    assert "lost, or born" in printed.out
    assert "by chance" in printed.err
    one = answer(capsys, "atlas", "compare", made["one"], made["two"], "--feature", 3)
    assert one["fate"] in ("kept", "split", "merged", "changed", "lost", "silent")
    assert run("atlas", "compare", made["one"], made["two"], "--feature", 3) == 0
    assert "fate" in capsys.readouterr().out


def test_a_map_is_drawn_once_and_its_page_holds_it(
    made: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("openTSNE", reason="the extra `atlas` is not installed")
    monkeypatch.setenv("COLUMNS", "160")
    page = tmp_path / "map.html"
    one = ("atlas", "map", "--dictionary", made["one"])
    assert run("atlas", "neighbours", "--dictionary", made["one"]) == 0
    assert run(*one, "--plot", page) == 0
    assert "random places" in capsys.readouterr().out
    text = page.read_text()
    data = json.loads(text.split('id="data">')[1].split("</script>")[0].replace("\\u003c", "<"))
    alive = data["points"]
    assert alive + data["left_out"] == N
    assert len(data["words"]) == alive
    assert "://" not in text
    written = (made["one"] / "atlas" / "map" / "table.json").stat().st_mtime_ns
    assert set(answer(capsys, *one)["quality"]) == {"map", "pca", "random"}
    assert (made["one"] / "atlas" / "map" / "table.json").stat().st_mtime_ns == written


def test_wrong_input_is_one_clear_line(
    made: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two = ("--dictionary", made["two"])
    other = tmp_path / "other"
    shutil.copytree(made["two"], other)
    for words, said in (
        (("similar", 99, *two), "0 to 47"),
        (("similar", 3, "--count", 0, *two), "1 or more"),
        (("similar", 3, "--atlas", made["one"] / "atlas", *two), "another dictionary"),
        (("neighbours", *two, "--atlas", tmp_path / "none"), "There is no atlas"),
        (("map", *two, "--clusters", 0), "1 cluster or more"),
        (("map", *two), "no neighbours yet"),
        (("compare", made["two"], other), "same dictionary"),
    ):
        assert said in failure(capsys, "atlas", *words)
    assert run("atlas", "neighbours", "--dictionary", other) == 0
    table = other / "atlas" / "neighbours"
    (file,) = table.glob("*.parquet")
    file.write_bytes(file.read_bytes()[:-50])
    assert "is damaged" in failure(capsys, "atlas", "similar", 3, "--dictionary", other)
