"""The power law of one variable, with and without a constant under it.

Sources: Hestness et al. 2017, "Deep learning scaling is predictable, empirically", arXiv 1712.00409, section
2; with a constant: Henighan et al. 2020, "Scaling laws for autoregressive generative modeling", arXiv
2010.14701, equation 1.1.
"""

from __future__ import annotations

import numpy as np

from pellucid.scaling.forms import Powers, Shape


class Power(Powers):
    """y = A/x^α."""

    name = "power"
    title = "y = A/x^alpha"
    source = "Hestness et al. 2017, arXiv 1712.00409, section 2"
    variables = ("x",)
    coefficients = ("A",)
    rises = True
    shapes = (Shape("alpha", -5.0, 5.0),)
    matrix = np.array([[[1]]], float)
    grid = (tuple(np.linspace(-1.5, 1.5, 31).tolist()),)


class PowerConstant(Powers):
    """y = E + A/x^α."""

    name = "power_constant"
    title = "y = E + A/x^alpha"
    source = "Henighan et al. 2020, arXiv 2010.14701, equation 1.1"
    variables = ("x",)
    coefficients = ("E", "A")
    shapes = (Shape("alpha", 0.0, 5.0),)
    constant = "E"
    matrix = np.array([[[0], [1]]], float)
    grid = (tuple(np.geomspace(0.01, 3.0, 32).tolist()),)
