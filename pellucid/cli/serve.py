"""`pellucid serve`: the chat APIs over a model, with its features in every token."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from fastapi import FastAPI

    from pellucid.serving.settings import Settings

app = App(name="serve", help_format="plaintext")

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@Parameter(name="*")
@dataclass(frozen=True)
class Shown:
    """What is shown besides the model, and to whom: the options of every verb that serves."""

    dictionary: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None
    """names of shipped dictionaries, or folders; by default the one shipped for the model, if any."""
    atlas: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None
    """folders or URLs of atlases of these dictionaries; by default those in their folders, if any."""
    host: str = "127.0.0.1"
    """the address to listen on. One that others can reach needs keys: see `pellucid keys`."""
    port: int = 8600
    """the port; 0 takes a free one."""
    weights: Literal["same", "bf16"] = "bf16"
    """bf16 reads weights at half the bytes while writing (sums stay in fp32); same, as they are."""
    log: Annotated[bool, Parameter(negative="")] = False
    """print a line of JSON for each request: its route, status and seconds, never its text."""

    def of(self, model: str, **more: Any) -> Settings:
        """The settings of a server; without dictionaries named, those that are shipped for the model.

        Raises:
            InputError: when others could reach it and there are no keys.
            MissingDependencyError: when what serves is not installed.
        """
        from pellucid.core.errors import InputError, MissingDependencyError
        from pellucid.serving import keys

        known = keys.load()
        if self.host not in _LOOPBACK and not known:
            raise InputError(
                f"{self.host!r} can be reached by others, and there are no keys. "
                "Make one: pellucid keys add NAME"
            )
        try:
            import uvicorn  # noqa: F401

            from pellucid.serving.settings import Settings
        except ModuleNotFoundError as error:
            raise MissingDependencyError(str(error.name), "serve", "Serving a model") from error
        from pellucid.dictionaries import shipped

        fitting = [n for n in shipped.names() if n.startswith(f"{model}-")]
        dictionaries = tuple(fitting if self.dictionary is None else self.dictionary)
        atlases = tuple(self.atlas or ())
        return Settings(
            model, dictionaries, atlases, keys=tuple(known), weights=self.weights, host=self.host, **more
        )


SHOWN = Shown()


@app.default
def serve(
    model: str = "smollm2",
    /,
    *,
    shown: Shown = SHOWN,
    slots: int = 32,
    room: int = 2048,
    waiting: int = 64,
    engine: Literal["own", "vllm"] = "own",
    replicas: int | None = None,
) -> None:
    """Serve a model to any client of OpenAI's or Anthropic's chat API.

    A request may carry an object `pellucid` with dictionaries to watch and edits to make; see
    docs/how-to/serve.md.

    Args:
        model: a model reference.
        shown: what is shown, and to whom.
        slots: how many answers are written at once.
        room: tokens that a prompt and its answer may have together.
        waiting: how many requests may wait; more are refused with 429.
        engine: what writes: our own batch, or vLLM on GPUs, whose watched answers come whole.
        replicas: run so many whole servers behind one address, on the Ray cluster of RAY_ADDRESS or on one of
            this machine; each has its own slots.
    """
    settings = shown.of(model, slots=slots, room=room, waiting=waiting, engine=engine)
    if replicas is not None:
        return _replicated(settings, replicas, shown)
    return listen(settings, shown)


def listen(settings: Settings, shown: Shown, *, more: Callable[[FastAPI, str], None] | None = None) -> None:
    """Serve until stopped; `more` may add to the application, and is told its address."""
    import logging

    import uvicorn

    from pellucid.cli import printing

    app = settings.build()
    logging.basicConfig(level=logging.INFO if shown.log else logging.WARNING, format="%(message)s")
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(
        (shown.host, shown.port), family=socket.AF_INET6 if ":" in shown.host else socket.AF_INET
    ) as listening:
        where = f"[{shown.host}]" if ":" in shown.host else shown.host
        address = f"http://{where}:{listening.getsockname()[1]}"
        steps, dictionaries = app.state.engine.name, app.state.served.dictionaries
        printing.note(
            f"{settings.model} on {address}/v1 ({steps}, {settings.slots} slots); "
            f"dictionaries: {', '.join(dictionaries) or 'none'}. Ctrl-C stops it."
        )
        if more is not None:
            more(app, address)
        server.run(sockets=[listening])


def _replicated(settings: Settings, replicas: int, shown: Shown) -> None:
    """Serve from a cluster until Ctrl-C, or until the process is told to end."""
    import signal
    import threading
    from contextlib import suppress

    from pellucid.cli import printing
    from pellucid.serving import cluster

    build = cluster.builder(settings, replicas, log=shown.log)
    most = settings.slots + settings.waiting
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with (
        suppress(KeyboardInterrupt),
        cluster.serving(build, replicas=replicas, most=most, host=shown.host, port=shown.port) as address,
    ):
        printing.note(
            f"{settings.model} on {address}/v1 ({replicas} replicas of {settings.slots} slots); "
            f"dictionaries: {', '.join(settings.dictionaries) or 'none'}. Ctrl-C stops it."
        )
        threading.Event().wait()
