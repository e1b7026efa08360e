"""Routing: a token's active features are looked for in a few groups of features, not in all.

N features lie in G groups of S, about √N of √N. A router row for each group scores the activation; the best P
groups are visited, and pre-activations are computed inside those alone. The cost of a token is (G + P·S)·D in
place of N·D: with P fixed it grows as √N.

    which groups    the P largest of router · x + router bias
    which features  what the architecture selects among the P·S pre-activations of those groups

Router rows are the centres of spherical k-means over activations (inverted lists: Jégou et al. 2011;
clustering for the largest inner products: Auvolat et al. 2015, arXiv 1507.05910), and stay fixed: the model
that is read does not change, so neither does what is to be divided. Features begin as tokens of their group.
Unlike experts of which one is chosen (Switch SAE, Mudide et al. 2024, arXiv 2410.08201), the groups of a
token compete for its k features, and values are not scaled by the router.

B rows of a batch, D width. The columns of a routed product are the P·S features of the groups visited, in
ascending order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pellucid.dictionaries.product import with_bias

_ITERATIONS = 10
_ROWS_AT_ONCE = 4096
_GROUPS_AT_ONCE = 512  # torch multiplies fewer than 1,024 in one call


@dataclass(frozen=True)
class Router:
    """Says in which groups of features the active ones of a token are looked for."""

    rows: Tensor
    """[G, D] float32."""
    bias: Tensor
    """[G] float32."""
    visits: int
    """P: groups a token is looked for in."""

    def centred_at(self, centre: Tensor) -> Router:
        """The same for activations from which the centre [D] was not taken."""
        return Router(self.rows, self.bias - self.rows @ centre, self.visits)

    def reading(self, scale: Tensor) -> Router:
        """The same for activations that were not multiplied by a scale [D]."""
        return Router(self.rows * scale, self.bias, self.visits)

    def to(self, device: torch.device | str) -> Router:
        """The same with its tensors on a device."""
        return Router(self.rows.to(device), self.bias.to(device), self.visits)

    def groups(self, x: Tensor) -> Tensor:
        """[B, P] the groups visited for activations [B, D], ascending."""
        scores = torch.addmm(self.bias, x, self.rows.T)
        return scores.topk(self.visits, dim=1).indices.sort(dim=1).values

    def scores(
        self,
        x: Tensor,
        encoder: Tensor,
        bias: Tensor,
        *,
        roughly: bool = False,
        laid: np.ndarray | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The pre-activations inside the groups visited [B, P·S], and these groups [B, P].

        One product for each group, of the rows that visit it, so that its encoder rows are read once.

        Args:
            x: [B, D].
            encoder: [N, D], group after group.
            bias: [N].
            roughly: in bf16, on an accelerator and where the processor multiplies tiles of it.
            laid: see `laid_out`.
        """
        groups = self.groups(x)
        size = len(encoder) // len(self.rows)
        ordered, order = groups.flatten().sort(stable=True)
        starts = _starts(ordered, len(self.rows))
        if roughly and _has_tile_unit(x.device):
            from pellucid.dictionaries import grouped

            of_groups = encoder.view(len(self.rows), size, -1), bias.view(len(self.rows), size)
            found = grouped.products(x, *of_groups, order, starts, laid)
        elif x.device.type == "cpu" or not roughly:
            found = torch.empty(groups.numel(), size, device=x.device)
            for group, places in enumerate(torch.split(order, starts.diff().cpu().tolist())):
                if len(places):
                    mine = slice(group * size, (group + 1) * size)
                    found[places] = torch.addmm(bias[mine], x[places // self.visits], encoder[mine].T)
        else:
            rows, weights = with_bias(x, encoder, bias)
            every = _products(rows[order // self.visits], weights.view(len(self.rows), size, -1), starts)
            found = torch.empty_like(every)
            found[order] = every
        return found.view(len(x), self.visits * size), groups

    def laid_out(self, encoder: Tensor) -> np.ndarray | None:
        """An encoder [N, D] that stays as it is, laid out for rough scores, where that saves time."""
        if not _has_tile_unit(encoder.device):
            return None
        from pellucid.dictionaries import grouped

        return grouped.laid_out(encoder.view(len(self.rows), -1, encoder.shape[1]))

    def features(self, groups: Tensor, rows: Tensor, columns: Tensor, features: int) -> Tensor:
        """[E] int32 the features behind columns of a routed product.

        Args:
            groups: [B, P].
            rows: [E] the row of each entry.
            columns: [E].
            features: N.
        """
        size = features // len(self.rows)
        columns = columns.long()
        return (groups[rows, columns // size] * size + columns % size).int()


def _has_tile_unit(device: torch.device) -> bool:
    if device.type != "cpu":
        return False
    from pellucid.models import tiles

    return tiles.has_tile_unit()


def _products(rows: Tensor, weights: Tensor, starts: Tensor) -> Tensor:
    """[T, S] rows [T, D] times [G, S, D]: those from starts[0] to starts[1] with weights[0], and so on."""
    cuts = range(0, len(weights), _GROUPS_AT_ONCE)
    begin = starts[:-1:_GROUPS_AT_ONCE].cpu().tolist() if len(cuts) > 1 else [0]
    parts = []
    for at, first, stop in zip(cuts, begin, [*begin[1:], len(rows)], strict=True):
        mine = weights[at : at + _GROUPS_AT_ONCE].transpose(1, 2)
        ends = (starts[at + 1 : at + 1 + len(mine)] - starts[at]).int()
        parts.append(torch.nn.functional.grouped_mm(rows[first:stop], mine, offs=ends))
    return torch.cat(parts)


def sums_by(labels: Tensor, x: Tensor, count: int) -> Tensor:
    """[count, D] the sum of the rows [T, D] of each label [T], added up in their order on any device."""
    if not count:
        return x.new_zeros(0, *x.shape[1:])
    ordered, order = labels.sort(stable=True)
    found: Tensor = torch.segment_reduce(x[order], "sum", offsets=_starts(ordered, count), initial=0.0)
    return found


def _starts(ordered: Tensor, count: int) -> Tensor:
    """[count + 1] where each of the numbers up to `count` begins among sorted ones [T]."""
    return torch.searchsorted(ordered, torch.arange(count + 1, device=ordered.device, dtype=ordered.dtype))


def cluster(x: Tensor, groups: int, visits: int, generator: torch.Generator) -> Router:
    """A router by spherical k-means over activations [T, D] that are centred.

    A group that no token is nearest to begins again at a token.
    """
    directions = torch.nn.functional.normalize(x, dim=1)

    def drawn(count: int) -> Tensor:
        return directions[torch.randint(len(x), (count,), generator=generator).to(x.device)]

    rows = drawn(groups)
    for _ in range(_ITERATIONS):
        nearest = assigned(directions, rows)
        sums = sums_by(nearest, directions, groups)
        empty = torch.bincount(nearest, minlength=groups) == 0
        sums[empty] = drawn(int(empty.sum()))
        rows = torch.nn.functional.normalize(sums, dim=1)
    return Router(rows, torch.zeros(groups, device=x.device), visits)


def assigned(x: Tensor, rows: Tensor) -> Tensor:
    """[T] the row with the largest product with each of [T, D]."""
    return torch.cat([(part @ rows.T).argmax(1) for part in torch.split(x, _ROWS_AT_ONCE)])


def directions_of(x: Tensor, features: int, router: Router | None, generator: torch.Generator) -> Tensor:
    """[N, D] directions of tokens to begin features at: of those nearest to their group's router row.

    Args:
        x: [R, T, D] centred activations; each part is for an R-th of the features.
        features: N.
        router: of the features; none means that any token will do. Then a group without a token begins at
            its router row.
        generator: draws.
    """
    unit = torch.nn.functional.normalize(x, dim=2)
    if router is None:
        draws = torch.randint(unit.shape[1], (len(unit), features // len(unit)), generator=generator)
        return torch.cat([part[mine] for part, mine in zip(unit, draws.to(x.device), strict=True)])
    nearest = assigned(unit[0], router.rows)
    counts = torch.bincount(nearest, minlength=len(router.rows))
    first = counts.cumsum(0) - counts
    draws = torch.rand(len(router.rows), features // len(router.rows), generator=generator).to(x.device)
    place = (first[:, None] + (draws * counts[:, None]).long()).clamp(max=unit.shape[1] - 1)
    found = unit[0, nearest.argsort(stable=True)[place]]
    found[counts == 0] = router.rows[counts == 0][:, None]
    return found.flatten(0, 1)
