"""Forms: what a law may look like, each a small file `form_….py` and a line in `FORMS`.

Every form here is separable (Golub and Pereyra 1973). With v the coordinates of a run, which are the logs of
its variables (of a year, the year itself):

    y = (Σ_k c_k φ_k(v; s))^g(s)        c_k ≥ 0 the coefficients, s the shape (exponents, breaks, limits)

so that for a given shape the best coefficients follow from a small linear problem, and only the shape has to
be searched. A form says what its φ are, where a search of its shape begins, and how its parameters change
when the coordinates are shifted; units and centring are then the same for all. It knows nothing of data or of
fitting.

Axes: S laws, K coefficients, Q shape parameters, P = K + Q, V variables, n runs.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pellucid.core.errors import InputError, UnknownNameError
from pellucid.scaling.arrays import Floats

PLAIN = {"year": 2020.0}
"""Variables that enter as they are, each less its origin; all others enter by their log."""


@dataclass(frozen=True)
class Shape:
    """One shape parameter: its name, its range, and whether the search works on its log."""

    name: str
    low: float
    high: float
    log: bool = False
    """The range, too, is then of the log, in the units in which variables are centred."""


class Form(ABC):
    """A family of laws. Subclasses are final and have no state."""

    name: ClassVar[str]
    title: ClassVar[str]
    """The equation, in one line."""
    source: ClassVar[str]
    variables: ClassVar[tuple[str, ...]]
    """What it needs of each run; `x` stands for the variable the caller chooses."""
    coefficients: ClassVar[tuple[str, ...]]
    shapes: ClassVar[tuple[Shape, ...]]
    rugged: ClassVar[bool] = False
    """Whether the sum has many local minima, so that more starts have to be followed."""
    rises: ClassVar[bool] = False
    """Whether a law of it may rise where its variables do; others only fall."""
    constant: ClassVar[str | None] = None
    """The coefficient that remains where all others have gone, if there is one."""

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the natural parameters [P]: coefficients, then shape."""
        return (*self.coefficients, *(s.name for s in self.shapes))

    @abstractmethod
    def log_basis(self, shape: Floats, v: Floats) -> Floats:
        """Log φ [S, K, n] at shapes [S, Q] and coordinates [V, n]."""

    @abstractmethod
    def starts(self, v: Floats) -> Floats:
        """Shapes [S, Q] at which a search begins, for centred coordinates [V, n]."""

    @abstractmethod
    def shifted(self, log_c: Floats, shape: Floats, by: Floats) -> tuple[Floats, Floats]:
        """The same laws (log coefficients [S, K], shapes [S, Q]) in coordinates larger by `by` [V]."""

    def mixed_slopes(self, shape: Floats, v: Floats, parts: Floats) -> Floats:
        """Σ_k parts_k ∂ log φ_k/∂s, [S, Q, n], for parts [S, K, n].

        By central differences unless a form has better.
        """
        found = []
        for q in range(shape.shape[1]):
            step = np.zeros(shape.shape[1])
            step[q] = 1e-5
            slope = (self.log_basis(shape + step, v) - self.log_basis(shape - step, v)) / 2e-5
            found.append((parts * slope).sum(axis=1))
        return np.stack(found, axis=1)

    def power(self, shape: Floats) -> Floats | None:
        """The outer power g [S], or None where it is 1."""
        return None

    def power_slopes(self, shape: Floats) -> Floats:
        """∂g/∂s [S, Q] of a form that has an outer power."""
        raise NotImplementedError

    def centre(self, v: Floats) -> Floats:
        """What is subtracted from coordinates [V, n] before a search, [V]."""
        return np.asarray(v.mean(axis=1))

    def natural(self, log_c: Floats, shape: Floats) -> Floats:
        """Parameters [S, P] as the equation names them, from those in uncentred coordinates."""
        logs = np.array([s.log for s in self.shapes], bool)
        with np.errstate(over="ignore"):
            told = np.where(logs, np.exp(np.where(logs, shape, 0.0)), shape)
            return np.concatenate([np.exp(log_c), told], axis=1)

    def working(self, natural: Floats) -> tuple[Floats, Floats]:
        """The inverse of `natural`: log coefficients [S, K] and shapes [S, Q]."""
        count = len(self.coefficients)
        logs = np.array([s.log for s in self.shapes], bool)
        with np.errstate(divide="ignore"):
            log_c = np.log(natural[:, :count])
            shape = natural[:, count:]
            return log_c, np.where(logs, np.log(np.where(logs, shape, 1.0)), shape)

    def log_values(self, log_c: Floats, shape: Floats, v: Floats) -> Floats:
        """Log y [S, n] of laws at coordinates."""
        z = log_c[:, :, None] + self.log_basis(shape, v)
        top = z.max(axis=1)
        top = np.where(np.isfinite(top), top, 0.0)
        with np.errstate(divide="ignore"):
            total = top + np.log(np.exp(z - top[:, None]).sum(axis=1))
        g = self.power(shape)
        return np.asarray(total if g is None else g[:, None] * total)

    def predict(self, natural: Floats, values: Mapping[str, Floats | float]) -> Floats:
        """The values y [S, n] of laws [S, P], given by their natural parameters.

        Args:
            natural: parameters in the order of `parameters`; one law [P] counts as S = 1.
            values: for each variable its values [n], in the units the law was fitted in.

        Raises:
            InputError: when a variable is missing, or is not above zero.
        """
        return np.exp(self.log_values(*self.working(np.atleast_2d(natural)), self.coordinates(values)))

    def coordinates(self, values: Mapping[str, Floats | float]) -> Floats:
        """Coordinates [V, n] of runs given by the values of their variables.

        Raises:
            InputError: when a variable is missing, or is not above zero.
        """
        rows = []
        for name in self.variables:
            if name not in values:
                raise InputError(
                    f"The form {self.name!r} needs {', '.join(self.variables)}; {name!r} is missing. "
                    f"There are: {', '.join(values) or 'none'}."
                )
            row = np.atleast_1d(np.asarray(values[name], float))
            if not np.isfinite(row).all() or (name not in PLAIN and (row <= 0).any()):
                raise InputError(f"Values of {name!r} must be finite and above zero; got {row.min():.6g}.")
            rows.append(row - PLAIN[name] if name in PLAIN else np.log(row))
        return np.stack(np.broadcast_arrays(*rows))


