"""Every error Pellucid raises on purpose, split by who can act on it.

    PellucidError
    ├── InputError            the caller: a wrong name, number, file or setting
    │   ├── UnknownNameError  the name is not one of those that exist; the nearest is suggested
    │   └── NoEffectError     an edit changed nothing
    ├── IntegrityError        a file is damaged, or is not the one that was meant
    ├── MissingDependencyError  the environment: an extra is not installed (with the install line)
    ├── WorkerError           the machine: one of several workers of a run was ended
    ├── UpstreamError         a registry, a hub or an endpoint did not deliver
    ├── BudgetError           the next request might cost more than may be spent
    └── LabelError            one feature's label could not be had: an explainer's answer was none

A message says what was expected, what came, where, and what to do. The command line prints it without a
traceback; anything else that escapes is a defect of ours.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PellucidError(Exception):
    """The root: catching it catches all that Pellucid raises on purpose."""


class InputError(PellucidError, ValueError):
    """The caller passed something that cannot be used."""


class UnknownNameError(InputError):
    """A name is not among those that exist."""

    def __init__(self, kind: str, name: object, names: Iterable[object]) -> None:
        known = [str(n) for n in names]
        near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        shown = ", ".join(known[:12]) + (f", … ({len(known)} in all)" if len(known) > 12 else "")
        super().__init__(f"There is no {kind} {str(name)!r}.{hint} Known: {shown or 'none'}.")
        self.nearest = near[0] if near else None


class NoEffectError(InputError):
    """An edit changed nothing: neither the activations nor what the model says next."""


class IntegrityError(PellucidError):
    """A file is truncated, corrupted, of another format, or not the one whose digest was named."""


class MissingDependencyError(PellucidError, ImportError):
    """An optional library is not installed; the message carries the install line."""

    def __init__(self, library: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {library!r}, which is not installed. Run: pip install 'pellucid[{extra}]'"
        )


class WorkerError(PellucidError):
    """One of several workers of a run was ended, or could not be started."""


class UpstreamError(PellucidError):
    """A package registry, a hub or an endpoint did not deliver what was asked for."""


class BudgetError(PellucidError):
    """The next request might cost more than is left of a budget; nothing was sent."""


class LabelError(PellucidError):
    """A label could not be written or tested; other features are not concerned."""
