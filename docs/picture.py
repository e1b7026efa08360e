"""Writes docs/picture.svg, the README's picture: what `pellucid demo` prints, drawn as a terminal.

Run: python docs/picture.py [DICTIONARY]
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from pellucid.cli import printing
from pellucid.cli.demo import demo


def main() -> None:
    """Run the demonstration and keep what it printed."""
    console = Console(record=True, width=100, highlight=False, force_terminal=True, color_system="truecolor")
    printing.console = lambda *, stderr=False: Console(stderr=True, quiet=True) if stderr else console  # type: ignore[assignment]
    target = Path(__file__).resolve().parent / "picture.svg"
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        demo(dictionary=sys.argv[1] if len(sys.argv) > 1 else "smollm2")
    console.save_svg(str(target), title="pellucid demo")


if __name__ == "__main__":
    main()
