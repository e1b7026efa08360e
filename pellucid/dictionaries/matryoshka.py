"""Matryoshka BatchTopK: prefixes of the features must reconstruct by themselves.

Bussmann et al. 2025, arXiv 2503.17547. The first features learn what is general, and are not absorbed by
rarer ones that come after them. One selection over the whole batch serves all prefixes; the loss is the mean
of theirs.
"""

from __future__ import annotations

import numpy as np

from pellucid.dictionaries.batchtopk import BatchTopK

_GROUPS = (1 / 32, 1 / 16, 1 / 8, 1 / 4)
"""Shares of the features in the groups, the rest being the last."""


class Matryoshka(BatchTopK):
    """BatchTopK with nested losses."""

    @property
    def prefixes(self) -> tuple[int, ...]:
        """Where the groups end."""
        n = self.settings.features
        ends = np.cumsum([max(1, round(share * n)) for share in _GROUPS])
        return (*(int(e) for e in ends if e < n), n)
