"""A crew: the workers of one training run, and what they must do together.

A worker holds the features of its shard, with their moments and counts, and looks at its share of the rows of
a batch. Nearly all of a step concerns one feature, and needs nobody else. What does concern others is here:
which entries are the largest of all, what all features together reconstruct, and a few sums.

`Crew` is a crew of one, whose methods give back what they are given; `workers` has the crew of many. Trainer
and rules call these methods and do not know which it is.

B rows of a batch, N features in all, n of them in a shard, P parts that are read by different features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.dictionaries import kernels

T = TypeVar("T")


@dataclass(frozen=True)
class Crew:
    """One worker that does everything."""

    parts: int = 1
    """P: features are shared out part by part, so that every shard has as many of each."""
    rank: int = 0
    """The number of this worker."""
    size: int = 1
    """How many workers there are."""
    shards: int = 1
    """Over how many of them the features are shared out; over the rest, the rows of a batch."""

    @property
    def shard(self) -> int:
        """Which features this worker holds."""
        return self.rank % self.shards

    @property
    def groups(self) -> int:
        """How many groups of workers there are that look at different rows."""
        return self.size // self.shards

    @property
    def leads(self) -> bool:
        """Whether this is the worker that keeps the run's record."""
        return self.rank == 0

    @property
    def received(self) -> dict[str, int]:
        """Bytes that other workers have sent to this one so far, by what for."""
        return {}

    def check(self, features: int, batch_tokens: int) -> None:
        """Refuse what cannot be shared out evenly.

        Raises:
            InputError: when it cannot.
        """
        if self.shards < 1 or self.size % self.shards:
            raise InputError(
                f"{self.size} workers cannot be divided into groups of {self.shards}. "
                "Give --shards a divisor of --workers."
            )
        if features % (self.parts * self.shards):
            raise InputError(
                f"{features} features cannot be shared out evenly over {self.shards} workers. "
                f"Ask for a multiple of {self.parts * self.shards}."
            )
        if batch_tokens % self.groups:
            raise InputError(
                f"Batches of {batch_tokens} tokens cannot be shared out evenly over "
                f"{self.groups} groups of workers. Give another --batch-tokens or --shards."
            )

    def own(self, features: int) -> Tensor:
        """[n] the numbers of this worker's features, of N, ascending."""
        return torch.arange(features).reshape(self.parts, self.shards, -1)[:, self.shard].flatten()

    def rows(self, count: int) -> slice:
        """The rows of a batch of B that this worker looks at."""
        share = count // self.groups
        at = self.rank // self.shards * share
        return slice(at, at + share)

    def once(self, x: Tensor) -> Tensor:
        """What is to enter a sum over the shards one time: zeros everywhere but in the first."""
        return x if self.shard == 0 else torch.zeros_like(x)

    def sum(self, x: Tensor) -> Tensor:
        """The sum over the shards."""
        return x

    def total(self, number: float) -> float:
        """The sum over the shards."""
        return float(number)

    def least(self, number: float) -> float:
        """The least of the shards' numbers."""
        return number

    def pool(self, x: Tensor, dim: int = 0) -> Tensor:
        """What all who hold the same features found in their rows, in the order of the rows."""
        return x

    def told(self, value: T) -> T:
        """The value that the leader gave."""
        return value

    def collect(self, value: T) -> list[T]:
        """The values of all workers, by their number."""
        return [value]

    def select_per_row(self, product: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """This worker's part of the k largest positive entries of each row; see `kernels`."""
        return kernels.select_per_row(product, k)

    def select_in_batch(self, product: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """This worker's part of the B·k largest positive entries of the batch; see `kernels`."""
        return kernels.select_in_batch(product, k)

    def strongest(self, pre: Tensor, count: int) -> Tensor:
        """[B, m] of pre-activations [B, m] those that are positive and among the `count` largest of a row."""
        values, chosen = pre.topk(count, dim=1)
        return torch.zeros_like(pre).scatter_(1, chosen, values.clamp(min=0))


ALONE = Crew()
"""What is called for without a crew."""
