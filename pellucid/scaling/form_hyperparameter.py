"""How a best learning rate or batch size moves with parameters and tokens.

Source: Li et al. 2025, "Predictable scale: part I, step law", arXiv 2503.04715, section 4.
"""

from __future__ import annotations

import numpy as np

from pellucid.scaling.forms import Powers, Shape

_EXPONENTS = tuple(np.linspace(-1.5, 1.5, 13).tolist())


class Hyperparameter(Powers):
    """y = c N^a D^b."""

    name = "hyperparameter"
    title = "y = c N^a D^b"
    source = "Li et al. 2025, arXiv 2503.04715, section 4"
    variables = ("N", "D")
    coefficients = ("c",)
    rises = True
    shapes = (Shape("a", -5.0, 5.0), Shape("b", -5.0, 5.0))
    matrix = -np.array([[[1, 0]], [[0, 1]]], float)
    grid = (_EXPONENTS, _EXPONENTS)
