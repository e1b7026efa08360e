"""A quantity that grows or falls by a constant factor a year, such as the cost of training a frontier model.

Source: Cottier et al. 2024, "The rising costs of training frontier AI models", arXiv 2405.21015, section 3.
"""

from __future__ import annotations

import numpy as np

from pellucid.scaling.forms import Powers, Shape


class Trend(Powers):
    """y = c e^(g (year − 2020))."""

    name = "trend"
    title = "y = c exp(g (year - 2020))"
    source = "Cottier et al. 2024, arXiv 2405.21015, section 3"
    variables = ("year",)
    coefficients = ("c",)
    rises = True
    shapes = (Shape("g", -10.0, 10.0),)
    matrix = -np.array([[[1]]], float)
    grid = (tuple(np.linspace(-3, 3, 41).tolist()),)
