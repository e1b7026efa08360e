"""Steps: tokens of several texts go through a model together, each text in a slot of one cache.

A step takes M tokens, each with its slot and its place there, so that one text may be read from its beginning
while others are being written. It applies editors and readers at sites, as hooks do, and gives logits for the
tokens asked for.

`CompiledSteps` computes with `thin`: what comes out for one text is the same, to the last bit, whatever other
texts stand in the other slots, and however they are cut into steps. It takes the Llama-like families on a
processor. `ModuleSteps` runs the Hugging Face modules as they are, for every family and device; there the
other texts change the order of sums, and with it the last bits.

    M tokens, D width, V vocabulary
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.models import hooks
from pellucid.models.model import Model


@dataclass(frozen=True)
class Tokens:
    """The tokens of one step, those of a slot side by side and in order."""

    ids: np.ndarray
    """[M]"""
    slots: np.ndarray
    """[M]"""
    places: np.ndarray
    """[M] the place of each in its slot; the first is 0, and none is left out."""


Visit = Callable[[Tensor, np.ndarray], Tensor | None]
"""Sees the activations [m, D] of a site for some tokens of the step, and their numbers [m] in it; what it
returns takes their place."""


class Steps(Protocol):
    """A model that reads several texts at once."""

    model: Model
    slots: int
    room: int

    def step(self, tokens: Tokens, wanted: Sequence[int], visits: Sequence[tuple[Site, Visit]]) -> Tensor:
        """Logits [len(wanted), V] float32 after some of the tokens; `visits` act in order."""


def steps_of(model: Model, *, slots: int, room: int, weights: Literal["same", "bf16"] = "same") -> Steps:
    """The fastest way to step a model.

    Args:
        model: who reads.
        slots: how many texts at once.
        room: how many tokens a text may have.
        weights: `bf16` reads weights at half the bytes, where steps are compiled; sums stay in fp32.

    Raises:
        InputError: when a slot has more room than the model reads.
    """
    most = getattr(model.config, "max_position_embeddings", None)
    if slots < 1 or room < 1 or (most is not None and room > most):
        raise InputError(f"Slots and room must be positive, and room at most {most}; got {slots} and {room}.")
    if CompiledSteps.takes(model):
        return CompiledSteps(model, slots, room, weights)
    return ModuleSteps(model, slots, room)


_LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3")
_FIXED_ROTATION = ("default", "linear", "llama3", "yarn")


@dataclass(frozen=True)
class _Layer:
    """A layer's weights as arrays: float32, or bfloat16 as uint16 bits."""

    before_attention: np.ndarray
    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    bias: np.ndarray | None
    """[(H + 2·G)·E]"""
    query_norm: np.ndarray | None
    key_norm: np.ndarray | None
    out: np.ndarray
    before_mlp: np.ndarray
    gate: np.ndarray
    up: np.ndarray
    down: np.ndarray


