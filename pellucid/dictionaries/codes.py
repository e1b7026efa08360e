"""Codes: the one sparse type of the house.

T tokens, N features. Row t holds the features active on token t, strongest first, in compressed rows:
`features[offsets[t]:offsets[t+1]]` with `values` beside it. Values are positive; what is not listed is zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Codes:
    """Sparse codes of T tokens over N features."""

    offsets: Tensor
    """[T + 1] int64; row t spans offsets[t] to offsets[t + 1]."""
    features: Tensor
    """[entries] int32, the feature numbers."""
    values: Tensor
    """[entries] float32, positive, descending within a row."""
    num_features: int
    """N."""

    @classmethod
    def from_dense(cls, dense: Tensor) -> Codes:
        """Codes of a [T, N] tensor; what is not positive is left out."""
        rows, columns = (dense > 0).nonzero(as_tuple=True)
        return cls.from_entries(
            rows, columns, dense[rows, columns], tokens=dense.shape[0], num_features=dense.shape[1]
        )

    @classmethod
    def from_entries(
        cls, rows: Tensor, features: Tensor, values: Tensor, *, tokens: int, num_features: int
    ) -> Codes:
        """Codes from entries in any order, each (row, feature) at most once."""
        by_value = torch.argsort(values, descending=True, stable=True)
        order = by_value[torch.argsort(rows[by_value], stable=True)]
        offsets = offsets_of(torch.bincount(rows, minlength=tokens))
        return cls(offsets, features[order].to(torch.int32), values[order].float(), num_features)

    def to(self, device: torch.device | str) -> Codes:
        """The same codes on a device."""
        return Codes(
            self.offsets.to(device), self.features.to(device), self.values.to(device), self.num_features
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def rows(self) -> Tensor:
        """[entries] int64: the token of each entry."""
        return rows_of(self.offsets.diff(), len(self.values))

    @property
    def mean_l0(self) -> float:
        """Features active per token, on average."""
        return len(self.values) / max(1, len(self))

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Offsets, features and values in the memory of the processor, for whoever takes many rows."""
        offsets, features, values = (t.cpu().numpy() for t in (self.offsets, self.features, self.values))
        return offsets, features, values

    def row(self, token: int) -> tuple[Tensor, Tensor]:
        """Features and values of one token, strongest first."""
        if not 0 <= token < len(self):
            raise IndexError(f"Token {token} is not among {len(self)}.")
        start, stop = self.offsets[token : token + 2].tolist()
        return self.features[start:stop], self.values[start:stop]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (self.row(t) for t in range(len(self)))

    def column(self, feature: int) -> Tensor:
        """[T] the activation of one feature on every token."""
        hit = self.features == feature
        out = self.values.new_zeros(len(self))
        out[self.rows[hit]] = self.values[hit]
        return out

    def dense(self) -> Tensor:
        """[T, N] as an ordinary tensor."""
        out = self.values.new_zeros(len(self), self.num_features)
        out[self.rows, self.features.long()] = self.values
        return out


def offsets_of(counts: Tensor) -> Tensor:
    """[T + 1] where rows with so many entries [T] begin."""
    found = counts.new_zeros(len(counts) + 1)
    torch.cumsum(counts, 0, out=found[1:])
    return found


def rows_of(counts: Tensor, size: int) -> Tensor:
    """[size] int64: the row of each entry, of rows with so many [T], `size` in all."""
    return torch.repeat_interleave(counts, output_size=size)
