"""A law to plan with, from training runs: the fit and its bootstrap draws, in the order of the planner.

Only forms whose loss is E + A/N^alpha + B/D^beta can be planned with: `chinchilla`, and `tied`, whose two
exponents are one. A draw of which a term fell to zero has no optimum; it is left out, and that is noted.
"""

from __future__ import annotations

import numpy as np

from pellucid.core.errors import InputError, UnknownNameError
from pellucid.scaling.arrays import Floats
from pellucid.scaling.fit import fit
from pellucid.scaling.runs import Runs
from pellucid.scaling.surface import Law
from pellucid.scaling.uncertainty import bootstrap

FORMS = ("chinchilla", "tied")
DRAWS = 1000


def law_of(runs: Runs, form: str = "chinchilla", *, draws: int = DRAWS, name: str = "fitted") -> Law:
    """Fit runs, with draws.

    Args:
        runs: the runs, with N and D.
        form: `chinchilla` or `tied`.
        draws: bootstrap draws.
        name: what to call the law.

    Raises:
        UnknownNameError: when plans are not made with the form.
        InputError: when a term of the fitted law is zero, or of nearly every draw.
    """
    if form not in FORMS:
        raise UnknownNameError("form to plan with", form, FORMS)
    fitted = fit(runs, form)
    drawn = bootstrap(fitted, draws)
    rows = _rows(np.concatenate([fitted.parameters[None], drawn.draws]))
    sound = np.isfinite(rows).all(1) & (rows[:, 0] >= 0) & (rows[:, 1:] > 0).all(1)
    kept = rows[1:][sound[1:]]
    if not sound[0] or len(kept) < draws / 2:
        raise InputError(
            f"The runs cannot tell what a plan needs: in {draws - len(kept):,} of {draws:,} draws of the "
            f"form {form!r} a term or an exponent is zero. "
            "Add runs that differ more in N and D, or fit the form 'tied'."
        )
    E, A, B, alpha, beta = rows[0].tolist()
    left = draws - len(kept)
    notes = (f"{left:,} of {draws:,} draws had a term at zero and are left out.",) if left else ()
    return Law(name, (E, A, B, alpha, beta), kept, fitted.scale, (*runs.notes, *drawn.notes, *notes))


def _rows(natural: Floats) -> Floats:
    """E, A, B, alpha, beta of either form's parameters."""
    return natural if natural.shape[1] == 5 else np.concatenate([natural, natural[:, 3:]], axis=1)
