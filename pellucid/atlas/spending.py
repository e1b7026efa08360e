"""A budget that is never passed: the most a request can cost is set aside before it is sent.

Amounts are whole billionths of a dollar, on disk before a request leaves. What was set aside counts as spent
until the endpoint has said what it took; so does a request that nobody knows the end of, because it timed
out or the process was killed. An endpoint that takes more than it was asked for is the one thing that cannot
be held back: the difference is counted, and nothing more is sent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pellucid.atlas.kept_labels import Kept
from pellucid.core.errors import BudgetError, InputError

_NANOS = 1_000_000_000


@dataclass(frozen=True)
class Prices:
    """What an endpoint takes, in dollars for a million tokens."""

    read: float
    """For tokens it is sent."""
    written: float
    """For tokens it answers with."""

    def __post_init__(self) -> None:
        if not (0 <= self.read < math.inf and 0 <= self.written < math.inf):
            raise InputError(f"Prices are dollars for a million tokens, 0 or more; got {self}.")

    def nanos(self, read: int, written: int) -> int:
        """What so many tokens cost, in billionths of a dollar, rounded up."""
        return math.ceil((read * self.read + written * self.written) * 1000)


FREE = Prices(0, 0)


class Budget:
    """What a job has spent, in this sitting and those before, and what it may."""

    def __init__(self, kept: Kept, dollars: float | None = None) -> None:
        """Go on with what was spent.

        Args:
            kept: where the amounts are.
            dollars: the most that may be spent in all; none means no limit.

        Raises:
            InputError: when that is not an amount.
        """
        if dollars is not None and not 0 <= dollars < math.inf:
            raise InputError(f"A budget is an amount of dollars, 0 or more; got {dollars}.")
        self._kept = kept
        self._limit = None if dollars is None else math.floor(dollars * _NANOS)
        with kept.transaction() as run:
            run("CREATE TABLE IF NOT EXISTS spent (request INTEGER PRIMARY KEY, nanos INTEGER NOT NULL)", ())

    @property
    def dollars(self) -> float:
        """Spent so far, with what is set aside."""
        with self._kept.transaction() as run:
            return int(run("SELECT COALESCE(SUM(nanos), 0) FROM spent", ())[0][0]) / _NANOS

    def reserve(self, nanos: int) -> int:
        """Set an amount aside; returns the number it is settled by.

        Raises:
            BudgetError: when it is more than is left. Nothing is set aside then.
        """
        with self._kept.transaction() as run:
            spent = int(run("SELECT COALESCE(SUM(nanos), 0) FROM spent", ())[0][0])
            if self._limit is not None and spent + nanos > self._limit:
                raise BudgetError(
                    f"The next request may cost ${nanos / _NANOS:.4f}, and of the budget of "
                    f"${self._limit / _NANOS:.2f} there is ${max(0, self._limit - spent) / _NANOS:.4f} left. "
                    "Repeat the command with a larger --budget to go on."
                )
            return int(run("INSERT INTO spent (nanos) VALUES (?) RETURNING request", (nanos,))[0][0])

    def settle(self, request: int, nanos: int) -> None:
        """Put what a request did cost in the place of what was set aside for it."""
        with self._kept.transaction() as run:
            run("UPDATE spent SET nanos = ? WHERE request = ?", (nanos, request))
