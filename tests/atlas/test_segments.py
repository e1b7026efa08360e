from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.atlas import segments
from pellucid.atlas.segments import Gathering, Segment, Segments
from pellucid.core import files
from pellucid.core.errors import IntegrityError

LENGTH, VOCABULARY = 16, 5


def written(folder: Path, codes: list[np.ndarray], rows_each: int) -> Segments:
    """The codes [rows, LENGTH, N] of rows, so many rows in each segment; two dictionaries alike."""
    found = []
    for number, first in enumerate(range(0, len(codes), rows_each)):
        gatherings = [Gathering(LENGTH, VOCABULARY) for _ in range(2)]
        for row in range(first, min(first + rows_each, len(codes))):
            of_token, features = np.nonzero(codes[row])
            offsets = np.concatenate([[0], np.cumsum(np.bincount(of_token, minlength=LENGTH))])
            for gathering in gatherings:
                gathering.add(
                    np.array([row]),
                    np.full((1, LENGTH), row % VOCABULARY),
                    np.ones((1, LENGTH), bool),
                    offsets,
                    features.astype(np.int32),
                    codes[row][of_token, features],
                )
        with files.new_folder(folder / f"{number:09d}") as partial:
            facts = [gathering.write(partial, d) for d, gathering in enumerate(gatherings)]
            files.write_json(partial / "segment.json", {"dictionaries": facts})
        found.append(Segment.open(folder / f"{number:09d}"))
    return Segments(found, 1)


def codes_of(seed: int, rows: int, features: int, share: float) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.random((rows, LENGTH, features), dtype=np.float32) + 1
    return list(np.where(rng.random(values.shape) < share, values, 0))


@contextmanager
def fences(every: int) -> Iterator[Path]:
    """A folder, and fences so close that a few postings have several."""
    before = segments._FENCE
    segments._FENCE = every
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
    finally:
        segments._FENCE = before


@given(
    seed=st.integers(0, 99),
    rows=st.integers(1, 7),
    features=st.integers(1, 30),
    share=st.sampled_from([0.01, 0.2, 0.9]),
    rows_each=st.integers(1, 4),
    most=st.integers(1, 200),
)
def test_ranges_merged_are_all_postings_in_order(
    seed: int, rows: int, features: int, share: float, rows_each: int, most: int
) -> None:
    codes = codes_of(seed, rows, features, share)
    with fences(4) as folder:
        whole = written(folder, codes, rows_each)
        by_feature = np.concatenate(codes).T
        assert len(whole) == np.count_nonzero(by_feature)
        spans = list(whole.ranges(features, most=most, features=11))
        assert [first for first, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
        assert spans[-1][1] == features
        assert all(0 < stop - first <= 11 for first, stop in spans)
        for first, stop in spans:
            starts, tokens, values = whole.merged(first, stop)
            wanted = by_feature[first:stop]
            of_feature, at = np.nonzero(wanted)
            assert np.diff(starts).tolist() == np.count_nonzero(wanted, axis=1).tolist()
            assert tokens.tolist() == at.tolist()
            assert values.tolist() == wanted[of_feature, at].tolist()
            assert whole.below(first).sum() == np.count_nonzero(by_feature[:first])
            if stop - first > 1:
                assert len(tokens) <= most + 4 * (1 + len(whole.sizes))


def test_postings_of_a_segment_by_token_and_what_is_told_beside_them(tmp_path: Path) -> None:
    codes = codes_of(0, 5, 9, 0.3)
    whole = written(tmp_path, codes, 2)
    every = np.concatenate(codes)
    at, features = np.nonzero(every)
    parts = [whole.by_token(s) for s in range(3)]
    tokens, found, values = (np.concatenate(column) for column in zip(*parts, strict=True))
    assert tokens.tolist() == at.tolist()
    assert found.tolist() == features.tolist()
    assert values.tolist() == every[at, features].tolist()
    assert np.concatenate(list(whole.facts("kept", np.int32))).tolist() == [LENGTH] * 5
    assert np.concatenate(list(whole.facts("active", np.int64))).tolist() == [
        np.count_nonzero(row) for row in codes
    ]
    assert sum(whole.facts("ids", np.int64)).tolist() == [LENGTH] * 5  # type: ignore[union-attr]


def test_a_segment_cut_short_is_noticed(tmp_path: Path) -> None:
    written(tmp_path, codes_of(0, 2, 9, 0.3), 2)
    file = tmp_path / "000000000" / "0.tokens"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(IntegrityError, match="repeat"):
        Segment.open(tmp_path / "000000000")
