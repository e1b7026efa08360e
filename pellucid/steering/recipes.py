"""Recipes: named, saved sets of edits, for one dictionary each.

A recipe is a JSON file that can be sent to others. What is read is checked as if a stranger had written it:
names are short and hold no path, edits must exist in the dictionary, and nothing in it is run.

    {"format": 1, "name": "music", "dictionary": "sha256:…", "model": "sha256:…",
     "edits": [{"kind": "set", "feature": 12058, "strength": 0.8, "scope": "all"}], "note": "…"}
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

from pellucid.atlas.build import decoder_digest
from pellucid.core import files, paths
from pellucid.core.errors import InputError, IntegrityError, UnknownNameError
from pellucid.dictionaries.base import Dictionary
from pellucid.steering.edits import EditPlan, FeatureEdit, Kind, Scope

FORMAT = 1
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_MOST_EDITS = 256
_MOST_NOTE = 2000
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Recipe:
    """A set of edits with a name."""

    name: str
    """Small letters, digits, `-` and `_`; at most 64."""
    dictionary: str
    """The digest of the dictionary's decoder directions."""
    model: str
    """The digest of its model."""
    edits: tuple[FeatureEdit, ...]
    note: str = ""
    """What it is for, in the words of who made it."""

    @classmethod
    def of(cls, name: str, dictionary: Dictionary, edits: Sequence[FeatureEdit], note: str = "") -> Recipe:
        """A recipe for a dictionary.

        Raises:
            InputError: when the name cannot be one, or the edits mean nothing in that dictionary.
        """
        if not _NAME.fullmatch(name):
            raise InputError(
                f"{name[:80]!r} cannot name a recipe: use small letters, digits, '-' and '_', at most 64."
            )
        if not edits or len(edits) > _MOST_EDITS:
            raise InputError(f"A recipe has between 1 and {_MOST_EDITS} edits; this has {len(edits)}.")
        if len(note) > _MOST_NOTE:
            raise InputError(
                f"The note of a recipe has at most {_MOST_NOTE} characters; this has {len(note)}."
            )
        EditPlan.same(dictionary, edits, 1)
        return cls(name, decoder_digest(dictionary), dictionary.model_digest, tuple(edits), note)

    def check(self, dictionary: Dictionary) -> None:
        """Refuse a dictionary that the recipe was not made for.

        Raises:
            InputError: when it is another, or lacks what the edits need.
        """
        if self.dictionary != decoder_digest(dictionary):
            raise InputError(f"The recipe {self.name!r} belongs to another dictionary.")
        EditPlan.same(dictionary, self.edits, 1)

    def as_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"format": FORMAT, **asdict(self)}


def read(value: Any) -> Recipe:
    """A recipe from JSON values.

    Raises:
        IntegrityError: when they are none.
    """
    try:
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']!r} is not {FORMAT}")
        edits = tuple(_edit(e) for e in value["edits"])
        texts = {n: value[n] for n in ("name", "dictionary", "model")} | {"note": value.get("note", "")}
        if not all(isinstance(t, str) for t in texts.values()):
            raise ValueError("a text is none")
        for text in texts.values():
            text.encode()  # half a character could not be written
        if not _NAME.fullmatch(texts["name"]) or len(texts["note"]) > _MOST_NOTE:
            raise ValueError("the name or the note cannot be one")
        if not 1 <= len(edits) <= _MOST_EDITS:
            raise ValueError(f"it has {len(edits)} edits")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise IntegrityError(
            f"This is no recipe ({error}). Save it again with 'pellucid steer --save'."
        ) from error
    return Recipe(edits=edits, **texts)


def _edit(value: Any) -> FeatureEdit:
    if set(value) - {f.name for f in fields(FeatureEdit)}:
        raise ValueError(f"an edit has unknown parts {sorted(value)}")
    edit = FeatureEdit(**value)
    numbers = (
        isinstance(edit.feature, int)
        and isinstance(edit.strength, int | float)
        and math.isfinite(edit.strength)
    )
    if not numbers or edit.kind not in get_args(Kind) or edit.scope not in get_args(Scope):
        raise ValueError("an edit is none")
    return edit


def folder() -> Path:
    """Where recipes are kept."""
    return paths.home() / "recipes"


def save(recipe: Recipe, *, replace: bool = False) -> Path:
    """Keep a recipe under its name.

    Raises:
        InputError: when there is one of that name, and it is not to be replaced.
    """
    path = folder() / f"{recipe.name}.json"
    if path.exists() and not replace:
        raise InputError(f"There is a recipe {recipe.name!r} already. Choose another name, or replace it.")
    files.write_json(path, recipe.as_json())
    return path


def names() -> list[str]:
    """The names of the recipes that are kept."""
    place = folder()
    found = (p.stem for p in place.iterdir() if p.suffix == ".json") if place.is_dir() else ()
    return sorted(name for name in found if _NAME.fullmatch(name))


def load(name: str | Path) -> Recipe:
    """A recipe by its name, or from a file.

    Raises:
        UnknownNameError: when there is none.
        IntegrityError: when the file holds none.
    """
    path = name if isinstance(name, Path) else folder() / f"{name}.json"
    if not isinstance(name, Path) and (not _NAME.fullmatch(name) or not path.is_file()):
        raise UnknownNameError("recipe", name, names())
    if path.is_file() and path.stat().st_size > _MOST_BYTES:
        raise IntegrityError(f"{str(path)!r} is too large to be a recipe.")
    return read(files.read_json(path))


def remove(name: str) -> None:
    """Forget a recipe.

    Raises:
        UnknownNameError: when there is none of that name.
    """
    if name not in names():
        raise UnknownNameError("recipe", name, names())
    (folder() / f"{name}.json").unlink()
