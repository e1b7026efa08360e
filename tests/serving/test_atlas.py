"""The atlas over HTTP: what it says is what the atlas says, and nothing of the machine is told."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import shutil
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
import torch

from pellucid.atlas import by_effect, by_prompt, embedding, neighbours
from pellucid.atlas.by_direction import DirectionIndex
from pellucid.atlas.directions import Directions
from pellucid.atlas.pages import Atlas, snippets
from pellucid.atlas.sayings import Sayings
from pellucid.core.errors import InputError
from pellucid.dictionaries import files
from pellucid.models import model as models
from pellucid.models.model import Model
from pellucid.serving import keys
from pellucid.serving.desk import Desk
from pellucid.serving.engine import BusyError
from pellucid.serving.keys import Keys
from pellucid.serving.map import ARROW
from pellucid.serving.served import Served, ServedDictionary
from tests.serving.conftest import FEATURES, dictionary_of, running


class Letters:
    """Embeds a text by its letters."""

    digest = "letters"
    matrix = np.zeros((1, 128), np.float32)

    def embed(self, texts: list[str]) -> np.ndarray:
        found = np.zeros((len(texts), 128), np.float32)
        for row, text in zip(found, texts, strict=True):
            np.add.at(row, [ord(c) % 128 for c in text], 1)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)


@pytest.fixture(autouse=True)
def letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "load", Letters)


def search(address: str, **body: Any) -> httpx.Response:
    return httpx.post(f"{address}/v1/features/search", json=body, timeout=60)


def test_examples_of_each_band_are_told_from_weak_to_strong(mapped_address: str, mapped: Served) -> None:
    page = mapped.dictionary(None).needed_atlas.page(7)
    told = httpx.get(f"{mapped_address}/v1/features/7", params={"examples": 0, "bands": 2}).json()["page"]
    assert told["examples"] == []
    assert [len(band) for band in told["bands"]] == [min(2, len(band)) for band in page.bands]
    for shown, drawn in zip(told["bands"], page.bands, strict=True):
        for example, wanted in zip(shown, drawn, strict=False):
            assert min(abs(v - wanted.value) for v in example["values"]) < 1e-3
    values = [[e.value for e in band] for band in page.bands]
    for weaker, stronger in itertools.pairwise(values):
        assert max(weaker) <= min(stronger)


def test_a_feature_is_told_with_all_that_the_atlas_knows(mapped_address: str, mapped: Served) -> None:
    served = mapped.dictionary(None)
    atlas = served.needed_atlas
    page = atlas.page(7)
    told = httpx.get(f"{mapped_address}/v1/features/7", params={"examples": 2}).json()
    assert told["label"] == "something else 7"
    assert told["labelled"]["floor"] == 0.5
    assert told["page"]["count"] == page.count
    assert told["page"]["histogram"] == page.histogram
    assert told["page"]["frequency"] == pytest.approx(page.frequency)
    assert served.text is not None
    shown = snippets(page, served.text, served.model, served.dictionary, count=2)
    assert [e["pieces"] for e in told["page"]["examples"]] == [s.pieces for s in shown]
    assert told["page"]["examples"][0]["values"] == pytest.approx(shown[0].values, abs=1e-4)
    assert told["page"]["bands"] == [[]] * 5  # unless they are asked for
    assert told["page"]["median_frequency"] == pytest.approx(np.median(atlas.frequency))
    assert sum(told["page"]["positions"]) == page.count
    assert sum(told["page"]["position_tokens"]) == atlas.record["tokens"]
    row = neighbours.of(atlas).row(7)
    assert [n["feature"] for n in told["neighbours"]["similar"]] == [f for f in row["similar"] if f >= 0]
    assert told["neighbours"]["similar"][0]["label"]
    assert told["neighbours"]["cosine_floor"] > 0
    assert all(n["together"] >= 8 for n in told["neighbours"]["coactive"])
    assert told["place"]["name"] in ("rain", "dogs")
    assert httpx.get(f"{mapped_address}/v1/features/5").json()["label"] is None
    (dictionary,) = httpx.get(f"{mapped_address}/v1/dictionaries").json()
    assert dictionary["atlas"] == ["features", "effects", "labels", "neighbours", "map"]
    for path in ("48", "7?examples=21", "7?bands=5", "7?dictionary=other", "7?dictionary=../../etc"):
        assert httpx.get(f"{mapped_address}/v1/features/{path}").status_code in (400, 404)


def test_searches_find_what_the_atlas_finds(mapped_address: str, mapped: Served) -> None:
    served = mapped.dictionary(None)
    sayings = Sayings(served.needed_atlas, served.model, served.text)
    model, dictionary = served.model, served.dictionary

    def found(**body: Any) -> dict[int, float]:
        answer = search(mapped_address, count=4, **body)
        assert answer.status_code == 200, answer.text
        return {f["feature"]: f["score"] for f in answer.json()["features"]}

    words = found(by="words", query="snow rain")
    assert words == pytest.approx({h.feature: h.score for h in sayings.words().search("snow rain", 4)})
    assert next(iter(words)) == 3
    meaning = sayings.meanings(embedding.load()).search("rain and snow", 4)
    assert found(by="meaning", query="rain and snow") == pytest.approx({h.feature: h.score for h in meaning})
    text = "the rain and the moon"
    _, strongest = by_prompt.strongest(model, {"d": dictionary}, text, count=4)
    assert found(by="prompt", text=text) == pytest.approx({f.feature: f.score for f in strongest})
    index = DirectionIndex.opened(Directions.of(dictionary), served.needed_atlas)
    along = index.search(dictionary.decoder[9].numpy(), 4)
    assert found(by="direction", feature=9) == pytest.approx({h.feature: h.score for h in along})
    assert found(by="direction", vector=dictionary.decoder[9].tolist()) == found(by="direction", feature=9)
    effects = served.needed_atlas.table("effects")
    assert effects is not None
    promoted = next(t for f in range(FEATURES) for t in served.promoted(f) if len(t) > 2)
    tokens = by_effect.tokens_of(model, [promoted])
    hits = by_effect.EffectIndex.opened(effects).search(tokens, 32)
    confirmed = by_effect.confirm(model, dictionary, hits, tokens)
    answer = search(mapped_address, by="effect", words=[promoted]).json()
    assert [f["feature"] for f in answer["features"]] == [f.feature for f in confirmed.features[:10]]
    assert answer["chance"]["usual"] == pytest.approx(confirmed.chance[0], abs=1e-4)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"by": "smell", "query": "rain"}, 400),
        ({"by": "words"}, 400),
        ({"by": "words", "query": "?!"}, 400),
        ({"by": "words", "query": "rain", "count": 0}, 400),
        ({"by": "words", "query": "rain", "count": 10**9}, 400),
        ({"by": "words", "query": "rain", "dictionary": "other"}, 404),
        ({"by": "words", "query": "rain", "colour": 1}, 400),
        ({"by": "prompt", "text": "rain " * 500}, 400),
        ({"by": "direction"}, 400),
        ({"by": "direction", "feature": 48}, 400),
        ({"by": "direction", "vector": [1.0, 2.0]}, 400),
        ({"by": "direction", "vector": [0.0] * 32}, 400),
        ({"by": "effect", "words": []}, 400),
    ],
)
def test_bad_searches_are_clear_errors(mapped_address: str, body: dict[str, Any], status: int) -> None:
    answer = search(mapped_address, **body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


def test_the_points_of_the_map_are_one_stream_that_is_kept(mapped_address: str, mapped: Served) -> None:
    atlas = mapped.dictionary(None).needed_atlas
    answer = httpx.get(f"{mapped_address}/v1/map/points")
    assert answer.headers["content-type"] == ARROW
    found = pa.ipc.open_stream(answer.content).read_all()
    table = atlas.table("map")
    assert table is not None
    for name in ("x", "y", "cluster"):
        np.testing.assert_array_equal(found[name].to_numpy(), table.column(name))
    np.testing.assert_allclose(found["frequency"].to_numpy(), atlas.frequency, rtol=1e-6)
    kept = {"if-none-match": f'W/"older", {answer.headers["etag"]}'}
    again = httpx.get(f"{mapped_address}/v1/map/points", headers=kept)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == answer.headers["etag"]
    about = httpx.get(f"{mapped_address}/v1/map").json()
    assert [c["name"] for c in about["clusters"]] == ["rain", "dogs"]
    assert about["quality"]["map"]["kept"] == 0.5


def test_what_is_not_there_is_said(address: str) -> None:
    for path in ("/v1/map", "/v1/map/points"):
        assert httpx.get(address + path).status_code == 404
    assert "without an atlas" in search(address, by="words", query="rain").json()["error"]["message"]
    told = httpx.get(f"{address}/v1/features/7").json()
    assert (told["page"], told["neighbours"], told["place"]) == (None, None, None)


def test_all_of_it_needs_the_scope_watch(mapped: Served, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    talker, watcher = (keys.add(n, [n], 600, file) for n in ("chat", "watch"))
    with running(mapped, keys=Keys(keys.load(file))) as address:
        for path in ("/v1/map", "/v1/map/points", "/v1/features/7", "/v1/dictionaries"):
            for secret, status in ((None, 401), (talker, 403), (watcher, 200)):
                given = {} if secret is None else {"x-api-key": secret}
                assert httpx.get(address + path, headers=given).status_code == status
        assert search(address, by="words", query="rain").status_code == 401


def test_every_example_of_the_document_is_answered(mapped_address: str, mapped: Served) -> None:
    document = httpx.get(f"{mapped_address}/openapi.json").json()
    tried = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            for name, example in content.get("examples", {}).items():
                body = {**example["value"]}
                if "model" in body:
                    body["model"] = mapped.model.name
                url = mapped_address + path.replace("{name}", "example")
                answer = httpx.request(method, url, json=body, timeout=60)
                # The tiny model knows no long words.
                allowed = {200, 204} | ({400} if name == "effect" else set())
                assert answer.status_code in allowed, (path, name, answer.text)
                tried += 1
    assert tried >= 10


def test_a_damaged_atlas_tells_nothing_of_the_machine(mapped: Served, folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "atlas"
    shutil.copytree(folder / "atlas", place)
    one = mapped.dictionary(None)
    hurt = ServedDictionary(one.name, folder, one.dictionary, one.model, str(place))
    with running(Served(mapped.model, {one.name: hurt})) as address:
        assert httpx.get(f"{address}/v1/features/7").status_code == 200
        for file in (place / "features").glob("*.parquet"):
            file.write_bytes(b"no table")
        answer = httpx.get(f"{address}/v1/features/7")
        assert answer.status_code == 500
        assert str(tmp_path) not in answer.text
        assert "log" in answer.json()["error"]["message"]


def test_atlases_are_matched_with_their_dictionaries(
    tiny: Model, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "load", lambda _: tiny)
    moved = tmp_path / "moved"
    shutil.copytree(folder / "atlas", moved)
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("atlas"))
    found = Served.open("tiny", [str(bare)], [str(moved)])
    assert found.dictionary("bare").needed_atlas.record == Atlas.open(moved).record
    assert Served.open("tiny", [str(bare)]).dictionary("bare").atlas is None
    with pytest.raises(InputError, match="none of the dictionaries"):
        Served.open("tiny", [], [str(moved)])
    with pytest.raises(InputError, match="Two atlases"):
        Served.open("tiny", [str(bare)], [str(moved), str(folder / "atlas")])
    with pytest.raises(InputError, match="no atlas"):
        Served.open("tiny", [str(bare)], [str(tmp_path / "nowhere")])


def test_a_dictionary_of_another_model_is_not_served(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "load", lambda _: tiny)
    other = dataclasses.replace(dictionary_of(tiny), model_digest="sha256:other")
    files.save(
        other, tmp_path / "other", card={"model_reference": "tiny"}, fixture=torch.randn(4, tiny.width)
    )
    with pytest.raises(InputError, match="belongs to the model"):
        Served.open("tiny", [str(tmp_path / "other")])


class _Request:
    """A client that is there, or has gone."""

    def __init__(self, gone: bool = False) -> None:
        self.gone = gone

    async def is_disconnected(self) -> bool:
        return self.gone


def test_the_desk_bounds_what_waits_and_drops_who_has_gone() -> None:
    async def go() -> None:
        desk, free = Desk(places=1, waiting=1), threading.Event()
        there: Any = _Request()
        gone: Any = _Request(gone=True)
        first = asyncio.create_task(desk.ask(there, free.wait))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(desk.ask(gone, lambda: "never"))
        await asyncio.sleep(0.05)
        with pytest.raises(BusyError, match="look-ups"):
            await desk.ask(there, lambda: "refused")
        with pytest.raises(InputError, match="gone away"):
            await second
        free.set()
        assert await first
        assert await desk.ask(there, lambda: 5) == 5
        with pytest.raises(ZeroDivisionError):
            await desk.ask(there, lambda: 1 // 0)
        assert await desk.ask(there, lambda: 6) == 6

    asyncio.run(go())
