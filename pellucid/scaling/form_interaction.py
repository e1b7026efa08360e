"""A form in which parameters and tokens interact; at γ = 1 it is Chinchilla's.

    L = (E^(1/γ) + (A/N^α)^(1/γ) + (B/D^β)^(1/γ))^γ

The larger γ, the more a lack of parameters and a lack of tokens add up in between. Working exponents are α/γ
and β/γ.

Source: Droppo and Elibol 2021, "Scaling laws for acoustic models", arXiv 2106.09488, equation 7.
"""

from __future__ import annotations

import numpy as np

from pellucid.scaling.arrays import Floats
from pellucid.scaling.forms import Powers, Shape


class Interaction(Powers):
    """L = (E^(1/γ) + (A/N^α)^(1/γ) + (B/D^β)^(1/γ))^γ."""

    name = "interaction"
    title = "L = (E^(1/gamma) + (A/N^alpha)^(1/gamma) + (B/D^beta)^(1/gamma))^gamma"
    source = "Droppo and Elibol 2021, arXiv 2106.09488"
    variables = ("N", "D")
    coefficients = ("E", "A", "B")
    shapes = (Shape("alpha", 0.0, 6.0), Shape("beta", 0.0, 6.0), Shape("gamma", -2.5, 2.5, log=True))
    constant = "E"
    matrix = np.array([[[0, 0], [1, 0], [0, 0]], [[0, 0], [0, 0], [0, 1]], np.zeros((3, 2))], float)
    grid = ((0.1, 0.2, 0.35, 0.5, 0.7, 1.0), (0.1, 0.2, 0.35, 0.5, 0.7, 1.0), (-0.7, -0.3, 0.0, 0.3, 0.7))

    def power(self, shape: Floats) -> Floats:
        """See `Form.power`."""
        return np.asarray(np.exp(shape[:, 2]))

    def power_slopes(self, shape: Floats) -> Floats:
        """See `Form.power_slopes`."""
        return np.stack([np.zeros(len(shape)), np.zeros(len(shape)), self.power(shape)], axis=1)

    def natural(self, log_c: Floats, shape: Floats) -> Floats:
        """See `Form.natural`."""
        gamma = self.power(shape)[:, None]
        return np.concatenate([np.exp(gamma * log_c), gamma * shape[:, :2], gamma], axis=1)

    def working(self, natural: Floats) -> tuple[Floats, Floats]:
        """See `Form.working`."""
        gamma = natural[:, 5:]
        with np.errstate(divide="ignore"):
            log_c = np.log(natural[:, :3]) / gamma
        return log_c, np.concatenate([natural[:, 3:5] / gamma, np.log(gamma)], axis=1)
