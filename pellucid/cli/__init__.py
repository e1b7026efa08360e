"""The command line: one file per verb, each of which parses, calls and prints. Nothing imports it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pellucid.core.errors import PellucidError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; what the user can mend is printed in one line, without a traceback."""
    from cyclopts import App

    from pellucid import __version__
    from pellucid.cli import printing
    from pellucid.core.errors import PellucidError

    app = App(
        name="pellucid",
        version=__version__,
        help="See inside a language model, steer it, and prove that it is safe to ship.",
        help_format="plaintext",
    )
    for verb, help_text in VERBS.items():
        app.command(f"pellucid.cli.{verb}:app", name=verb, help=help_text)
    try:
        app(sys.argv[1:] if arguments is None else list(arguments))
    except PellucidError as error:
        printing.error(error)
        sys.exit(1)
    except Exception as error:
        refused = _refused_by_the_system(error)
        if refused is None:
            raise
        printing.error(refused)
        sys.exit(1)
    except KeyboardInterrupt:
        printing.note("Stopped. What was finished is kept; repeat the command to go on.")
        sys.exit(130)


def _refused_by_the_system(error: Exception) -> PellucidError | None:
    """A full disk, a folder that may not be written, and the like, as an error that says what to do."""
    from safetensors import SafetensorError

    from pellucid.core.errors import InputError

    # Weights are written by safetensors, which has an exception of its own for what the disk refuses.
    from_disk = isinstance(error, SafetensorError) and "os error" in str(error).lower()
    if not from_disk and not (isinstance(error, OSError) and error.errno is not None):
        return None
    return InputError(
        f"The system refused to read or write: {error}. Nothing that was whole is lost: make room or give "
        "access, and repeat the command."
    )


VERBS = {
    "models": "Fetch, check and describe models.",
    "train": "Train a dictionary on what a model thinks while it reads text.",
    "inspect": "Show a dictionary's card and quality, or measure it again.",
    "convert": "Take over a dictionary of another library, or write one for it.",
    "atlas": "Build feature pages, look at one, find features by example sentences.",
    "watch": "See features light up on a text, and on what the model then writes.",
    "steer": "Answer a prompt plainly and with features turned up or down, side by side.",
    "serve": "Serve a model to any chat client, with its features in every token.",
    "studio": "See inside a model and turn its features, in a browser.",
    "keys": "Make, list and remove the keys of a server.",
    "scale": "From training runs to a law, a forecast, a plan and a price.",
    "demo": "The whole journey in a few minutes, with a page to keep.",
}
