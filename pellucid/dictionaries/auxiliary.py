"""The auxiliary loss: silent features explain what the others leave unexplained (AuxK, Gao et al. 2024, A.2).

What goes in is what a batch read and its error; what comes out are gradients for the silent features alone,
which join those of the loss in the update. B rows of a batch, N features, M of them silent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pellucid.dictionaries import kernels, routing
from pellucid.dictionaries.codes import offsets_of
from pellucid.dictionaries.crew import Crew
from pellucid.dictionaries.kernels import Extra
from pellucid.dictionaries.routing import Router

_WEIGHT = 1 / 32  # Gao et al. 2024, A.2
_ROWS = 1024  # silent features are few: a quarter of the batch shows them the error well enough

Weights = tuple[Tensor, Tensor, Tensor]
"""Encoder [N, D], encoder bias [N], decoder [N, D']."""


def gradients(
    x: Tensor, error: Tensor, weights: Weights, silent: Tensor, by_part: list[int], most: int, crew: Crew
) -> tuple[Extra, Tensor]:
    """Of the `most` strongest silent features of each row.

    Args:
        x: [R, B, D] what was read.
        error: [B, D'].
        weights: of this worker's features.
        silent: [N] which of them are silent.
        by_part: how many of them read each part; features are in the order of the parts they read.
        most: of all workers.
        crew: the workers.

    Returns:
        Those of encoder and decoder rows, and [M] of the encoder bias.
    """
    encoder, bias, decoder = weights
    chosen = _those(silent, sum(by_part))
    place = torch.full((len(encoder),), -1, dtype=torch.int32, device=x.device)
    place[chosen] = torch.arange(len(chosen), dtype=torch.int32, device=x.device)
    x, aim = x[:, :_ROWS], -error[:_ROWS]
    rows, decoder = torch.split(encoder[chosen], by_part), decoder[chosen]
    pre = torch.cat([part @ mine.T for part, mine in zip(x, rows, strict=True)], dim=1)
    pre += bias[chosen]
    codes = crew.strongest(pre, most)
    miss = crew.sum(codes @ decoder) - aim
    weight = _weight(aim)
    slope = torch.where(codes > 0, (miss @ decoder.T) * weight, 0)
    slopes = torch.split(slope, by_part, dim=1)
    by_encoder = torch.cat([mine.T @ part for part, mine in zip(x, slopes, strict=True)])
    return Extra(place, by_encoder, (codes.T @ miss) * weight), slope.sum(0)


def gradients_within(
    x: Tensor, error: Tensor, weights: Weights, silent: Tensor, router: Router, k: int
) -> tuple[Extra, Tensor]:
    """The same for the silent features in the groups that a token visits, at most k of them.

    Elsewhere one could explain nothing; and of very many features, very many may be silent.
    """
    encoder, bias, decoder = weights
    x, aim = x[:_ROWS], -error[:_ROWS]
    scores, groups = router.scores(x, encoder, bias, roughly=True)
    scores.masked_fill_(~silent.view(len(router.rows), -1)[groups].flatten(1), 0)
    values, columns = scores.topk(k, dim=1)
    active = values > 0
    offsets = offsets_of(active.sum(1))
    entries = _those(active.flatten(), int(offsets[-1]))
    rows = entries // k
    features = router.features(groups, rows, columns.flatten()[entries], len(bias))
    values = (kernels.dots(x, encoder, offsets, features) + bias[features]).clamp(min=0)
    miss = kernels.decode(offsets, features, values, decoder, error.new_zeros(error.shape[1])) - aim
    weight = _weight(aim)
    slope = torch.where(values > 0, kernels.dots(miss, decoder, offsets, features) * weight, 0)
    chosen = torch.zeros_like(silent)
    chosen[features] = True
    place = torch.where(chosen, chosen.cumsum(0) - 1, -1).int()
    # As many rows as there may be features; how many there are is not waited for.
    which, room = place[features], min(len(features), len(bias))
    by_encoder = routing.sums_by(which, slope[:, None] * x[rows], room)
    by_decoder = routing.sums_by(which, (values * weight)[:, None] * miss[rows], room)
    by_bias = routing.sums_by(which, slope[:, None], room)[:, 0]
    return Extra(place, by_encoder, by_decoder), by_bias


def _those(mask: Tensor, count: int) -> Tensor:
    """[count] where a mask is true, which is nowhere waited for."""
    return torch.nonzero_static(mask, size=count)[:, 0] if count else mask.new_zeros(0, dtype=torch.int64)


def _weight(aim: Tensor) -> Tensor:
    """By which a squared error enters the loss, doubled; no tensor axes."""
    return 2 * _WEIGHT / aim.square().sum().clamp(min=1e-9)
