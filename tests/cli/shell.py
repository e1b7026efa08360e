"""The command line, as a shell runs it."""

from __future__ import annotations

from pellucid import cli


def run(*words: object) -> int:
    """Run a command; its exit code."""
    try:
        cli.main([str(w) for w in words])
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0
