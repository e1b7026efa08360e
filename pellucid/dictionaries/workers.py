"""A crew of many: workers that are ranks of torch.distributed, in a mesh of rows by features.

Along `features`, workers look at the same rows and hold different features; along `rows`, they hold the same
features and look at different rows. All find exactly what one worker would, up to the order in which the
parts of a reconstruction are added:

- the k largest of a row: each worker gives its own k largest, with the numbers of their features, and the
  k-th of those is the bar (Gao et al. 2024, appendix D);
- the B·k largest of a batch: scores are bf16, of which 32,767 are positive, so that a histogram summed over
  all workers gives the bar exactly;
- a reconstruction is the sum of what the shards reconstruct (Gao et al. 2024, appendix D; Llamascopium).

How tensors are laid out over the mesh is said by the placements of DTensor; the kernels see plain local
tensors. The process group is made by whoever starts the workers (`launch`, torchrun, Ray).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate

from pellucid.dictionaries import kernels
from pellucid.dictionaries.crew import Crew

T = TypeVar("T")
_SCORES = 2**15
"""Positive bf16 numbers, and zero."""


@dataclass
class Traffic:
    """What a worker has received from others."""

    received: int = 0
    """Bytes."""

    def gathered(self, size_bytes: int, workers: int) -> None:
        """Count one part of this size from each of the others."""
        self.received += size_bytes * (workers - 1)

    def summed(self, size_bytes: int, workers: int) -> None:
        """Count a sum over a ring: each worker receives every part of it twice, but for its own."""
        self.received += 2 * size_bytes * (workers - 1) // workers


@dataclass(frozen=True)
class Workers(Crew):
    """One of many workers."""

    meshes: dict[str, DeviceMesh] = field(kw_only=True)
    """The mesh, by the type of device that a tensor is on."""
    reading: Traffic = field(default_factory=Traffic, kw_only=True)
    training: Traffic = field(default_factory=Traffic, kw_only=True)
    readers: Any = field(kw_only=True)
    """The group for what is read, which may be read in another thread while a step is made."""

    @classmethod
    def join(cls, shards: int) -> Workers:
        """Take one's place in the process group; the number of shards is a divisor of all workers."""
        size = dist.get_world_size()
        kinds = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
        shape, names = (size // shards, shards), ("rows", "features")
        return cls(
            rank=dist.get_rank(),
            size=size,
            shards=shards,
            meshes={kind: init_device_mesh(kind, shape, mesh_dim_names=names) for kind in kinds},
            readers=dist.new_group(backend="gloo"),
        )

    @property
    def received(self) -> dict[str, int]:
        """Bytes that other workers have sent to this one so far, by what for."""
        return {"received_reading": self.reading.received, "received_training": self.training.received}

    def sum(self, x: Tensor) -> Tensor:
        """The sum over the shards, through a partial DTensor."""
        self.training.summed(x.nbytes, self.shards)
        return self._reduced(x, Partial("sum"))

    def total(self, number: float) -> float:
        """The sum over the shards."""
        return float(self.sum(torch.tensor(number, dtype=torch.float64)))

    def least(self, number: float) -> float:
        """The least of the shards' numbers."""
        return float(self._reduced(torch.tensor(number, dtype=torch.float64), Partial("min")))

    def _reduced(self, x: Tensor, part: Partial) -> Tensor:
        """The whole of what each shard has a part of."""
        mesh = self.meshes[x.device.type]
        return DTensor.from_local(x, mesh, (Replicate(), part), run_check=False).full_tensor()

    def pool(self, x: Tensor, dim: int = 0) -> Tensor:
        """What all who hold the same features found in their rows, in the order of the rows."""
        if self.groups == 1:
            return x
        found = self._gather(x.movedim(dim, 0), self._group("rows"), self.training)
        return found.movedim(0, dim).contiguous()

    def gather(self, x: Tensor) -> Tensor:
        """Parts that all workers have read, one after another; for a thread of its own."""
        return self._gather(x.cpu(), self.readers, self.reading).to(x.device)

    def told(self, value: T) -> T:
        """The value that the leader gave."""
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def collect(self, value: T) -> list[T]:
        """The values of all workers, by their number."""
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def _group(self, along: str) -> dist.ProcessGroup:
        return self.meshes["cpu"].get_group(along)

    def _gather(self, x: Tensor, group: dist.ProcessGroup, traffic: Traffic) -> Tensor:
        """[any, ...] of each worker of a group, one after another; of any dtype, as bytes."""
        count = dist.get_world_size(group)
        length = torch.tensor([len(x)], device=x.device)
        lengths = [torch.empty_like(length) for _ in range(count)]
        dist.all_gather(lengths, length, group=group)
        sizes = [int(n) for n in lengths]
        most = max(sizes)
        padded = x.contiguous()
        if len(x) < most:
            padded = torch.cat([x, x.new_zeros(most - len(x), *x.shape[1:])])
        found = x.new_empty(count * most, *x.shape[1:])
        as_bytes = [part.view(-1).view(torch.uint8) for part in found.chunk(count)]
        dist.all_gather(as_bytes, padded.view(-1).view(torch.uint8), group=group)
        traffic.gathered(padded.nbytes, count)
        if min(sizes) == most:
            return found
        return torch.cat([part[:n] for part, n in zip(found.chunk(count), sizes, strict=True)])

    def _beside(self, x: Tensor) -> Tensor:
        """[B, c · shards] the columns of all shards for the same rows."""
        every = self._gather(x, self._group("features"), self.training)
        return torch.cat(every.chunk(self.shards), dim=1)

    def select_per_row(self, product: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """This worker's part of the k largest positive entries of each row; ties go to the lower feature."""
        counts, features = kernels.select_per_row(product, k)
        rows, bits = _scores(product, counts, features)
        # A key sorts by score, then against the number of the feature; none is zero.
        keys = (bits << 32) - self.own(product.shape[1] * self.shards).to(bits.device)[features.long()]
        place = torch.arange(len(rows), device=rows.device) - (counts.cumsum(0) - counts)[rows]
        table = keys.new_zeros(len(product), k)
        table[rows, place] = keys
        bar = self._beside(table).topk(k, dim=1).values[:, -1]
        return _kept(keys >= bar[rows], rows, features, len(product))

    def select_in_batch(self, product: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """This worker's part of the B·k largest positive entries of the batch, and ties with the last."""
        # All the largest may be in the rows of one worker.
        counts, features = kernels.select_in_batch(product, k * self.groups)
        rows, bits = _scores(product, counts, features)
        histogram = torch.bincount(bits, minlength=_SCORES).int()
        dist.all_reduce(histogram)
        self.training.summed(histogram.nbytes, self.size)
        above = histogram.flip(0).cumsum(0).flip(0)
        wanted = len(product) * self.groups * k
        bar = max(1, int((above >= wanted).sum()) - 1)
        return _kept(bits >= bar, rows, features, len(product))

    def strongest(self, pre: Tensor, count: int) -> Tensor:
        """[B, m] of pre-activations [B, m] those that are positive and among the `count` largest of a row."""
        own = pre.topk(min(count, pre.shape[1]), dim=1).values
        padded = torch.nn.functional.pad(own, (0, count - own.shape[1]), value=-torch.inf)
        bar = self._beside(padded).topk(count, dim=1).values[:, -1:]
        return torch.where(pre >= bar, pre, 0).clamp(min=0)


def _scores(product: Tensor, counts: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """The row of each entry [E], and the bits of its score [E], which sort as the scores do."""
    rows = torch.repeat_interleave(torch.arange(len(product), device=product.device), counts)
    return rows, product[rows, features.long()].view(torch.int16).long()


def _kept(keep: Tensor, rows: Tensor, features: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    return torch.bincount(rows[keep], minlength=num_rows), features[keep].contiguous()
