"""Edits of the rows of a step, compiled: what PyTorch does in a dozen calls for each row.

A row does not depend on the others.

    M rows, D width, N features; J jobs, E edits
"""

from __future__ import annotations

import numpy as np
from numba import njit

from pellucid.models.products import REORDERED

_SET, _SCALE, _ABLATE, _CAP = range(4)
"""Places in `edits.Kind`; the last is `add`."""


@njit(cache=True, nogil=True, fastmath=REORDERED)
def edit_rows(
    x: np.ndarray,
    spans: np.ndarray,
    firsts: np.ndarray,
    features: np.ndarray,
    kinds: np.ndarray,
    amounts: np.ndarray,
    encoder: np.ndarray,
    bias: np.ndarray,
    threshold: np.ndarray,
    decoder: np.ndarray,
) -> None:
    """Edit x [M, D] in place.

    Args:
        x: [M, D].
        spans: [J, 2] for each job its rows, from the first to before the last.
        firsts: [J + 1] where its edits begin and end; they are made in order.
        features: [E].
        kinds: [E] by their place in `edits.Kind`.
        amounts: [E] an activation; for `scale`, a factor.
        encoder: [N, D].
        bias: [N].
        threshold: [N], or [0] where there is none.
        decoder: [N, D].
    """
    for job in range(len(spans)):
        for row in range(spans[job, 0], spans[job, 1]):
            at = x[row]
            for e in range(firsts[job], firsts[job + 1]):
                feature, kind, amount = features[e], kinds[e], amounts[e]
                reads, writes, score = encoder[feature], decoder[feature], np.float32(0)
                for d in range(len(at)):
                    score += at[d] * reads[d]
                score += bias[feature]
                bar = max(np.float32(0), threshold[feature]) if len(threshold) else np.float32(0)
                active = score if score > bar else np.float32(0)
                if kind == _SET:
                    change = amount - active
                elif kind == _SCALE:
                    change = active * amount - active
                elif kind == _ABLATE:
                    change = -active
                elif kind == _CAP:
                    change = min(active, amount) - active
                else:
                    change = amount
                for d in range(len(at)):
                    at[d] += change * writes[d]
