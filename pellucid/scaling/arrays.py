"""What all of the room computes with: arrays of floats, and what lies between quantiles of draws."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pellucid.core.errors import InputError

Floats = NDArray[np.float64]


def between(draws: Floats, nominal: float, *, exact: bool = False) -> tuple[Floats, Floats]:
    """The ends between which a share of draws [S, …] lies, with as many of them below as above, […] each.

    Args:
        draws: the draws.
        nominal: the share.
        exact: take draws themselves as ends, with nothing in between, so that one may be infinite.

    Raises:
        InputError: when the share is not between 0 and 1.
    """
    check_share(nominal)
    ends = [(1 - nominal) / 2, (1 + nominal) / 2]
    low, high = np.quantile(draws, ends, axis=0, method="nearest" if exact else "linear")
    return low, high


def check_share(nominal: float) -> None:
    """Refuse a share that no interval can hold.

    Raises:
        InputError: when it is not between 0 and 1.
    """
    if not 0 < nominal < 1:
        raise InputError(f"Expected a nominal share between 0 and 1, such as 0.9; got {nominal!r}.")
