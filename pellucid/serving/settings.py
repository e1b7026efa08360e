"""What a server is started with, and the application it makes: the same alone and in every replica."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from fastapi import FastAPI

from pellucid.models.steps import steps_of
from pellucid.serving.app import application
from pellucid.serving.engine import Answering, Engine
from pellucid.serving.keys import Key, Keys
from pellucid.serving.served import Served

MOST_ROOM = 8192
"""Of tokens, where none is asked for: a slot reserves memory for its room."""


@dataclass(frozen=True)
class Settings:
    """How to serve."""

    model: str
    """A model reference."""
    dictionaries: tuple[str, ...] = ()
    """Names of shipped dictionaries, or folders."""
    atlases: tuple[str, ...] = ()
    """Folders or URLs of atlases of these dictionaries."""
    slots: int = 32
    """Answers that are written at once."""
    room: int | None = 2048
    """Tokens of a prompt and its answer together; None takes all that the model reads, up to `MOST_ROOM`."""
    waiting: int = 64
    """Requests that may wait for a slot."""
    weights: Literal["same", "bf16"] = "bf16"
    """What weights are read as while writing."""
    engine: Literal["own", "vllm"] = "own"
    """What writes: our own batch, or vLLM on GPUs."""
    keys: tuple[Key, ...] = ()
    """Who may ask; none lets in everybody who can reach the server."""
    host: str = "127.0.0.1"
    """The address it listens on; without keys, requests that name another host are refused."""

    def share(self, replicas: int) -> Settings:
        """The settings of one of several replicas: each lets a key ask its share of the key's rate."""
        keys = tuple(replace(key, per_minute=max(1, key.per_minute // replicas)) for key in self.keys)
        return replace(self, keys=keys)

    def build(self) -> FastAPI:
        """Load the model and what belongs to it, and make the application; its engine is not started yet.

        Raises:
            InputError, IntegrityError, UpstreamError: see `Served.open` and `steps_of`.
            MissingDependencyError: when vLLM is asked for and not installed.
        """
        served = Served.open(self.model, self.dictionaries, self.atlases)
        keys = Keys(self.keys) if self.keys else None
        return application(served, self._engine(served), keys, host=self.host)

    def _engine(self, served: Served) -> Answering:
        reads = getattr(served.model.config, "max_position_embeddings", None)
        room = self.room or min(MOST_ROOM, reads or MOST_ROOM)
        if self.engine == "own":
            steps = steps_of(served.model, slots=self.slots, room=room, weights=self.weights)
            return Engine(steps, waiting=self.waiting)
        from pellucid.models import weights
        from pellucid.serving.vllm_engine import VllmEngine

        folder = weights.locate(self.model).folder
        return VllmEngine(served.model, folder, slots=self.slots, room=room, waiting=self.waiting)
