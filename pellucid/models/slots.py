"""A key-value cache of many texts for Hugging Face modules: each in a slot, each of its own length.

Keys and values stay where they are; a forward pass over some slots gets copies of them aligned at the end, as
a batch padded on the left would have them, so that causal and sliding masks of every family hold as they are.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from pellucid.models.model import Model


class SlotCache:
    """Room for so many texts of so many tokens."""

    def __init__(self, model: Model, slots: int, room: int) -> None:
        self.slots, self.room = slots, room
        self.chosen = torch.empty(0, dtype=torch.int64)
        self.places = torch.empty(0, 0, dtype=torch.int64)
        self.padding = torch.empty(0, dtype=torch.int64)
        self.length = 0
        self.cache = Cache(layers=[_Layer(self) for _ in range(model.num_layers)])

    def begin(self, chosen: Tensor, places: Tensor) -> Tensor:
        """Say which slots [n] the next pass reads, and the places [n, T] of its tokens.

        Returns:
            The attention mask [n, length] for keys aligned at the end.
        """
        self.chosen, self.places = chosen, places
        lengths = places[:, -1] + 1
        self.length = int(lengths.max())
        self.padding = self.length - lengths
        return (torch.arange(self.length, device=places.device)[None] >= self.padding[:, None]).long()

    def copy(self, source: int, target: int, count: int) -> None:
        """Have a slot hold the first tokens of another."""
        for layer in self.cache.layers:
            for kept in (layer.keys, layer.values):
                kept[target, :count] = kept[source, :count]


class _Layer(CacheLayerMixin):  # type: ignore[misc]
    """What one layer keeps."""

    def __init__(self, owner: SlotCache) -> None:
        super().__init__()
        self.owner = owner

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Make room, by the shape of what comes first."""
        _, groups, _, width = key_states.shape
        self.keys = key_states.new_zeros(self.owner.slots, self.owner.room, groups, width)
        self.values = value_states.new_zeros(self.owner.slots, self.owner.room, *value_states.shape[1::2])
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *_args: Any, **_kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Keep [n, G, T, E] of the new tokens, and give all of each slot [n, G, length, E]."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        owner = self.owner
        chosen = owner.chosen[:, None]
        self.keys[chosen, owner.places] = key_states.transpose(1, 2)
        self.values[chosen, owner.places] = value_states.transpose(1, 2)
        where = torch.arange(owner.length, device=owner.places.device)[None] - owner.padding[:, None]
        where = where.clamp(min=0)
        return self.keys[chosen, where].transpose(1, 2), self.values[chosen, where].transpose(1, 2)

    def get_seq_length(self) -> int:
        """Tokens before those of the pass, as a batch padded on the left counts them."""
        return self.owner.length - self.owner.places.shape[1]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys in all, and where they begin."""
        del query_length
        return self.owner.length, 0

    def get_max_length(self) -> int:
        """The room of a slot."""
        return self.owner.room
