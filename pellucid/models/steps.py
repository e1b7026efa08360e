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

from collections.abc import Callable, Collection, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numba import get_num_threads
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.models import distributions, families, hooks, products, thin, tiles
from pellucid.models.model import Model
from pellucid.models.rereading import Rereading


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
Visits = Sequence[tuple[Site, Visit]]


@dataclass(frozen=True)
class Edited:
    """A text that was written under edits."""

    site: Site
    """Where they were made, all that were."""
    before: Tensor
    """[tokens, D] the activations there before them, from the beginning of the text."""
    start: int
    """The first token whose prediction counts."""
    final: Tensor
    """[count, D] the final activations of that and the following, as edited."""
    owner: Hashable
    """Whose it is."""


class Steps(Protocol):
    """A model that reads several texts at once."""

    model: Model
    slots: int
    room: int

    def step(self, tokens: Tokens, wanted: Sequence[int], visits: Visits = (), looks: Visits = ()) -> Tensor:
        """Logits [len(wanted), V] float32 after some of the tokens.

        Args:
            tokens: what is read.
            wanted: their numbers.
            visits: act in order.
            looks: see what visits left, perhaps when all is done, and change nothing.
        """

    def measures(self, site: Site) -> bool:
        """Whether `divergence` can be asked for edits at a site."""

    def divergence(self, text: Edited) -> float:
        """How far edits moved the predictions of a text: KL(plain ‖ edited), nats per token."""

    def copy(self, source: int, target: int, count: int) -> None:
        """Have a slot hold the first tokens of another."""


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


_PIECE = 256
"""Tokens that are read again at a time."""
_PREDICTIONS = 64
"""Predictions that are compared at a time: each is all of the vocabulary, twice."""
_AGAIN = 4
"""Slots for texts that are read again."""
_RESIDUAL = ("resid_pre", "resid_post")
_INSIDE = ("attn_out", "mlp_in", "mlp_out")
_FIXED_ROTATION = ("default", "linear", "llama3", "yarn")


