"""Counts and amounts as people write them: 25M, 4k, 1_000; 70B, 1.4T, 5.76e23."""

from __future__ import annotations

import math
import re
from typing import Any

from pellucid.core.errors import InputError

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}


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


def parse_amount(text: str | float) -> float:
    """Read a number above 0 with an optional unit k, M, B or T, or in powers of ten.

    Raises:
        InputError: when it is not one.
    """
    value = parse_number(str(text).replace("_", ""))
    if value is not None and 0 < value < math.inf:
        return value
    raise InputError(f"Expected an amount above 0 such as 70B, 1.4T or 5.76e23; got {text!r}.")


def parse_number(text: str) -> float | None:
    """Read any number: 1.5e9, 1,500, -2, 1.5B; None where the text is none.

    A comma stands between groups of three digits and nowhere else, so that 1,5 is no number.
    """
    match = re.fullmatch(
        r"([+-]?(?:\d+|\d{1,3}(?:,\d{3})+)?(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*([kKmMbBgGtT]?)", text.strip()
    )
    if match is None or not any(c.isdigit() for c in match[1]):
        return None
    try:
        return float(match[1].replace(",", "")) * _UNITS[match[2].lower()]
    except ValueError:
        return None


def short_figure(value: float) -> str:
    """Write a figure to compare with its like: to four decimals, or to five digits where those say little."""
    if value == 0 or 0.1 <= abs(value) < 1e5:
        return f"{value:.4f}"
    return f"{value:.5g}".replace("e+", "e") if math.isfinite(value) else "–"


def short_amount(value: float) -> str:
    """Write an amount in three digits, as `parse_amount` reads it: 0.485, 24.2B, 4.82e23; – if none."""
    if not math.isfinite(value):
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 999.5:
        return f"{value:.3g}"
    for letter in "TBMk":
        unit = _UNITS[letter.lower()]
        if unit * 0.9995 <= abs(value) < 999.5 * unit:
            return f"{value / unit:.3g}{letter}"
    return f"{value:.3g}".replace("e+", "e")


def check_feature(feature: int, count: int, of: str) -> int:
    """The number of a feature, if there are so many.

    Args:
        feature: the number.
        count: how many there are.
        of: what has them, such as dictionary.

    Raises:
        InputError: when it does not exist.
    """
    if not 0 <= feature < count:
        raise InputError(f"Feature {feature} does not exist: the {of} has features 0 to {count - 1}.")
    return feature


def finite(value: Any) -> Any:
    """Copy JSON values, with None for each number that is not finite: JSON cannot say those."""
    if isinstance(value, dict):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
