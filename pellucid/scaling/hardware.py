"""Accelerators: what they compute and hold at most, and what an hour of one costs, each with date and source.

Peaks are dense: what a data sheet prints "with sparsity" is halved, since no training or serving counted here
multiplies by stored zeros. Quotes are on demand, in dollars for one chip and hour; those of 2025 are from
archived price lists as collected by Epoch AI (training-cost-trends), those of 2026 from price lists as
transcribed in the public repository that each names. A price is stale on the day it is printed: pass your
own. The module knows no model.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.core import files
from pellucid.core.errors import InputError, UnknownNameError

FORMATS = ("fp32", "bf16", "fp16", "int8", "fp8", "fp4")
BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0, "fp8": 1.0, "fp4": 0.5}
"""Bytes of a weight in each number format."""


@dataclass(frozen=True)
class Quote:
    """What an hour of one chip costs."""

    dollars_per_hour: float
    date: str
    """The day it was read, as YYYY-MM-DD."""
    source: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.dollars_per_hour) and self.dollars_per_hour > 0):
            raise InputError(f"Expected dollars per hour above 0; got {self.dollars_per_hour!r}.")
        try:
            datetime.date.fromisoformat(self.date)
        except (TypeError, ValueError) as error:
            raise InputError(f"A price needs its date, as 2026-11-25; got {self.date!r}.") from error

    def age_days(self, today: datetime.date) -> int:
        """Days since the price was read."""
        return (today - datetime.date.fromisoformat(self.date)).days


@dataclass(frozen=True)
class Accelerator:
    """One chip."""

    name: str
    peak: Mapping[str, float]
    """Dense operations per second by number format."""
    memory_bytes: float
    bandwidth: float
    """Bytes per second between memory and chip."""
    power_w: float | None
    """The most it draws; None where the vendor does not say."""
    source: str
    """Where all but the quotes is from."""
    quotes: tuple[Quote, ...] = ()
    """The first is used unless another is asked for."""

    def __post_init__(self) -> None:
        if not self.peak:
            raise InputError(f"The accelerator {self.name!r} needs a peak in at least one number format.")
        for number_format, value in self.peak.items():
            if number_format not in FORMATS:
                raise UnknownNameError("number format", number_format, FORMATS)
            _above_zero(f"the {number_format} peak of {self.name!r}", value)
        _above_zero(f"the memory of {self.name!r}", self.memory_bytes)
        _above_zero(f"the bandwidth of {self.name!r}", self.bandwidth)

    def operations(self, number_format: str) -> float:
        """Dense operations per second in a number format.

        Raises:
            UnknownNameError: when the chip has none for it.
        """
        if number_format not in self.peak:
            raise UnknownNameError(f"number format of {self.name}", number_format, self.peak)
        return self.peak[number_format]

    @property
    def quote(self) -> Quote:
        """The quote that is used.

        Raises:
            InputError: when there is none.
        """
        if not self.quotes:
            raise InputError(
                f"There is no price for {self.name!r}: give one, in dollars per hour, with its date."
            )
        return self.quotes[0]

    def priced(self, dollars_per_hour: float, date: str, source: str = "given by the caller") -> Accelerator:
        """The same chip at a price of one's own."""
        return dataclasses.replace(self, quotes=(Quote(dollars_per_hour, date, source), *self.quotes))


@dataclass(frozen=True)
class Use:
    """How a chip is used for one kind of work."""

    accelerator: Accelerator
    number_format: str
    utilisation: float
    """The share of the dense peak that the work reaches, failures and waiting included."""

    def __post_init__(self) -> None:
        if not 0 < self.utilisation <= 1:
            raise InputError(f"Expected a utilisation above 0 and at most 1; got {self.utilisation!r}.")
        self.accelerator.operations(self.number_format)

    @property
    def flops_per_second(self) -> float:
        """What one chip does."""
        return self.accelerator.operations(self.number_format) * self.utilisation

    @property
    def dollars_per_flop(self) -> float:
        """What an operation costs."""
        return self.accelerator.quote.dollars_per_hour / 3600 / self.flops_per_second


def accelerator(name: str | Path) -> Accelerator:
    """A chip by name, or one's own from a JSON file.

    The file holds name, peak (a mapping from number formats to dense operations per second), memory_bytes,
    bandwidth, power_w (or null), source, and quotes (dollars_per_hour, date and source of each).

    Raises:
        UnknownNameError: when the name is none of the table.
        InputError: when the file cannot be read as a chip.
    """
    if str(name) in ACCELERATORS:
        return ACCELERATORS[str(name)]
    if not str(name).endswith(".json"):
        raise UnknownNameError("accelerator", name, ACCELERATORS)
    value = files.read_json(Path(name))
    try:
        fields: dict[str, Any] = dict(value)
        fields["quotes"] = tuple(Quote(**quote) for quote in fields.get("quotes", ()))
        fields["peak"] = {str(k): float(v) for k, v in fields["peak"].items()}
        return Accelerator(**fields)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        wanted = ", ".join(f.name for f in dataclasses.fields(Accelerator))
        raise InputError(
            f"{str(name)!r} is no accelerator ({error}). Expected the fields {wanted}."
        ) from error


def _above_zero(what: str, value: float) -> None:
    if not (isinstance(value, int | float) and math.isfinite(value) and value > 0):
        raise InputError(f"Expected {what} to be above 0; got {value!r}.")


