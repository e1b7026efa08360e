"""`pellucid studio`: the pages, over the API of `pellucid serve`, from one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from fastapi import FastAPI

app = App(name="studio", help_format="plaintext")

_DEMO = (4687, "music", 0.6)
"""A feature of the shipped dictionary that writes what its name says, and a strength that leaves sentences
whole."""


@app.default
def studio(
    model: str = "smollm2",
    /,
    *,
    dictionary: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    atlas: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    demo: Annotated[bool, Parameter(negative="")] = False,
    browser: Annotated[bool, Parameter(negative="")] = False,
    host: str = "127.0.0.1",
    port: int = 8600,
    slots: int = 4,
    room: int = 4096,
    weights: Literal["same", "bf16"] = "bf16",
    log: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Open the studio: chat and watch features light up, turn them, read their pages, wander the map.

    The same process serves the API of `pellucid serve`. See docs/how-to/studio.md.

    Args:
        model: a model reference.
        dictionary: names of shipped dictionaries, or folders; by default the one shipped for the model, if
            there is one.
        atlas: folders or URLs of atlases of these dictionaries; a dictionary without one has the atlas in its
            folder, if there is one.
        demo: show the shipped model, dictionary and atlas, and offer a feature to begin with.
        browser: open the browser of this machine.
        host: the address to listen on. One that others can reach needs keys: see `pellucid keys`.
        port: the port; 0 takes a free one.
        slots: how many answers are written at once.
        room: tokens that a conversation may have.
        weights: bf16 reads weights at half the bytes while writing (sums stay in fp32); same, as they are.
        log: print a line of JSON for each request: its route, status and seconds, never its text.
    """
    from pellucid.cli import printing
    from pellucid.cli.serve import listen, opened
    from pellucid.core.errors import InputError
    from pellucid.serving import built

    if demo and (model != "smollm2" or dictionary is not None or atlas is not None):
        raise InputError("--demo shows what is shipped. Leave out the model and the dictionary, or --demo.")
    # Before the model is loaded, so that whoever lacks npm need not wait to hear it.
    folder = built.pages()

    def pages(application: FastAPI, address: str) -> None:
        from pellucid.serving.pages import Demo, mount

        mount(application, folder, demo=Demo(*_DEMO) if demo else None)
        printing.note(f"The studio: {address}/")
        if browser:
            import webbrowser

            webbrowser.open(f"{address}/")

    settings = opened(
        model, dictionary, atlas, host=host, slots=slots, room=room, waiting=64, weights=weights
    )
    listen(settings, host, port, log=log, more=pages)
