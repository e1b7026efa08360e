"""M4: a power law that begins at chance level and ends at a constant.

The form is (L − E)/(E₀ − L)^α = β/x^c, with E₀ the value without training. With h = (L − E)/(E₀ − E) it is
h/(1 − h)^α = k/x^c, so L = E + span · h(k/x^c; α), which is separable; h is found by Newton's method on its
logit.

Source: Alabdulmohsin et al. 2022, "Revisiting neural scaling laws in language and vision", arXiv 2209.06640,
section 3.
"""

from __future__ import annotations

import numpy as np

from pellucid.scaling.arrays import Floats
from pellucid.scaling.forms import Form, Shape, crossed


class M4(Form):
    """y = E + span · h with h/(1 − h)^α = k/x^c."""

    name = "m4"
    title = "y = E + span h, where h/(1 - h)^alpha = k/x^c"
    source = "Alabdulmohsin et al. 2022, arXiv 2209.06640, section 3"
    variables = ("x",)
    coefficients = ("E", "span")
    shapes = (Shape("k", -40.0, 40.0, log=True), Shape("c", 0.0, 8.0), Shape("alpha", 0.02, 20.0))
    rugged = True
    constant = "E"

    def log_basis(self, shape: Floats, v: Floats) -> Floats:
        """See `Form.log_basis`."""
        k, c, alpha = (shape[:, i, None] for i in range(3))
        log_u = k - c * v[0]
        s = _logit(log_u, alpha)
        return np.stack([np.zeros_like(s), -np.logaddexp(0, -s)], axis=1)

    def mixed_slopes(self, shape: Floats, v: Floats, parts: Floats) -> Floats:
        """See `Form.mixed_slopes`."""
        k, c, alpha = (shape[:, i, None] for i in range(3))
        s = _logit(k - c * v[0], alpha)
        below = 1 / (1 + np.exp(s))  # 1 − h
        by_log_u = below / (below + alpha * (1 - below))
        found = np.stack([by_log_u, -v[0] * by_log_u, -np.logaddexp(0, s) * by_log_u], axis=1)
        return np.asarray(parts[:, None, 1] * found)

    def starts(self, v: Floats) -> Floats:
        """See `Form.starts`."""
        span = np.ptp(v[0])
        turns = np.array([-0.7, -0.3, 0.1, 0.6]) * span  # where h leaves 1, from the middle of the data
        found = crossed(turns, (0.1, 0.3, 0.8, 2.0), (0.5, 1.0, 2.0))
        found[:, 0] *= found[:, 1]
        return found

    def shifted(self, log_c: Floats, shape: Floats, by: Floats) -> tuple[Floats, Floats]:
        """See `Form.shifted`."""
        moved = shape.copy()
        moved[:, 0] += moved[:, 1] * by[0]
        return log_c, moved


def _logit(log_u: Floats, alpha: Floats) -> Floats:
    """The logit s of h where log h − α log(1 − h) = log u; the left side is monotone and bends one way."""
    s = np.where(log_u < 0, log_u, log_u / alpha)
    for _ in range(12):
        below = 1 / (1 + np.exp(np.clip(s, -500, 500)))
        value = -np.logaddexp(0, -s) + alpha * np.logaddexp(0, s) - log_u
        s = s - value / (below + alpha * (1 - below))
    return np.asarray(s)
