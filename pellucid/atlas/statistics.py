"""Statistics of features: what their postings say, one row of the table `features` for each.

Everything is exact. A quantile is an order statistic: of n activations in ascending order the one with
number ⌈n·q⌉, so that it is an activation that occurred. Bins of the histogram are equally wide and cover
(0, maximum]. Top examples come from different rows of text, of equals the earlier. Bands part a feature's
activations, from weak to strong, into equally many; of each band some are drawn, by a lot that depends on
feature and token alone, and where possible from rows that are not shown yet: they show what a feature means
when it is not at its strongest.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numba
import numpy as np

from pellucid.atlas.kernels import summarise
from pellucid.atlas.segments import POSITIONS
from pellucid.atlas.tables import Columns

THOUSANDTHS = (10, 50, 250, 500, 750, 900, 950, 990, 999)
"""The quantiles that are kept."""
BINS = 24
BANDS = 5
COMMONEST = 8
_DENSE = 0.1
_TIED = 0.9
_TIED_COUNT = 10
_PARTS_PER_THREAD = 8

Kind = Literal["dead", "dense", "one token", "ordinary"]


def kind_of(count: int, tokens: int, commonest: int) -> Kind:
    """What sort of feature one is.

    `dead`: active on no token that was read. `dense`: on more than a tenth of them. `one token`: active ten
    times or more, and in nine cases of ten on one and the same token id. Else `ordinary`.

    Args:
        count: tokens on which it is active.
        tokens: tokens read.
        commonest: how many of them have the token id that is commonest among them.
    """
    if count == 0:
        return "dead"
    if count > _DENSE * tokens:
        return "dense"
    return "one token" if count >= _TIED_COUNT and commonest >= _TIED * count else "ordinary"


def of_postings(
    starts: np.ndarray,
    tokens: np.ndarray,
    values: np.ndarray,
    ids: np.ndarray,
    sources: np.ndarray,
    *,
    first: int,
    length: int,
    num_sources: int,
    examples: int,
    per_band: int,
) -> Columns:
    """The columns of `features` but `start`, of F features.

    Args:
        starts: [F + 1] where the postings of each begin.
        tokens: [postings], ascending within a feature.
        values: [postings].
        ids: [postings] the token id of each.
        sources: [postings] the text source of each.
        first: the number of the first feature: lots depend on it.
        length: tokens in a row of text.
        num_sources: S.
        examples: E.
        per_band: K, examples of each band.
    """
    count = len(starts) - 1
    columns: Columns = {
        "count": np.diff(starts),
        "maximum": np.zeros(count, np.float32),
        "mean": np.zeros(count, np.float32),
        "quantiles": np.zeros((count, len(THOUSANDTHS)), np.float32),
        "histogram": np.zeros((count, BINS), np.uint32),
        "example_values": np.zeros((count, examples), np.float32),
        "example_tokens": np.full((count, examples), -1, np.int64),
        "band_values": np.zeros((count, BANDS * per_band), np.float32),
        "band_tokens": np.full((count, BANDS * per_band), -1, np.int64),
        "source_counts": np.zeros((count, num_sources), np.int64),
        "position_counts": np.zeros((count, POSITIONS), np.int64),
        "token_ids": np.full((count, COMMONEST), -1, np.int32),
        "token_counts": np.zeros((count, COMMONEST), np.int64),
    }
    arguments = starts, tokens, values, ids.astype(np.int32, copy=False), sources
    vocabulary, thousandths = int(ids.max(initial=0)) + 1, np.array(THOUSANDTHS, np.int64)
    found = tuple(list(columns.values())[2:])

    def some(begin: int, end: int) -> None:
        span = first, begin, end
        summarise(*arguments, span, length, vocabulary, thousandths, BANDS, found)

    # About equally many postings in each part.
    parts = _PARTS_PER_THREAD * numba.get_num_threads()
    cuts = np.searchsorted(starts, np.linspace(0, len(tokens), parts + 1)[1:-1])
    cuts = np.unique([0, *cuts.tolist(), count])
    with ThreadPoolExecutor(numba.get_num_threads(), "statistics") as threads:
        list(threads.map(some, cuts[:-1].tolist(), cuts[1:].tolist()))
    columns["maximum"][:] = columns["example_values"][:, 0]
    return columns
