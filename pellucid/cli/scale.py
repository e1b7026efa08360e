"""`pellucid scale`: a law from training runs, forecasts with measured intervals, alarms, plans and prices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter

if TYPE_CHECKING:
    from pellucid.scaling.runs import Runs

app = App(
    name="scale",
    help="From training runs to a law, a forecast, a plan and a price.",
    help_format="plaintext",
)

# Each has a file of its own, imported when it is called.
_VERBS = {
    "fit": "Fit a law to training runs, and say how sure each parameter is.",
    "forecast": "Forecast runs that were not made, with intervals calibrated by backtests inside the data.",
    "check": "Look for reasons not to rely on a law; ends with status 3 when an alarm fires.",
    "plan": "Say what to train: parameters and tokens for a loss or a budget.",
    "price": "Say what a model's tokens cost, with training spread over its life.",
    "next": "Propose the run that would sharpen a forecast most for its cost.",
    "laws": "List published laws, and whether this engine finds their figures again.",
    "count": "Count parameters and FLOPs, or fit runs, under each convention.",
    "bench": "Score forms, the last value and the ensemble on held-out runs of one curve or of many.",
}

for _verb, _help in _VERBS.items():
    app.command(f"pellucid.cli.scale_{_verb}:app", name=_verb, help=_help)

Words = Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")]
Flag = Annotated[bool, Parameter(negative="")]


@Parameter(name="*")
@dataclass(frozen=True)
class Reading:
    """How a file of runs is read."""

    metric: str | None = None
    """the column of the metric, or what it leaves of 1, such as "1 - accuracy"; without it, the one column
    that is called like a metric."""
    column: Words = None
    """variables and their columns, such as N="Model Size" D=tokens; others are found by common names."""
    run: str | None = None
    """the column that names the training a row is a checkpoint of."""
    where: Words = None
    """conditions that rows must meet, such as "N >= 1e8" or "state == finished"."""
    drop_highest: int = 0
    """cut so many rows with the highest metric."""
    x: str | None = None
    """the variable that forms of one variable are of; without it a column x, or C, D, N or the only one."""

    def read(self, path: Path, further: Sequence[str] = ()) -> Runs:
        """The runs in a file that meet the conditions and further ones."""
        from pellucid.scaling.reading import read_runs

        made = read_runs(
            path,
            metric=self.metric,
            columns=pairs(self.column or ()),
            run=self.run,
            where=[*(self.where or ()), *further],
            drop_highest=self.drop_highest,
        )
        return made.along(self.x)


AS_FOUND = Reading()


def pairs(words: Sequence[str]) -> dict[str, str]:
    """Read `N=Model Size` as a variable and a column.

    Raises:
        InputError: when a word has no `=`.
    """
    from pellucid.core.errors import InputError

    found = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name or not value:
            raise InputError(f'Expected a variable and a column, such as N="Model Size"; got {word!r}.')
        found[name.strip()] = value.strip()
    return found
