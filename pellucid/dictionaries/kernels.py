"""The heavy steps of encoding and training, on tensors: what is sparse stays sparse.

B rows of a batch, D width, N features, E entries (about B·k). Entries lie in compressed rows: `offsets`
[B+1], `features` [E] (int32), `values` [E]. Nothing here allocates [B, N] or [N, D]: the one dense product,
x @ encoder.T + bias, is the caller's (`product`), in bf16. What is selected by it is recomputed in fp32.

Where the tensors lie decides who computes: `compiled` on a processor. A few lines of dense PyTorch that say
what each must compute are in `plain`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pellucid.dictionaries import compiled


@dataclass(frozen=True)
class Wiring:
    """What each feature reads and writes, where that is not all there is."""

    reads: Tensor
    """[N] int8: which part of the input [R, B, D] the encoder row is for."""
    group: Tensor
    """[N] int8: a reconstruction by the first g groups holds the features of group g − 1 and below."""
    groups: int
    """How many such prefixes there are."""
    start: Tensor
    """[N] int32: the first column of the output that the decoder row has a part in; before it, it is zero."""

    @classmethod
    def simple(cls, features: int, prefixes: tuple[int, ...] = ()) -> Wiring:
        """All features read and write everything; prefixes of them, by where they end, reconstruct too."""
        ends = torch.tensor(prefixes or (features,))
        return cls(
            reads=torch.zeros(features, dtype=torch.int8),
            group=torch.searchsorted(ends, torch.arange(features), right=True).to(torch.int8),
            groups=len(ends),
            start=torch.zeros(features, dtype=torch.int32),
        )


class Adam(NamedTuple):
    """Kingma and Ba 2015, with bias correction."""

    rate: float
    beta1: float
    beta2: float
    epsilon: float


class Extra(NamedTuple):
    """Gradients of some features from elsewhere."""

    place: Tensor
    """[N] int32: where in the gradients a feature stands, −1 for nowhere."""
    encoder: Tensor
    """[M, D]."""
    decoder: Tensor
    """[M, D]."""


Pair = tuple[Tensor, Tensor]


def select_per_row(product: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest positive entries of each row: counts [B], features [E], strongest first.

    Ties at the bar go to the lower feature number.

    Args:
        product: [B, N] bf16.
        k: at most so many a row.
    """
    counts, chosen = compiled.select_per_row(_bits(product), k)
    return _tensors(counts, chosen[np.arange(k)[None] < counts[:, None]])


def select_in_batch(product: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The B·k largest positive entries of a batch, and ties with the last: counts [B], features [E].

    Args:
        product: [B, N] bf16.
        k: so many a row on average.
    """
    return _tensors(*compiled.select_in_batch(_bits(product), k))


def positive(product: Tensor) -> tuple[Tensor, Tensor]:
    """All positive entries of [B, N] bf16: counts [B], features [E], ascending within a row."""
    return _tensors(*compiled.positive(_bits(product)))


def dots(x: Tensor, matrix: Tensor, offsets: Tensor, features: Tensor, part: Tensor | None = None) -> Tensor:
    """[E] x[part of the feature, b] · matrix[feature] for every entry, in fp32.

    Args:
        x: [P, B, D]; or [B, D], of which all features read the same.
        matrix: [N, D].
        offsets: [B+1] where rows begin.
        features: [E].
        part: [N] int8, for x with parts.
    """
    parts, which = (x[None], _none(matrix)) if part is None else (x, part)
    return _tensor(compiled.dots_by_group(*_arrays(parts, which, matrix, offsets, features)))


def decode(
    offsets: Tensor,
    features: Tensor,
    values: Tensor,
    decoder: Tensor,
    bias: Tensor,
    wiring: Wiring | None = None,
) -> Tensor:
    """[G, B, D] for each prefix of the groups bias + Σ value · decoder[feature]; [B, D] without a wiring."""
    wired = Wiring.simple(len(decoder)) if wiring is None else wiring
    arrays = _arrays(offsets, features, values, decoder, bias, wired.group)
    found = _tensor(compiled.decode_prefixes(*arrays, wired.groups, wired.start.numpy()))
    return found[0] if wiring is None else found


def update(
    weights: Pair,
    encoder_moments: Pair,
    decoder_moments: Pair,
    entries: tuple[Tensor, Tensor, Tensor, Tensor],
    x: Tensor,
    slopes: Tensor,
    wiring: Wiring,
    extra: Extra,
    adam: Adam,
    step: int,
) -> None:
    """Gradient, Adam and renormalisation, in place. The part of a gradient along a decoder row is taken off.

    Args:
        weights: encoder [N, D] and decoder [N, D'] with unit rows.
        encoder_moments: Adam's first and second moments of the encoder.
        decoder_moments: those of the decoder.
        entries: of each entry the row [E], the feature [E], the value [E], and the gradient by its
            pre-activation [E].
        x: [R, B, D] what was encoded.
        slopes: [G, B, D'] the gradient of the loss by what the features of each group decode to.
        wiring: of the features.
        extra: further gradients.
        adam: its settings at this step.
        step: from 1.
    """
    rows, features, values, pre_slopes = entries
    compiled.update(
        _arrays(*weights),
        _arrays(*encoder_moments),
        _arrays(*decoder_moments),
        _arrays(rows, values, pre_slopes),
        compiled.by_feature(features.numpy(), len(weights[0])),
        x.numpy(),
        slopes.numpy(),
        _arrays(wiring.reads, wiring.group, wiring.start),
        _arrays(*extra),
        tuple(adam),
        step,
    )


def _none(matrix: Tensor) -> Tensor:
    return torch.zeros(len(matrix), dtype=torch.int8)


def _bits(product: Tensor) -> np.ndarray:
    """A bf16 tensor as int16; nothing is copied."""
    return product.view(torch.int16).numpy()


def _arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(t.numpy() for t in tensors)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array)


def _tensors(counts: np.ndarray, features: np.ndarray) -> tuple[Tensor, Tensor]:
    return _tensor(counts), _tensor(features)
