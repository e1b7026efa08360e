"""From segments to an index: postings by feature with the statistics of each, and postings by token.

Tables of an atlas that are made here:

    postings     feature, token, activation: by feature, then token; `start` of `features` says where
    features     the statistics of each feature
    tokens       token, feature, activation: by token, then feature
    rows         of each row of the token store: where its postings begin in `tokens`, and how many of its
                 tokens were read
    vocabulary   how often each token id was read, what a feature's own tokens are held against

Features are merged in ranges that fit into memory. Files that were whole when a merge was killed are not
written again, and how features fall into ranges leaves no trace in them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pellucid.activations.tokens import TokenStore
from pellucid.atlas import statistics, tables
from pellucid.atlas.segments import BYTES_PER_POSTING, Segments
from pellucid.atlas.tables import Columns, Table, Writer
from pellucid.core.errors import InputError
from pellucid.core.places import Place
from pellucid.core.progress import Progress

_BYTES_PER_FEATURE = 4096
"""Memory for each feature of a range: its statistics, and what the file of them takes."""
_POSTINGS: dict[str, Any] = {
    "rows_per_file": 1 << 20,
    "rows_per_group": 1 << 14,
    "encodings": {
        "feature": "DELTA_BINARY_PACKED",
        "token": "DELTA_BINARY_PACKED",
        "activation": "BYTE_STREAM_SPLIT",
    },
}
_FEATURES: dict[str, Any] = {
    "encodings": {
        **dict.fromkeys(("count", "start", "example_tokens", "band_tokens"), "DELTA_BINARY_PACKED"),
        **dict.fromkeys(("maximum", "mean", "example_values", "band_values"), "BYTE_STREAM_SPLIT"),
        **dict.fromkeys(("histogram", "source_counts", "position_counts"), "BYTE_STREAM_SPLIT"),
        "token_counts": "BYTE_STREAM_SPLIT",
    }
}


def write(
    segments: Segments,
    place: Place,
    store: TokenStore,
    rows: np.ndarray,
    num_features: int,
    *,
    examples: int,
    per_band: int,
    keep: bool,
    memory_bytes: int,
    journals: Path,
    progress: Progress,
) -> dict[str, Table]:
    """All tables that come of reading.

    Args:
        segments: the postings of a dictionary.
        place: of the atlas.
        store: the text.
        rows: numbers of the rows that were read, ascending.
        num_features: N.
        examples: top examples of each feature.
        per_band: examples of each band.
        keep: whether to write the postings themselves, or `features` alone.
        memory_bytes: for what is merged at a time.
        journals: a folder of this machine that remembers which files are whole.
        progress: told of features, and of segments.

    Raises:
        InputError: when no feature was active anywhere.
    """
    made = by_feature(
        segments,
        place,
        store,
        num_features,
        examples=examples,
        per_band=per_band,
        keep=keep,
        memory_bytes=memory_bytes,
        journals=journals,
        progress=progress,
    )
    if keep:
        made["tokens"] = by_token(segments, place, journals=journals, progress=progress)
        made["rows"] = by_row(segments, place, rows, store)
        made["vocabulary"] = vocabulary(segments, place)
    return made


def by_feature(
    segments: Segments,
    place: Place,
    store: TokenStore,
    num_features: int,
    *,
    examples: int,
    per_band: int,
    keep: bool,
    memory_bytes: int,
    journals: Path,
    progress: Progress,
) -> dict[str, Table]:
    """Merge all segments into `features` and, if they are kept, `postings`; see `write`."""
    if len(segments) == 0:
        raise InputError(
            "No feature is active on any token of the text. Give text that the model and the dictionary "
            "were made for."
        )
    made = {"features": Writer(place / "features", **_FEATURES, journal=journals / "features.jsonl")}
    if keep:
        made["postings"] = Writer(place / "postings", **_POSTINGS, journal=journals / "postings.jsonl")
    spans = segments.ranges(
        num_features,
        most=memory_bytes // BYTES_PER_POSTING,
        features=max(1, memory_bytes // _BYTES_PER_FEATURE),
    )
    for first, stop in spans:
        start = int(segments.below(first).sum())
        if stop <= made["features"].rows and (
            not keep or int(segments.below(stop).sum()) <= made["postings"].rows
        ):
            continue
        starts, tokens, values = segments.merged(first, stop)
        if keep:
            _append(made["postings"], start, _postings_of(first, starts, tokens, values))
        rows, positions = np.divmod(tokens, store.length)
        columns = statistics.of_postings(
            starts,
            tokens,
            values,
            np.asarray(store.tokens[rows, positions]),
            np.asarray(store.sources[rows]),
            first=first,
            length=store.length,
            num_sources=len(store.record["sources"]),
            examples=examples,
            per_band=per_band,
        )
        if keep:
            columns["start"] = start + starts[:-1]
        _append(made["features"], first, columns)
        progress("statistics", stop, num_features)
    return {name: writer.finish() for name, writer in made.items()}


def by_token(segments: Segments, place: Place, *, journals: Path, progress: Progress) -> Table:
    """Write `tokens`: the segments follow one another in the text, so each is sorted by itself."""
    writer = Writer(place / "tokens", **_POSTINGS, journal=journals / "tokens.jsonl")
    start = 0
    for number, size in enumerate(segments.sizes):
        if start + size > writer.rows:
            tokens, features, values = segments.by_token(number)
            _append(writer, start, {"token": tokens, "feature": features, "activation": values})
        start += size
        progress("tokens", number + 1, len(segments.sizes))
    return writer.finish()


def by_row(segments: Segments, place: Place, rows: np.ndarray, store: TokenStore) -> Table:
    """Write `rows`, from the numbers of those that were read, in order."""
    kept, active = np.zeros(len(store.tokens), np.int32), np.zeros(len(store.tokens), np.int64)
    kept[rows] = np.concatenate(list(segments.facts("kept", np.int32)))
    active[rows] = np.concatenate(list(segments.facts("active", np.int64)))
    return tables.write(place / "rows", [{"start": np.cumsum(active) - active, "tokens": kept}])


def vocabulary(segments: Segments, place: Place) -> Table:
    """Write `vocabulary`."""
    counts = np.sum(list(segments.facts("ids", np.int64)), axis=0)
    return tables.write(place / "vocabulary", [{"count": counts}])


def _postings_of(first: int, starts: np.ndarray, tokens: np.ndarray, values: np.ndarray) -> Columns:
    features = np.repeat(np.arange(first, first + len(starts) - 1, dtype=np.int32), np.diff(starts))
    return {"feature": features, "token": tokens, "activation": values}


def _append(writer: Writer, start: int, columns: Columns) -> None:
    """Give a writer the rows that follow those it has; the columns begin with row `start`."""
    had = writer.rows - start
    assert had >= 0, "rows were left out"
    writer.append({name: values[max(0, had) :] for name, values in columns.items()} if had else columns)
