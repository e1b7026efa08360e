"""`pellucid serve`: the chat APIs over a model, with its features in every token."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from fastapi import FastAPI

app = App(name="serve", help_format="plaintext")

_MOST_ROOM = 6144
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@app.default
def serve(
    model: str = "smollm2",
    /,
    *,
    dictionary: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    atlas: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    host: str = "127.0.0.1",
    port: int = 8600,
    slots: int = 32,
    room: int = 2048,
    waiting: int = 64,
    weights: Literal["same", "bf16"] = "bf16",
    log: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Serve a model to any client of OpenAI's or Anthropic's chat API.

    A request may carry an object `pellucid` with dictionaries to watch and edits to make; see
    docs/how-to/serve.md.

    Args:
        model: a model reference.
        dictionary: names of shipped dictionaries, or folders; by default the one shipped for the model, if
            there is one.
        atlas: folders or URLs of atlases of these dictionaries; a dictionary without one has the atlas in its
            folder, if there is one.
        host: the address to listen on. One that others can reach needs keys: see `pellucid keys`.
        port: the port; 0 takes a free one.
        slots: how many answers are written at once.
        room: tokens that a prompt and its answer may have together.
        waiting: how many requests may wait; more are refused with 429.
        weights: bf16 reads weights at half the bytes while writing (sums stay in fp32); same, as they are.
        log: print a line of JSON for each request: its route, status and seconds, never its text.
    """
    run(
        model,
        dictionary,
        atlas,
        host=host,
        port=port,
        slots=slots,
        room=room,
        waiting=waiting,
        weights=weights,
        log=log,
    )


def run(
    model: str,
    dictionary: list[str] | None,
    atlas: list[str] | None,
    *,
    host: str,
    port: int,
    slots: int,
    room: int | None,
    waiting: int,
    weights: Literal["same", "bf16"],
    log: bool,
    more: Callable[[FastAPI, str], None] | None = None,
) -> None:
    """Serve until stopped, as `serve` says.

    Without `room`, a text has as much as the model reads, at most 6,144 tokens. `more` may add to the
    application, and is told its address.
    """
    import logging

    from pellucid.cli import printing
    from pellucid.core.errors import InputError, MissingDependencyError
    from pellucid.serving import keys

    known = keys.load()
    if host not in _LOOPBACK and not known:
        raise InputError(
            f"{host!r} can be reached by others, and there are no keys. Make one: pellucid keys add NAME"
        )
    try:
        import uvicorn

        from pellucid.serving.app import application
    except ModuleNotFoundError as error:
        raise MissingDependencyError(str(error.name), "serve", "Serving a model") from error
    from pellucid.dictionaries import shipped
    from pellucid.models.steps import steps_of
    from pellucid.serving.engine import Engine
    from pellucid.serving.served import Served

    fitting = [n for n in shipped.names() if n.startswith(f"{model}-")]
    served = Served.open(model, fitting if dictionary is None else dictionary, atlas or ())
    if room is None:
        room = min(_MOST_ROOM, getattr(served.model.config, "max_position_embeddings", None) or _MOST_ROOM)
    steps = steps_of(served.model, slots=slots, room=room, weights=weights)
    app = application(served, Engine(steps, waiting=waiting), keys.Keys(known) if known else None)
    logging.basicConfig(level=logging.INFO if log else logging.WARNING, format="%(message)s")
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
    ) as listening:
        where = f"[{host}]" if ":" in host else host
        address = f"http://{where}:{listening.getsockname()[1]}"
        printing.note(
            f"{served.model.name} on {address}/v1 ({type(steps).__name__}, {slots} slots); dictionaries: "
            f"{', '.join(served.dictionaries) or 'none'}. Ctrl-C stops it."
        )
        if more is not None:
            more(app, address)
        server.run(sockets=[listening])
