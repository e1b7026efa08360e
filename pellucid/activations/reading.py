"""Reading: a model runs over stored tokens, and its activations come out shuffled, token by token.

At one site, or at several side by side as columns; of one model, or of two that read the same tokens.

The order is fixed by the seed and can be taken up at any batch. Rows are permuted over the whole store, anew
for each pass over it; a block of rows is read, its tokens are permuted (the shuffle buffer), and cut into
batches; what does not fill the last batch of a block is dropped. A position is (block, batch): to resume
there, the block is read again, to the same bits.

Left out: the first position of each row (the opening token, or whatever stands in its place, collects
attention), the separators, and attention sinks, whose norm is many times the median (in SmolLM2's layer 15,
four tokens in ten thousand have norms up to 29,652 against a median of 155).

On processors each thread runs the model by itself on a few rows: nothing waits at a barrier, a busy machine
costs no more than its share, and the bits do not depend on the number of cores. On an accelerator the next
block is read while one is trained on; on a processor that would only divide the same cores (measured:
benchmarks/LOG.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from pellucid.activations.tokens import TokenStore
from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.models import threads
from pellucid.models.compiling import CompiledLayers
from pellucid.models.model import Model

SINK_FACTOR = 5.0
_PROBE_ROWS = 32
_ROWS_AT_ONCE = 8
_ROWS_ON_ACCELERATORS = 128
"""There a pass of few rows takes as long as the processor needs to ask for it."""


def rows_at_once(model: Model) -> int:
    """How many rows one pass of the model takes."""
    return _ROWS_AT_ONCE if model.device.type == "cpu" else _ROWS_ON_ACCELERATORS


class RowPool:
    """Runs a model over token rows to some sites, a few rows at a time, one thread per core."""

    def __init__(self, model: Model, sites: tuple[Site, ...], *, compiled: bool = False) -> None:
        self.model, self.sites = model, sites
        self._compiled = CompiledLayers(model.network, sites) if compiled else None
        self._threads = threads.started(model.device)

    def read(self, tokens: Tensor, at_once: int | None = None) -> Tensor:
        """Activations [rows, positions, S·D] of token ids [rows, positions], where the model is.

        Short rows want more of them at once. Compiled layers take as many each time: the last part is filled
        with rows that are dropped again, because another shape would be compiled anew.
        """
        count, at_once = len(tokens), at_once or rows_at_once(self.model)
        if self._compiled is not None and count % at_once:
            tokens = torch.cat([tokens, tokens[:1].expand(at_once - count % at_once, -1)])

        def forward(part: Tensor) -> Tensor:
            return self.model.columns(part, self.sites)

        parts = [tokens[at : at + at_once] for at in range(0, len(tokens), at_once)]
        with nullcontext() if self._compiled is None else self._compiled.in_place():
            return torch.cat(list(self._threads.map(forward, parts)))[:count]


@dataclass(frozen=True)
class Reader:
    """Batches of activations over one token store."""

    model: Model
    store: TokenStore
    site: Site
    batch_tokens: int = 4096
    """Activations per batch."""
    block_rows: int = 1024
    """Rows per block: with rows of 256, a shuffle buffer of a quarter of a million tokens."""
    seed: int = 0
    """Fixes the order."""
    further: tuple[Site, ...] = ()
    """Sites beside the first; their activations are the columns that follow."""
    beside: Model | None = None
    """A second model, with the same tokenizer; its activations at the same sites are the last columns."""
    compiled: bool = False
    """Whether to compile the layers; see `models.compiling`."""
    passes: int = 1
    """How many times all rows are read, each time in another order; blocks are numbered through."""

    def __post_init__(self) -> None:
        if self.passes < 1:
            raise InputError(f"Text must be read once at least; got {self.passes} passes.")
        for site in self.sites:
            self.model.check_site(site)
        if self.beside is not None:
            self._check_beside(self.beside)
        if self.store.record["request"]["model"] != self.model.digest:
            raise InputError(
                "The token store was made with another model's tokenizer. Build it for this model."
            )

    def _check_beside(self, other: Model) -> None:
        if other.width != self.model.width:
            raise InputError(
                f"Two models are read side by side if they are equally wide: {self.model.name} has width "
                f"{self.model.width}, {other.name} {other.width}."
            )
        if other.tokenizer.get_vocab() != self.model.tokenizer.get_vocab():
            raise InputError(
                f"{other.name} has another vocabulary than {self.model.name}, so that they cannot read the "
                "same tokens. Give two versions of one model."
            )
        for site in self.sites:
            other.check_site(site)

    @property
    def model_digest(self) -> str:
        """The model that is read."""
        return self.model.digest

    @property
    def models(self) -> tuple[Model, ...]:
        """The model that is read, and the one beside it."""
        return (self.model,) if self.beside is None else (self.model, self.beside)

    @property
    def sites(self) -> tuple[Site, ...]:
        """All that is read of a model."""
        return (self.site, *self.further)

    @property
    def order(self) -> np.ndarray:
        """[rows] the order in which training rows are read the first time."""
        return self._order_of(0)

    @cached_property
    def _order_of(self) -> Callable[[int], np.ndarray]:
        """[rows] the order of a pass, by its number; the last two are kept."""

        def drawn(number: int) -> np.ndarray:
            seed = (self.seed, number) if number else self.seed
            return np.random.default_rng(seed).permutation(len(self.store.tokens))

        return lru_cache(2)(drawn)

    @cached_property
    def sink_norms(self) -> Tensor:
        """[S] what is longer than this at a site is left out; measured on the first rows of the order."""
        rows = self.store.tokens[np.sort(self.order[:_PROBE_ROWS])]
        norms = self._norms(self._run(torch.from_numpy(np.asarray(rows).astype(np.int64))))[:, 1:]
        bars = []
        for number, of_site in enumerate(norms.flatten(0, 1).T):
            finite = of_site[torch.isfinite(of_site)]
            if len(finite) == 0:
                raise InputError(
                    f"Every activation at {self.sites[number % len(self.sites)]} is NaN or infinite. "
                    "Read the model in fp32, or check its weights."
                )
            bars.append(SINK_FACTOR * finite.median())
        return torch.stack(bars)

    @cached_property
    def _pools(self) -> list[RowPool]:
        return [RowPool(model, self.sites, compiled=self.compiled) for model in self.models]

    def _run(self, tokens: Tensor) -> Tensor:
        return torch.cat([pool.read(tokens) for pool in self._pools], dim=-1)

    def _norms(self, activations: Tensor) -> Tensor:
        """[rows, positions, S] the length of each site's activation."""
        rows, positions, _ = activations.shape
        by_site = activations.reshape(rows, positions, len(self.sites) * len(self.models), -1)
        norms: Tensor = torch.linalg.vector_norm(by_site.float(), dim=-1)
        return norms

    def read(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Activations of token rows with what is left out marked, in the memory of the processor.

        Args:
            rows: [rows, positions] token ids.

        Returns:
            The activations [rows, positions, C] in the dtype of the model, C columns for the sites of all
            models, and a mask [rows, positions] of those to use.

        Raises:
            InputError: when an activation is NaN.
        """
        activations, keep = self._read(rows)
        return activations.cpu(), keep.cpu()

    def _read(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """The same, where the model is."""
        tokens = torch.from_numpy(rows.astype(np.int64)).to(self.model.device)
        activations = self._run(tokens)
        return activations, self.usable(tokens, activations)

    def usable(self, tokens: Tensor, activations: Tensor) -> Tensor:
        """[rows, positions] what is not left out, by token ids [rows, positions] and what was read there.

        Args:
            tokens: on the device of the activations.
            activations: [rows, positions, C], as this reader would read them.

        Raises:
            InputError: when an activation is NaN.
        """
        norms = self._norms(activations)
        if bool(norms.isnan().any()):
            raise InputError(
                f"{int(norms.isnan().sum())} activations at {', '.join(map(str, self.sites))} are NaN. "
                "Read the model in fp32, or check its weights."
            )
        keep = (norms < self.sink_norms).all(-1) & (tokens != self.store.separator)
        keep[:, 0] = False
        return keep

    def block(self, number: int) -> Tensor:
        """[tokens, C] the activations of a block, permuted, where the model is."""
        turn, number_in_pass = divmod(number, self._blocks_per_pass)
        start = number_in_pass * self.block_rows
        rows = np.sort(self._order_of(turn)[start : start + self.block_rows])
        activations, keep = self._read(np.asarray(self.store.tokens[rows]))
        usable = activations[keep]
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        return usable[torch.randperm(len(usable), generator=generator).to(usable.device)]

    @property
    def num_blocks(self) -> int:
        """How many blocks there are to read; the last of a pass may be short."""
        return self.passes * self._blocks_per_pass

    @property
    def _blocks_per_pass(self) -> int:
        return -(-len(self.store.tokens) // self.block_rows)

    def sample(self, tokens: int) -> Tensor:
        """[tokens, C] the first activations in the order, unshuffled, where the model is."""
        rows = np.asarray(self.store.tokens[np.sort(self.order[: -(-tokens // (self.store.length // 2))])])
        activations, keep = self._read(rows)
        return activations[keep][:tokens]

    def batches(self, position: tuple[int, int] = (0, 0)) -> Iterator[tuple[tuple[int, int], Tensor]]:
        """Batches [B, C] from a position on, each with the position after it."""
        block, batch = position
        self.sink_norms  # noqa: B018  measured before the threads part
        overlapped = self.model.device.type != "cpu"
        with ThreadPoolExecutor(1, "reader") as pool:
            ahead: Future[Tensor] | None = None
            while block < self.num_blocks:
                activations = ahead.result() if ahead is not None else self.block(block)
                ahead = (
                    pool.submit(self.block, block + 1) if overlapped and block + 1 < self.num_blocks else None
                )
                while (batch + 1) * self.batch_tokens <= len(activations):
                    values = activations[batch * self.batch_tokens : (batch + 1) * self.batch_tokens]
                    batch += 1
                    yield (block, batch), values
                block, batch = block + 1, 0
