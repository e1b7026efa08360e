"""What to train: the parameters N and tokens D that cost least for a loss, or lose least for a cost.

Every plan here pays  cost(N, D) = N · (training · D + serving).  In FLOPs training is 6 and serving 2 for
each token read or written; in dollars each part is priced by the machine it runs on and how well it uses it.
With t = serving / training, serving costs as much as training on t more tokens would, and t is all that moves
the optimum:

    for a loss L      beta·B·(1 + t/D)·D^-beta + alpha·B·D^-beta = alpha·(L - E)            falls in D
    for a cost C      alpha·A·(training·(D + t)/C)^alpha / (D + t) = beta·B·D^(-beta-1)     one crossing

Without serving both have the closed form of Hoffmann et al. 2022 (arXiv 2203.15556, eq. 4). The first
equation is that of Sardana et al. 2023 (arXiv 2401.00448, section 3). A limit on N (what fits into memory,
what answers in time) moves the optimum to the limit, since the cost falls towards the optimum from either
side.

Everything broadcasts over the K laws of a surface. What no N and D can reach is infinite or not a number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pellucid.core.errors import InputError
from pellucid.scaling.arrays import Floats
from pellucid.scaling.surface import Surface

TRAINING_FLOPS = 6.0
"""FLOPs per parameter and token of training: 2 forwards, 4 backwards (Kaplan et al. 2020, section 2.1)."""
SERVING_FLOPS = 2.0
"""FLOPs per parameter and token read or written."""
RULE_OF_THUMB = 20.0
"""Tokens per parameter of the usual rule, the baseline of every plan."""


@dataclass(frozen=True)
class Demand:
    """The tokens a model serves over its life."""

    read: float = 0.0
    """Tokens of prompts (prefill)."""
    written: float = 0.0
    """Tokens of answers (decode)."""

    def __post_init__(self) -> None:
        for name, value in (("read", self.read), ("written", self.written)):
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"Expected the tokens {name} to be 0 or more; got {value!r}.")

    @property
    def tokens(self) -> float:
        """All tokens."""
        return self.read + self.written


@dataclass(frozen=True)
class Costs:
    """What a plan pays; see the head of the module."""

    training: float
    """For each parameter and training token."""
    serving: float = 0.0
    """For each parameter, over the model's life."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.training) and self.training > 0):
            raise InputError(f"Expected a cost of training above 0; got {self.training!r}.")
        if not (math.isfinite(self.serving) and self.serving >= 0):
            raise InputError(f"Expected a cost of serving of 0 or more; got {self.serving!r}.")

    @classmethod
    def in_flops(cls, demand: Demand | None = None) -> Costs:
        """FLOPs: 6ND, and 2N for each token served."""
        return cls(TRAINING_FLOPS, SERVING_FLOPS * (demand or Demand()).tokens)

    @property
    def equivalent_tokens(self) -> float:
        """The training tokens t that cost as much as serving does."""
        return self.serving / self.training

    def of(self, N: Floats | float, D: Floats | float) -> Floats:
        """What N parameters and D tokens cost, training and serving together."""
        return np.asarray(N * (self.training * np.asarray(D) + self.serving))


@dataclass(frozen=True)
class Allocation:
    """N and D, chosen under each of K laws, with what they lose and cost; arrays [K]."""

    N: Floats
    D: Floats
    loss: Floats
    cost: Floats
    """In the unit of the costs that were planned with."""


def for_loss(
    surface: Surface, loss: Floats | float, costs: Costs, *, most_parameters: float = math.inf
) -> Allocation:
    """The cheapest N and D that reach a loss.

    Args:
        surface: K laws.
        loss: the loss to reach, one for all laws or one for each [K].
        costs: what training and serving cost.
        most_parameters: N is at most this.

    Returns:
        Under laws where the loss is out of reach, N, D and cost are infinite.
    """
    check_limit(most_parameters)
    left = np.asarray(loss) - surface.E
    reachable = left > 0
    safe = np.where(reachable, left, 1.0)
    a, b = surface.alpha, surface.beta
    # Without serving: each term takes the share of what is left that makes the two slopes equal.
    D = np.power(surface.B * (a + b) / (a * safe), 1 / b)
    if costs.serving:
        t = costs.equivalent_tokens

        def excess(log_D: Floats) -> Floats:
            return np.log(surface.B * (b * (1 + t * np.exp(-log_D)) + a)) - b * log_D - np.log(a * safe)

        D = np.exp(falling_root(excess, np.log(D), np.log1p(b * t / ((a + b) * D)) / b))
    N = surface.parameters_for(D, loss)
    over = most_parameters < N
    N = np.where(over, most_parameters, N)
    D = np.where(over, surface.tokens_for(N, loss), D)
    N, D = (np.where(reachable & np.isfinite(D), x, np.inf) for x in (N, D))
    return Allocation(N, D, np.where(np.isfinite(D), loss, np.nan), costs.of(N, D))


