"""SAELens: cfg.json and sae_weights.safetensors, versions 3 to 6.

Matrices lie transposed (`W_enc` [D, N]). Which architectures there are, and what the flags mean, was read off
sae_lens/saes and sae_lens/loading/pretrained_sae_loaders.py of version 6.54.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pellucid.core import files
from pellucid.core.errors import InputError
from pellucid.dictionaries.base import Activation, Dictionary
from pellucid.dictionaries.peers import (
    Declared,
    Format,
    has,
    hook_of_site,
    load_weights,
    need,
    save_weights,
    site_of_hook,
    transposed,
)

_WEIGHTS = "sae_weights.safetensors"
_NORM_FACTORS = ("norm_scaling_factor", "scaling_factor")
_ARCHITECTURES: dict[str, Activation] = {
    "standard": "relu",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "gated": "jumprelu",
}


def _read(path: Path) -> Declared:
    config = files.read_json(path / "cfg.json")
    weights = load_weights(path / _WEIGHTS)
    architecture, k = _architecture(config)
    encoder, decoder, decoder_bias = need(weights, "W_enc", "W_dec", "b_dec")
    activation = _ARCHITECTURES[architecture]
    threshold = None
    if architecture == "gated":
        encoder, bias, threshold = ungated(encoder.T, *need(weights, "r_mag", "b_mag", "b_gate"))
    else:
        encoder, (bias,) = encoder.T, need(weights, "b_enc")
        if activation == "jumprelu":
            (threshold,) = need(weights, "threshold")
        elif "threshold" in weights:
            raise InputError(
                f"cfg.json says {architecture!r}, and the weights hold a threshold: one of them is wrong. "
                'Set "architecture": "jumprelu" if features have thresholds.'
            )
    metadata = {**config, **config.get("metadata", {})}
    hook = metadata.get("hook_name") or metadata.get("hook_point")
    return Declared(
        library="saelens",
        encoder=encoder.contiguous(),
        encoder_bias=bias,
        decoder=decoder,
        decoder_bias=decoder_bias,
        activation=activation,
        k=k,
        threshold=threshold,
        centred=bool(config.get("apply_b_dec_to_input", True)),
        scale=_scale(config, weights),
        by_norm=bool(config.get("rescale_acts_by_decoder_norm", False)),
        site=site_of_hook(hook) if hook else None,
        model=metadata.get("model_name"),
        facts={"architecture": architecture},
    )


def _architecture(config: dict[str, Any]) -> tuple[str, int | None]:
    """The architecture and k, through the names of several versions."""
    function = config.get("activation_fn") or config.get("activation_fn_str") or "relu"
    arguments = config.get("activation_fn_kwargs") or {}
    architecture = config.get("architecture", "standard")
    if architecture == "standard" and function == "topk":
        architecture = "topk"
    if architecture not in _ARCHITECTURES:
        raise InputError(
            f"A SAELens dictionary of architecture {architecture!r} cannot be kept as one of ours. "
            f"Those that can: {', '.join(_ARCHITECTURES)}; a training file of batchtopk is saved for use by "
            "save_inference_model."
        )
    if architecture != "topk":
        return architecture, None
    (k,) = need({**arguments, **config}, "k")
    return architecture, int(k)


def _scale(config: dict[str, Any], weights: dict[str, Tensor]) -> float:
    declared = config.get("normalize_activations", "none")
    if declared in (None, False, "none"):
        return 1.0
    if declared in (True, "expected_average_only_in"):
        for name in _NORM_FACTORS:
            if name in weights or name in config:
                return float(weights[name] if name in weights else config[name])
        raise InputError(
            "cfg.json says that activations are scaled to an expected norm, and no factor is kept. Fold it "
            'in with SAELens, or add "norm_scaling_factor" to cfg.json.'
        )
    raise InputError(
        f"The dictionary normalises every token by itself ({declared!r}), which a fixed dictionary cannot do."
    )


def _write(dictionary: Dictionary, folder: Path, model: str) -> None:
    d = dictionary
    save_weights(transposed(d), folder / _WEIGHTS)
    architecture = {"relu": "standard", "topk": "topk", "jumprelu": "jumprelu"}[d.activation]
    files.write_json(
        folder / "cfg.json",
        {
            "architecture": architecture,
            "d_in": d.width,
            "d_sae": d.num_features,
            "dtype": "float32",
            "device": "cpu",
            "apply_b_dec_to_input": False,
            "normalize_activations": "none",
            "reshape_activations": "none",
            **({"k": d.k, "rescale_acts_by_decoder_norm": False} if d.activation == "topk" else {}),
            "metadata": {
                "sae_lens_version": "6.0.0",
                "model_name": model,
                "hook_name": hook_of_site(d.site),
            },
        },
    )


def ungated(rows: Tensor, stretch: Tensor, magnitude: Tensor, gate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Encoder rows [N, D], bias and threshold [N] of the JumpReLU dictionary that a gated one is.

    Rajamanoharan et al. 2024, arXiv 2404.16014, section 3.3: rows e^r W, bias b_mag, threshold
    b_mag − e^r b_gate.
    """
    factor = torch.exp(stretch)
    return rows * factor[:, None], magnitude, (magnitude - factor * gate).clamp(min=0)


FORMAT = Format(has("cfg.json", _WEIGHTS), _read, _write)
