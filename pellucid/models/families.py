"""Families: where the modules behind the sites are, in each Hugging Face architecture.

A family is a few dotted paths. Modules run as they are; nothing is wrapped or rewritten. What attention and
the MLP add to the residual stream is meant by `attn_out` and `mlp_out`, so that for Gemma 2 and 3, which
normalise before adding, the hooks sit on those norms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from pellucid.core.errors import InputError, UnknownNameError
from pellucid.core.sites import KINDS, Site


@dataclass(frozen=True)
class Family:
    """Dotted paths from the causal language model, and from one of its layers."""

    embed: str
    layers: str
    final: str
    attn_out: str
    mlp_in: str
    mlp_out: str


_LLAMA = Family("model.embed_tokens", "model.layers", "model.norm", "self_attn", "mlp", "mlp")
_GEMMA2 = Family(
    "model.embed_tokens",
    "model.layers",
    "model.norm",
    "post_attention_layernorm",
    "mlp",
    "post_feedforward_layernorm",
)

LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3")
"""Those that compute as Llama does, for what is compiled for it."""
FAMILIES: dict[str, Family] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _LLAMA,
    "gemma2": _GEMMA2,
    "gemma3_text": _GEMMA2,
    "gpt2": Family("transformer.wte", "transformer.h", "transformer.ln_f", "attn", "mlp", "mlp"),
    "gpt_neox": Family(
        "gpt_neox.embed_in", "gpt_neox.layers", "gpt_neox.final_layer_norm", "attention", "mlp", "mlp"
    ),
}


@dataclass(frozen=True)
class HookPoint:
    """A module, and which side of it the activation of a site passes."""

    module: nn.Module
    side: Literal["input", "output"]


def of(network: nn.Module) -> Family:
    """The family of a Hugging Face model.

    Raises:
        UnknownNameError: when the architecture is not supported.
    """
    return named(network.config.model_type)  # type: ignore[union-attr]


def named(name: object) -> Family:
    """The family of a name, as in `model_type` of a Hugging Face configuration.

    Raises:
        UnknownNameError: when the architecture is not supported.
    """
    if not isinstance(name, str) or name not in FAMILIES:
        raise UnknownNameError("supported architecture", name, FAMILIES)
    return FAMILIES[name]


def num_layers(network: nn.Module) -> int:
    """How many transformer layers the model has."""
    return len(network.get_submodule(of(network).layers))  # type: ignore[arg-type]


def hook_point(network: nn.Module, site: Site) -> HookPoint:
    """The module at a site.

    Raises:
        InputError: when the model has no such layer.
    """
    family = of(network)
    if site.kind == "embed":
        return HookPoint(network.get_submodule(family.embed), "output")
    if site.kind == "resid_final":
        return HookPoint(network.get_submodule(family.final), "output")
    count = num_layers(network)
    if site.layer is None or site.layer >= count:
        raise InputError(
            f"There is no site '{site}': the model has layers 0 to {count - 1}. Kinds: {', '.join(KINDS)}."
        )
    layer = network.get_submodule(f"{family.layers}.{site.layer}")
    if site.kind == "resid_pre":
        return HookPoint(layer, "input")
    if site.kind == "resid_post":
        return HookPoint(layer, "output")
    if site.kind == "mlp_in":
        return HookPoint(layer.get_submodule(family.mlp_in), "input")
    return HookPoint(
        layer.get_submodule(family.attn_out if site.kind == "attn_out" else family.mlp_out), "output"
    )
