"""Progress of long jobs, told by the rooms and shown by whoever listens.

That is a bar on a terminal, a line for a machine.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called now and then with how far a job is."""

    def __call__(self, stage: str, done: float, total: float, /, **figures: float) -> None:
        """Say that `done` of `total` units of a stage are finished, with figures of interest (loss, rate)."""


def silent(_stage: str, _done: float, _total: float, /, **_figures: float) -> None:
    """Listen to nothing."""
