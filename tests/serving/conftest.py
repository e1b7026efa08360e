"""A server over the tiny model, on a port of this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import uvicorn

from pellucid.core.sites import Site
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


@contextmanager
def running(served: Served, **bounds: Any) -> Iterator[str]:
    """The address of a server."""
    slots, room, keys = bounds.pop("slots", 4), bounds.pop("room", 400), bounds.pop("keys", None)
    engine = Engine(steps_of(served.model, slots=slots, room=room), **bounds)
    server = uvicorn.Server(uvicorn.Config(application(served, engine, keys), port=0, log_level="error"))
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
