r"""Families: contrast sets for what people look for in a model, written for this project.

Each is a file beside this one: a line `# Title: what is against what`, then pairs of lines, `+` with the
concept and `-` without it. The two of a pair are alike in length and topic, so that what tells them apart is
the concept. Every other pair is for choosing, the rest is held out. `\n` stands for a line break.

What to look for is after Templeton et al. 2024, "Scaling Monosemanticity"
(transformer-circuits.pub/2024/scaling-monosemanticity); the sentences are our own. Nothing here was fitted to
a dictionary.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pellucid.core.errors import IntegrityError

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Family:
    """Texts with a concept, and as many without it."""

    name: str
    title: str
    about: str
    """What is held against what."""
    concept: tuple[str, ...]
    neutral: tuple[str, ...]
    """The i-th is like the i-th of `concept`, without the concept."""


@cache
def families() -> dict[str, Family]:
    """All families by name.

    Raises:
        IntegrityError: when a file is not one.
    """
    return {path.stem: _read(path) for path in sorted(_FOLDER.glob("*.txt"))}


def _read(path: Path) -> Family:
    first, *lines = path.read_text(encoding="utf-8").splitlines()
    title, _, about = first.removeprefix("# ").partition(": ")
    concept, neutral = (tuple(line[2:].replace("\\n", "\n") for line in lines[start::2]) for start in (0, 1))
    marks = [line[:2] for line in lines]
    if not first.startswith("# ") or not about or marks != ["+ ", "- "] * (len(lines) // 2) or not lines:
        raise IntegrityError(
            f"{path.name!r} is not a family: a line '# Title: about', then pairs of lines '+ ' and '- '."
        )
    return Family(path.stem, title, about, concept, neutral)
