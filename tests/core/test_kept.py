from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pellucid.core import kept
from pellucid.core.errors import IntegrityError


def test_a_result_is_made_once_for_each_key(home: Path) -> None:
    made: list[int] = []

    def make(value: int) -> dict[str, int]:
        made.append(value)
        return {"value": value}

    assert kept.json_value("sums", {"of": 1}, lambda: make(1)) == {"value": 1}
    assert kept.json_value("sums", {"of": 1}, lambda: make(9)) == {"value": 1}
    assert kept.json_value("sums", {"of": 2}, lambda: make(2)) == {"value": 2}
    assert kept.json_value("others", {"of": 1}, lambda: make(3)) == {"value": 3}
    assert made == [1, 2, 3]
    assert kept.json_value("sums", {"of": 4}, lambda: None) is None


def test_arrays_come_back_with_their_bits_and_types(home: Path) -> None:
    given = {"a": np.arange(6, dtype=np.float32).reshape(2, 3) / 7, "b": np.array([True, False])}
    for _ in range(2):
        found = kept.arrays("things", ["k"], lambda: given)
        assert {n: (v.dtype, v.tolist()) for n, v in found.items()} == {
            n: (v.dtype, v.tolist()) for n, v in given.items()
        }


def test_what_fails_leaves_nothing_and_what_is_damaged_is_told(home: Path) -> None:
    def fails() -> dict[str, np.ndarray]:
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        kept.arrays("things", 1, fails)
    assert not [p for p in home.rglob("*") if p.is_file()]
    kept.arrays("things", 1, lambda: {"a": np.arange(1000)})
    (file,) = (p for p in home.rglob("*") if p.is_file())
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(IntegrityError, match="is damaged"):
        kept.arrays("things", 1, fails)