class CompiledSteps:
    """The step of a Llama-like model, compiled."""

    def __init__(self, model: Model, slots: int, room: int, weights: Literal["same", "bf16"]) -> None:
        self.model, self.slots, self.room = model, slots, room
        network: Any = model.network
        config = model.config
        with torch.inference_mode():
            layers = network.model.layers
            self._layers = _layers(layers, half=weights == "bf16" or model.dtype == torch.bfloat16)
            hidden = layers[0].mlp.gate_proj.weight.shape[0]
            self._sizes = thin.Sizes(config.num_attention_heads, hidden, float(config.rms_norm_eps))
            self._qkv = sum(p.weight.shape[0] for p in _projections(layers[0].self_attn))
            self._embedding = network.get_input_embeddings().weight
            self._final = _gain(network.model.norm)
            self._head = _packed(network.get_output_embeddings().weight, half=self._layers.qkv.itemsize == 2)
            cosines, sines = network.model.rotary_emb(torch.zeros(1, 1, 1), torch.arange(room)[None])
        self._again = Rereading(range(slots, slots + _AGAIN))
        self._cosines, self._sines = cosines[0].float().numpy(), sines[0].float().numpy()
        width = self._cosines.shape[1]
        # Pages of the operating system become real when they are first written.
        of_slot = len(layers), slots + _AGAIN, config.num_key_value_heads
        places, lanes = tiles.padded(room, tiles.LANES) // tiles.LANES, tiles.padded(width, tiles.LANES)
        kept = np.float32 if self._head.dtype == np.float32 else np.uint16
        vector = (2, tiles.LANES) if kept is np.float32 else (tiles.LANES, 2)
        self._cache = thin.Cache(
            tiles.aligned((*of_slot, places, width // 2, *vector), kept, zeros=True),
            tiles.aligned(
                (*of_slot, lanes // tiles.LANES, places * tiles.LANES // 2, *vector), kept, zeros=True
            ),
        )

    @staticmethod
    def takes(model: Model) -> bool:
        """Whether the model is one of those that are compiled."""
        config = model.config
        rotation = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
        return (
            model.device.type == "cpu"
            and config.model_type in families.LLAMA_LIKE
            and config.hidden_act == "silu"
            and rotation in _FIXED_ROTATION
            and not getattr(config, "sliding_window", None)
            and not getattr(config, "mlp_bias", False)
            and not (config.model_type != "qwen2" and getattr(config, "attention_bias", False))
            and model.dtype in {torch.float32, torch.bfloat16}
        )

    def step(self, tokens: Tokens, wanted: Sequence[int], visits: Visits = (), looks: Visits = ()) -> Tensor:
        """See `Steps`."""
        count = len(self._layers.before_mlp)
        at: dict[str, list[Visit]] = {}
        for site, visit in visits:
            at.setdefault(str(site), []).append(visit)
        after: dict[int, list[Visit]] = {}
        # Those that must be shown on the way first: a layer that is gone through in pieces keeps nothing.
        for site, look in sorted(looks, key=lambda one: one[0].kind in _RESIDUAL):
            layer = _kept_before(site, count, at)
            if layer is None:
                at.setdefault(str(site), []).append(look)
            else:
                after.setdefault(layer, []).append(look)
        places = tokens.places.astype(np.int64)
        place = thin.Place(tokens.slots.astype(np.int64), places, self._cosines[places], self._sines[places])
        with torch.inference_mode():
            x = self._embedding[torch.from_numpy(tokens.ids)].float().numpy()
            _visited(x, at.get("embed"))
            kept = thin.kept_of(x, count, list(after))
            work, done = self._work(len(x)), 0
            for layer in range(count):
                inside = [at.get(f"{kind}.{layer}") for kind in _INSIDE]
                before, behind = at.get(f"resid_pre.{layer}"), at.get(f"resid_post.{layer}")
                if before or any(inside):
                    self._through(done, layer, x, place, work, kept)
                    _visited(x, before)
                    done = layer
                if any(inside):
                    self._layer(layer, x, place, work, inside)
                    done = layer + 1
                if behind:
                    self._through(done, layer + 1, x, place, work, kept)
                    _visited(x, behind)
                    done = layer + 1
            self._through(done, count, x, place, work, kept)
            final = self._normed(x)
            _visited(final, at.get("resid_final"))
            logits = self._logits(final[list(wanted)])
            for found, layer in zip(kept.found, after, strict=True):
                for look in after[layer]:
                    look(torch.from_numpy(found), np.arange(len(found)))
        return torch.from_numpy(logits)[:, : len(self._embedding)].contiguous()

    def measures(self, site: Site) -> bool:
        """See `Steps`: where what was before the edits is all that layers above need."""
        return site.kind in _RESIDUAL

    def divergence(self, text: Edited) -> float:
        """See `Steps`: only the layers above the site are read again."""
        assert text.site.layer is not None
        first, count = text.site.layer + (text.site.kind == "resid_post"), len(self._layers.before_mlp)
        x = text.before.numpy().copy()
        slot, source, held = self._again.place((first, text.owner), x, text.start)
        if source != slot:
            self.copy(source, slot, held)
        for at in range(held, len(x), _PIECE):
            places = np.arange(at, min(at + _PIECE, len(x)))
            slots = np.full(len(places), slot)
            place = thin.Place(slots, places, self._cosines[places], self._sines[places])
            piece = x[at : at + _PIECE]
            nothing = thin.kept_of(piece, count, [])
            self._through(first, count, piece, place, self._work(len(places)), nothing)
        total = 0.0
        for at in range(0, len(text.final), _PREDICTIONS):
            edited = text.final[at : at + _PREDICTIONS].numpy()
            plain = self._normed(x[text.start + at : text.start + at + len(edited)])
            logits = self._logits(np.concatenate([plain, edited]))
            found = distributions.divergences(*np.split(logits, 2), len(self._embedding))
            total += float(found.sum())
        return max(0.0, total / len(text.final))

    def copy(self, source: int, target: int, count: int) -> None:
        """See `Steps`: whole vectors of places; what lies beyond the tokens is never read."""
        vectors = tiles.padded(count, tiles.LANES) // tiles.LANES
        keys, values = self._cache
        keys[:, target, :, :vectors] = keys[:, source, :, :vectors]
        pairs = vectors * tiles.LANES // 2
        values[:, target, :, :, :pairs] = values[:, source, :, :, :pairs]

    def _work(self, rows: int) -> thin.Work:
        read = self._sizes.heads * self._cosines.shape[1]
        width = self._layers.before_mlp.shape[1]
        return thin.work_of(rows, width, self._qkv, read, self._sizes.hidden)

    def _normed(self, x: np.ndarray) -> np.ndarray:
        """[M, D] the final activations, after the last norm."""
        found = np.empty_like(x)
        thin.normed(x, self._final, self._sizes.epsilon, found)
        return found

    def _logits(self, final: np.ndarray) -> np.ndarray:
        """[M, V], padded."""
        rows, width = final.shape
        padded = np.zeros((rows, tiles.padded(width)), np.float32)
        padded[:, :width] = final
        logits = tiles.aligned((rows, self._head.shape[0] * tiles.LANES), np.float32)
        if rows:
            products.product(get_num_threads(), padded, self._head, logits)
        return logits

    def _through(
        self, first: int, last: int, x: np.ndarray, place: thin.Place, work: thin.Work, kept: thin.Kept
    ) -> None:
        """Take x through layers as they are."""
        if first < last:
            thin.through(
                get_num_threads(), first, last, x, place, self._layers, self._cache, self._sizes, work, kept
            )

    def _layer(
        self, layer: int, x: np.ndarray, place: thin.Place, work: thin.Work, inside: list[list[Visit] | None]
    ) -> None:
        """Take x through a layer in which something is seen or edited."""
        width, (attn_out, mlp_in, mlp_out) = x.shape[1], inside
        thin.attention(get_num_threads(), layer, x, place, self._layers, self._cache, self._sizes, work)
        _visited(work.added[:, :width], attn_out)
        thin.add(x, work.added)
        thin.normed(x, self._layers.before_mlp[layer], self._sizes.epsilon, work.normal)
        _visited(work.normal[:, :width], mlp_in)
        thin.mlp(get_num_threads(), layer, self._layers, self._sizes, work)
        _visited(work.added[:, :width], mlp_out)
        thin.add(x, work.added)


def _kept_before(site: Site, count: int, at: Collection[str]) -> int | None:
    """The layer before which what a site holds stands, if nobody visits what lies around it."""
    if site.kind not in _RESIDUAL:
        return None
    assert site.layer is not None
    layer = site.layer + (site.kind == "resid_post")
    near = (f"resid_post.{layer - 1}", *(f"{kind}.{layer}" for kind in ("resid_pre", *_INSIDE)))
    return None if layer == count or any(name in at for name in near) else layer


def _projections(attention: Any) -> list[Any]:
    return [attention.q_proj, attention.k_proj, attention.v_proj]


def _layers(layers: Any, *, half: bool) -> thin.Layers:
    """The weights of all layers, packed."""

    def gains(norms: list[Any]) -> np.ndarray:
        return np.stack([_gain(n) for n in norms]) if norms[0] is not None else np.empty((0, 0), np.float32)

    def matrices(of: Callable[[Any], list[Any]]) -> np.ndarray:
        def matrix(layer: Any) -> np.ndarray:
            parts = [p.weight.detach() for p in of(layer)]
            return _packed(torch.cat([part.bfloat16() for part in parts] if half else parts), half=half)

        first = matrix(layers[0])
        found = tiles.aligned((len(layers), *first.shape), first.dtype)

        def pack(number: int) -> None:
            found[number] = matrix(layers[number])

        with ThreadPoolExecutor() as pool:
            list(pool.map(pack, range(len(layers))))
        return found

    attentions = [layer.self_attn for layer in layers]
    biases = [[p.bias for p in _projections(a)] for a in attentions]
    return thin.Layers(
        before_attention=gains([layer.input_layernorm for layer in layers]),
        qkv=matrices(lambda layer: _projections(layer.self_attn)),
        bias=np.empty((0, 0), np.float32)
        if biases[0][0] is None
        else np.stack([torch.cat(b).float().numpy() for b in biases]),
        query_norm=gains([getattr(a, "q_norm", None) for a in attentions]),
        key_norm=gains([getattr(a, "k_norm", None) for a in attentions]),
        out=matrices(lambda layer: [layer.self_attn.o_proj]),
        before_mlp=gains([layer.post_attention_layernorm for layer in layers]),
        gate_up=matrices(lambda layer: [layer.mlp.gate_proj, layer.mlp.up_proj]),
        down=matrices(lambda layer: [layer.mlp.down_proj]),
    )


def _gain(norm: Any) -> np.ndarray:
    found: np.ndarray = norm.weight.detach().float().numpy()
    return found


def _packed(weight: Tensor, *, half: bool) -> np.ndarray:
    """A matrix as `products.product` takes it."""
    return tiles.packed_half(weight) if half else tiles.packed(weight.detach().float().numpy())


def _visited(x: np.ndarray, visits: list[Visit] | None) -> None:
    """Show x [M, D] to visits, and put what they return in its place."""
    for visit in visits or ():
        changed = visit(torch.from_numpy(x.copy()), np.arange(len(x)))
        if changed is not None:
            x[:] = changed.numpy()


class ModuleSteps:
    """The step of any model, by its own modules."""

    def __init__(self, model: Model, slots: int, room: int) -> None:
        from pellucid.models.slots import SlotCache

        self.model, self.slots, self.room = model, slots, room
        self._cache = SlotCache(model, slots, room)

    def step(self, tokens: Tokens, wanted: Sequence[int], visits: Visits = (), looks: Visits = ()) -> Tensor:
        """See `Steps`."""
        _, first, counts = np.unique(tokens.slots, return_index=True, return_counts=True)
        # Texts of which one token is read go together, the others one by one.
        groups = [np.arange(f, f + c)[None] for f, c in zip(first, counts, strict=True) if c > 1]
        if (counts == 1).any():
            groups.append(first[counts == 1][:, None])
        found: dict[int, Tensor] = {}
        for group in groups:
            found.update(self._forward(tokens, group, set(wanted), [*visits, *looks]))
        return torch.stack([found[t] for t in wanted]) if wanted else torch.empty(0, 0)

    def measures(self, site: Site) -> bool:
        """See `Steps`."""
        return False

    def divergence(self, text: Edited) -> float:
        """See `Steps`."""
        raise NotImplementedError("these steps cannot begin above a site")

    def copy(self, source: int, target: int, count: int) -> None:
        """See `Steps`."""
        with torch.inference_mode():
            self._cache.copy(source, target, count)

    def _forward(
        self, tokens: Tokens, group: np.ndarray, wanted: set[int], visits: Visits
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
