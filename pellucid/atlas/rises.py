"""Rises: from logits before and after, the tokens whose probability rose most and fell most.

A token's rise is the mean over openings of log((after + floor) / (before + floor)). Tokens are compared by
the product of these ratios, and the logarithm is taken of those found. `plain` does so in a few lines of
PyTorch and serves accelerators; `compiled` goes feature by feature, so that what it looks through stays in a
processor's cache.

    O openings, F features, V vocabulary, P tokens to find
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit
from torch import Tensor

FLOOR = 1e-4
"""Added to probabilities, so that tokens nobody would say do not win by rising from almost nothing."""
_BLOCK = 64  # a block without a number that is large enough is passed over: whole registers are compared

Found = tuple[Tensor, Tensor, Tensor, Tensor]
"""[F, P] ids and rises of the tokens that rose most, descending, and of those that fell most, ascending."""


def strongest(before: Sequence[Tensor], after: Sequence[Tensor], count: int) -> Found:
    """The tokens that rose and fell most, in the memory of the processor.

    Args:
        before: of each opening the logits [1, V].
        after: of each opening the logits [F, V].
        count: P.
    """
    return (compiled if after[0].device.type == "cpu" else plain)(before, after, count)


def plain(before: Sequence[Tensor], after: Sequence[Tensor], count: int) -> Found:
    """`strongest`, on any device."""
    ratios = _product(after) / _product(before)
    most, least = ratios.topk(count), ratios.topk(count, largest=False)
    risen, fallen = (found.values.log() / len(after) for found in (most, least))
    return most.indices.cpu(), risen.cpu(), least.indices.cpu(), fallen.cpu()


def _product(logits: Sequence[Tensor]) -> Tensor:
    """[F, V] over the openings, of probability plus floor."""
    return torch.stack([each.float().softmax(-1) + FLOOR for each in logits]).prod(0)


def compiled(before: Sequence[Tensor], after: Sequence[Tensor], count: int) -> Found:
    """`strongest`, on a processor."""
    scale = (1 / _product(before)[0]).numpy()
    chances = torch.empty(len(after), len(scale))
    shape = (len(after[0]), 2, count)
    ids, ratios = np.empty(shape, np.int64), np.empty(shape, np.float32)
    for f in range(len(after[0])):
        for each, row in zip(after, chances, strict=True):
            torch.softmax(each[f], -1, dtype=torch.float32, out=row)
        _largest_ratios(chances.numpy(), scale, np.float32(FLOOR), ids[f], ratios[f])
    found, rises = torch.from_numpy(ids), torch.from_numpy(ratios).log() / len(after)
    return found[:, 0], rises[:, 0], found[:, 1], -rises[:, 1]


@njit(nogil=True, cache=True, error_model="numpy")
def _largest_ratios(
    chances: np.ndarray, scale: np.ndarray, floor: np.float32, ids: np.ndarray, found: np.ndarray
) -> None:
    """Ids and ratios [2, P]: the largest ratios, and the largest of one over the ratios; both descending.

    Args:
        chances: [O, V] after.
        scale: [V] one over the product of what was before.
        floor: what is added to chances.
        ids: filled.
        found: filled.
    """
    ratios = scale.copy()
    for o in range(len(chances)):
        row = chances[o]
        for v in range(len(ratios)):
            ratios[v] *= row[v] + floor
    _largest(ratios, ids[0], found[0])
    for v in range(len(ratios)):
        ratios[v] = np.float32(1) / ratios[v]
    _largest(ratios, ids[1], found[1])


@njit(nogil=True, cache=True)
def _largest(numbers: np.ndarray, ids: np.ndarray, found: np.ndarray) -> None:
    """The largest of some positive numbers, descending; of equals the first."""
    found[:] = 0
    bar, last = np.int32(0), len(found) - 1
    for start in range(0, len(numbers), _BLOCK):
        block = numbers[start : start + _BLOCK]
        bits, best = block.view(np.int32), np.int32(0)  # which sort as positive numbers do
        for v in range(len(bits)):
            best = max(best, bits[v])
        if best <= bar:
            continue
        for v in range(len(block)):
            if block[v] > found[last]:
                at = last
                while at > 0 and found[at - 1] < block[v]:
                    found[at], ids[at] = found[at - 1], ids[at - 1]
                    at -= 1
                found[at], ids[at] = block[v], start + v
        bar = found[last:].view(np.int32)[0]
