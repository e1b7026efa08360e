"""Fitting many laws at once: projection over the shape, and a batched polish.

Minimised is the sum over runs of ρ(log y − log f) times the run's weight, with ρ Huber's function: r²/2 up
to δ and δ(|r| − δ/2) beyond. Data come centred. `project` finds the best coefficients of a given shape by
non-negative least squares on y/f − 1 (variable projection, Golub and Pereyra 1973), which ranks shapes to
start from. `polish` then moves coefficients and shape together by Levenberg and Marquardt's method, with
weights between those of iterated reweighting (Holland and Welsch 1977) and of Newton's method; a step that
does not lower the sum is not taken. All loops are over iterations; starts, resamples and held parameters are
the axis S.

It knows forms and numbers, not runs or files.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pellucid.scaling.arrays import Floats
from pellucid.scaling.forms import Form

Anchor = Callable[[Floats, NDArray[np.int64]], tuple[Floats, Floats]]

_AT_ONCE = 48_000  # runs × laws in one piece of work: what stays in the cache of a core
# Weights are (δ/|r|)^3 beyond δ: 1 is iterated reweighting, ∞ is Newton's method, and 3 needed fewest steps.
_SHARPNESS = 3
# A coefficient that would start at zero starts at this share of y, from where it may go either way.
_FLOOR = np.log(0.01)
_STEP = 1.5  # no parameter moves further than this in one step


def huber(r: Floats, delta: float) -> Floats:
    """Huber's function of residuals."""
    if np.isinf(delta):
        return np.asarray(0.5 * r * r)
    inside = np.minimum(np.abs(r), delta)
    return np.asarray(inside * (np.abs(r) - 0.5 * inside))


def project(form: Form, shape: Floats, v: Floats, log_y: Floats, weights: Floats) -> Floats:
    """Log coefficients [S, K] that minimise Σ w (1 − Σ c φ / y^(1/g))² for shapes [S, Q]; c ≥ 0.

    Each set of columns that may be above zero is tried; the best of those whose solution is above zero wins.
    A coefficient of zero comes back as a hundredth of y.
    """
    g = form.power(shape)
    target = log_y[None, :] if g is None else log_y[None, :] / g[:, None]
    z = np.broadcast_to(form.log_basis(shape, v), (len(shape), len(form.coefficients), v.shape[1]))
    z = z - target[:, None]
    scale = z.max(axis=2, keepdims=True)
    scale = np.where(np.isfinite(scale), scale, 0.0)
    columns = np.exp(z - scale)
    weighted = columns * weights
    normal = weighted @ columns.swapaxes(1, 2)
    right = weighted.sum(axis=2)
    count = right.shape[1]
    best = np.full(len(shape), np.inf)
    chosen = np.zeros_like(right)
    for size in range(count, 0, -1):
        for picked in combinations(range(count), size):
            part = list(picked)
            small = normal[:, part][:, :, part]
            ridge = 1e-13 * np.trace(small, axis1=1, axis2=2)[:, None, None] * np.eye(size) + 1e-300 * np.eye(
                size
            )
            solved = np.linalg.solve(small + ridge, right[:, part, None])[..., 0]
            lost = -(solved * right[:, part]).sum(axis=1)
            better = (solved > 0).all(axis=1) & np.isfinite(lost) & (lost < best)
            best = np.where(better, lost, best)
            full = np.zeros_like(right)
            full[:, part] = solved
            chosen = np.where(better[:, None], full, chosen)
    with np.errstate(divide="ignore"):
        log_c = np.log(chosen) - scale[..., 0]
    return np.asarray(np.maximum(log_c, _FLOOR - scale[..., 0]), float)


