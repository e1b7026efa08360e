"""Reading an atlas: one feature's page at a time, from tables that stay where they are.

An atlas is opened by its record alone. Each table is whole or absent; a page joins what is there. A token is
named by its number in the token store, row · length + position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pellucid.activations.tokens import TokenStore
from pellucid.atlas.build import FORMAT, RECORD, decoder_digest
from pellucid.atlas.statistics import BANDS, Kind, kind_of
from pellucid.atlas.tables import Columns, Table
from pellucid.core import digests, files, numbers, paths
from pellucid.core.errors import InputError, IntegrityError
from pellucid.core.places import Place
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.codes import Codes
from pellucid.models.model import Model


@dataclass(frozen=True)
class Example:
    """A place in the text where a feature is active."""

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
    kind: Kind
    """Whether it is dead, dense, or tied to one token: see `statistics.kind_of`."""
    count: int
    """Tokens on which it is active."""
    frequency: float
    """The share of tokens on which it is active."""
    maximum: float
    """Its largest activation."""
    mean: float
    """The mean of its activations, where it is active."""
    quantiles: list[float]
    """Its activations' quantiles, at `statistics.THOUSANDTHS`."""
    histogram: list[int]
    """How many of them are in each of equally wide bins over (0, maximum]."""
    examples: list[Example]
    """Where it is strongest, each in another row."""
    bands: list[list[Example]]
    """Examples of each of the bands that part its activations, from weak to strong, into equally many."""
    source_counts: list[int]
    """On how many tokens of each text source it is active."""
    position_counts: list[int]
    """On how many tokens of each of 16 parts of a row."""
    token_counts: dict[int, int]
    """The token ids it is most often active on, with how often."""
    promoted: list[int] | None
    """Tokens it makes the model say when turned up, the most promoted first; none if not measured."""
    suppressed: list[int] | None
    """Tokens it keeps the model from saying, the most suppressed first."""


