from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.core.errors import InputError
from pellucid.core.numbers import parse_amount, parse_count, parse_number, short_amount, short_figure


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4096", 4096),
        ("1_000", 1000),
        ("1,000,000", 1_000_000),
        ("500k", 500_000),
        ("25M", 25_000_000),
        ("1.5M", 1_500_000),
        ("2B", 2 * 10**9),
        ("2g", 2 * 10**9),
        (" 12 ", 12),
        (7, 7),
    ],
)
def test_counts_are_read_as_people_write_them(text: str | int, count: int) -> None:
    assert parse_count(text) == count


@given(st.integers(1, 2**53))
def test_a_count_reads_back_exactly(count: int) -> None:
    assert parse_count(count) == parse_count(f"{count:_}") == parse_count(f"{count:,}") == count


@pytest.mark.parametrize("text", ["", "0", "-1", "many", "5 k", "k", "1e6", "0.1", "1.2.3", "5kk", -3])
def test_what_is_no_count_is_refused_and_shown(text: str | int) -> None:
    with pytest.raises(InputError, match=r"such as 4096, 500k or 25M; got "):
        parse_count(text)


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("70B", 70e9),
        ("1.4T", 1.4e12),
        ("5.76e23", 5.76e23),
        ("1e3k", 1e6),
        ("1_000", 1e3),
        (2.5, 2.5),
        ("0.5", 0.5),
        (".4T", 0.4e12),
    ],
)
def test_amounts_are_read_as_people_write_them(text: str | float, amount: float) -> None:
    assert parse_amount(text) == pytest.approx(amount, rel=1e-15)


@pytest.mark.parametrize("text", ["", "0", "-1", "1e400", "nan", "inf", "many", "5 kk", "T", "1e", 0, -2.0])
def test_what_is_no_amount_is_refused_and_shown(text: str | float) -> None:
    with pytest.raises(InputError, match=r"such as 70B, 1.4T or 5.76e23; got "):
        parse_amount(text)


def test_amounts_are_shown_in_three_digits() -> None:
    values = (0, 0.485, 99.2, 999.9, 1000, 24.2e9, 2.657e12, 999.99e12, 3.81e23, 1.2e-5, float("inf"))
    assert [short_amount(x) for x in values] == [
        "0", "0.485", "99.2", "1k", "1k", "24.2B", "2.66T", "1e15", "3.81e23", "1.2e-05", "–",
    ]  # fmt: skip


@given(st.floats(1e-30, 1e30))
def test_an_amount_that_is_shown_reads_back_to_three_digits(value: float) -> None:
    assert parse_amount(short_amount(value)) == pytest.approx(value, rel=5.1e-3)


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("1e9", 1e9), ("1,500", 1500), ("1.5B", 1.5e9), ("70 m", 7e7), (".5", 0.5), ("-2", -2), ("2T", 2e12),
        ("0", 0),
    ],
)  # fmt: skip
def test_numbers_of_either_sign(cell: str, number: float) -> None:
    assert parse_number(cell) == pytest.approx(number)


@pytest.mark.parametrize(
    "cell", ["", "x", "1.2.3", "1,5", "nan", "inf", "--1", "1e", "0x10", "1_0", "e5", "+"]
)
def test_what_is_no_number(cell: str) -> None:
    assert parse_number(cell) is None


def test_figures_that_are_compared_have_as_many_decimals() -> None:
    assert [short_figure(v) for v in (2.1390123, 0.0, 12.3, -0.5)] == [
        "2.1390",
        "0.0000",
        "12.3000",
        "-0.5000",
    ]
    assert [short_figure(v) for v in (2.13e40, 1.2345678e-5)] == ["2.13e40", "1.2346e-05"]
    assert short_figure(float("inf")) == "–"
