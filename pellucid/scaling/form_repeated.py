"""Chinchilla's form where text is read more than once.

Repeated tokens fade, and so do parameters beyond those the unique tokens can feed.

    L = E + A/N'^α + B/D'^β
    D' = U + U R_D (1 − e^(−(D/U − 1)/R_D))            U unique tokens, D tokens read
    N' = Un + Un R_N (1 − e^(−max(N/Un − 1, 0)/R_N))   Un = min(N, the compute-optimal parameters for U
    tokens)

The optimum for U tokens depends on A and B by their ratio alone, so the ratio is a shape parameter here and
the form stays separable: one coefficient for both terms.

Source: Muennighoff et al. 2023, "Scaling data-constrained language models", arXiv 2305.16264, section 3 and
appendix A.
"""

from __future__ import annotations

import numpy as np

from pellucid.scaling.arrays import Floats
from pellucid.scaling.forms import Form, Shape, crossed


class Repeated(Form):
    """The data-constrained law."""

    name = "repeated"
    title = "L = E + A/N'^alpha + B/D'^beta, N' and D' fading beyond what U unique tokens give"
    source = "Muennighoff et al. 2023, arXiv 2305.16264, section 3"
    variables = ("N", "D", "U")
    coefficients = ("E", "A")
    shapes = (
        Shape("ratio", -30.0, 30.0, log=True),
        Shape("alpha", 0.02, 3.0),
        Shape("beta", 0.02, 3.0),
        Shape("R_D", -5.0, 12.0, log=True),
        Shape("R_N", -5.0, 12.0, log=True),
    )
    constant = "E"

    @property
    def parameters(self) -> tuple[str, ...]:
        """As in the paper: B in place of the ratio B/A."""
        return ("E", "A", "B", "alpha", "beta", "R_D", "R_N")

    def log_basis(self, shape: Floats, v: Floats) -> Floats:
        """See `Form.log_basis`."""
        ratio, alpha, beta, r_d, r_n = (shape[:, i, None] for i in range(5))
        n, d, u = v
        optimal = (np.log(alpha / beta) - ratio + beta * u) / alpha  # where αA/N^α = βB/U^β
        fed = np.minimum(optimal, n)
        n_used = fed + _faded(np.maximum(np.exp(np.minimum(n - fed, 60.0)) - 1, 0), np.exp(r_n))
        d_used = u + _faded(np.maximum(np.exp(np.minimum(d - u, 60.0)) - 1, 0), np.exp(r_d))
        found = np.logaddexp(-alpha * n_used, ratio - beta * d_used)
        return np.stack([np.zeros_like(found), found], axis=1)

    def starts(self, v: Floats) -> Floats:
        """See `Form.starts`."""
        return crossed((-1.5, 0.0, 1.5), (0.15, 0.35, 0.7), (0.15, 0.35, 0.7), (0.7, 2.7), (0.7, 2.7))

    def centre(self, v: Floats) -> Floats:
        """See `Form.centre`; tokens and unique tokens stay in one unit."""
        mean = v.mean(axis=1)
        return np.array([mean[0], mean[1], mean[1]])

    def shifted(self, log_c: Floats, shape: Floats, by: Floats) -> tuple[Floats, Floats]:
        """See `Form.shifted`."""
        log_c, moved = log_c.copy(), shape.copy()
        log_c[:, 1] += shape[:, 1] * by[0]
        moved[:, 0] += shape[:, 2] * by[1] - shape[:, 1] * by[0]
        return log_c, moved

    def natural(self, log_c: Floats, shape: Floats) -> Floats:
        """See `Form.natural`."""
        with np.errstate(over="ignore"):
            e, a = np.exp(log_c).T
            return np.stack(
                [e, a, a * np.exp(shape[:, 0]), *shape[:, 1:3].T, *np.exp(shape[:, 3:]).T], axis=1
            )

    def working(self, natural: Floats) -> tuple[Floats, Floats]:
        """See `Form.working`."""
        with np.errstate(divide="ignore"):
            log_c = np.log(natural[:, :2])
            ratio = np.log(natural[:, 2] / natural[:, 1])
            return log_c, np.stack([ratio, *natural[:, 3:5].T, *np.log(natural[:, 5:]).T], axis=1)


def _faded(excess: Floats, limit: Floats) -> Floats:
    """log(1 + R (1 − e^(−excess/R))): what an excess is worth, where R is all that it can ever be worth."""
    return np.asarray(np.log1p(-limit * np.expm1(-excess / limit)))