class Powers(Form):
    """A form whose φ are products of powers: φ_k = Π_j x_j^−(Σ_q s_q M[q, k, j] + F[k, j])."""

    matrix: ClassVar[Floats]
    """M [Q, K, V]: how much of each shape parameter is the exponent of variable j in φ_k."""
    fixed: ClassVar[Floats | float] = 0.0
    """Exponents [K, V] beside those, which are not searched."""
    grid: ClassVar[tuple[tuple[float, ...], ...]]
    """For each shape parameter the values at which a search begins."""

    def log_basis(self, shape: Floats, v: Floats) -> Floats:
        """See `Form.log_basis`."""
        return np.asarray(-self._exponents(shape) @ v)

    def _exponents(self, shape: Floats) -> Floats:
        """The exponent of each variable in each φ, [S, K, V]."""
        return np.asarray(np.tensordot(shape, self.matrix, 1) + self.fixed)

    def mixed_slopes(self, shape: Floats, v: Floats, parts: Floats) -> Floats:
        """See `Form.mixed_slopes`."""
        found = np.zeros((len(shape), len(self.shapes), v.shape[1]))
        for q, k in zip(*np.nonzero(self.matrix.any(axis=2)), strict=True):
            found[:, q] -= parts[:, k] * (self.matrix[q, k] @ v)
        return found

    def starts(self, v: Floats) -> Floats:
        """See `Form.starts`."""
        return crossed(*self.grid)

    def shifted(self, log_c: Floats, shape: Floats, by: Floats) -> tuple[Floats, Floats]:
        """See `Form.shifted`."""
        return log_c + self._exponents(shape) @ by, shape


def crossed(*axes: tuple[float, ...] | Floats) -> Floats:
    """All combinations [S, Q] of the values on some axes."""
    return np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1).astype(float)


def form_named(name: str) -> Form:
    """The form of this name.

    Raises:
        UnknownNameError: when there is none.
    """
    if name not in FORMS:
        raise UnknownNameError("form", name, FORMS)
    module, _, attribute = FORMS[name].partition(":")
    found: Form = getattr(importlib.import_module(f"pellucid.scaling.{module}"), attribute)()
    return found


FORMS = {
    "power": "form_power:Power",
    "power_constant": "form_power:PowerConstant",
    "m4": "form_m4:M4",
    "broken_1": "form_broken:Broken1",
    "broken_2": "form_broken:Broken2",
    "broken_3": "form_broken:Broken3",
    "chinchilla": "form_chinchilla:Chinchilla",
    "tied": "form_chinchilla:Tied",
    "kaplan": "form_kaplan:Kaplan",
    "interaction": "form_interaction:Interaction",
    "repeated": "form_repeated:Repeated",
    "width_depth": "form_width_depth:WidthDepth",
    "sigmoid": "form_sigmoid:Sigmoid",
    "hyperparameter": "form_hyperparameter:Hyperparameter",
    "trend": "form_trend:Trend",
}
