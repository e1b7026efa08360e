"""Attention over texts of a few tokens, for which general kernels are not made.

PyTorch's attention takes a third of a pass over thousands of texts of four tokens, in which it multiplies
next to nothing. Here each row and head is a few dot products, one after the other in one thread.

    F rows, H heads, G groups of keys and values, S positions that ask, T that are read, E width of a head
"""

from __future__ import annotations

import copy
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from numba import njit, types
from numba.extending import overload
from torch import Tensor
from transformers import AttentionInterface

from pellucid.models import families
from pellucid.models.distributions import shares
from pellucid.models.model import Model
from pellucid.models.products import REORDERED, nearest

_NAME = "pellucid_short"


def attending(model: Model) -> Model:
    """The same weights, with attention for short texts where the model is of a family that allows it.

    It serves whole texts without padding, and those whose first tokens stand in a cache.
    """
    config = model.config
    if (
        config.model_type not in families.LLAMA_LIKE
        or getattr(config, "sliding_window", None)
        or model.device.type != "cpu"
        or model.dtype not in {torch.float32, torch.bfloat16}
    ):
        return model
    AttentionInterface.register(_NAME, _attention)
    tensors = chain(model.network.parameters(), model.network.buffers())
    network: Any = copy.deepcopy(model.network, {id(t): t for t in tensors})
    network.set_attn_implementation(_NAME)
    return replace(model, network=network)


def _attention(
    _module: Any, query: Tensor, key: Tensor, value: Tensor, _mask: Any, *, scaling: float, **_more: Any
) -> tuple[Tensor, None]:
    """What transformers calls with [F, H, S, E] and [F, G, T, E]; [F, S, H, E]."""
    asking = query.transpose(1, 2).contiguous()
    out = torch.empty_like(asking)
    _attend(*map(_array, (asking, key.contiguous(), value.contiguous(), out)), scaling)
    return out, None


def _array(x: Tensor) -> np.ndarray:
    """The same memory; bfloat16 as bits."""
    found: np.ndarray = (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()
    return found


def _widened(x):  # type: ignore[no-untyped-def]
    """A number that is kept as float32, or as the bits of a bfloat16."""
    raise NotImplementedError("compiled only")


@overload(_widened, inline="always")
def _widened_of(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: x
    return lambda x: np.uint32(np.uint32(x) << np.uint32(16)).view(np.float32)


def _narrowed(like, x):  # type: ignore[no-untyped-def]
    """A float32 as it is to be kept."""
    raise NotImplementedError("compiled only")


@overload(_narrowed, inline="always")
def _narrowed_of(like, x):  # type: ignore[no-untyped-def]
    if like.dtype == types.float32:
        return lambda like, x: x
    return lambda like, x: np.uint16(nearest(x))


@njit(nogil=True, cache=True, fastmath=REORDERED, error_model="numpy")
def _attend(
    query: np.ndarray, key: np.ndarray, value: np.ndarray, out: np.ndarray, scaling: np.float32
) -> None:
    """Each position reads those up to its own; the S that ask are the last of T."""
    rows, asking, heads, width = query.shape
    groups, length = key.shape[1], key.shape[2]
    keys, values = np.empty((length, width), np.float32), np.empty((length, width), np.float32)
    scores, total = np.empty(length, np.float32), np.empty(width, np.float32)
    asked = np.empty(width, np.float32)
    for f in range(rows):
        for g in range(groups):
            for t in range(length):
                for e in range(width):
                    keys[t, e] = _widened(key[f, g, t, e])
                    values[t, e] = _widened(value[f, g, t, e])
            for h in range(g * heads // groups, (g + 1) * heads // groups):
                for s in range(asking):
                    for e in range(width):
                        asked[e] = _widened(query[f, s, h, e])
                        total[e] = np.float32(0)
                    read = length - asking + s + 1
                    for t in range(read):
                        score = np.float32(0)
                        for e in range(width):
                            score += asked[e] * keys[t, e]
                        scores[t] = score * np.float32(scaling)
                    shares(scores[:read])
                    for t in range(read):
                        for e in range(width):
                            total[e] += scores[t] * values[t, e]
                    for e in range(width):
                        out[f, s, h, e] = _narrowed(out, total[e])
