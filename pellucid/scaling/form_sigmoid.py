"""Accuracy against loss: a sigmoid between a floor and a ceiling, the second of two steps (`backtest.py`).

Sources: Bhagia et al. 2024, "Establishing task scaling laws via compute-efficient model ladders", arXiv
2412.04403, section 3.2; Dubey et al. 2024, "The Llama 3 herd of models", arXiv 2407.21783, section 3.2.1.
"""

from __future__ import annotations

import numpy as np

from pellucid.scaling.arrays import Floats
from pellucid.scaling.forms import Form, Shape, crossed


class Sigmoid(Form):
    """y = floor + span/(1 + e^(k (loss − L0)))."""

    name = "sigmoid"
    title = "y = floor + span/(1 + exp(k (loss - L0)))"
    source = "Bhagia et al. 2024, arXiv 2412.04403, section 3.2"
    variables = ("loss",)
    coefficients = ("floor", "span")
    shapes = (Shape("k", -6.0, 8.0, log=True), Shape("L0", -4.0, 4.0, log=True))
    constant = "floor"

    def log_basis(self, shape: Floats, v: Floats) -> Floats:
        """See `Form.log_basis`."""
        k, middle = np.exp(shape[:, :1]), np.exp(shape[:, 1:])
        found = -np.logaddexp(0, k * (np.exp(v[0]) - middle))
        return np.stack([np.zeros_like(found), found], axis=1)

    def starts(self, v: Floats) -> Floats:
        """See `Form.starts`."""
        places = np.linspace(v[0].min(), v[0].max(), 9)
        return crossed(np.log([0.5, 1, 2, 4, 8, 16, 32, 64]), places)

    def shifted(self, log_c: Floats, shape: Floats, by: Floats) -> tuple[Floats, Floats]:
        """See `Form.shifted`."""
        return log_c, shape + np.array([-1.0, 1.0]) * by[0]
