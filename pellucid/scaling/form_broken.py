"""Smoothly broken power laws with one, two or three breaks.

    y = a + b x^−c₀ Π_i (1 + (x/d_i)^(1/f_i))^(−c_i f_i)

At x = d_i the exponent changes by c_i, over a stretch of log x as wide as f_i.

Source: Caballero et al. 2023, "Broken neural scaling laws", arXiv 2210.14891, equation 1.
"""

from __future__ import annotations

from itertools import combinations, product
from typing import ClassVar

import numpy as np

from pellucid.scaling.arrays import Floats
from pellucid.scaling.forms import Form, Shape


class _Broken(Form):
    """The law for a number of breaks."""

    breaks: ClassVar[int]
    title = "y = a + b x^-c0 prod_i (1 + (x/d_i)^(1/f_i))^(-c_i f_i)"
    source = "Caballero et al. 2023, arXiv 2210.14891, equation 1"
    variables = ("x",)
    coefficients = ("a", "b")
    rugged = True
    rises = True
    constant = "a"

    def log_basis(self, shape: Floats, v: Floats) -> Floats:
        """See `Form.log_basis`."""
        found = -shape[:, :1] * v[0]
        for c, d, f in self._each(shape):
            found = found - c * f * np.logaddexp(0, (v[0] - d) / f)
        return np.stack([np.zeros_like(found), found], axis=1)

    def mixed_slopes(self, shape: Floats, v: Floats, parts: Floats) -> Floats:
        """See `Form.mixed_slopes`."""
        found = [np.broadcast_to(-v[0], (len(shape), v.shape[1]))]
        for c, d, f in self._each(shape):
            u = (v[0] - d) / f
            soft, share = np.logaddexp(0, u), 1 / (1 + np.exp(-np.clip(u, -500, 500)))
            found += [-f * soft, c * share, -c * f * (soft - u * share)]
        return np.asarray(parts[:, None, 1] * np.stack(found, axis=1))

    def _each(self, shape: Floats) -> list[tuple[Floats, Floats, Floats]]:
        """Change of exponent, log of the place and width of each break, each [S, 1]."""
        return [
            (shape[:, i, None], shape[:, i + 1, None], np.exp(shape[:, i + 2, None]))
            for i in range(1, shape.shape[1], 3)
        ]

    def starts(self, v: Floats) -> Floats:
        """See `Form.starts`: breaks at some of seven places in the data, exponents rising and falling."""
        low, high = v[0].min(), v[0].max()
        places = low + np.array([0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0]) * (high - low)
        first, changes = {1: ((0.02, 0.1, 0.3, 0.8), (-0.3, 0.1, 0.3, 0.8))}.get(
            self.breaks, ((0.05, 0.3), (-0.2, 0.3) if self.breaks == 3 else (-0.3, 0.1, 0.5))
        )
        width = np.log(0.1 * (high - low))
        found = []
        for c0, where in product(first, combinations(places, self.breaks)):
            for change in product(changes, repeat=self.breaks):
                found.append([c0, *(n for c, d in zip(change, where, strict=True) for n in (c, d, width))])
        return np.array(found)

    def shifted(self, log_c: Floats, shape: Floats, by: Floats) -> tuple[Floats, Floats]:
        """See `Form.shifted`."""
        log_c, moved = log_c.copy(), shape.copy()
        log_c[:, 1] += shape[:, 0] * by[0]
        moved[:, 2::3] += by[0]
        return log_c, moved


def _shapes(breaks: int) -> tuple[Shape, ...]:
    found = [Shape("c0", -1.0, 4.0)]
    for i in range(1, breaks + 1):
        found += [
            Shape(f"c{i}", -3.0, 4.0),
            Shape(f"d{i}", -40.0, 40.0, log=True),
            Shape(f"f{i}", -3.5, 1.5, log=True),
        ]
    return tuple(found)


class Broken1(_Broken):
    """One break."""

    name = "broken_1"
    breaks = 1
    shapes = _shapes(1)


class Broken2(_Broken):
    """Two breaks."""

    name = "broken_2"
    breaks = 2
    shapes = _shapes(2)


class Broken3(_Broken):
    """Three breaks."""

    name = "broken_3"
    breaks = 3
    shapes = _shapes(3)
