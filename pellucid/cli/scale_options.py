"""What the verbs that plan share: the options of chips and demand, and amounts as people write them."""

from __future__ import annotations

import datetime
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclopts import Parameter

from pellucid.cli.scale import Reading

if TYPE_CHECKING:
    from pellucid.scaling.arrays import Floats
    from pellucid.scaling.hardware import Accelerator
    from pellucid.scaling.planning import Demand
    from pellucid.scaling.pricing import Tariff
    from pellucid.scaling.runs import Runs
    from pellucid.scaling.surface import Estimate, Law

_STALE_DAYS = 90


@Parameter(name="*")
@dataclass(frozen=True)
class Source:
    """Where the law is from."""

    law: str | None = None
    """instead of runs: a published law (see pellucid scale laws), or a .json file with a fit."""
    form: Literal["chinchilla", "tied"] = "chinchilla"
    """the form that is fitted to runs; tied where they cannot tell two exponents apart."""
    draws: int = 1000
    """bootstrap draws, at least 2, from which all intervals come."""

    def read(self, path: Path | None, reading: Reading) -> tuple[Law, Runs | None]:
        """The law these options stand for, and the runs it was fitted to, if it was."""
        from pellucid.core.errors import InputError
        from pellucid.scaling import registry
        from pellucid.scaling.fitted_law import law_of

        if path is not None and self.law is None:
            runs = reading.read(path)
            return law_of(runs, self.form, draws=self.draws, name=path.name), runs
        if self.law is None or path is not None:
            raise InputError("Expected a file of runs or --law, one of both.")
        return registry.law(self.law), None


@Parameter(name="*")
@dataclass(frozen=True)
class Chips:
    """What the work is done on, and what it costs."""

    accelerator: str = "h100-sxm"
    """the chip for training: a name of the table, or a .json file with one's own."""
    training_format: str = "bf16"
    """the number format of training."""
    training_utilisation: float = 0.4
    """the share of the dense peak that training reaches."""
    dollars_per_hour: float | None = None
    """what an hour of the training chip costs; by default its first quote."""
    serving_accelerator: str | None = None
    """the chip for serving; by default that of training."""
    serving_format: str | None = None
    """the number format of serving; by default fp8 if the chip has it, else int8, else that of training."""
    prefill_utilisation: float = 0.4
    """the share of the dense peak reached while prompts are read."""
    decode_utilisation: float = 0.1
    """the share reached while answers are written."""
    serving_dollars_per_hour: float | None = None
    """what an hour of the serving chip costs."""

    def tariff(self) -> Tariff:
        """The tariff these options stand for."""
        from pellucid.scaling.hardware import Use, accelerator
        from pellucid.scaling.pricing import Tariff

        training = _priced(accelerator(self.accelerator), self.dollars_per_hour)
        serving = accelerator(self.serving_accelerator or self.accelerator)
        if self.serving_dollars_per_hour is not None or self.serving_accelerator is not None:
            serving = _priced(serving, self.serving_dollars_per_hour)
        else:
            serving = training
        narrow = next((f for f in ("fp8", "int8") if f in serving.peak), self.training_format)
        number_format = self.serving_format or narrow
        return Tariff(
            Use(training, self.training_format, self.training_utilisation),
            Use(serving, number_format, self.prefill_utilisation),
            Use(serving, number_format, self.decode_utilisation),
        )


@Parameter(name="*")
@dataclass(frozen=True)
class Served:
    """The tokens a model serves over its life."""

    read: str | None = None
    """tokens of prompts over the model's life, such as 8T."""
    written: str | None = None
    """tokens of answers over the model's life, such as 2T."""

    def demand(self) -> Demand:
        """The demand these options stand for."""
        from pellucid.scaling.planning import Demand

        return Demand(amount(self.read) or 0.0, amount(self.written) or 0.0)


SOURCE = Source()
CHIPS = Chips()
SERVED = Served()


def amount(text: str | None) -> float | None:
    """Read an amount, if there is one."""
    from pellucid.core.numbers import parse_amount

    return None if text is None else parse_amount(text)


def shown(value: float, *, dollars: bool = False) -> str:
    """An amount in three digits: 24.2B, 2.66T, $315k, 4.82e23."""
    from pellucid.core.numbers import short_amount

    told = short_amount(value)
    return f"${told}" if dollars and math.isfinite(value) else told


def interval(found: Estimate, *, dollars: bool = False) -> str:
    """The interval of an estimate, or nothing without draws."""
    if found.low is None or found.high is None or found.high - found.low <= 1e-12 * abs(found.high):
        return ""
    return f"{shown(found.low, dollars=dollars)} – {shown(found.high, dollars=dollars)}"


def price_notes(tariff: Tariff) -> list[str]:
    """Whose prices were used, of what day, and how old they are."""
    uses = {"training": tariff.training, "serving": tariff.decode}
    same = tariff.training.accelerator == tariff.decode.accelerator
    notes = [
        f"{role}: {use.accelerator.name}, {use.number_format}, dense peak "
        f"{use.accelerator.operations(use.number_format) / 1e12:,.0f} TFLOP/s"
        for role, use in uses.items()
    ]
    for role, use in list(uses.items())[: 1 if same else 2]:
        quote = use.accelerator.quote
        age = quote.age_days(datetime.date.today())
        old = f", {age:,} days ago: give today's with --dollars-per-hour" if age > _STALE_DAYS else ""
        notes.append(
            f"{'training and serving' if same else role} at ${quote.dollars_per_hour:.2f} for a chip and "
            f"hour ({quote.source}; {quote.date}{old})"
        )
    return notes


def law_notes(law: Law, runs: Runs | None, N: float, D: float) -> list[str]:
    """What to know of a law before its plan is believed: cuts, missing draws, how far beyond its runs."""
    import numpy as np

    from pellucid.scaling.alarms import hull

    notes = list(law.notes)
    if law.draws is None:
        notes.append("The law has no draws, so nothing here has an interval: fit your own runs to get them.")
    if runs is not None:
        aim = {"N": np.array([N]), "D": np.array([D]), "C": np.array([6 * N * D])}
        beyond = [alarm.message.replace(" of target 1", "") for alarm in hull(runs, aim)]
        if beyond:
            notes.append(
                f"Outside the runs: {' '.join(beyond)} Intervals say what the runs leave open if the form "
                "holds there; pellucid scale check looks for reasons that it may not."
            )
    return notes


def as_estimate(values: Floats, nominal: float) -> dict[str, float | None]:
    """An estimate as JSON values."""
    from pellucid.scaling.surface import estimate

    return estimate(values, nominal=nominal).to_json()


def _priced(chip: Accelerator, dollars: float | None) -> Accelerator:
    today = str(datetime.date.today())
    return chip if dollars is None else chip.priced(dollars, today, "given on the command line")
