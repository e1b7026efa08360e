"""What a deployment allows: the largest model that fits into its memory and answers in time.

A model of N weights, each of so many bytes, on a group of chips that share it:

    memory         N · bytes  ≤  chips · memory · (1 - what is kept for the cache)
    a token        N · bytes  ≤  chips · bandwidth · utilisation · seconds per token     all weights read once
    first token    2 · N · prompt  ≤  chips · peak · utilisation · seconds to the first token

All are floors (Pope et al. 2022, arXiv 2211.05102, section 2): the cache of a long context, and
talk between chips, take more. N is every weight held; a mixture of experts reads fewer and should be given
its own limits.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pellucid.core.errors import InputError
from pellucid.scaling.hardware import BYTES, Use
from pellucid.scaling.planning import SERVING_FLOPS

Reason = Literal["memory", "seconds per token", "seconds to the first token"]


@dataclass(frozen=True)
class Deployment:
    """A group of chips that serve one copy of a model, and what is asked of it."""

    prefill: Use
    """How the chips are used while a prompt is read; its number format is that of the weights."""
    chips: int = 1
    kept_share: float = 0.2
    """The share of memory that is kept for the cache and what is computed on the way."""
    bandwidth_utilisation: float = 0.6
    """The share of its bandwidth at which a chip reads weights while it writes."""
    prompt_tokens: int = 1000
    seconds_per_token: float | None = None
    seconds_to_first_token: float | None = None

    def __post_init__(self) -> None:
        if self.chips < 1 or self.prompt_tokens < 1:
            raise InputError(
                f"Expected at least one chip and one token of prompt; got {self.chips}, {self.prompt_tokens}."
            )
        if not 0 <= self.kept_share < 1 or not 0 < self.bandwidth_utilisation <= 1:
            raise InputError(
                "Expected a kept share from 0 to below 1, a bandwidth utilisation above 0 and at most 1; got "
                f"{self.kept_share} and {self.bandwidth_utilisation}."
            )
        for name in ("seconds_per_token", "seconds_to_first_token"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InputError(f"Expected {name.replace('_', ' ')} above 0; got {value!r}.")

    def limits(self) -> dict[Reason, float]:
        """The most parameters that each limit allows."""
        chip, bytes_each = self.prefill.accelerator, BYTES[self.prefill.number_format]
        found: dict[Reason, float] = {
            "memory": self.chips * chip.memory_bytes * (1 - self.kept_share) / bytes_each
        }
        if self.seconds_per_token is not None:
            read = self.chips * chip.bandwidth * self.bandwidth_utilisation * self.seconds_per_token
            found["seconds per token"] = read / bytes_each
        if self.seconds_to_first_token is not None:
            done = self.chips * self.prefill.flops_per_second * self.seconds_to_first_token
            found["seconds to the first token"] = done / (SERVING_FLOPS * self.prompt_tokens)
        return found

    @property
    def most_parameters(self) -> float:
        """The largest model that every limit allows."""
        return min(self.limits().values())

    @property
    def tightest(self) -> Reason:
        """The limit that allows least."""
        limits = self.limits()
        return min(limits, key=lambda reason: limits[reason])
