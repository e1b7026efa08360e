"""Reading an atlas: one feature's page at a time, from a file that stays on disk."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from pellucid.activations.tokens import TokenStore
from pellucid.atlas.build import FORMAT, decoder_digest
from pellucid.core import digests, files
from pellucid.core.errors import InputError, IntegrityError
from pellucid.dictionaries.base import Dictionary
from pellucid.models.model import Model


@dataclass(frozen=True)
class Example:
    """A place in the text where a feature is strong."""

    value: float
    """The activation there."""
    row: int
    """Row of the token store."""
    position: int
    """Position in that row."""


@dataclass(frozen=True)
class Page:
    """What is known of one feature."""

    feature: int
    frequency: float
    """The share of tokens on which it is active."""
    maximum: float
    """Its largest activation."""
    promoted: list[int]
    """Tokens it makes the model say when turned up, the most promoted first."""
    examples: list[Example]
    """Where it is strongest, each in another row."""


@dataclass(frozen=True)
class Atlas:
    """An atlas on disk."""

    folder: Path
    record: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path, *, dictionary: Dictionary | None = None) -> Atlas:
        """Open an atlas folder; nothing but its record is read.

        Raises:
            InputError: when there is none, or it belongs to another dictionary.
            IntegrityError: when it is damaged.
        """
        folder = Path(folder).expanduser()
        if not (folder / "atlas.json").is_file():
            raise InputError(f"There is no atlas in {str(folder)!r}. Build one with 'pellucid atlas build'.")
        record = files.read_json(folder / "atlas.json")
        if record.get("format") != FORMAT:
            raise IntegrityError(
                f"The atlas in {str(folder)!r} is not of format {FORMAT}. "
                "A newer Pellucid may have written it."
            )
        if digests.of_file(folder / "atlas.safetensors") != record["digest"]:
            raise IntegrityError(
                f"The atlas in {str(folder)!r} is damaged: its digest differs. Build it again."
            )
        if dictionary is not None and record["dictionary"] != decoder_digest(dictionary):
            raise InputError(f"The atlas in {str(folder)!r} belongs to another dictionary.")
        return cls(folder, record)

    @cached_property
    def _file(self) -> Any:
        try:
            return safe_open(self.folder / "atlas.safetensors", framework="np")
        except SafetensorError as error:
            raise IntegrityError(
                f"The atlas in {str(self.folder)!r} is damaged ({error}). Build it again."
            ) from error

    def column(self, name: str) -> np.ndarray:
        """A whole column, such as `frequency` or `maximum`, [N]."""
        return np.asarray(self._file.get_tensor(name))

    def page(self, feature: int) -> Page:
        """One feature's page; reads a few hundred bytes.

        Raises:
            InputError: when there is no such feature.
        """
        if not 0 <= feature < self.record["features"]:
            raise InputError(
                f"Feature {feature} does not exist: "
                f"the atlas has features 0 to {self.record['features'] - 1}."
            )

        def cut(name: str) -> Any:
            return self._file.get_slice(name)[feature : feature + 1][0]

        values, rows, positions = cut("example_values"), cut("example_rows"), cut("example_positions")
        found = [
            Example(float(v), int(r), int(p))
            for v, r, p in zip(values, rows, positions, strict=True)
            if r >= 0
        ]
        # A feature that never fired has no maximum to be turned up to, and promotes nothing.
        promoted = [int(t) for t, s in zip(cut("promoted"), cut("promoted_scores"), strict=True) if s > 0]
        return Page(feature, float(cut("frequency")), float(cut("maximum")), promoted, found)


@dataclass(frozen=True)
class Snippet:
    """An example with its text and the feature's activation on each of its tokens."""

    pieces: list[str]
    values: list[float]


def snippets(
    page: Page,
    store: TokenStore,
    model: Model,
    dictionary: Dictionary,
    *,
    count: int = 5,
    before: int = 24,
    after: int = 8,
) -> list[Snippet]:
    """The text around a page's examples, read again by the model to show where in it the feature is active.

    Raises:
        InputError: when the store is not the one the atlas points into.
    """
    import torch

    found = []
    for example in page.examples[:count]:
        if example.row >= len(store.tokens):
            raise InputError("The token store is not the one this atlas points into.")
        row = np.asarray(store.tokens[example.row]).astype(np.int64)
        tokens = torch.from_numpy(row[: example.position + after + 1])[None]
        start = max(0, example.position - before)
        x = model.columns(tokens, dictionary.ports.reads)[0, start:]
        values = dictionary.activations_of(x.float(), torch.tensor([page.feature]))[:, 0]
        if start == 0:
            values[0] = 0.0
        found.append(Snippet(model.pieces(tokens[0, start:].tolist()), values.tolist()))
    return found