def polish(
    form: Form,
    theta: Floats,
    v: Floats,
    log_y: Floats,
    weights: Floats,
    *,
    delta: float,
    lean: float = 1.0,
    anchor: Anchor | None = None,
    tolerance: float = 1e-13,
    iterations: int = 300,
) -> tuple[Floats, Floats]:
    """Lower the sum from given starts to a minimum near them.

    Args:
        form: the form.
        theta: log coefficients and shapes [S, P] to start from.
        v: centred coordinates [V, n].
        log_y: centred log values [n].
        weights: of the runs, [S, n], or [1, n] for all laws alike.
        delta: where Huber's function turns from squares to absolute values; `inf` is least squares.
        lean: what a run above the law counts, one below it counting 1.
        anchor: what is held: for laws [S, P] and their places [S] it gives how far each is from where it is
            held [S] and the derivative of that [S, P]; the square of the distance is added to the sum.
        tolerance: the relative gain at which a law is finished.
        iterations: at most so many steps.

    Returns:
        Parameters [S, P] and sums [S]; a law whose start has no finite sum keeps it, with infinity.
    """
    theta = theta.copy()
    sums = np.full(len(theta), np.inf)
    size = max(1, _AT_ONCE // v.shape[1])
    with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
        for start in range(0, len(theta), size):
            part = slice(start, start + size)
            w = weights if len(weights) == 1 else weights[part]
            at = np.arange(len(theta))[part]
            theta[part], sums[part] = _polish(
                form, theta[part], v, log_y, w, delta, lean, anchor, at, tolerance, iterations
            )
    return theta, sums


def _polish(
    form: Form,
    theta: Floats,
    v: Floats,
    log_y: Floats,
    weights: Floats,
    delta: float,
    lean: float,
    anchor: Anchor | None,
    places: NDArray[np.int64],
    tolerance: float,
    iterations: int,
) -> tuple[Floats, Floats]:
    count, size = len(form.coefficients), theta.shape[1]
    low = np.array([-np.inf] * count + [s.low for s in form.shapes])
    high = np.array([np.inf] * count + [s.high for s in form.shapes])
    exact = 1e-30 * np.maximum(weights.sum(axis=1), 1)
    kept, kept_sums = theta.copy(), np.full(len(theta), np.inf)
    at = np.arange(len(theta))
    r, parts, log_sum = _evaluate(form, theta, v, log_y)
    sums = _summed(weights, r, delta, lean) + (0 if anchor is None else anchor(theta, places)[0] ** 2)
    damping = np.full(len(theta), 1e-3)
    eye = np.eye(size)
    for _ in range(iterations):
        j = _jacobian(form, theta, v, parts, log_sum)
        q = delta / np.maximum(np.abs(r), delta) if np.isfinite(delta) else np.ones_like(r)
        wq = weights * q if lean == 1 else weights * q * np.where(r > 0, lean, 1.0)
        gradient = (j @ (wq * r)[..., None])[..., 0]
        curvature = (j * (wq * q ** (_SHARPNESS - 1))[:, None]) @ j.swapaxes(1, 2)
        if anchor is not None:
            off, slope = anchor(theta, places[at])
            gradient -= 2 * off[:, None] * slope
            curvature += 2 * slope[:, :, None] * slope[:, None, :]
        # At a bound a parameter that wants to cross it rests.
        rests = ((theta <= low) & (gradient < 0)) | ((theta >= high) & (gradient > 0))
        diagonal = np.einsum("spp->sp", curvature)
        added = damping[:, None] * diagonal + 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300
        moving = ~rests
        system = (
            curvature * (moving[:, :, None] & moving[:, None, :])
            + np.where(rests, 1.0, added)[..., None] * eye
        )
        good = np.isfinite(system).all(axis=(1, 2)) & np.isfinite(sums)
        system[~good] = eye
        step = np.linalg.solve(system, np.where(rests | ~good[:, None], 0.0, gradient)[..., None])[..., 0]
        tried = np.clip(theta + np.clip(step, -_STEP, _STEP), low, high)
        tried = np.where(rests, theta, tried)
        r2, parts2, log_sum2 = _evaluate(form, tried, v, log_y)
        sums2 = _summed(weights, r2, delta, lean)
        if anchor is not None:
            sums2 = sums2 + anchor(tried, places[at])[0] ** 2
        better = good & (sums2 < sums)
        small = better & (sums - sums2 <= tolerance * sums) & (damping < 1)
        theta[better], r[better], parts[better] = tried[better], r2[better], parts2[better]
        log_sum[better], sums[better] = log_sum2[better], sums2[better]
        damping *= np.where(better, 0.2, 8.0)
        done = small | (damping > 1e8) | ~good | (sums <= exact)
        if done.any():
            kept[at[done]], kept_sums[at[done]] = theta[done], sums[done]
            going = ~done
            at, theta, r, parts, log_sum = at[going], theta[going], r[going], parts[going], log_sum[going]
            sums, damping = sums[going], damping[going]
            weights = weights if len(weights) == 1 else weights[going]
            exact = exact if len(exact) == 1 else exact[going]
            if not len(at):
                break
    kept[at], kept_sums[at] = theta, sums
    return kept, kept_sums


def sums_of(
    form: Form, theta: Floats, v: Floats, log_y: Floats, weights: Floats, delta: float, lean: float = 1.0
) -> Floats:
    """The sum [S] that `polish` lowers, at parameters [S, P]."""
    return _summed(weights, _evaluate(form, theta, v, log_y)[0], delta, lean)


def _summed(weights: Floats, r: Floats, delta: float, lean: float) -> Floats:
    counted = weights if lean == 1 else weights * np.where(r > 0, lean, 1.0)
    found = (counted * huber(r, delta)).sum(axis=1)
    return np.where(np.isfinite(found), found, np.inf)


def _evaluate(form: Form, theta: Floats, v: Floats, log_y: Floats) -> tuple[Floats, Floats, Floats]:
    """Residuals [S, n], each coefficient's share of Σ c φ [S, K, n], and log Σ c φ [S, n]."""
    count = len(form.coefficients)
    log_c, shape = theta[:, :count], theta[:, count:]
    parts = np.exp(form.log_basis(shape, v) + log_c[:, :, None])
    total = parts.sum(axis=1)
    parts /= total[:, None]
    log_sum = np.log(total)
    g = form.power(shape)
    return log_y - (log_sum if g is None else g[:, None] * log_sum), parts, log_sum


def _jacobian(form: Form, theta: Floats, v: Floats, parts: Floats, log_sum: Floats) -> Floats:
    """Derivatives of log f, [S, P, n]."""
    shape = theta[:, len(form.coefficients) :]
    by_shape = form.mixed_slopes(shape, v, parts)
    g = form.power(shape)
    if g is None:
        return np.concatenate([parts, by_shape], axis=1)
    return np.concatenate(
        [
            g[:, None, None] * parts,
            g[:, None, None] * by_shape + form.power_slopes(shape)[..., None] * log_sum[:, None],
        ],
        axis=1,
    )
