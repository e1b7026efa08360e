"""The next experiment: which run would shrink the variance of a forecast most, for what it costs.

With draws of the law, the forecast f = log L(target) and the outcome y = log L(candidate) are each a sample,
and a run whose outcome scatters by the noise s about the law leaves the forecast with the variance

    Var f - Cov(f, y)² / (Var y + s²)

which is exact where draws and noise are normal and the log loss is linear in the parameters over the draws:
with its Jacobian J it is the update of their covariance by J·J'/s² (Chaloner and Verdinelli 1995, section 2).
Where it bends the proposal is approximate. It needs only draws and a function that predicts, so it
serves every form.

The module proposes; whether a law fits at all is for the alarms to say, and no run inside the hull tells of a
break beyond it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pellucid.core.errors import InputError
from pellucid.scaling.arrays import Floats
from pellucid.scaling.planning import TRAINING_FLOPS
from pellucid.scaling.surface import Surface

LEAST = 0.05
"""The share of a forecast's variance that a run should remove to be worth the trouble."""

RATIOS = (2.0, 1000.0)
"""The fewest and the most tokens per parameter of a run that is proposed."""

Predict = Callable[[Floats, Floats], Floats]
"""Takes N and D, arrays [n], and gives the loss under every draw, [S, n]."""


@dataclass(frozen=True)
class Proposal:
    """A run that could be made."""

    N: float
    D: float
    flops: float
    before: float
    """The standard deviation of the log of the forecast loss: about its relative uncertainty."""
    after: float
    """The same when the run is known."""
    shrinkage: float
    """The share of the forecast's variance that goes."""
    per_flop: float
    """The share that goes for each FLOP."""


def propose(
    predict: Predict,
    target: tuple[float, float],
    candidates: Sequence[tuple[float, float]],
    *,
    noise: float,
) -> list[Proposal]:
    """Rank candidate runs by the share of the forecast's variance they remove per FLOP, best first.

    Args:
        predict: the law under every draw.
        target: N and D whose loss is forecast.
        candidates: N and D of each run that could be made.
        noise: the standard deviation of log loss about the law from run to run.

    Raises:
        InputError: when there is no candidate, a number is not above 0, there are under 20 draws, or the
            draws agree on the forecast, so that there is no variance to shrink.
    """
    runs = np.asarray(candidates, dtype=np.float64).reshape(-1, 2)
    if not len(runs):
        raise InputError("Expected at least one candidate run.")
    everything = np.concatenate([runs, np.asarray([target], dtype=np.float64)])
    if not (np.isfinite(everything) & (everything > 0)).all():
        raise InputError("Expected N and D of target and candidates to be above 0.")
    if not (math.isfinite(noise) and noise > 0):
        raise InputError(f"Expected the noise of log loss to be above 0, such as 0.005; got {noise!r}.")
    logs = np.log(predict(everything[:, 0], everything[:, 1]))
    if len(logs) < 20 or not np.isfinite(logs).all():
        raise InputError(f"Expected at least 20 draws with finite losses; got {len(logs)}.")
    centred = logs - logs.mean(0)
    forecast, outcomes = centred[:, -1], centred[:, :-1]
    freedom = len(logs) - 1
    variance = float(forecast @ forecast) / freedom
    if variance <= 0:
        raise InputError("The draws agree on the forecast: there is no variance to shrink.")
    shared = forecast @ outcomes / freedom
    spread = np.einsum("sn,sn->n", outcomes, outcomes) / freedom
    shrinkage = shared**2 / (spread + noise**2) / variance
    flops = TRAINING_FLOPS * runs[:, 0] * runs[:, 1]
    found = [
        Proposal(
            N=float(N),
            D=float(D),
            flops=float(cost),
            before=math.sqrt(variance),
            after=math.sqrt(variance * (1 - float(share))),
            shrinkage=float(share),
            per_flop=float(share / cost),
        )
        for (N, D), cost, share in zip(runs, flops, shrinkage, strict=True)
    ]
    return sorted(found, key=lambda proposal: -proposal.per_flop)


def surface_predict(surface: Surface) -> Predict:
    """The prediction of draws [S] of the form L(N, D) = E + A/N^alpha + B/D^beta."""
    return lambda N, D: np.stack([surface.loss(n, d) for n, d in zip(N, D, strict=True)], axis=1)


def grid(
    N: tuple[float, float],
    D: tuple[float, float],
    *,
    most_flops: float,
    ratios: tuple[float, float] = RATIOS,
    steps: int = 20,
) -> list[tuple[float, float]]:
    """Candidate runs, evenly spaced in log N and log D, none dearer than a budget.

    Args:
        N: the smallest and the largest model that could be trained.
        D: the fewest and the most tokens.
        most_flops: what a run may cost.
        ratios: the fewest and the most tokens per parameter.
        steps: points along each axis.

    Raises:
        InputError: when a range is empty or no run fits the budget.
    """
    for name, (low, high) in (("N", N), ("D", D), ("tokens per parameter", ratios)):
        if not 0 < low <= high < math.inf:
            raise InputError(
                f"Expected {name} from a number above 0 to one at least as large; got {low!r} to {high!r}."
            )
    found = [
        (float(n), float(d))
        for n in np.geomspace(*N, steps)
        for d in np.geomspace(*D, steps)
        if TRAINING_FLOPS * n * d <= most_flops * (1 + 1e-9) and ratios[0] <= d / n <= ratios[1]
    ]
    if not found:
        raise InputError(
            f"No run from {N[0]:.3g} parameters and {D[0]:.3g} tokens on costs at most {most_flops:.3g} "
            f"FLOPs with {ratios[0]:g} to {ratios[1]:g} tokens per parameter. Allow smaller runs or more."
        )
    return found


def best_per_flop(proposals: Sequence[Proposal], *, least: float = LEAST) -> Proposal:
    """Of the runs that shrink the variance by at least a share, the one that does most for each FLOP.

    Without the share the smallest run there is would win, though it tells next to nothing.

    Raises:
        InputError: when none shrinks it so much.
    """
    worth = [p for p in proposals if p.shrinkage >= least]
    if not worth:
        most = max((p.shrinkage for p in proposals), default=0.0)
        raise InputError(
            f"No proposed run shrinks the variance by {least:.1%}; the most is {most:.1%}. Allow a larger "
            "budget, or ask for less."
        )
    return max(worth, key=lambda p: p.per_flop)


def best_within(proposals: Sequence[Proposal], flops: float) -> Proposal:
    """Of the runs a budget allows, the one that shrinks the variance most.

    Raises:
        InputError: when it allows none.
    """
    allowed = [p for p in proposals if p.flops <= flops * (1 + 1e-9)]
    if not allowed:
        raise InputError(f"No proposed run costs at most {flops:.3g} FLOPs.")
    return max(allowed, key=lambda p: p.shrinkage)