_RUNPOD = "RunPod price list, web.archive.org 20250303172225"
_LAMBDA_2025 = "Lambda price list, web.archive.org 20250228210058"
_LAMBDA_2026 = "Lambda price list, machines of 8, transcribed in api-evangelist/lambda-labs"
_HYPERSTACK = "Hyperstack price list, transcribed in api-evangelist/nexgen-cloud"
_GOOGLE_TPU = "Google Cloud TPU price list, web.archive.org 20250303142536"
_AWS_MID = "AWS EC2 on-demand price list, web.archive.org 20250317144823"
_AWS_EARLY = "AWS EC2 on-demand price list, web.archive.org 20250302190228"

ACCELERATORS = {
    chip.name: chip
    for chip in (
        Accelerator(
            "h100-sxm",
            {"bf16": 989.4e12, "fp16": 989.4e12, "fp8": 1978.9e12, "int8": 1978.9e12},
            80e9,
            3.35e12,
            700.0,
            "NVIDIA H100 data sheet (1,979 and 3,958 with sparsity) and architecture paper",
            (
                Quote(3.99, "2026-09-20", _LAMBDA_2026),
                Quote(2.99, "2025-03-03", _RUNPOD),
                Quote(3.29, "2025-02-28", _LAMBDA_2025),
                Quote(11.06, "2025-03-17", "Google Cloud price list, web.archive.org 20250317151647"),
                Quote(12.29, "2025-03-17", _AWS_MID),
            ),
        ),
        Accelerator(
            "h100-pcie",
            {"bf16": 756e12, "fp16": 756e12, "fp8": 1513e12, "int8": 1513e12},
            80e9,
            2.0e12,
            350.0,
            "NVIDIA H100 PCIe data sheet (1,513 and 3,026 with sparsity)",
            (
                Quote(2.89, "2026-11-09", "RunPod price list, transcribed in datareceipts/data-receipts"),
                Quote(2.39, "2025-03-03", _RUNPOD),
                Quote(2.49, "2025-02-28", _LAMBDA_2025),
            ),
        ),
        Accelerator(
            "h200-sxm",
            {"bf16": 989.4e12, "fp16": 989.4e12, "fp8": 1978.9e12, "int8": 1978.9e12},
            141e9,
            4.8e12,
            700.0,
            "NVIDIA H200 data sheet (1,979 and 3,958 with sparsity)",
            (
                Quote(3.99, "2026-08-26", _HYPERSTACK),
                Quote(10.60, "2025-03-17", _AWS_MID),
            ),
        ),
        Accelerator(
            "b200-sxm",
            {"bf16": 2250e12, "fp16": 2250e12, "fp8": 4500e12, "int8": 4500e12, "fp4": 9000e12},
            180e9,
            7.7e12,
            1000.0,
            "NVIDIA HGX B200 data sheet (4,500, 9,000 and 18,000 with sparsity)",
            (Quote(6.69, "2026-09-20", _LAMBDA_2026),),
        ),
        Accelerator(
            "a100-80",
            {"bf16": 312e12, "fp16": 312e12, "int8": 624e12},
            80e9,
            2.039e12,
            400.0,
            "NVIDIA A100 data sheet (80 GB SXM)",
            (
                Quote(2.79, "2026-09-20", _LAMBDA_2026),
                Quote(1.89, "2025-03-03", _RUNPOD),
                Quote(3.67, "2025-03-02", "Microsoft Azure price list, web.archive.org 20250302193547"),
                Quote(5.12, "2025-03-02", _AWS_EARLY),
            ),
        ),
        Accelerator(
            "a100-40",
            {"bf16": 312e12, "fp16": 312e12, "int8": 624e12},
            40e9,
            1.555e12,
            400.0,
            "NVIDIA A100 data sheet (40 GB SXM)",
            (
                Quote(1.99, "2026-09-20", _LAMBDA_2026),
                Quote(1.29, "2025-02-28", _LAMBDA_2025),
                Quote(4.10, "2025-03-02", _AWS_EARLY),
            ),
        ),
        Accelerator(
            "l40s",
            {"bf16": 362e12, "fp16": 362e12, "fp8": 733e12, "int8": 733e12},
            48e9,
            0.864e12,
            350.0,
            "NVIDIA L40S data sheet (733 and 1,466 with sparsity)",
            (Quote(0.86, "2025-03-03", _RUNPOD),),
        ),
        Accelerator(
            "l4",
            {"bf16": 121e12, "fp16": 121e12, "fp8": 242.5e12, "int8": 242.5e12},
            24e9,
            0.3e12,
            72.0,
            "NVIDIA L4 data sheet (242 and 485 with sparsity)",
            (Quote(0.43, "2025-03-03", _RUNPOD),),
        ),
        Accelerator(
            "mi300x",
            {"bf16": 1307.4e12, "fp16": 1307.4e12, "fp8": 2614.9e12, "int8": 2614.9e12},
            192e9,
            5.3e12,
            750.0,
            "AMD Instinct MI300X data sheet",
        ),
        Accelerator(
            "tpu-v4",
            {"bf16": 275e12, "int8": 275e12},
            32 * 2**30,
            1.2e12,
            192.0,
            "Google Cloud TPU v4 documentation",
            (Quote(3.22, "2025-03-03", _GOOGLE_TPU),),
        ),
        Accelerator(
            "tpu-v5e",
            {"bf16": 197e12, "int8": 393e12},
            16e9,
            0.819e12,
            None,
            "Google Cloud TPU v5e documentation",
            (Quote(1.20, "2025-03-03", _GOOGLE_TPU),),
        ),
        Accelerator(
            "tpu-v6e",
            {"bf16": 918e12, "int8": 1836e12},
            32e9,
            1.638e12,
            None,
            "Google Cloud TPU v6e documentation",
            (Quote(2.70, "2025-03-03", _GOOGLE_TPU),),
        ),
    )
}
