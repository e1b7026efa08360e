"""Alarms: where a law should not be relied on, in words a pipeline can stop at.

hull        a target lies outside what was fitted: in N, D, C, tokens per parameter or epochs
drift       two consecutive new runs lie outside the interval that was forecast for them
break       a broken power law forecasts best, with runs enough beyond its break
identity    the data cannot identify a parameter: its profile likelihood has no end
flat        the valleys of runs of equal compute are too flat to read an optimum from
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from pellucid.core.numbers import short_amount
from pellucid.scaling.arrays import Floats
from pellucid.scaling.choice import Choice
from pellucid.scaling.fit import Fit
from pellucid.scaling.forecast import Forecast
from pellucid.scaling.forms import PLAIN
from pellucid.scaling.profiles import Profile
from pellucid.scaling.runs import Runs

_OVER = 0.005  # decades: less is rounding, not extrapolation
_GAIN = 0.9  # a broken form has to bring the error down to this share of the best unbroken one
_BEYOND = 4  # runs that have to lie beyond a break before it is believed
_VALLEY = 0.05  # runs within so many decades of compute are of one valley
_RUNS = 5
_READABLE = 0.3  # decades: the half-width of a readable optimum's interval


@dataclass(frozen=True)
class Alarm:
    """One reason not to rely on a law."""

    kind: str
    message: str


def hull(runs: Runs, targets: Mapping[str, Floats], *, reach: float = 0.0) -> list[Alarm]:
    """Which coordinates of targets lie outside those of the runs.

    Args:
        runs: what was fitted.
        targets: values [m] of the targets' variables.
        reach: how many decades beyond the runs N, D, C and what orders the runs may go (years, if a year
            does); others, tokens per parameter and epochs among them, may not.
    """
    found = []
    sides = {
        name: (values, np.asarray(targets[name], float))
        for name, values in runs.own.items()
        if name in targets
    }
    if "N" in sides and "D" in sides:
        sides["tokens per parameter"] = tuple(d / n for d, n in zip(sides["D"], sides["N"], strict=True))
    for name, (inside, outside) in sides.items():
        plain = name in PLAIN
        told, unit = (lambda x: f"{x:.1f}", "years") if plain else (short_amount, "decades")
        ran, asked = (inside, outside) if plain else (np.log10(inside), np.log10(outside))
        allowed = reach if name in ("N", "D", "C", runs.ordered_by) else 0.0
        over, under = asked - ran.max(), ran.min() - asked
        for beyond, side, end in ((over, "above", inside.max()), (under, "below", inside.min())):
            outs = int((beyond > allowed + _OVER).sum())
            if outs:
                which = int(np.argmax(beyond))
                found.append(
                    Alarm(
                        "hull",
                        f"{name} of target {which + 1} is {told(outside[which])}, {beyond[which]:.2f} {unit} "
                        f"{side} the runs' {told(end)}"
                        + (f" ({outs} of {len(outside)} targets)." if len(outside) > 1 else "."),
                    )
                )
    return found


def drift(made: Forecast, y: Floats, order: Floats) -> list[Alarm]:
    """Whether two consecutive new runs, in their order [m], lie outside the interval forecast for them."""
    if made.low is None:
        return []
    by = np.argsort(order, kind="stable")
    out = ~made.covers(y)[by]
    pairs = np.flatnonzero(out[1:] & out[:-1])
    if not len(pairs):
        return []
    first, second = by[pairs[0]], by[pairs[0] + 1]
    off = [f"{y[i] / made.values[i] - 1:+.2%}" for i in (first, second)]
    return [
        Alarm(
            "drift",
            f"New runs {first + 1} and {second + 1} are both outside their {made.nominal:.0%} interval "
            f"({off[0]} and {off[1]} from the forecast); {int(out.sum())} of {len(out)} new runs are.",
        )
    ]


def broken(choice: Choice, fits: Mapping[str, Fit]) -> list[Alarm]:
    """Whether a broken power law forecasts best, with runs enough beyond a break inside the data."""
    best = choice.ranked[0]
    plain = [r for r in choice.ranked if not r.member.form.startswith("broken")]
    if not best.member.form.startswith("broken") or best.error > _GAIN * plain[0].error:
        return []
    made = fits[str(best.member)]
    x = made.runs.values["x"]
    parameters = dict(zip(made.form.parameters, made.parameters, strict=True))
    for name, place in parameters.items():
        if name.startswith("d") and x.min() < place < x.max() and (x > place).sum() >= _BEYOND:
            return [
                Alarm(
                    "break",
                    f"{best.member} forecasts best: error {best.error:.2%} against {plain[0].error:.2%} of "
                    f"{plain[0].member}. The trend breaks near {made.runs.x_is or 'x'} = "
                    f"{short_amount(place)}, where the exponent changes by "
                    f"{parameters['c' + name[1:]]:+.2f}; {(x > place).sum()} runs lie beyond.",
                )
            ]
    return []


def unidentified(profiles: Sequence[Profile], constant: str | None) -> list[Alarm]:
    """Parameters whose profile has no end above, or no end below other than a constant that may be zero."""
    found = []
    for profile in profiles:
        sides = [side for side, end in (("above", profile.high), ("below", profile.low)) if end is None]
        if sides and not (profile.name == constant and sides == ["below"]):
            found.append(
                Alarm(
                    "identity",
                    f"{profile.name} is unbounded {' and '.join(sides)}: the data cannot tell "
                    f"{profile.value:.4g} from any value there.",
                )
            )
    return found


@dataclass(frozen=True)
class Valley:
    """Runs of nearly equal compute, and the optimum of a parabola of log metric in log N."""

    compute: float
    optimum: float | None
    """N at the bottom; None where the parabola has none."""
    decades: float
    """Half the width of its 90 % interval in log₁₀ N; infinite where there is no bottom."""
    rows: np.ndarray


def valleys(runs: Runs) -> list[Valley]:
    """The valleys of runs with N and C: levels of compute at which five models or more differ in size."""
    if not {"N", "C"} <= runs.values.keys():
        return []
    level = np.round(np.log10(runs.values["C"]) / _VALLEY).astype(int)
    found = []
    for value in np.unique(level):
        rows = np.flatnonzero(level == value)
        n = np.log10(runs.values["N"][rows])
        if len(np.unique(n)) < _RUNS:
            continue
        found.append(_valley(float(np.median(runs.values["C"][rows])), n, np.log(runs.y[rows]), rows))
    return found


def _valley(compute: float, n: Floats, log_y: Floats, rows: np.ndarray) -> Valley:
    middle = n.mean()
    design = np.stack([np.ones_like(n), n - middle, (n - middle) ** 2], axis=1)
    solved, *_ = np.linalg.lstsq(design, log_y, rcond=None)
    residual = log_y - design @ solved
    variance = float(residual @ residual) / max(len(n) - 3, 1)
    covariance = variance * np.linalg.pinv(design.T @ design)
    _, slope, bend = solved
    sure = NormalDist().inv_cdf(0.95)
    if bend <= sure * np.sqrt(covariance[2, 2]):  # a bend that may be none has no bottom
        return Valley(compute, None, float("inf"), rows)
    bottom = -slope / (2 * bend)
    gradient = np.array([0.0, -1 / (2 * bend), slope / (2 * bend**2)])
    wide = sure * float(np.sqrt(gradient @ covariance @ gradient))
    return Valley(compute, float(10 ** (middle + bottom)), wide, rows)


def flat(runs: Runs) -> list[Alarm]:
    """Whether at half of the levels of compute or more the optimum cannot be read within a factor of two."""
    found = valleys(runs)
    poor = []
    for valley in found:
        sizes = runs.values["N"][valley.rows]
        outside = valley.optimum is None or not sizes.min() <= valley.optimum <= sizes.max()
        if outside or valley.decades > _READABLE:
            poor.append(valley)
    if len(found) < 2 or len(poor) * 2 < len(found):
        return []
    told = ", ".join(short_amount(v.compute) for v in poor[:6]) + (", …" if len(poor) > 6 else "")
    return [
        Alarm(
            "flat",
            f"At {len(poor)} of {len(found)} levels of compute ({told}) the optimum is uncertain by more "
            "than a factor of 2 or lies outside the sizes that were tried. The loss may be forecast well all "
            "the same.",
        )
    ]
