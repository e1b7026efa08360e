from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.core import digests

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("size", [0, 1, (1 << 22) - 1, 1 << 22, (1 << 22) + 1])
def test_the_digest_of_a_file_is_its_sha_256(tmp_path: Path, size: int) -> None:
    raw = bytes(range(256)) * (size // 256) + bytes(size % 256)
    (tmp_path / "file").write_bytes(raw)
    assert digests.of_file(tmp_path / "file") == "sha256:" + hashlib.sha256(raw).hexdigest()


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_no_two_splits_of_the_same_bytes_share_a_digest(one: list[bytes], other: list[bytes]) -> None:
    assert (digests.of_bytes(*one) == digests.of_bytes(*other)) == (one == other)


def test_the_digest_of_parts_is_that_of_each_length_before_its_bytes() -> None:
    worked = b"\x02\0\0\0\0\0\0\0ab" + b"\x00\0\0\0\0\0\0\0" + b"\x01\0\0\0\0\0\0\0c"
    assert digests.of_bytes(b"ab", b"", memoryview(b"c")) == "sha256:" + hashlib.sha256(worked).hexdigest()


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=5))
def test_the_order_of_keys_does_not_change_the_digest_of_a_value(value: dict[str, object]) -> None:
    assert digests.of_json(dict(reversed(value.items()))) == digests.of_json(value)


def test_different_values_have_different_digests() -> None:
    values = [1, "1", [1], {"a": 1}, {"a": "1"}, None, [], {}, "é", "e\u0301"]
    assert len({digests.of_json(value) for value in values}) == len(values)


def test_the_short_form_is_twelve_hex_digits() -> None:
    assert digests.short("sha256:0123456789abcdef") == "0123456789ab"
