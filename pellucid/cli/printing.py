"""What verbs print with: tables, tinted text, progress bars, errors. Knows rich, and no room."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from pellucid.core.progress import Progress

# Perceptually even steps from paper to deep orange (lightness falls by equal amounts); 0 is no tint.
_HEAT = ("#fdf0d5", "#fbdfae", "#f8c980", "#f2ac52", "#e58a2b", "#c9680f")


def console(*, stderr: bool = False) -> Console:
    """A console on standard output, or on standard error for what is not the answer."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, soft_wrap=stderr)


def error(problem: Exception) -> None:
    """Print an error in one line."""
    from rich.text import Text

    console(stderr=True).print(Text.assemble(("error: ", "bold red"), str(problem)))


def note(text: str) -> None:
    """Say something beside the answer."""
    console(stderr=True).print(text, style="dim", markup=False)


def as_json(value: Any) -> None:
    """Print one JSON value; what was not measured, and is no number, is null."""
    from pellucid.core.numbers import finite

    sys.stdout.write(json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def tinted(pieces: Sequence[str], shares: Sequence[float]) -> Text:
    """Pieces of text, each on a background as deep as its share of a maximum."""
    from rich.text import Text

    text = Text()
    for piece, share in zip(pieces, shares, strict=True):
        text.append(piece, style=tint(share))
    return text


def tint(share: float) -> str:
    """The style of a share between 0 and 1."""
    if share < 0.08:
        return ""
    return f"#000000 on {_HEAT[min(len(_HEAT) - 1, int(share * len(_HEAT)))]}"


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None) -> None:
    """Print a table; columns of numbers go right."""
    from rich.table import Table
    from rich.text import Text

    found = Table(
        title=title, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False
    )
    for index, header in enumerate(headers):
        numeric = bool(rows) and all(isinstance(r[index], int | float) or _is_number(r[index]) for r in rows)
        found.add_column(header, justify="right" if numeric else "left")
    for row in rows:
        found.add_row(*(cell if isinstance(cell, Text) else str(cell) for cell in row))
    console().print(found)


def _is_number(cell: Any) -> bool:
    return (
        str(cell)
        .replace(",", "")
        .replace(".", "")
        .replace("%", "")
        .replace("−", "")
        .replace("×", "")
        .strip()
        .isdigit()
    )


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Progress]:
    """Bars with rate and time left on a terminal; elsewhere a line now and then; nothing when quiet."""
    if quiet:
        from pellucid.core.progress import silent

        yield silent
    elif sys.stderr.isatty():
        yield from _bars()
    else:
        yield _Lines()


def _bars() -> Iterator[Progress]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        "[progress.description]{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Bars(
        *columns, TextColumn("{task.fields[figures]}", style="dim"), console=console(stderr=True)
    ) as bars:
        tasks: dict[str, Any] = {}

        def show(stage: str, done: float, total: float, /, **figures: float) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, figures="")
            told = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
            bars.update(tasks[stage], completed=int(done), total=int(total), figures=told)

        yield show


class _Lines:
    """Progress where there is no terminal: a line per stage every ten seconds."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def __call__(self, stage: str, done: float, total: float, /, **figures: float) -> None:
        now = time.monotonic()
        if done < total and now - self._told.get(stage, 0.0) < 10:
            return
        self._told[stage] = now
        told = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        sys.stderr.write(f"{stage}: {int(done):,} of {int(total):,}  {told}\n")