class CompiledSteps:
    """The step of a Llama-like model, compiled."""

    def __init__(self, model: Model, slots: int, room: int, weights: Literal["same", "bf16"]) -> None:
        self.model, self.slots, self.room = model, slots, room
        network: Any = model.network
        config = model.config
        self._heads, self._groups = config.num_attention_heads, config.num_key_value_heads
        self._epsilon = float(config.rms_norm_eps)

        def array(tensor: Tensor) -> np.ndarray:
            return _bits(tensor.to(torch.bfloat16) if weights == "bf16" else tensor)

        def gain(norm: nn.Module) -> np.ndarray:
            return norm.weight.float().numpy()  # type: ignore[operator]

        with torch.inference_mode():
            self._layers = [_layer(layer, array, gain) for layer in network.model.layers]
            self._embedding = network.get_input_embeddings().weight
            self._final = gain(network.model.norm)
            self._head = array(network.get_output_embeddings().weight)
            cosines, sines = network.model.rotary_emb(torch.zeros(1, 1, 1), torch.arange(room)[None])
        self._cosines, self._sines = cosines[0].float().numpy(), sines[0].float().numpy()
        width = self._cosines.shape[1]
        # Pages of the operating system become real when they are first written.
        shape = (len(self._layers), slots, self._groups, room, width)
        self._keys, self._values = np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    @staticmethod
    def takes(model: Model) -> bool:
        """Whether the model is one of those that are compiled."""
        config = model.config
        rotation = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
        return (
            model.device.type == "cpu"
            and config.model_type in _LLAMA_LIKE
            and config.hidden_act == "silu"
            and rotation in _FIXED_ROTATION
            and not getattr(config, "sliding_window", None)
            and not getattr(config, "mlp_bias", False)
            and not (config.model_type != "qwen2" and getattr(config, "attention_bias", False))
            and model.dtype in {torch.float32, torch.bfloat16}
        )

    def step(self, tokens: Tokens, wanted: Sequence[int], visits: Sequence[tuple[Site, Visit]]) -> Tensor:
        """See `Steps`."""
        from pellucid.models import thin

        at: dict[str, list[Visit]] = {}
        for site, visit in visits:
            at.setdefault(str(site), []).append(visit)
        rows = len(tokens.ids)
        slots, places = tokens.slots.astype(np.int64), tokens.places.astype(np.int64)
        cosines, sines = self._cosines[places], self._sines[places]
        with torch.inference_mode():
            x = self._embedding[torch.from_numpy(tokens.ids)].float().numpy()
            x = _visited(x, at.get("embed"))
            width, head = x.shape[1], self._cosines.shape[1]
            queries, keys = self._heads * head, self._groups * head
            qkv = np.empty((rows, queries + 2 * keys), np.float32)
            read = np.empty((rows, queries), np.float32)
            normal = np.empty((rows, width), np.float32)
            for number, layer in enumerate(self._layers):
                x = _visited(x, at.get(f"resid_pre.{number}"))
                thin.normed(x, layer.before_attention, self._epsilon, normal)
                thin.product(normal, layer.query, qkv[:, :queries])
                thin.product(normal, layer.key, qkv[:, queries : queries + keys])
                thin.product(normal, layer.value, qkv[:, queries + keys :])
                if layer.bias is not None:
                    qkv += layer.bias
                if layer.query_norm is not None and layer.key_norm is not None:
                    _normalise(qkv[:, :queries], layer.query_norm, self._epsilon)
                    _normalise(qkv[:, queries : queries + keys], layer.key_norm, self._epsilon)
                thin.attended(
                    qkv, cosines, sines, slots, places, self._keys[number], self._values[number], read
                )
                added = np.empty((rows, width), np.float32)
                thin.product(read, layer.out, added)
                x = x + _visited(added, at.get(f"attn_out.{number}"))
                thin.normed(x, layer.before_mlp, self._epsilon, normal)
                taken = _visited(normal, at.get(f"mlp_in.{number}"))
                gate, up, hidden = np.empty((3, rows, len(layer.gate)), np.float32)
                thin.product(taken, layer.gate, gate)
                thin.product(taken, layer.up, up)
                thin.gated(gate, up, hidden)
                added = np.empty((rows, width), np.float32)
                thin.product(hidden, layer.down, added)
                x = x + _visited(added, at.get(f"mlp_out.{number}"))
                x = _visited(x, at.get(f"resid_post.{number}"))
            last = np.empty_like(x)
            thin.normed(x, self._final, self._epsilon, last)
            last = np.ascontiguousarray(_visited(last, at.get("resid_final"))[list(wanted)])
            logits = np.empty((len(last), self._head.shape[0]), np.float32)
            if len(last):
                thin.product(last, self._head, logits)
        return torch.from_numpy(logits)


