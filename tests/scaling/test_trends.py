from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pytest

from pellucid.core.errors import InputError
from pellucid.scaling.trends import read_prices, trend

HEAD = "Price source,Price date,Hardware model,Vendor,Price per chip-hour (on-demand)\n"


def days(count: int, step: int = 30) -> list[str]:
    first = datetime.date(2022, 1, 1)
    return [str(first + datetime.timedelta(step * k)) for k in range(count)]


def simulated(
    rate: float, seed: int, noise: float = 0.1, chips: int = 12
) -> tuple[list[str], list[float], list[str]]:
    rng = np.random.default_rng(seed)
    dates, values, groups = [], [], []
    for chip in range(chips):
        level = rng.normal(0, 0.5)
        for k, day in enumerate(days(8, 90)):
            dates.append(day)
            values.append(float(10 ** (level + rate * k * 90 / 365.25 + rng.normal(0, noise))))
            groups.append(f"chip {chip}")
    return dates, values, groups


def test_without_noise_the_rate_comes_back_whatever_the_levels() -> None:
    dates, values, groups = simulated(-0.2, 0, noise=0.0)
    found = trend(dates, values, groups)
    assert found.rate == pytest.approx(-0.2, abs=1e-12)
    assert (found.low, found.high) == pytest.approx((-0.2, -0.2), abs=1e-9)
    assert (found.points, found.groups, found.first, found.last) == (96, 12, dates[0], dates[7])
    assert found.yearly[0] == pytest.approx(10**-0.2)


def test_levels_that_differ_are_no_trend() -> None:
    """Chips that came later and cost more do not make a chip's price rise."""
    dates = [*days(4), *(str(datetime.date(2024, 1, 1) + datetime.timedelta(30 * k)) for k in range(4))]
    values = [1.0] * 4 + [8.0] * 4
    assert trend(dates, values, ["old"] * 4 + ["new"] * 4).rate == pytest.approx(0, abs=1e-12)
    assert trend(dates, values).rate > 0.3


def test_the_interval_holds_the_rate_about_as_often_as_it_says() -> None:
    held = 0
    for seed in range(100):
        found = trend(*simulated(-0.1, seed))
        held += found.low <= -0.1 <= found.high
    assert 80 <= held <= 97


def test_units_and_order_do_not_matter() -> None:
    dates, values, groups = simulated(-0.1, 1)
    plain = trend(dates, values, groups)
    scaled = trend(dates[::-1], [1000 * v for v in values[::-1]], groups[::-1])
    assert scaled.rate == pytest.approx(plain.rate)


def test_a_value_is_carried_along() -> None:
    found = trend(*simulated(-0.3, 3))
    value, low, high = found.carried(4.0, "2024-01-01", "2026-01-01")
    assert low < value < high < 4.0
    assert value == pytest.approx(4.0 * 10 ** (found.rate * 731 / 365.25))
    assert found.carried(4.0, "2024-01-01", "2024-01-01") == (4.0, 4.0, 4.0)
    assert found.carried(value, "2026-01-01", "2024-01-01")[0] == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("dates", "values", "groups", "complaint"),
    [
        (days(2), [1.0, 2.0], None, "at least three values"),
        (days(3), [1.0, 2.0], None, "as many dates"),
        (days(3), [1.0, 2.0, 0.0], None, "all above 0"),
        (days(3), [1.0, 2.0, 3.0], ["a", "b", "c"], "at least two days"),
        (["2022-01-01", "soon", "2022-03-01"], [1.0, 2.0, 3.0], None, "expected a date"),
    ],
)
def test_what_tells_no_rate_is_refused(
    dates: list[str], values: list[float], groups: list[str] | None, complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        trend(dates, values, groups)


def test_a_table_of_prices_is_read(tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(
        "\ufeff" + HEAD + '"a page,\nin two lines",2024-01-02,Chip 1,Cloud,2.5\nb,2024-02-02,Chip 1,,\n'
        'c,2024-03-02,Chip 2,Other,"1,000"\n',
        encoding="utf-8",
    )
    found = read_prices(path)
    assert [(p.date, p.model, p.vendor, p.dollars_per_hour) for p in found] == [
        ("2024-01-02", "Chip 1", "Cloud", 2.5),
        ("2024-03-02", "Chip 2", "Other", 1000.0),
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a,b\n1,2\n", "has no column Price date"),
        (HEAD + "x,2024-01-01,Chip,Cloud,cheap\n", "line 2: expected dollars per hour; got 'cheap'"),
        (HEAD + "x,2024-01-01,Chip,Cloud,0\n", "line 2: expected dollars per hour above 0"),
        (HEAD + "x,January,Chip,Cloud,2\n", "line 2: expected a date"),
        ("", "has no column"),
    ],
)
def test_a_table_that_cannot_be_read_says_where(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=complaint):
        read_prices(path)
    with pytest.raises(InputError, match="no file"):
        read_prices(tmp_path / "none.csv")
