"""Building an atlas: one pass over stored text, memory bounded by the number of features, not by the text.

N features, M examples each. The folder:

    atlas.safetensors    frequency [N], maximum [N], example_values [N, M] (descending, 0 where there are
                         fewer), example_rows [N, M], example_positions [N, M] (pointers into the token store,
                         -1 where none), promoted [N, P] token ids and promoted_scores [N, P], nats
    atlas.json           format, digests of dictionary, model and token store, tokens read

Examples of one feature come from different rows. Promoted tokens are measured, not read off the unembedding:
see `promoted`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from pellucid.activations.reading import Reader
from pellucid.atlas.kernels import insert_best
from pellucid.atlas.promoted import promoted_tokens
from pellucid.core import digests, files
from pellucid.core.errors import InputError
from pellucid.core.progress import Progress, silent
from pellucid.dictionaries import compiled
from pellucid.dictionaries.base import Dictionary

FORMAT = 1
_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class AtlasSettings:
    """What an atlas keeps of each feature."""

    examples: int = 12
    """Top examples, each from another row."""
    promoted: int = 32
    """Promoted tokens."""


def build(
    dictionary: Dictionary,
    reader: Reader,
    rows: np.ndarray,
    folder: Path,
    *,
    settings: AtlasSettings = AtlasSettings(),
    progress: Progress = silent,
) -> None:
    """Read rows [rows, positions] of the reader's store, given by their numbers, and write an atlas folder.

    Args:
        dictionary: whose features.
        reader: reads its model at its site.
        rows: [rows] numbers of training rows in the reader's token store.
        folder: a folder that does not exist yet.
        settings: what to keep.
        progress: told of tokens read.

    Raises:
        InputError: when the dictionary and the reader are not for the same model and site, or there are no
            rows.
    """
    ports = dictionary.ports
    if ports.beside:
        raise InputError("An atlas is of one model, and this dictionary reads two.")
    if dictionary.model_digest != reader.model.digest or ports.reads != reader.sites:
        read = ", ".join(map(str, reader.sites))
        raise InputError(f"The dictionary is for {ports} of another model than the one read at {read}.")
    if len(rows) == 0:
        raise InputError("There is no text to build an atlas from.")
    tally = Tally(dictionary.num_features, settings.examples)
    encoder = dictionary.to(reader.model.device)
    for at in range(0, len(rows), _ROWS_AT_ONCE):
        numbers = np.sort(rows[at : at + _ROWS_AT_ONCE])
        activations, keep = reader.read(np.asarray(reader.store.tokens[numbers]))
        row_of, position_of = keep.nonzero(as_tuple=True)
        codes = encoder.encode(activations[keep]).to("cpu")
        tally.add(
            codes.offsets.numpy(),
            codes.features.numpy(),
            codes.values.numpy(),
            numbers[row_of.numpy()],
            position_of.numpy(),
        )
        progress(
            "atlas", min(len(rows), at + _ROWS_AT_ONCE) * reader.store.length, len(rows) * reader.store.length
        )
    units = torch.from_numpy(tally.values[:, 0].copy()) if dictionary.maximum is None else dictionary.maximum
    promoted, scores = promoted_tokens(
        reader.model, dictionary, units, count=settings.promoted, progress=progress
    )
    with files.new_folder(folder) as partial:
        save_file(
            {
                "frequency": torch.from_numpy(tally.counts / max(1, tally.tokens)).float(),
                "maximum": torch.from_numpy(tally.values[:, 0].copy()),
                "example_values": torch.from_numpy(tally.values),
                "example_rows": torch.from_numpy(tally.rows),
                "example_positions": torch.from_numpy(tally.positions),
                "promoted": promoted.int(),
                "promoted_scores": scores.half(),
            },
            partial / "atlas.safetensors",
        )
        record: dict[str, Any] = {
            "format": FORMAT,
            "features": dictionary.num_features,
            "model": dictionary.model_digest,
            "site": str(ports),
            "dictionary": decoder_digest(dictionary),
            "store": reader.store.digest,
            "length": reader.store.length,
            "tokens": int(tally.tokens),
            "digest": digests.of_file(partial / "atlas.safetensors"),
        }
        files.write_json(partial / "atlas.json", record)


def decoder_digest(dictionary: Dictionary) -> str:
    """Names the features of a dictionary by their decoder directions."""
    return digests.of_bytes(memoryview(dictionary.decoder.contiguous().numpy().data).cast("B"))


class Tally:
    """Counts and best examples of every feature, updated block by block."""

    def __init__(self, features: int, examples: int) -> None:
        self.counts = np.zeros(features, np.int64)
        self.values = np.zeros((features, examples), np.float32)
        self.rows = np.full((features, examples), -1, np.int32)
        self.positions = np.full((features, examples), -1, np.int16)
        self.tokens = 0

    def add(
        self,
        offsets: np.ndarray,
        features: np.ndarray,
        values: np.ndarray,
        rows: np.ndarray,
        positions: np.ndarray,
    ) -> None:
        """Take in the codes of T tokens (compressed rows), each at a row and position of the token store."""
        self.tokens += len(rows)
        token_of = np.repeat(np.arange(len(rows)), np.diff(offsets))
        starts, order = compiled.by_feature(features, len(self.counts))
        self.counts += np.diff(starts)
        insert_best(
            starts,
            order,
            values,
            rows[token_of].astype(np.int32),
            positions[token_of].astype(np.int16),
            (self.values, self.rows, self.positions),
        )


def rows_of(total: int, wanted: int | None, *, seed: int = 0) -> np.ndarray:
    """Numbers of rows to read: all, or so many at random."""
    numbers = np.random.default_rng(seed).permutation(total)
    return numbers if wanted is None else numbers[:wanted]