def _layer(
    layer: Any, array: Callable[[Tensor], np.ndarray], gain: Callable[[nn.Module], np.ndarray]
) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    biases = [p.bias for p in (attention.q_proj, attention.k_proj, attention.v_proj)]
    query_norm, key_norm = (getattr(attention, name, None) for name in ("q_norm", "k_norm"))
    return _Layer(
        before_attention=gain(layer.input_layernorm),
        query=array(attention.q_proj.weight),
        key=array(attention.k_proj.weight),
        value=array(attention.v_proj.weight),
        bias=None if biases[0] is None else torch.cat(biases).float().numpy(),
        query_norm=None if query_norm is None else gain(query_norm),
        key_norm=None if key_norm is None else gain(key_norm),
        out=array(attention.o_proj.weight),
        before_mlp=gain(layer.post_attention_layernorm),
        gate=array(mlp.gate_proj.weight),
        up=array(mlp.up_proj.weight),
        down=array(mlp.down_proj.weight),
    )


def _bits(tensor: Tensor) -> np.ndarray:
    """The tensor's memory as an array: float32, or uint16 for bfloat16."""
    tensor = tensor.detach().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(np.uint16)
    return tensor.numpy()


def _normalise(heads: np.ndarray, gain: np.ndarray, epsilon: float) -> None:
    """Norm each head's part of [M, H·E] by itself, in place."""
    from pellucid.models import thin

    flat = np.ascontiguousarray(heads).reshape(-1, len(gain))
    out = np.empty_like(flat)
    thin.normed(flat, gain, epsilon, out)
    heads[:] = out.reshape(heads.shape)


def _visited(x: np.ndarray, visits: list[Visit] | None) -> np.ndarray:
    for visit in visits or ():
        changed = visit(torch.from_numpy(x), np.arange(len(x)))
        if changed is not None:
            x = changed.contiguous().numpy()
    return x


class ModuleSteps:
    """The step of any model, by its own modules."""

    def __init__(self, model: Model, slots: int, room: int) -> None:
        from pellucid.models.slots import SlotCache

        self.model, self.slots, self.room = model, slots, room
        self._cache = SlotCache(model, slots, room)

    def step(self, tokens: Tokens, wanted: Sequence[int], visits: Sequence[tuple[Site, Visit]]) -> Tensor:
        """See `Steps`."""
        _, first, counts = np.unique(tokens.slots, return_index=True, return_counts=True)
        # Texts of which one token is read go together, the others one by one.
        groups = [np.arange(f, f + c)[None] for f, c in zip(first, counts, strict=True) if c > 1]
        if (counts == 1).any():
            groups.append(first[counts == 1][:, None])
        found: dict[int, Tensor] = {}
        for group in groups:
            found.update(self._forward(tokens, group, set(wanted), visits))
        return torch.stack([found[t] for t in wanted]) if wanted else torch.empty(0, 0)

    def _forward(
        self, tokens: Tokens, group: np.ndarray, wanted: set[int], visits: Sequence[tuple[Site, Visit]]
    ) -> dict[int, Tensor]:
        """Read tokens [n, T], given by their numbers; the logits of those that are wanted."""
        device = self.model.device
        ids, slots, places = (
            torch.from_numpy(a[group].astype(np.int64)).to(device)
            for a in (tokens.ids, tokens.slots, tokens.places)
        )
        mask = self._cache.begin(slots[:, 0], places)
        columns = [c for c in range(group.shape[1]) if wanted & set(group[:, c].tolist())]
        editors = [(site, _over_rows(visit, group)) for site, visit in visits]
        with torch.inference_mode(), hooks.edited(self.model.network, editors):
            logits = self.model.network(
                input_ids=ids,
                attention_mask=mask,
                position_ids=places,
                past_key_values=self._cache.cache,
                use_cache=True,
                logits_to_keep=torch.tensor(columns, dtype=torch.int64, device=device),
            ).logits.float()
        kept = logits.cpu()
        return {
            int(group[row, c]): kept[row, n]
            for n, c in enumerate(columns)
            for row in range(len(group))
            if int(group[row, c]) in wanted
        }


def _over_rows(visit: Visit, group: np.ndarray) -> hooks.Editor:
    """A hook over [n, T, D] that shows a visit the tokens as rows."""

    def edit(x: Tensor) -> Tensor:
        changed = visit(x.reshape(-1, x.shape[-1]), group.reshape(-1))
        return x if changed is None else changed.reshape(x.shape)

    return edit
