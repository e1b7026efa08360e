"""Loss against width, depth and tokens, for families whose models of one size differ in shape.

Source: McLeish et al. 2025, "Gemstones: a model suite for multi-faceted scaling laws", arXiv 2502.06857,
section 3.
"""

from __future__ import annotations

import numpy as np

from pellucid.scaling.forms import Powers, Shape

_EXPONENTS = (0.1, 0.3, 0.6, 1.0, 1.6)


class WidthDepth(Powers):
    """L = E + A/width^α + G/depth^γ + B/D^β."""

    name = "width_depth"
    title = "L = E + A/width^alpha + G/depth^gamma + B/D^beta"
    source = "McLeish et al. 2025, arXiv 2502.06857, section 3"
    variables = ("width", "depth", "D")
    coefficients = ("E", "A", "G", "B")
    shapes = (Shape("alpha", 0.0, 4.0), Shape("gamma", 0.0, 4.0), Shape("beta", 0.0, 3.0))
    constant = "E"
    matrix = np.zeros((3, 4, 3))
    matrix[[0, 1, 2], [1, 2, 3], [0, 1, 2]] = 1
    grid = (_EXPONENTS, _EXPONENTS, _EXPONENTS)
