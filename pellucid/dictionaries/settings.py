"""What a training run is asked for."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from pellucid.core.errors import InputError

_RARE = 600
_OWN_CLOCK_RATE = 4e-3  # of 1e-3 and 4e-3 the better in short runs (benchmarks/LOG.md)
Architecture = Literal["topk", "batchtopk", "matryoshka", "jumprelu", "gated", "relu"]


@dataclass(frozen=True)
class TrainSettings:
    """What a training run is asked for. What is left at none is derived, and saved resolved."""

    features: int = 4096
    """How many features the dictionary has."""
    k: int = 32
    """How many features are active on a token: exactly for topk, on average for all others."""
    architecture: Architecture = "batchtopk"
    """How pre-activations become a code; see `architectures`."""
    tokens: int = 1_000_000
    """How many tokens to train on; a last batch that is begun is filled."""
    batch_tokens: int = 4096
    """Tokens per step."""
    learning_rate: float | None = None
    """Peak of Adam's rate; by default 6e-4 / √(features / 2¹⁴), at most 1e-3, and with `visits` 4e-3."""
    warmup_steps: int | None = None
    """Steps of linear warm-up; by default a twentieth of all, at most 500."""
    decay_fraction: float = 0.2
    """The last part of the run, over which the rate falls linearly to zero."""
    k_start: int | None = None
    """k at the first step, falling linearly to k over the first tenth of the run; by default k."""
    silent_tokens: int | None = None
    """A feature that fired on none of so many tokens gets the auxiliary loss; by default 600 · features / k,
    at most a tenth of the run, and at most ten million."""
    skip: bool = False
    """A linear map from what is read to what is written, beside the features; for transcoders."""
    visits: int | None = None
    """Look for the active features of a token in so many of about √features groups; none means in all."""
    token_share: float | None = None
    """How much of a token's direction is added to the random one that a feature begins as; by default 1/4,
    and 1 with `visits`."""
    seed: int = 0
    """Seeds the start of the decoder."""

    @property
    def steps(self) -> int:
        """Optimiser steps in the run: as many as give at least the tokens asked for."""
        return -(-self.tokens // self.batch_tokens)

    @property
    def first_step_of_decay(self) -> int:
        """The step, from 1, from which on the rate falls."""
        return max(1, self.steps - round(self.decay_fraction * self.steps))

    def resolved(self) -> TrainSettings:
        """The same settings with every default filled in.

        Raises:
            InputError: when a number makes no sense.
        """
        if not 1 <= self.k <= self.features:
            raise InputError(
                f"k must lie between 1 and the number of features ({self.features}); got {self.k}."
            )
        if self.k_start is not None and not self.k <= self.k_start <= self.features:
            raise InputError(
                f"k_start must lie between k ({self.k}) and the number of features ({self.features}); "
                f"got {self.k_start}."
            )
        if self.token_share is not None and not 0 <= self.token_share < math.inf:
            raise InputError(f"token_share must be a number from 0 upwards; got {self.token_share}.")
        if min(self.tokens, self.batch_tokens) < 1:
            raise InputError(
                f"tokens and batch_tokens must be positive; got {self.tokens} and {self.batch_tokens}."
            )
        if self.visits is not None:
            groups = groups_of(self.features)
            if not 1 <= self.visits <= groups:
                raise InputError(
                    f"visits must lie between 1 and the number of groups ({groups}); got {self.visits}."
                )
            within = self.visits * (self.features // groups)
            if max(self.k, self.k_start or 0) > within:
                raise InputError(
                    f"{self.visits} groups hold {within} features, fewer than k. Visit more of them."
                )
        return replace(
            self,
            token_share=self._usual_share() if self.token_share is None else self.token_share,
            learning_rate=self.learning_rate or self._usual_rate(),
            warmup_steps=min(500, 1 + self.steps // 20) if self.warmup_steps is None else self.warmup_steps,
            k_start=self.k_start or self.k,
            silent_tokens=self.silent_tokens or self._patience(),
        )

    def _usual_share(self) -> float:
        """A router's features are at home with the tokens of their group.

        Elsewhere more than a quarter of a token leaves many features that are never active.
        """
        return 1.0 if self.visits else 0.25

    def _usual_rate(self) -> float:
        """Adam's rate by width; where rows step only with a gradient, rarer rows step less as it is."""
        return _OWN_CLOCK_RATE if self.visits else min(1e-3, 6e-4 / math.sqrt(self.features / 2**14))

    def _patience(self) -> int:
        """Tokens without activation after which a feature counts as silent.

        A feature is active once in features / k tokens on average; one that is hundreds of times rarer than
        that has no use, and no examples. In long runs of many features that is more than the 10 million of
        Gao et al. 2024, which then bound it.
        """
        rare = _RARE * self.features // self.k
        return max(1, min(10_000_000, self.tokens // 10, rare))

    def k_at(self, step: int) -> int:
        """The k of a step (from 0)."""
        start = self.k_start or self.k
        share = min(1.0, step / max(1, self.steps // 10))
        return round(start + (self.k - start) * share)

    def as_json(self) -> dict[str, Any]:
        """Resolved settings as JSON values."""
        return asdict(self.resolved())


def groups_of(features: int) -> int:
    """G: the largest divisor of the number of features that is no larger than its root.

    Raises:
        InputError: when that is less than a quarter of it.
    """
    root = math.sqrt(features)
    groups = max(g for g in range(1, math.isqrt(features) + 1) if features % g == 0)
    if groups < root / 4:
        raise InputError(
            f"{features} features cannot be divided into about {round(root)} groups of one size. "
            f"Ask for a power of two, such as {2 ** round(math.log2(features))}."
        )
    return groups
