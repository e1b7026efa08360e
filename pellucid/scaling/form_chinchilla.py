"""The form of Chinchilla: a constant, a term in parameters and one in tokens; and it with one exponent.

Source: Hoffmann et al. 2022, "Training compute-optimal large language models", arXiv 2203.15556, section 3.3.
"""

from __future__ import annotations

import numpy as np

from pellucid.scaling.forms import Powers, Shape

_EXPONENTS = tuple(np.linspace(0.06, 1.16, 12).tolist())


class Chinchilla(Powers):
    """L = E + A/N^α + B/D^β."""

    name = "chinchilla"
    title = "L = E + A/N^alpha + B/D^beta"
    source = "Hoffmann et al. 2022, arXiv 2203.15556, section 3.3"
    variables = ("N", "D")
    coefficients = ("E", "A", "B")
    shapes = (Shape("alpha", 0.0, 3.0), Shape("beta", 0.0, 3.0))
    constant = "E"
    matrix = np.array([[[0, 0], [1, 0], [0, 0]], [[0, 0], [0, 0], [0, 1]]], float)
    grid = (_EXPONENTS, _EXPONENTS)


class Tied(Powers):
    """L = E + A/N^α + B/D^α, for data that cannot tell two exponents apart."""

    name = "tied"
    title = "L = E + A/N^alpha + B/D^alpha"
    source = "Hoffmann et al. 2022, arXiv 2203.15556, section 3.3, with alpha = beta"
    variables = ("N", "D")
    coefficients = ("E", "A", "B")
    shapes = (Shape("alpha", 0.0, 3.0),)
    constant = "E"
    matrix = np.array([[[0, 0], [1, 0], [0, 1]]], float)
    grid = (tuple(np.linspace(0.03, 1.5, 40).tolist()),)
