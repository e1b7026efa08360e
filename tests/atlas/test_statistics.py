from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.atlas import statistics
from pellucid.atlas.statistics import BANDS, BINS, COMMONEST, THOUSANDTHS, kind_of
from pellucid.atlas.tables import Columns

LENGTH, ROWS, SOURCES, EXAMPLES, PER_BAND = 16, 40, 3, 4, 2
FIRST = 7
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 9, (ROWS, LENGTH))
OF_SOURCE = np.sort(RNG.integers(0, SOURCES, ROWS)).astype(np.uint16)


def columns_of(features: list[dict[int, float]]) -> Columns:
    """The columns of some features, each given as activations by token."""
    tokens = np.array([t for f in features for t in sorted(f)], np.int64)
    values = np.array([f[t] for f in features for t in sorted(f)], np.float32)
    starts = np.cumsum([0, *(len(f) for f in features)])
    rows, positions = np.divmod(tokens, LENGTH)
    return statistics.of_postings(
        starts,
        tokens,
        values,
        IDS[rows, positions],
        OF_SOURCE[rows],
        first=FIRST,
        length=LENGTH,
        num_sources=SOURCES,
        examples=EXAMPLES,
        per_band=PER_BAND,
    )


def lot(feature: int, token: int) -> int:
    """SplitMix64, in whole numbers."""
    mask = 2**64 - 1
    z = (token + feature * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def expected_bands(number: int, feature: dict[int, float], shown: list[int]) -> list[list[int]]:
    ranked = sorted(feature, key=lambda t: (np.float32(feature[t]), t))
    drawn: list[int] = []
    bands = []
    for band in range(BANDS):
        mine = ranked[band * len(ranked) // BANDS : (band + 1) * len(ranked) // BANDS]
        mine.sort(key=lambda t: lot(number, t))
        picked: list[int] = []
        for strict in (True, False):
            for token in mine:
                rows = {t // LENGTH for t in (*shown, *drawn)}
                if len(picked) < PER_BAND and token not in drawn and not (strict and token // LENGTH in rows):
                    picked.append(token)
                    drawn.append(token)
        bands.append(picked)
    return bands


activations = st.dictionaries(
    st.integers(0, ROWS * LENGTH - 1),
    # Few values, so that there are ties, and many.
    st.one_of(st.sampled_from([0.5, 1.0, 2.0]), st.floats(2.0**-20, 2.0**20, width=32)),
    max_size=120,
)


@given(features=st.lists(activations, min_size=1, max_size=6))
def test_every_column_equals_brute_force(features: list[dict[int, float]]) -> None:
    found = columns_of(features)
    for i, feature in enumerate(features):
        row = {name: values[i] for name, values in found.items()}
        tokens = np.array(sorted(feature), np.int64)
        values = np.array([feature[t] for t in tokens], np.float32)
        assert row["count"] == len(tokens)
        if not len(tokens):
            for name, value in row.items():
                assert (np.asarray(value) == (-1 if name.endswith(("tokens", "ids")) else 0)).all()
            continue
        assert row["maximum"] == values.max()
        assert row["mean"] == np.float32(sum(values.astype(np.float64).tolist()) / len(values))
        for t, quantile in zip(THOUSANDTHS, row["quantiles"], strict=True):
            assert quantile == np.sort(values)[-(-len(values) * t // 1000) - 1]
        bins = np.ceil(values.astype(np.float64) * BINS / np.float64(values.max())).astype(int) - 1
        assert row["histogram"].tolist() == np.bincount(np.minimum(bins, BINS - 1), minlength=BINS).tolist()

        peaks: dict[int, int] = {}
        for token in tokens.tolist():
            best = peaks.setdefault(token // LENGTH, token)
            if np.float32(feature[token]) > np.float32(feature[best]):
                peaks[token // LENGTH] = token
        best = sorted(peaks.values(), key=lambda t: (-np.float32(feature[t]), t))[:EXAMPLES]
        padding = [-1] * (EXAMPLES - len(best))
        assert row["example_tokens"].tolist() == best + padding
        assert row["example_values"].tolist() == [np.float32(feature[t]) for t in best] + [0.0] * len(padding)

        bands = expected_bands(FIRST + i, feature, best)
        padded = [t for band in bands for t in band + [-1] * (PER_BAND - len(band))]
        assert row["band_tokens"].tolist() == padded
        assert row["band_values"].tolist() == [np.float32(feature.get(t, 0.0)) for t in padded]

        rows, positions = np.divmod(tokens, LENGTH)
        assert row["source_counts"].tolist() == np.bincount(OF_SOURCE[rows], minlength=SOURCES).tolist()
        assert row["position_counts"].tolist() == np.bincount(positions, minlength=16).tolist()
        ids, times = np.unique(IDS[rows, positions], return_counts=True)
        order = np.lexsort((ids, -times))[:COMMONEST]
        room = COMMONEST - len(order)
        assert row["token_ids"].tolist() == ids[order].tolist() + [-1] * room
        assert row["token_counts"].tolist() == times[order].tolist() + [0] * room


@pytest.mark.parametrize(
    ("count", "commonest", "kind"),
    [
        (0, 0, "dead"),
        (101, 101, "dense"),
        (100, 89, "ordinary"),
        (100, 90, "one token"),
        (9, 9, "ordinary"),
        (10, 9, "one token"),
    ],
)
def test_the_kind_of_a_feature_follows_its_rule(count: int, commonest: int, kind: str) -> None:
    assert kind_of(count, 1000, commonest) == kind
