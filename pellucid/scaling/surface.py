"""A law as the planner sees it: the loss over parameters N and tokens D, and draws of what it may be.

    L(N, D) = E + A / N^alpha + B / D^beta              Hoffmann et al. 2022 (arXiv 2203.15556), eq. 2

A `Surface` holds K such laws at once, along the first axis. A `Law` is the fitted one with S draws from its
uncertainty; its surface has K = 1 + S, the fitted one first. Whatever is computed from that surface is an
array [K], and `estimate` reads a value with its interval off it: so the same draws flow through every
quantity of a plan. The module does not know how a law was fitted.

Axis letters: K laws, S draws. N counts as the runs of the fit counted; D in tokens; loss in nats per token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.core.errors import InputError
from pellucid.scaling.arrays import Floats, between, check_share

PARAMETERS = ("E", "A", "B", "alpha", "beta")


@dataclass(frozen=True)
class Surface:
    """K loss surfaces; every field is an array [K]."""

    E: Floats
    A: Floats
    B: Floats
    alpha: Floats
    beta: Floats

    @classmethod
    def of(cls, values: Floats | Sequence[float] | Sequence[Sequence[float]]) -> Surface:
        """Read laws from rows.

        Args:
            values: [K, 5] or [5], in the order E, A, B, alpha, beta.

        Raises:
            InputError: when the shape is another, or a row is no law: E below 0, or A, B, alpha, beta not
                above 0.
        """
        try:
            rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"Expected numbers in rows of five ({', '.join(PARAMETERS)}); got {values!r}."
            ) from error
        if rows.ndim != 2 or rows.shape[1] != 5 or not len(rows):
            raise InputError(f"Expected rows of five numbers ({', '.join(PARAMETERS)}); got {rows.shape}.")
        sound = np.isfinite(rows).all(1) & (rows[:, 0] >= 0) & (rows[:, 1:] > 0).all(1)
        if not sound.all():
            worst = int(np.flatnonzero(~sound)[0])
            raise InputError(
                f"Row {worst} is no law: expected E at least 0 and A, B, alpha, beta above 0; got "
                f"{dict(zip(PARAMETERS, rows[worst].tolist(), strict=True))}. Leave such draws out."
            )
        return cls(*rows.T)

    @property
    def rows(self) -> Floats:
        """The laws as rows [K, 5]."""
        return np.stack([self.E, self.A, self.B, self.alpha, self.beta], axis=1)

    @property
    def exponent(self) -> Floats:
        """The exponent a of N* = G · (C/6)^a, [K]: beta / (alpha + beta)."""
        return self.beta / (self.alpha + self.beta)

    def loss(self, N: Floats | float, D: Floats | float) -> Floats:
        """The loss at N parameters and D tokens, which broadcast against [K]."""
        return np.asarray(self.E + self.A * np.power(N, -self.alpha) + self.B * np.power(D, -self.beta))

    def tokens_for(self, N: Floats | float, loss: Floats | float) -> Floats:
        """The tokens D that bring N parameters to a loss, [K]; infinite where no number of them does."""
        left = np.asarray(loss - self.E - self.A * np.power(N, -self.alpha))
        return _inverse(left, self.B, self.beta)

    def parameters_for(self, D: Floats | float, loss: Floats | float) -> Floats:
        """The parameters N that D tokens bring to a loss, [K]; infinite where no number of them does."""
        left = np.asarray(loss - self.E - self.B * np.power(D, -self.beta))
        return _inverse(left, self.A, self.alpha)


def _inverse(left: Floats, scale: Floats, exponent: Floats) -> Floats:
    """Solve scale · x^-exponent = left for x."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        found = np.power(scale / left, 1 / exponent)
    return np.where(left > 0, found, np.inf)


@dataclass(frozen=True)
class Law:
    """A fitted law, with draws of what it may be."""

    name: str
    values: tuple[float, float, float, float, float]
    """E, A, B, alpha, beta."""
    draws: Floats | None = None
    """[S, 5] in the same order, such as bootstrap refits; None when the law came without its uncertainty."""
    noise: float | None = None
    """How far log loss scatters about the law from run to run, if it was measured."""
    notes: tuple[str, ...] = ()
    """What whoever plans with it should be told."""

    def __post_init__(self) -> None:
        Surface.of(self.values)
        if self.draws is not None:
            Surface.of(self.draws)

    @property
    def surface(self) -> Surface:
        """All laws, [1 + S]: the fitted one, then the draws."""
        rows = np.asarray([self.values], dtype=np.float64)
        return Surface.of(rows if self.draws is None else np.concatenate([rows, self.draws]))

    @classmethod
    def from_mapping(cls, name: str, values: Mapping[str, object], draws: Any = None) -> Law:
        """Read a law from named parameters.

        Args:
            name: what to call it.
            values: E, A, B, alpha and beta by name, each a number or a mapping with its `value`. Others are
                not looked at.
            draws: rows of the five in that order, or None.

        Raises:
            InputError: when one is missing or is no number.
        """
        missing = [p for p in PARAMETERS if p not in values]
        if missing:
            raise InputError(
                f"The law {name!r} needs {', '.join(PARAMETERS)}; {', '.join(missing)} not among "
                f"{', '.join(map(str, values)) or 'nothing'}. Plans need the form E + A/N^alpha + B/D^beta."
            )
        told = [values[p] for p in PARAMETERS]
        five = [value.get("value") if isinstance(value, Mapping) else value for value in told]
        for parameter, value in zip(PARAMETERS, five, strict=True):
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise InputError(f"{parameter} of the law {name!r} must be a number; got {value!r}.")
        E, A, B, alpha, beta = (float(str(value)) for value in five)
        return cls(name, (E, A, B, alpha, beta), None if draws is None else Surface.of(draws).rows)


@dataclass(frozen=True)
class Estimate:
    """A quantity of a plan: its value under the fitted law, and an interval over the draws."""

    value: float
    low: float | None
    high: float | None
    """None without draws."""
    share: float
    """The share of draws under which it exists at all: a loss may be out of reach; 1 without draws."""

    def to_json(self) -> dict[str, float | None]:
        """As JSON values; a value that does not exist is None."""
        return {
            "value": self.value if math.isfinite(self.value) else None,
            "low": self.low,
            "high": self.high,
            "share": self.share,
        }


def estimate(values: Floats, *, nominal: float = 0.9) -> Estimate:
    """Read a value and its interval off an array [1 + S] that was computed from a law's surface.

    The interval is between quantiles of the draws under which the quantity is finite.

    Args:
        values: the fitted law's value, then those of the draws.
        nominal: the share of draws inside the interval.

    Raises:
        InputError: when the share is not between 0 and 1.
    """
    check_share(nominal)
    draws = values[1:]
    found = draws[np.isfinite(draws)]
    if not len(found):
        return Estimate(float(values[0]), None, None, 0.0 if len(draws) else 1.0)
    low, high = between(found, nominal)
    return Estimate(float(values[0]), float(low), float(high), len(found) / len(draws))
