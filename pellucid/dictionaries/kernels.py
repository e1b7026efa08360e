"""The heavy steps of encoding and training, on tensors: what is sparse stays sparse.

B rows of a batch, D width, N features, E entries (about B·k). Entries lie in compressed rows: `offsets`
[B+1], `features` [E] (int32), `values` [E]. Nothing here allocates [B, N] or [N, D]: the one dense product,
x @ encoder.T + bias, is the caller's (`product`), in bf16. What is selected by it is recomputed in fp32.

Where the tensors lie decides who computes: `compiled` on a processor, `triton_kernels` on an accelerator. A
few lines of dense PyTorch that say what each must compute are in `plain`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pellucid.core.errors import InputError

_MODULES = {"cpu": "compiled", "cuda": "triton_kernels"}
"""Who computes on what kind of device; imported on use."""


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
    def simple(
        cls, features: int, prefixes: tuple[int, ...] = (), device: torch.device | str = "cpu"
    ) -> Wiring:
        """All features read and write everything; prefixes of them, by where they end, reconstruct too."""
        ends = torch.tensor(prefixes or (features,)).to(device)
        every = torch.arange(features, device=device)
        return cls(
            reads=torch.zeros(features, dtype=torch.int8, device=device),
            group=torch.searchsorted(ends, every, right=True).to(torch.int8),
            groups=len(ends),
            start=torch.zeros(features, dtype=torch.int32, device=device),
        )

    def of(self, features: Tensor) -> Wiring:
        """That of some features."""
        return Wiring(self.reads[features], self.group[features], self.groups, self.start[features])


class Adam(NamedTuple):
    """Kingma and Ba 2015, with bias correction."""

    rate: float
    beta1: float
    beta2: float
    epsilon: float


class ByFeature(NamedTuple):
    """Entries sorted by feature, those of one in their old order."""

    starts: Tensor
    """[N+1] where the entries of each feature begin."""
    order: Tensor
    """[E] the numbers of the entries."""


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
    """The k largest positive entries of each row: counts [B], features [E], in no order within a row.

    Ties at the bar go to the lower feature number.

    Args:
        product: [B, N] bf16.
        k: at most so many a row.
    """
    counts, features = _call("select_per_row", _bits(product), k)
    if int(counts.sum()) == features.numel():
        return counts, features.flatten()
    return counts, features[torch.arange(k, device=features.device) < counts[:, None]]


def select_in_batch(product: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The B·k largest positive entries of a batch, and ties with the last: counts [B], features [E].

    Args:
        product: [B, N] bf16.
        k: so many a row on average.
    """
    counts, features = _call("select_in_batch", _bits(product), k)
    return counts, features


def positive(product: Tensor) -> tuple[Tensor, Tensor]:
    """All positive entries of [B, N] bf16: counts [B], features [E], ascending within a row."""
    counts, features = _call("positive", _bits(product))
    return counts, features


def dots(x: Tensor, matrix: Tensor, offsets: Tensor, features: Tensor, part: Tensor | None = None) -> Tensor:
    """[E] x[part of the feature, b] · matrix[feature] for every entry, in fp32.

    Args:
        x: [P, B, D]; or [B, D], of which all features read the same.
        matrix: [N, D].
        offsets: [B+1] where rows begin.
        features: [E].
        part: [N] int8, for x with parts.
    """
    if part is None:
        x, part = x[None], torch.zeros(len(matrix), dtype=torch.int8, device=matrix.device)
    found: Tensor = _call("dots_by_group", x, part, matrix, offsets, features)
    return found


def by_feature(features: Tensor, num_features: int) -> ByFeature:
    """The entries [E] of N features, sorted."""
    return ByFeature(*_call("by_feature", features, num_features))


def sums(by_feature: ByFeature, numbers: Tensor) -> Tensor:
    """[N] the sum of the numbers [E] of each feature, added up in double precision."""
    found: Tensor = _call("sums", *by_feature, numbers)
    return found


def tally(
    by_feature: ByFeature, values: Tensor, rows: int, silent_for: Tensor, peak: Tensor, fired: Tensor
) -> None:
    """Count, in place, which features were active on a batch.

    Args:
        by_feature: its entries.
        values: [E], zero for an entry that is not active.
        rows: B.
        silent_for: [N] int64 rows since each feature was active.
        peak: [N] float32 the largest value of each.
        fired: [N] int64 on how many rows each was active.
    """
    _call("tally", *by_feature, values, rows, silent_for, peak, fired)


