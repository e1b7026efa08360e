"""A server over the tiny model, on a port of this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import uvicorn
from fastapi import FastAPI

from pellucid.activations.reading import Reader
from pellucid.activations.text import TextSource
from pellucid.activations.tokens import TokenStore
from pellucid.atlas import build as building
from pellucid.atlas import labels, neighbours, tables
from pellucid.atlas.directions import Directions
from pellucid.atlas.pages import Atlas
from pellucid.core.sites import Site
from pellucid.dictionaries import files
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.ports import Ports
from pellucid.models.model import Model
from pellucid.models.steps import steps_of
from pellucid.serving.app import application
from pellucid.serving.engine import Engine
from pellucid.serving.served import Served, ServedDictionary

FEATURES = 48
SITE = Site("resid_post", 1)


def dictionary_of(model: Model) -> Dictionary:
    g = torch.Generator().manual_seed(0)
    decoder = torch.nn.functional.normalize(torch.randn(FEATURES, model.width, generator=g), dim=1)
    return Dictionary(
        ports=Ports.of(SITE),
        model_digest=model.digest,
        activation="topk",
        k=6,
        encoder=decoder.clone(),
        encoder_bias=torch.zeros(FEATURES),
        decoder=decoder,
        decoder_bias=torch.zeros(model.width),
        maximum=torch.full((FEATURES,), 3.0),
    )


@pytest.fixture(scope="session")
def served(tiny: Model) -> Served:
    found = ServedDictionary("tiny-features", Path("nowhere"), dictionary_of(tiny), tiny)
    return Served(tiny, {found.name: found})


@pytest.fixture(scope="session")
def folder(tiny: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dictionary with an atlas that holds everything: text, effects, labels, neighbours and a map."""
    place = tmp_path_factory.mktemp("served") / "tiny-features"
    dictionary = files.save(
        dictionary_of(tiny), place, card={"model_reference": "tiny"}, fixture=torch.randn(4, tiny.width)
    )
    picks = np.random.default_rng(0).choice(["the rain", "dogs bark", "a model reads", "the moon"], (60, 20))
    text = tmp_path_factory.mktemp("text") / "rain.txt"
    text.write_text("\n\n".join(" ".join(row) for row in picks))
    store = TokenStore.build(tiny, [TextSource.parse(str(text))], length=32, folder=place / "text")
    building.build(
        [building.Target(dictionary, Reader(tiny, store, SITE), place / "atlas")],
        np.arange(len(store.tokens)),
        settings=building.AtlasSettings(promoted=4),
    )
    rows = [
        {
            "text": "rain and snow" if f == 3 else f"something else {f}",
            "reliable": f != 5,
            "score": 0.9,
            "floor": 0.5,
            "explainer": "words",
        }
        for f in range(FEATURES)
    ]
    tables.write(place / "atlas" / labels.TABLE, [labels.columns_of(rows)])
    atlas = Atlas.open(place / "atlas")
    neighbours.build(atlas, Directions.of(dictionary))
    alive = atlas.features.column("count") > 0
    random = np.random.default_rng(1)
    x, y = (np.where(alive, random.random(FEATURES), np.nan).astype(np.float32) for _ in range(2))
    cluster = np.where(alive, np.arange(FEATURES) % 2, -1).astype(np.int32)
    quality = {"map": {"kept": 0.5, "trustworthiness": 0.9}}
    facts = {"left_out": int((~alive).sum()), "named_by": "labels", "quality": quality}
    tables.write(place / "atlas" / "map", [{"x": x, "y": y, "cluster": cluster}], facts=facts)
    named = {"name": np.array(["rain", "dogs"], object), "features": np.bincount(cluster[alive])}
    figures = {n: np.array([0.25, 0.75], np.float32) for n in ("x", "y", "share", "background")}
    tables.write(place / "atlas" / "map_clusters", [{**named, **figures}])
    return place


@pytest.fixture(scope="session")
def mapped(tiny: Model, folder: Path) -> Served:
    found = ServedDictionary(folder.name, folder, files.load(folder)[0], tiny)
    return Served(tiny, {found.name: found})


@contextmanager
def running(served: Served, more: Callable[[FastAPI], None] | None = None, **bounds: Any) -> Iterator[str]:
    """The address of a server; `more` may add to the application."""
    slots, room, keys = bounds.pop("slots", 4), bounds.pop("room", 400), bounds.pop("keys", None)
    engine = Engine(steps_of(served.model, slots=slots, room=room), **bounds)
    app = application(served, engine, keys)
    if more is not None:
        more(app)
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="session")
def address(served: Served) -> Iterator[str]:
    with running(served) as found:
        yield found


@pytest.fixture(scope="session")
def mapped_address(mapped: Served) -> Iterator[str]:
    with running(mapped) as found:
        yield found
