"""Kaplan's form of loss against parameters and tokens, which goes to zero.

    L = ((Nc/N)^(αN/αD) + Dc/D)^αD

Working exponent of N is αN/αD, and the outer power is αD.

Source: Kaplan et al. 2020, "Scaling laws for neural language models", arXiv 2001.08361, equation 1.5.
"""

from __future__ import annotations

import numpy as np

from pellucid.scaling.arrays import Floats
from pellucid.scaling.forms import Powers, Shape


class Kaplan(Powers):
    """L = ((Nc/N)^(αN/αD) + Dc/D)^αD."""

    name = "kaplan"
    title = "L = ((Nc/N)^(alpha_N/alpha_D) + Dc/D)^alpha_D"
    source = "Kaplan et al. 2020, arXiv 2001.08361, equation 1.5"
    variables = ("N", "D")
    coefficients = ("Nc", "Dc")
    shapes = (Shape("alpha_N", 0.01, 20.0), Shape("alpha_D", -6.0, 1.0, log=True))
    matrix = np.array([[[1, 0], [0, 0]], np.zeros((2, 2))], float)
    fixed = np.array([[0, 0], [0, 1]], float)
    grid = (tuple(np.geomspace(0.2, 4, 10).tolist()), tuple(np.log(np.geomspace(0.02, 1, 12)).tolist()))

    def power(self, shape: Floats) -> Floats:
        """See `Form.power`."""
        return np.asarray(np.exp(shape[:, 1]))

    def power_slopes(self, shape: Floats) -> Floats:
        """See `Form.power_slopes`."""
        return np.stack([np.zeros(len(shape)), self.power(shape)], axis=1)

    def natural(self, log_c: Floats, shape: Floats) -> Floats:
        """See `Form.natural`."""
        ratio, alpha_d = shape[:, 0], self.power(shape)
        with np.errstate(over="ignore"):
            return np.stack(
                [np.exp(log_c[:, 0] / ratio), np.exp(log_c[:, 1]), ratio * alpha_d, alpha_d], axis=1
            )

    def working(self, natural: Floats) -> tuple[Floats, Floats]:
        """See `Form.working`."""
        ratio = natural[:, 2] / natural[:, 3]
        with np.errstate(divide="ignore"):
            log_c = np.stack([ratio * np.log(natural[:, 0]), np.log(natural[:, 1])], axis=1)
        return log_c, np.stack([ratio, np.log(natural[:, 3])], axis=1)