def for_cost(surface: Surface, cost: float, costs: Costs, *, most_parameters: float = math.inf) -> Allocation:
    """The N and D that lose least for a cost.

    Args:
        surface: K laws.
        cost: what may be spent, on training and serving together.
        costs: what training and serving cost.
        most_parameters: N is at most this.

    Raises:
        InputError: when the cost is not above 0.
    """
    check_limit(most_parameters)
    check_budget(cost)
    a, b, t = surface.alpha, surface.beta, costs.equivalent_tokens
    product = cost / costs.training
    # log of alpha·A/(beta·B) is the log of G^(a + b), where N* = G · (C/6)^exponent.
    log_ratio = np.log(a * surface.A) - np.log(b * surface.B)
    log_D = (a * math.log(product) - log_ratio) / (a + b)
    if costs.serving:

        def excess(log_D: Floats) -> Floats:
            whole = np.logaddexp(log_D, math.log(t))
            return -(log_ratio - a * math.log(product) + (a - 1) * whole + (b + 1) * log_D)

        # Serving moves the balance by (alpha - 1)·log(1 + t/D), which the slope, at least b + min(a, 1),
        # makes up for.
        span = np.abs(a - 1) / (b + np.minimum(a, 1)) * np.log1p(t * np.exp(-log_D))
        log_D = falling_root(excess, log_D - span, 2 * span)
    D = np.exp(log_D)
    N = product / (D + t)
    over = most_parameters < N
    D = np.where(over, product / most_parameters - t, D)
    N = np.where(over, most_parameters, N)
    return Allocation(N, D, surface.loss(N, D), costs.of(N, D))


def at_ratio(
    loss_at: Callable[[Floats, Floats], Floats], loss: Floats, costs: Costs, ratio: float = RULE_OF_THUMB
) -> Allocation:
    """The model that reaches a loss at a fixed number of tokens per parameter, as a rule of thumb has it.

    Args:
        loss_at: the loss at N and D, each [K], which falls in both.
        loss: the loss to reach, [K].
        costs: what training and serving cost.
        ratio: tokens per parameter.

    Returns:
        N, D and cost are infinite under laws where no model reaches the loss at this ratio.
    """
    low, high = np.zeros_like(loss), np.full_like(loss, math.log(1e18))
    log_N = falling_root(lambda log_N: loss_at(np.exp(log_N), ratio * np.exp(log_N)) - loss, low, high)
    N = np.where(log_N < high[0] - 1e-6, np.exp(log_N), np.inf)
    return Allocation(N, ratio * N, np.where(np.isfinite(N), loss, np.nan), costs.of(N, ratio * N))


def check_limit(most_parameters: float) -> None:
    """Refuse a limit that allows nothing.

    Raises:
        InputError: when it is not above 0.
    """
    if not most_parameters > 0:
        raise InputError(f"Expected a limit on parameters above 0; got {most_parameters!r}.")


def check_budget(cost: float) -> None:
    """Refuse a budget that buys nothing, or everything.

    Raises:
        InputError: when it is not above 0 and finite.
    """
    if not (math.isfinite(cost) and cost > 0):
        raise InputError(f"Expected a budget above 0; got {cost!r}.")


def falling_root(function: Callable[[Floats], Floats], start: Floats, span: Floats) -> Floats:
    """The roots of K functions that fall in x, by bisection from start to start + span, [K]."""
    low, high = start, start + span
    for _ in range(64):
        middle = (low + high) / 2
        above = function(middle) > 0
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return (low + high) / 2
