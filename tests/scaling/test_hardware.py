from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from pellucid.core.errors import InputError, UnknownNameError
from pellucid.scaling.hardware import ACCELERATORS, BYTES, FORMATS, Accelerator, Quote, Use, accelerator

MINE = {
    "name": "mine",
    "peak": {"bf16": 1e15, "fp8": 2e15},
    "memory_bytes": 1e11,
    "bandwidth": 4e12,
    "power_w": None,
    "source": "my own measurement",
    "quotes": [{"dollars_per_hour": 2.5, "date": "2026-11-01", "source": "my contract"}],
}


def test_every_chip_names_its_source_and_dates_its_prices() -> None:
    for name, chip in ACCELERATORS.items():
        assert chip.name == name
        assert chip.source
        for quote in chip.quotes:
            assert quote.source
            assert datetime.date(2024, 1, 1) <= datetime.date.fromisoformat(quote.date)


def test_peaks_are_dense() -> None:
    """Halving the number format doubles the dense peak. With sparsity it would be twice that."""
    assert ACCELERATORS["h100-sxm"].operations("bf16") == pytest.approx(1979e12 / 2, rel=1e-3)
    for chip in ACCELERATORS.values():
        if "fp8" in chip.peak:
            assert chip.peak["fp8"] / chip.peak["bf16"] == pytest.approx(2, rel=0.02)
        # No chip of these computes more than 1,100 operations for each byte it can read.
        assert 100 < chip.peak["bf16"] / chip.bandwidth < 700


def test_every_format_has_its_bytes() -> None:
    assert set(BYTES) == set(FORMATS)


def test_an_hour_pays_for_an_hour_of_operations() -> None:
    use = Use(accelerator("h100-sxm"), "bf16", 0.4)
    assert use.flops_per_second == pytest.approx(989.4e12 * 0.4)
    assert use.dollars_per_flop * use.flops_per_second * 3600 == pytest.approx(3.99)


def test_a_price_of_ones_own_comes_first() -> None:
    chip = accelerator("h100-sxm").priced(2.0, "2026-11-25")
    assert chip.quote.dollars_per_hour == 2.0
    assert chip.quotes[1:] == accelerator("h100-sxm").quotes
    assert chip.quote.age_days(datetime.date(2026, 12, 25)) == 30


def test_a_chip_of_ones_own_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(MINE))
    assert accelerator(path) == Accelerator(
        "mine",
        {"bf16": 1e15, "fp8": 2e15},
        1e11,
        4e12,
        None,
        "my own measurement",
        (Quote(2.5, "2026-11-01", "my contract"),),
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"peak": {}}, "needs a peak"),
        ({"peak": {"bf15": 1e15}}, "Did you mean 'bf16'"),
        ({"peak": {"bf16": "fast"}}, "is no accelerator"),
        ({"peak": 7}, "is no accelerator"),
        ({"memory_bytes": 0}, "memory of 'mine' to be above 0"),
        ({"bandwidth": None}, "bandwidth of 'mine' to be above 0"),
        ({"more": 1}, "Expected the fields name, peak"),
        ({"quotes": [{"dollars_per_hour": 1}]}, "is no accelerator"),
        (
            {"quotes": [{"dollars_per_hour": -1, "date": "2026-01-01", "source": "x"}]},
            "dollars per hour above 0",
        ),
        ({"quotes": [{"dollars_per_hour": 1, "date": "yesterday", "source": "x"}]}, "needs its date"),
    ],
)
def test_a_file_that_is_no_chip_is_refused(change: dict[str, object], complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({**MINE, **change}))
    with pytest.raises(InputError, match=complaint):
        accelerator(path)


@pytest.mark.parametrize("text", ["[1, 2]", "3", '"h100"', "[]"])
def test_a_file_of_another_shape_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(InputError, match="is no accelerator"):
        accelerator(path)


def test_what_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'h100-sxm'"):
        accelerator("h100-sxn")
    with pytest.raises(InputError, match="no file"):
        accelerator(tmp_path / "none.json")
    with pytest.raises(UnknownNameError, match="number format of a100-80 'fp8'"):
        Use(accelerator("a100-80"), "fp8", 0.5)
    with pytest.raises(InputError, match="no price for 'mi300x'"):
        _ = Use(accelerator("mi300x"), "bf16", 0.5).dollars_per_flop
    for utilisation in (0.0, 1.1, float("nan")):
        with pytest.raises(InputError, match="utilisation above 0 and at most 1"):
            Use(accelerator("a100-80"), "bf16", utilisation)
