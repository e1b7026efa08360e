"""`pellucid studio`: the pages, over the API of `pellucid serve`, from one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

from pellucid.cli.serve import SHOWN, Shown, listen

if TYPE_CHECKING:
    from fastapi import FastAPI

app = App(name="studio", help_format="plaintext")

_DEMO = (12058, "music", 0.6)
"""A feature of the shipped dictionary that writes what its name says, and a strength that leaves sentences
whole."""


@app.default
def studio(
    model: str = "smollm2",
    /,
    *,
    shown: Shown = SHOWN,
    demo: Annotated[bool, Parameter(negative="")] = False,
    browser: Annotated[bool, Parameter(negative="")] = False,
    slots: int = 4,
    room: int | None = None,
) -> None:
    """Open the studio: chat and watch features light up, turn them, read their pages, wander the map.

    The same process serves the API of `pellucid serve`. See docs/how-to/studio.md.

    Args:
        model: a model reference.
        shown: what is shown, and to whom.
        demo: show the shipped model, dictionary and atlas, and offer a feature to begin with.
        browser: open the browser of this machine.
        slots: how many answers are written at once.
        room: tokens that a conversation may have; by default what the model reads, up to 8,192.
    """
    from pellucid.cli import printing
    from pellucid.core.errors import InputError
    from pellucid.serving import built

    if demo and (model != "smollm2" or shown.dictionary is not None or shown.atlas is not None):
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

    listen(shown.of(model, slots=slots, room=room, waiting=64), shown, more=pages)
