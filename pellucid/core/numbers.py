"""Counts as people write them: 25M, 4k, 1_000."""

from __future__ import annotations

import re

from pellucid.core.errors import InputError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9}


def parse_count(text: str | int) -> int:
    """Read a positive count with an optional unit k, M or B.

    Raises:
        InputError: when it is not one.
    """
    match = re.fullmatch(r"(\d[\d_,]*(?:\.\d+)?)([kKmMbBgG]?)", str(text).strip())
    value = (
        round(float(match[1].replace("_", "").replace(",", "")) * _UNITS[match[2].lower()]) if match else 0
    )
    if value < 1:
        raise InputError(f"Expected a count such as 4096, 500k or 25M; got {text!r}.")
    return value