def decode(
    offsets: Tensor,
    features: Tensor,
    values: Tensor,
    decoder: Tensor,
    bias: Tensor,
    wiring: Wiring | None = None,
) -> Tensor:
    """[G, B, D] for each prefix of the groups bias + Σ value · decoder[feature]; [B, D] without a wiring."""
    wired = Wiring.simple(len(decoder), device=decoder.device) if wiring is None else wiring
    entries = offsets, features, values
    shape = wired.group, wired.groups, wired.start
    found: Tensor = _call("decode_prefixes", *entries, decoder, bias, *shape)
    return found[0] if wiring is None else found


def miss(
    offsets: Tensor,
    features: Tensor,
    values: Tensor,
    decoder: Tensor,
    bias: Tensor,
    wiring: Wiring,
    aim: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """What entries decode to less what was aimed at [B, D], for features of one group.

    Returns:
        The errors [1, B, D], their squared lengths [B], and the product of each entry's decoder row with the
        error of its row of the batch [E].
    """
    shape = wiring.group, wiring.start
    errors, squares, along = _call("miss", offsets, features, values, decoder, bias, *shape, aim.contiguous())
    return errors, squares, along


def update(
    weights: Pair,
    encoder_moments: Pair,
    decoder_moments: Pair,
    entries: tuple[Tensor, Tensor, Tensor],
    by_feature: ByFeature,
    x: Tensor,
    slopes: Tensor,
    wiring: Wiring,
    extra: Extra,
    adam: Adam,
    step: int,
    clock: Tensor | None = None,
) -> None:
    """Gradient, Adam and renormalisation, in place. The part of a gradient along a decoder row is taken off.

    Args:
        weights: encoder [N, D] and decoder [N, D'] with unit rows.
        encoder_moments: Adam's first and second moments of the encoder.
        decoder_moments: those of the decoder.
        entries: of each entry the row [E], the value [E], and the gradient by its pre-activation [E].
        by_feature: the entries, sorted.
        x: [R, B, D] what was encoded.
        slopes: [G, B, D'] the gradient of the loss by what the features of each group decode to.
        wiring: of the features.
        extra: further gradients.
        adam: its settings at this step.
        step: from 1.
        clock: [N] int32 how many steps each row has taken: only rows with a gradient then take one, and
            bias correction goes by a row's own steps. Without it, all rows take every step.
    """
    _call(
        "update",
        weights,
        encoder_moments,
        decoder_moments,
        entries,
        tuple(by_feature),
        x,
        slopes,
        (wiring.reads, wiring.group, wiring.start),
        tuple(extra),
        tuple(adam),
        step,
        torch.empty_like(extra.place) if clock is None else clock,
        clock is not None,
    )


def move(vector: Tensor, moments: Pair, gradient: Tensor, adam: Adam, step: int) -> None:
    """One step of Adam on a vector, in place; steps count from 1."""
    first, second = moments
    if _MODULES.get(vector.device.type) == "triton_kernels":
        _call("move", vector, first, second, gradient, tuple(adam), step)
        return
    b1, b2 = adam.beta1, adam.beta2
    first.mul_(b1).add_(gradient, alpha=1 - b1)
    second.mul_(b2).add_(gradient.square(), alpha=1 - b2)
    mean, square = first / (1 - b1**step), second / (1 - b2**step)
    vector -= adam.rate * mean / (square.sqrt() + adam.epsilon)


def _call(name: str, *arguments: Any) -> Any:
    """A kernel on its arguments, the first of which is a tensor or a tuple of them."""
    first = arguments[0]
    device = (first[0] if isinstance(first, tuple) else first).device.type
    if device not in _MODULES:
        raise InputError(
            f"There are kernels for {' and '.join(_MODULES)}, and the activations lie on {device!r}. "
            "Load the model on one of those."
        )
    kernel = getattr(import_module(f"pellucid.dictionaries.{_MODULES[device]}"), name)
    return _tensors(kernel(*_arrays(arguments))) if _MODULES[device] == "compiled" else kernel(*arguments)


def _bits(product: Tensor) -> Tensor:
    """A bf16 tensor as int16; nothing is copied."""
    return product.view(torch.int16)


def _arrays(value: Any) -> Any:
    """Tensors, also in tuples, as arrays on the same memory."""
    if isinstance(value, tuple):
        return tuple(_arrays(v) for v in value)
    return value.numpy() if isinstance(value, Tensor) else value


def _tensors(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_tensors(v) for v in value)
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value