@dataclass(frozen=True)
class Atlas:
    """An atlas on a disk or in an object store."""

    place: Place
    record: dict[str, Any]

    @classmethod
    def open(cls, address: str | Path, dictionary: Dictionary | None = None) -> Atlas:
        """Open an atlas; nothing but its record is read.

        Args:
            address: its folder or URL.
            dictionary: whose it must be.

        Raises:
            InputError: when there is none, or it belongs to another dictionary or another model.
            IntegrityError: when its record is damaged, or of another format.
        """
        place = Place.of(address)
        if place.size(RECORD) is None:
            raise InputError(
                f"There is no atlas in {str(address)!r}, or it is not finished. Build it with "
                "'pellucid atlas build'."
            )
        record = place.read_json(RECORD)
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise IntegrityError(
                f"The atlas in {str(address)!r} is not of format {FORMAT}: another version of Pellucid wrote "
                "it. Build it again, or use that version."
            )
        if dictionary is not None and record["model"] != dictionary.model_digest:
            raise InputError(f"The atlas in {str(address)!r} is of another model than the dictionary.")
        if dictionary is not None and record["dictionary"] != decoder_digest(dictionary):
            raise InputError(f"The atlas in {str(address)!r} belongs to another dictionary.")
        return cls(place, record)

    @cached_property
    def _tables(self) -> dict[str, Table]:
        return {}

    def table(self, name: str) -> Table | None:
        """A table of the atlas, if it is there.

        Raises:
            IntegrityError: when it is not the one the atlas was built with, or is gone.
        """
        if name in self._tables:
            return self._tables[name]
        found = Table.open(self.place / name) if Table.exists(self.place / name) else None
        wanted = self.record["tables"].get(name)
        if wanted is not None and (found is None or digests.of_json(found.record) != wanted):
            state = "is missing" if found is None else "is not the one it was built with"
            raise IntegrityError(
                f"The atlas {str(self.place)!r} is damaged: {name!r} {state}. Build it again."
            )
        if found is not None:
            self._tables[name] = found
        return found

    @property
    def features(self) -> Table:
        """The table of features, which every atlas has."""
        return self._needed("features")

    @property
    def num_features(self) -> int:
        """N."""
        return int(self.record["features"])

    @cached_property
    def median_frequency(self) -> float:
        """The frequency of the median feature."""
        return float(np.median(self.frequency))

    @cached_property
    def frequency(self) -> np.ndarray:
        """[N] the share of tokens on which each feature is active."""
        shares: np.ndarray = self.features.column("count") / self.record["tokens"]
        return shares

    def check_feature(self, feature: int) -> int:
        """The feature number, if the atlas has it.

        Raises:
            InputError: when it does not.
        """
        return numbers.check_feature(feature, self.num_features, "atlas")

    def promoted(self, features: range) -> list[list[int]] | None:
        """Token ids that each of some features in a row promotes, the most promoted first.

        A feature that never fired has no maximum to be turned up to, and promotes none. Where that was not
        measured, nothing is returned.

        Raises:
            InputError: when they are not features of the atlas.
        """
        effects = self.table("effects")
        if effects is None:
            return None
        found = effects.slice(features.start, features.stop, ["promoted", "promoted_scores"])
        return [
            ids[scores > 0].tolist()
            for ids, scores in zip(found["promoted"], found["promoted_scores"], strict=True)
        ]

    def text(self, folder: Path) -> TokenStore | None:
        """The text that it points into, if it is at hand: in its dictionary's folder, or in the cache."""
        beside = folder / "text" / "store.json"
        for record in (beside, *(paths.home() / "tokens").glob("*/store.json")):
            if record.is_file() and files.read_json(record)["digest"] == self.record["store"]:
                return TokenStore.open(record.parent)
        return None

    def page(self, feature: int) -> Page:
        """One feature's page; reads a few groups of rows.

        Raises:
            InputError: when there is no such feature.
        """
        self.check_feature(feature)
        row = self.features.row(feature)
        effects = self.table("effects")
        turned = effects.row(feature) if effects is not None else None
        count = int(row["count"])
        bands = self._examples(row["band_values"], row["band_tokens"])
        each = len(bands) // BANDS
        return Page(
            feature=feature,
            kind=kind_of(count, self.record["tokens"], int(row["token_counts"][0])),
            count=count,
            frequency=count / self.record["tokens"],
            maximum=float(row["maximum"]),
            mean=float(row["mean"]),
            quantiles=row["quantiles"].tolist(),
            histogram=row["histogram"].tolist(),
            examples=[e for e in self._examples(row["example_values"], row["example_tokens"]) if e],
            bands=[[e for e in bands[b * each : (b + 1) * each] if e] for b in range(BANDS)],
            source_counts=row["source_counts"].tolist(),
            position_counts=row["position_counts"].tolist(),
            token_counts={
                int(i): int(n) for i, n in zip(row["token_ids"], row["token_counts"], strict=True) if n
            },
            # A feature that never fired has no maximum to be turned up to, and moves nothing.
            promoted=_those("promoted", turned, 1),
            suppressed=_those("suppressed", turned, -1),
        )

    def postings(self, feature: int) -> tuple[np.ndarray, np.ndarray]:
        """All tokens [n] int64 on which a feature is active, ascending, and its activations [n] float32.

        Raises:
            InputError: when there is no such feature, or the atlas was built without postings.
        """
        self.check_feature(feature)
        table = self._needed("postings")
        row = self.features.row(feature, ["start", "count"])
        found = table.slice(int(row["start"]), int(row["start"] + row["count"]), ["token", "activation"])
        return found["token"], found["activation"]

    def active(self, start: int, stop: int) -> Codes:
        """The codes of the tokens from `start` to before `stop`; a token that was not read has none.

        Raises:
            InputError: when they are not tokens of the store, or the atlas was built without postings.
        """
        table, rows = self._needed("tokens"), self._needed("rows")
        length = int(self.record["length"])
        if not 0 <= start <= stop <= rows.rows * length:
            raise InputError(
                f"Tokens {start} to {stop} are not in the text: it has tokens 0 to {rows.rows * length - 1}."
            )
        first, last = start // length, -(-stop // length)
        begins = rows.slice(first, min(last + 1, rows.rows), ["start"])["start"]
        low = int(begins[0]) if len(begins) else 0
        high = int(begins[-1]) if last < rows.rows else table.rows
        found = table.slice(low, high)
        mine = slice(*np.searchsorted(found["token"], [start, stop]))
        return Codes.from_entries(
            torch.from_numpy(found["token"][mine] - start),
            torch.from_numpy(found["feature"][mine].copy()),
            torch.from_numpy(found["activation"][mine].copy()),
            tokens=stop - start,
            num_features=self.num_features,
        )

    def _examples(self, values: np.ndarray, tokens: np.ndarray) -> list[Example | None]:
        length = int(self.record["length"])
        return [
            Example(float(v), *divmod(int(t), length)) if t >= 0 else None
            for v, t in zip(values, tokens, strict=True)
        ]

    def _needed(self, name: str) -> Table:
        found = self.table(name)
        if found is None:
            raise InputError(
                f"The atlas {str(self.place)!r} has no table {name!r}: it was built in compact form. "
                "Build it whole with 'pellucid atlas build'."
            )
        return found


def _those(name: str, effects: Columns | None, sign: int) -> list[int] | None:
    """The token ids in a column of a feature's effects whose scores have that sign."""
    if effects is None:
        return None
    ids: list[int] = effects[name][sign * effects[f"{name}_scores"] > 0].tolist()
    return ids


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
    examples: Sequence[Example] | None = None,
    count: int = 5,
    before: int = 24,
    after: int = 8,
) -> list[Snippet]:
    """The text around examples, read again by the model to show where in it the feature is active.

    Args:
        page: whose examples they are.
        store: the text they point into.
        model: what reads it.
        dictionary: whose feature it is.
        examples: which; those where it is strongest, unless some are given.
        count: so many of them at most.
        before: tokens before each.
        after: tokens after each.

    Raises:
        InputError: when the store is not the one the atlas points into.
    """
    found = []
    for example in (page.examples if examples is None else examples)[:count]:
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
