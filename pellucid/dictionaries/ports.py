"""Ports: the sites a dictionary reads and the sites it writes.

    sparse autoencoder        reads one site and writes it
    transcoder                reads one and writes another: what leaves an MLP, from what enters it (Dunefsky
                              et al. 2024, arXiv 2406.11944)
    crosscoder                reads several and writes them, in one code; or the same sites of two models, to
                              see what one has and the other lacks (Lindsey et al. 2024, Sparse Crosscoders)
    cross-layer transcoder    reads several and writes as many others: each feature reads one site, and writes
                              that site's target and all later ones (Ameisen et al. 2025, Circuit Tracing)

Activations of several sites stand side by side as columns: first those that are read, then those that are
written, each site of the one width D. B rows, R parts that are read by different features, N features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.dictionaries.kernels import Wiring


@dataclass(frozen=True)
class Ports:
    """What a dictionary reads and writes."""

    reads: tuple[Site, ...]
    writes: tuple[Site, ...]
    beside: str | None = None
    """The digest of a second model, whose sites are the second half of those read and written."""

    def __post_init__(self) -> None:
        reads, writes = self.reads, self.writes
        halves = reads[: len(reads) // 2], reads[len(reads) // 2 :]
        own = halves[0] if self.beside else reads
        if not reads or len(set(own)) != len(own) or (self.beside and halves[0] != halves[1]):
            raise InputError(f"Sites must differ; got {_names(reads)}.")
        if writes == reads:
            return
        if self.beside:
            raise InputError("A dictionary of two models writes what it reads: name no target.")
        if len(writes) != len(reads) or set(writes) & set(reads) or len(set(writes)) != len(writes):
            raise InputError(
                "A transcoder needs a target for every site it reads, each another: "
                f"got {_names(reads)} for {_names(writes)}."
            )
        if any(a.depth >= b.depth for a, b in zip(reads, writes, strict=True)):
            raise InputError(
                f"The model must reach a site before its target: got {_names(reads)} for {_names(writes)}."
            )
        if list(writes) != sorted(writes, key=lambda s: s.depth):
            raise InputError(
                f"Give sites in the order in which the model reaches them; got {_names(writes)}."
            )

    @classmethod
    def of(cls, *sites: Site) -> Ports:
        """Sites that are both read and written."""
        return cls(sites, sites)

    @property
    def same(self) -> bool:
        """Whether what is read is what is written."""
        return self.reads == self.writes

    @property
    def layered(self) -> bool:
        """Whether each feature reads one of several sites."""
        return not self.same and len(self.reads) > 1

    @property
    def kind(self) -> str:
        """What such a dictionary is called."""
        if self.same:
            return "sparse autoencoder" if len(self.reads) == 1 else "crosscoder"
        return "cross-layer transcoder" if self.layered else "transcoder"

    @property
    def site(self) -> Site:
        """The one site that is read.

        Raises:
            InputError: when there are several.
        """
        return self._only(self.reads, "reads")

    @property
    def target(self) -> Site:
        """The one site that is written.

        Raises:
            InputError: when there are several.
        """
        return self._only(self.writes, "writes")

    def _only(self, sites: tuple[Site, ...], does: str) -> Site:
        if len(sites) > 1:
            raise InputError(
                f"A {self.kind} {does} {_names(sites)}, and this needs a dictionary that {does} one site."
            )
        return sites[0]

    @property
    def sites(self) -> tuple[Site, ...]:
        """One for each group of columns in a stream of activations."""
        return self.reads if self.same else (*self.reads, *self.writes)

    def __str__(self) -> str:
        read = _names(self.reads)
        return read if self.same else f"{read} to {_names(self.writes)}"

    def width(self, columns: int) -> int:
        """D, when a stream has so many columns.

        Raises:
            InputError: when the sites do not have equal shares of them.
        """
        if columns % len(self.sites):
            raise InputError(
                f"Expected activations of {len(self.sites)} sites of one width; got {columns} columns."
            )
        return columns // len(self.sites)

    def read(self, x: Tensor) -> Tensor:
        """[B, D'] the columns that are read, of those of all sites [B, C]."""
        return x if self.same else x[:, : len(self.reads) * self.width(x.shape[1])].contiguous()

    def written(self, x: Tensor) -> Tensor:
        """[B, D''] the columns that are written, of those of all sites [B, C]."""
        return x if self.same else x[:, len(self.reads) * self.width(x.shape[1]) :].contiguous()

    def inputs(self, x: Tensor) -> Tensor:
        """[R, B, D'] what encoder rows multiply, of the columns of all sites [B, C]."""
        return self.by_part(self.read(x))

    def by_part(self, x: Tensor) -> Tensor:
        """[R, B, D'] what encoder rows multiply, of the columns that are read."""
        return x.reshape(len(x), self.parts, x.shape[1] // self.parts).transpose(0, 1).contiguous()

    @property
    def parts(self) -> int:
        """R: by how many parts of what is read different features go."""
        return len(self.reads) if self.layered else 1

    def wiring(
        self,
        features: int,
        width: int,
        prefixes: tuple[int, ...] = (),
        device: torch.device | str = "cpu",
    ) -> Wiring:
        """How N features are wired; of a cross-layer transcoder, each site has as many.

        Raises:
            InputError: when the features cannot be shared out evenly.
        """
        simple = Wiring.simple(features, prefixes, device)
        if not self.layered:
            return simple
        if len(prefixes) > 1:
            raise InputError("Prefixes of features and layers of features do not go together.")
        if features % len(self.reads):
            raise InputError(
                f"{features} features cannot be shared out evenly over {len(self.reads)} sites. "
                f"Ask for a multiple of {len(self.reads)}."
            )
        reads = torch.arange(features, device=device) * len(self.reads) // features
        return Wiring(reads.to(torch.int8), simple.group, simple.groups, (reads * width).int())

    def as_json(self) -> dict[str, Any]:
        """As JSON values, for a card."""
        return {
            "reads": [str(s) for s in self.reads],
            "writes": [str(s) for s in self.writes],
            "beside": self.beside,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Ports:
        """What `as_json` gave."""
        reads, writes = (tuple(Site.parse(s) for s in values[name]) for name in ("reads", "writes"))
        return cls(reads, writes, values["beside"])


def _names(sites: tuple[Site, ...]) -> str:
    return ", ".join(map(str, sites))
