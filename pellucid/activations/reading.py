"""Reading: a model runs over stored tokens, and its activations at a site come out shuffled, token by token.

The order is fixed by the seed and can be taken up at any batch. Rows are permuted over the whole store; a
block of rows is read, its tokens are permuted (the shuffle buffer), and cut into batches; what does not fill
the last batch of a block is dropped. A position is (block, batch): to resume there, the block is read again,
to the same bits.

Left out: the first position of each row (the opening token, or whatever stands in its place, collects
attention), the separators, and attention sinks, whose norm is many times the median (in SmolLM2's layer 15,
four tokens in ten thousand have norms up to 29,652 against a median of 155).

On processors each thread runs the model by itself on a few rows: nothing waits at a barrier, a busy machine
costs no more than its share, and the bits do not depend on the number of cores. On an accelerator the next
block is read while one is trained on; on a processor that would only divide the same cores (measured:
benchmarks/LOG.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from pellucid.activations.tokens import TokenStore
from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.models.model import Model

_SINK_FACTOR = 5.0
_PROBE_ROWS = 32
_ROWS_AT_ONCE = 8


class RowPool:
    """Runs a model over token rows to one site, a few rows at a time, one thread per core."""

    def __init__(self, model: Model, site: Site) -> None:
        self.model, self.site = model, site
        if model.device.type == "cpu":
            # Within each thread a product runs on one core.
            cores = torch.get_num_threads()
            self._threads = ThreadPoolExecutor(cores, "forward", torch.set_num_threads, (1,))
        else:
            self._threads = ThreadPoolExecutor(1, "forward")

    def read(self, tokens: Tensor) -> Tensor:
        """Activations [rows, positions, D] of token ids [rows, positions]."""

        def forward(part: Tensor) -> Tensor:
            return self.model.capture(part, [self.site])[self.site].cpu()

        parts = [tokens[at : at + _ROWS_AT_ONCE] for at in range(0, len(tokens), _ROWS_AT_ONCE)]
        return torch.cat(list(self._threads.map(forward, parts)))


@dataclass(frozen=True)
class Reader:
    """Batches of activations at one site of one model, over one token store."""

    model: Model
    store: TokenStore
    site: Site
    batch_tokens: int = 4096
    """Activations per batch."""
    block_rows: int = 1024
    """Rows per block: with rows of 256, a shuffle buffer of a quarter of a million tokens."""
    seed: int = 0
    """Fixes the order."""

    def __post_init__(self) -> None:
        self.model.check_site(self.site)
        if self.store.record["request"]["model"] != self.model.digest:
            raise InputError(
                "The token store was made with another model's tokenizer. Build it for this model."
            )

    @property
    def model_digest(self) -> str:
        """The model that is read."""
        return self.model.digest

    @cached_property
    def order(self) -> np.ndarray:
        """[rows] the order in which training rows are read."""
        return np.random.default_rng(self.seed).permutation(len(self.store.tokens))

    @cached_property
    def sink_norm(self) -> float:
        """Activations longer than this are left out; measured on the first rows of the order."""
        rows = self.store.tokens[np.sort(self.order[:_PROBE_ROWS])]
        activations = self._pool.read(torch.from_numpy(np.asarray(rows).astype(np.int64)))
        norms = activations[:, 1:].float().norm(dim=-1).flatten()
        norms = norms[torch.isfinite(norms)]
        if len(norms) == 0:
            raise InputError(
                f"Every activation at {self.site} is NaN or infinite. "
                "Read the model in fp32, or check its weights."
            )
        return _SINK_FACTOR * float(norms.median())

    @cached_property
    def _pool(self) -> RowPool:
        return RowPool(self.model, self.site)

    def read(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Activations of token rows with what is left out marked.

        Args:
            rows: [rows, positions] token ids.

        Returns:
            The activations [rows, positions, D] in the dtype of the model, and a mask [rows, positions] of
            those to use.

        Raises:
            InputError: when an activation is NaN.
        """
        tokens = torch.from_numpy(rows.astype(np.int64))
        activations = self._pool.read(tokens)
        norms = activations.float().norm(dim=-1)
        if bool(norms.isnan().any()):
            raise InputError(
                f"{int(norms.isnan().sum())} activations at {self.site} are NaN. "
                "Read the model in fp32, or check its weights."
            )
        keep = (norms < self.sink_norm) & (tokens != self.store.separator)
        keep[:, 0] = False
        return activations, keep

    def block(self, number: int) -> Tensor:
        """[tokens, D] the activations of a block, permuted."""
        start = number * self.block_rows
        rows = np.sort(self.order[start : start + self.block_rows])
        activations, keep = self.read(np.asarray(self.store.tokens[rows]))
        usable = activations[keep]
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        return usable[torch.randperm(len(usable), generator=generator)]

    @property
    def num_blocks(self) -> int:
        """How many blocks the store fills; the last may be short."""
        return -(-len(self.store.tokens) // self.block_rows)

    def sample(self, tokens: int) -> Tensor:
        """[tokens, D] the first activations in the order, unshuffled."""
        rows = np.asarray(self.store.tokens[np.sort(self.order[: -(-tokens // (self.store.length // 2))])])
        activations, keep = self.read(rows)
        return activations[keep][:tokens]

    def batches(self, position: tuple[int, int] = (0, 0)) -> Iterator[tuple[tuple[int, int], Tensor]]:
        """Batches [B, D] from a position on, each with the position after it."""
        block, batch = position
        self.sink_norm  # noqa: B018  measured before the threads part
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
