"""Openings: short texts whose first position is read once, and the rest as often as there are edits to try.

The first position collects attention, and edits leave it alone: its keys and values are the same whatever the
edit, and stand in a cache that all passes, of several threads too, read and none writes.

    F edits, T tokens, D width, V vocabulary
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from pellucid.core.sites import Site
from pellucid.models import hooks
from pellucid.models.model import Model


@dataclass(frozen=True)
class Opening:
    """A text of which the first position is read."""

    model: Model
    first: Cache
    rest: Tensor
    """[1, T − 1] token ids."""

    @classmethod
    def read(cls, model: Model, text: str) -> Opening:
        """Read the first position of a text of two tokens at least."""
        tokens = torch.tensor([model.encode_text(text)], device=model.device)
        with torch.inference_mode():
            kept = model.network(input_ids=tokens[:, :1], use_cache=True).past_key_values
        return cls(model, Cache(layers=[_First(k.keys, k.values) for k in kept.layers]), tokens[:, 1:])

    def logits(self, added: Sequence[tuple[Site, Tensor]] = ()) -> Tensor:
        """[F, V] of the token that comes next, in the dtype of the model; F is 1 where nothing is added.

        Args:
            added: at some sites [F, D], added at all positions but the first. Below the first of these sites
                all edits have one pass in common.
        """
        editors = [(site, _adding(directions)) for site, directions in added]
        with torch.inference_mode(), hooks.edited(self.model.network, editors):
            output = self.model.network(
                input_ids=self.rest, past_key_values=self.first, use_cache=True, logits_to_keep=1
            )
        logits: Tensor = output.logits[:, -1]
        return logits


def _adding(added: Tensor) -> hooks.Editor:
    return lambda x: x + added[:, None].to(x)


class _First(DynamicLayer):  # type: ignore[misc]
    """The keys and values [1, heads, 1, width] of a first position, before those of any number of rows."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys, self.values, self.is_initialized = keys, values, True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Those of the pass [rows, heads, T − 1, width] behind the first; nothing is kept."""
        rows = len(key_states)
        pairs = ((self.keys, key_states), (self.values, value_states))
        keys, values = (torch.cat([first.expand(rows, -1, -1, -1), rest], -2) for first, rest in pairs)
        return keys, values
