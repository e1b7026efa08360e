"""Writes what `pellucid demo` prints: as text into the README, and drawn as a terminal into docs/picture.svg.

Run: python docs/picture.py [DICTIONARY]
"""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from pellucid.cli import printing
from pellucid.cli.demo import demo

_BLOCK = re.compile(r"(?<=<!-- demo output -->\n\n```text\n).*?(?=\n```\n\n<!-- /demo output -->)", re.DOTALL)


def main() -> None:
    """Run the demonstration and keep what it printed."""
    console = Console(record=True, width=100, highlight=False, force_terminal=True, color_system="truecolor")
    printing.console = lambda *, stderr=False: Console(stderr=True, quiet=True) if stderr else console  # type: ignore[assignment]
    docs = Path(__file__).resolve().parent
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        demo(dictionary=sys.argv[1] if len(sys.argv) > 1 else "smollm2")
    lines = [line.rstrip() for line in console.export_text(clear=False).strip("\n").splitlines()]
    readme = docs.parent / "README.md"
    text, found = _BLOCK.subn(lambda _: "\n".join(lines), readme.read_text(encoding="utf-8"))
    if found != 1:
        sys.exit("README.md has no place for the output of the demonstration.")
    readme.write_text(text, encoding="utf-8")
    console.save_svg(str(docs / "picture.svg"), title="pellucid demo")


if __name__ == "__main__":
    main()
