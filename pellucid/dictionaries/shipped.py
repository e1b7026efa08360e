"""Dictionaries that come with Pellucid, found by name.

Each folder also holds an atlas and the text it points into.
"""

from __future__ import annotations

from pathlib import Path

from pellucid.core.errors import UnknownNameError

_FOLDER = Path(__file__).parent / "shipped"


def names() -> list[str]:
    """The names of the shipped dictionaries."""
    return (
        sorted(p.name for p in _FOLDER.iterdir() if (p / "card.json").is_file()) if _FOLDER.is_dir() else []
    )


def resolve(name: str | Path) -> Path:
    """The folder of a dictionary given by path, by the name of a shipped one, or by the start of that name.

    A run folder stands for its result.

    Raises:
        UnknownNameError: when it is none of these.
    """
    path = Path(name).expanduser()
    if (path / "result" / "card.json").is_file():
        return path / "result"
    if (path / "card.json").is_file() or (path.is_dir() and "/" in str(name)):
        return path
    known = names()
    if found := [n for n in known if n == str(name)] or [n for n in known if n.startswith(f"{name}-")]:
        return _FOLDER / found[0]
    raise UnknownNameError("dictionary", name, known)
