"""Planning where text runs out: what tokens are worth when read again, and parameters beyond what they feed.

    L(N, D) = E + A / N'^alpha + B / D'^beta
    D' = U + U · r · (1 - exp(-R / r))      R = max(0, D/U - 1), r = 15.39, U = min(D, the stock)
    N' = V + V · s · (1 - exp(-S / s))      S = max(0, N/V - 1), s = 5.31,  V = min(N, what is optimal for U)

Muennighoff et al. 2023 (arXiv 2305.16264, section 3 and appendix A), with their constants, which came without
an interval. As the stock grows the law becomes the plain one.

The best N and D have no closed form here, and a loss may have two valleys along D, so each plan looks along a
whole grid of D first and narrows the best cell down. Costs, limits and axis letters as in `planning`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pellucid.core.errors import InputError
from pellucid.scaling.arrays import Floats
from pellucid.scaling.planning import Allocation, Costs, check_budget, check_limit
from pellucid.scaling.surface import Surface

GRID = 400
"""Points of the grid along log D. A cell of it is a fifth of a doubling or narrower."""
NARROWING = 40
"""Golden-section steps inside the best two cells: they shrink them by a factor of 2e8."""


@dataclass(frozen=True)
class Repetition:
    """A stock of text, and how reading it again falls in value."""

    unique_tokens: float
    """U: the different tokens there are."""
    tokens_constant: float = 15.387756
    """r: by the time text was read r times again, another reading adds 1/e of new text."""
    parameters_constant: float = 5.309743
    """s: the same for parameters in excess of what is optimal for U."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0 or math.isnan(value):
                raise InputError(f"Expected {name.replace('_', ' ')} above 0; got {value!r}.")

    def effective_tokens(self, D: Floats | float) -> Floats:
        """D': the new tokens that D tokens are worth; at most U · (1 + r)."""
        U = np.minimum(D, self.unique_tokens)
        again = np.maximum(np.asarray(D) / self.unique_tokens - 1, 0)
        return np.asarray(U - U * self.tokens_constant * np.expm1(-again / self.tokens_constant))

    def useful_parameters(self, surface: Surface) -> Floats:
        """V: the parameters that are optimal for U tokens read once, [K]."""
        a, b = surface.alpha, surface.beta
        with np.errstate(over="ignore"):
            ratio = a * surface.A / (b * surface.B)
            return np.asarray(np.power(ratio, 1 / a) * np.power(self.unique_tokens, b / a))

    def effective_parameters(self, N: Floats | float, useful: Floats) -> Floats:
        """N': what N parameters are worth; at most V · (1 + s)."""
        V = np.minimum(N, useful)
        excess = np.maximum(np.asarray(N) / useful - 1, 0)
        return np.asarray(V - V * self.parameters_constant * np.expm1(-excess / self.parameters_constant))

    def parameters_behind(self, effective: Floats, useful: Floats) -> Floats:
        """The N whose worth is N'; infinite beyond the most that any N is worth."""
        s = self.parameters_constant
        excess = np.maximum(effective / useful - 1, 0) / s
        with np.errstate(divide="ignore", invalid="ignore"):
            more = useful * (1 - s * np.log1p(-np.minimum(excess, 1)))
        return np.where(excess > 0, more, effective)

    def loss(self, surface: Surface, N: Floats | float, D: Floats | float) -> Floats:
        """The loss at N parameters and D tokens, some of them read again; N and D broadcast against [K]."""
        return surface.loss(
            self.effective_parameters(N, self.useful_parameters(surface)), self.effective_tokens(D)
        )

    @property
    def half_value_epochs(self) -> float:
        """The epochs after which another reading of a token adds half of what its first did."""
        return 1 + self.tokens_constant * math.log(2)


def for_cost(
    surface: Surface, cost: float, costs: Costs, repetition: Repetition, *, most_parameters: float = math.inf
) -> Allocation:
    """The N and D that lose least for a cost, text being short; see `planning.for_cost`.

    Raises:
        InputError: when the cost is not above 0.
    """
    check_limit(most_parameters)
    check_budget(cost)
    product, t = cost / costs.training, costs.equivalent_tokens

    def loss(log_D: Floats) -> Floats:
        D = np.exp(log_D)
        N = product / (D + t)
        return np.where(most_parameters >= N, repetition.loss(surface, N, D), np.inf)

    least = 0.0 if math.isinf(most_parameters) else product / most_parameters - t
    low, high = math.log(max(1.0, least * (1 + 1e-12))), math.log(max(product, 2.0))
    D = np.exp(_lowest(loss, low, high, len(surface.E)))
    N = np.minimum(product / (D + t), most_parameters)
    return Allocation(N, D, repetition.loss(surface, N, D), costs.of(N, D))


def for_loss(
    surface: Surface,
    loss: Floats | float,
    costs: Costs,
    repetition: Repetition,
    *,
    most_parameters: float = math.inf,
) -> Allocation:
    """The cheapest N and D that reach a loss, text being short; see `planning.for_loss`.

    Reading again may not reach a loss that new text would: N, D and cost are infinite under such laws.
    """
    check_limit(most_parameters)
    useful = repetition.useful_parameters(surface)

    def parameters(D: Floats) -> Floats:
        needed = surface.parameters_for(repetition.effective_tokens(D), loss)
        N = repetition.parameters_behind(needed, useful)
        return np.where(most_parameters >= N, N, np.inf)

    def log_cost(log_D: Floats) -> Floats:
        D = np.exp(log_D)
        return np.log(costs.of(parameters(D), D))

    # From one token to so many readings that another is worth nothing (exp(-40) of the first).
    most = max(repetition.unique_tokens, 1.0) * (1 + 40 * repetition.tokens_constant)
    high = math.log(min(most, 1e30))
    D = np.exp(_lowest(log_cost, 0.0, high, len(surface.E)))
    N = parameters(D)
    found = np.isfinite(N)
    N, D = np.where(found, N, np.inf), np.where(found, D, np.inf)
    return Allocation(N, D, np.where(found, loss, np.nan), costs.of(N, D))


def _lowest(function: Callable[[Floats], Floats], low: float, high: float, count: int) -> Floats:
    """Where each of `count` functions, which take [..., K], is lowest between low and high, [K]."""
    grid = np.linspace(low, high, GRID)
    values = function(np.repeat(grid[:, None], count, axis=1))
    first = values.argmin(axis=0)
    best, at = values[first, np.arange(count)], grid[first]
    width = (high - low) / (GRID - 1)
    left, right = np.maximum(at - width, low), np.minimum(at + width, high)
    golden = (math.sqrt(5) - 1) / 2
    for _ in range(NARROWING):
        inner, outer = right - golden * (right - left), left + golden * (right - left)
        down = function(inner) < function(outer)
        left, right = np.where(down, left, inner), np.where(down, outer, right)
    middle = (left + right) / 2
    return np.asarray(np.where(function(middle) <= best, middle, at))
