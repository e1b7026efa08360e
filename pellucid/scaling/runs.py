"""Runs: what was trained, with how much, and what came out; the cuts made to them, each one told.

A run has a value for each variable (N parameters, D tokens, C FLOPs, U unique tokens, epochs, width, depth,
…), a value of the metric, and the name of the training it belongs to: checkpoints of one training are one
cluster. Rows that are copies of one another count once. What can be derived is derived: C = 6ND or its
inverses, and D = U · epochs. Everything of this kind is noted.
The module knows no files (`reading.py`) and no laws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pellucid.core.errors import InputError
from pellucid.scaling.arrays import Floats
from pellucid.scaling.forms import PLAIN, Form

_DERIVED = (
    ("D", "C/(6N)", ("C", "N"), lambda c, n: c / (6 * n)),
    ("N", "C/(6D)", ("C", "D"), lambda c, d: c / (6 * d)),
    ("C", "6ND", ("N", "D"), lambda n, d: 6 * n * d),
    ("U", "D/epochs", ("D", "epochs"), lambda d, e: d / e),
    ("epochs", "D/U", ("D", "U"), lambda d, u: d / u),
)
ORDER = ("C", "D", "N", "year", "x")
FALLING = ("loss",)  # the smaller, the further along


@dataclass(frozen=True)
class Runs:
    """Some runs; rows of all arrays are the same runs."""

    values: Mapping[str, Floats]
    """For each variable its values [n], in whatever unit the caller uses throughout."""
    y: Floats
    """The metric [n], above zero."""
    metric: str
    cluster: NDArray[np.int64]
    """Which training a row belongs to, [n], from 0."""
    labels: tuple[str, ...]
    """What each row is called in messages, such as `runs.csv:12`."""
    notes: tuple[str, ...] = ()
    """What was derived, mapped or cut; shown with every result."""
    x_is: str | None = None
    """The variable that `x` stands for, once one was chosen."""

    @classmethod
    def of(
        cls,
        values: Mapping[str, Sequence[float] | Floats],
        y: Sequence[float] | Floats,
        *,
        metric: str = "loss",
        run: Sequence[object] | None = None,
        labels: Sequence[str] | None = None,
        notes: Sequence[str] = (),
    ) -> Runs:
        """Runs from columns.

        Args:
            values: for each variable its values [n].
            y: the metric [n].
            metric: what the metric is called.
            run: for each row the training it is a checkpoint of; without it, each row is a training of its
                own.
            labels: what each row is called in messages.
            notes: what is to be told beside results.

        Raises:
            InputError: when columns differ in length, there are no rows, or a value is not finite and above
                zero.
        """
        arrays = {name: np.asarray(column, float) for name, column in values.items()}
        target = np.asarray(y, float)
        labels = tuple(labels) if labels is not None else tuple(f"row {i + 1}" for i in range(len(target)))
        if target.ndim != 1 or not len(target):
            raise InputError(f"Expected at least one run; got {target.shape} values of {metric!r}.")
        for name, column in {**arrays, metric: target}.items():
            if column.shape != target.shape:
                raise InputError(f"{name!r} has {column.shape} values, {metric!r} has {target.shape}.")
            wrong = ~np.isfinite(column) | ((column <= 0) if name not in PLAIN else False)
            if wrong.any():
                where = int(np.argmax(wrong))
                raise InputError(
                    f"{labels[where]}, {name!r}: expected a finite "
                    f"number{'' if name in PLAIN else ' above zero'}; "
                    f"got {column[where]:g}. Mend the value, or cut the row with a condition."
                )
        if run is not None and len(run) != len(target):
            raise InputError(f"There are {len(run)} names of runs for {len(target)} rows.")
        names = (
            np.arange(len(target))
            if run is None
            else np.unique([str(r) for r in run], return_inverse=True)[1]
        )
        told = list(notes)
        said = np.stack([*arrays.values(), target, *([] if run is None else [names])], axis=1)
        first = np.sort(np.unique(said, axis=0, return_index=True)[1])
        if len(first) < len(target):
            told.append(
                f"{len(target) - len(first)} of {len(target)} rows are copies of others, and count once."
            )
            arrays = {name: column[first] for name, column in arrays.items()}
            target, names, labels = target[first], names[first], tuple(labels[i] for i in first)
        for name, how, sources, derive in _DERIVED:
            if name not in arrays and all(s in arrays for s in sources):
                arrays[name] = derive(*(arrays[s] for s in sources))
                told.append(f"{name} is derived: {name} = {how}.")
        cluster = np.asarray(np.unique(names, return_inverse=True)[1], np.int64)
        return cls(arrays, target, metric, cluster, labels, tuple(told))

    def __len__(self) -> int:
        return len(self.y)

    @property
    def trainings(self) -> int:
        """How many clusters there are."""
        return len(np.unique(self.cluster))

    @property
    def own(self) -> dict[str, Floats]:
        """The values without `x` where that only repeats another variable."""
        return {name: column for name, column in self.values.items() if name != "x" or self.x_is is None}

    def coordinates(self, form: Form) -> Floats:
        """Coordinates [V, n] of the runs under a form.

        Raises:
            InputError: when the form needs a variable that the runs do not have.
        """
        return form.coordinates(self.values)

    @property
    def ordered_by(self) -> str:
        """The variable that says how far along a run is: compute, or else the one there is."""
        found = next((n for n in ORDER if n in self.values), next(iter(self.values)))
        return self.x_is or found if found == "x" else found

    @property
    def order(self) -> Floats:
        """How far along each run is, [n]: the log₁₀ of that variable; years as they are."""
        return self.order_by(self.ordered_by)

    def order_by(self, name: str) -> Floats:
        """How far along each run is by a variable of that name, [n]."""
        if name in PLAIN:
            return np.asarray(self.values[name])
        return np.log10(self.values[name]) * (-1 if name in FALLING else 1)

    def along(self, variable: str | None) -> Runs:
        """The same runs with `x` set to a variable.

        Where None is named, an `x` of the runs' own stays; without one it is C, D, N or the only variable.

        Raises:
            InputError: when the runs have no such variable.
        """
        if variable is None:
            variable = "x" if "x" in self.values else self.ordered_by
        if variable not in self.values:
            raise InputError(f"There is no variable {variable!r}; there are {', '.join(self.values)}.")
        if variable == "x":
            return self
        return replace(self, values={**self.values, "x": self.values[variable]}, x_is=variable)

    def kept(self, rows: NDArray[np.bool_], why: str | None = None) -> Runs:
        """The rows [n] that are true; `why` is noted with their number unless it is None.

        Raises:
            InputError: when no row is left.
        """
        if not rows.any():
            raise InputError(f"No run is left of {len(self)} after {why or 'a cut'}. Loosen the condition.")
        notes = (
            self.notes
            if why is None
            else (*self.notes, f"{why}: {int((~rows).sum())} of {len(self)} rows cut.")
        )
        return Runs(
            {name: column[rows] for name, column in self.values.items()},
            self.y[rows],
            self.metric,
            np.unique(self.cluster[rows], return_inverse=True)[1],
            tuple(label for label, keep in zip(self.labels, rows, strict=True) if keep),
            notes,
            self.x_is,
        )

    def without_highest(self, count: int) -> Runs:
        """The runs less the `count` with the highest metric.

        Raises:
            InputError: when none is left, or `count` is below 0.
        """
        if count < 0:
            raise InputError(f"Expected how many runs to cut, 0 or more; got {count}.")
        if count == 0:
            return self
        rows = np.ones(len(self), bool)
        rows[np.argsort(-self.y, kind="stable")[:count]] = False
        return self.kept(rows, f"the {count} highest values of {self.metric!r}")
