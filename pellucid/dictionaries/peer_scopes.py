"""Gemma Scope (params.npz) and Llama Scope (hyperparams.json, checkpoints/final.safetensors); JumpReLU both.

Gemma Scope names neither model nor site in the file: its folder does, and whoever fetched it. Lieberum et al.
2024, arXiv 2408.05147. Llama Scope scales activations by √D over their average norm, which it keeps, and has
one threshold for all features. He et al. 2024, arXiv 2410.20526.
"""

from __future__ import annotations

import math
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pellucid.core import files
from pellucid.core.errors import InputError, IntegrityError
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary
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

_LLAMA_WEIGHTS = "checkpoints/final.safetensors"


def _npz(path: Path) -> Path:
    return path / "params.npz" if path.is_dir() else path


def _read_gemma(path: Path) -> Declared:
    try:
        with _npz(path).open("rb") as file, np.load(file, allow_pickle=False) as found:
            weights = {name.lower(): torch.from_numpy(found[name]).float() for name in found.files}
    except (zipfile.BadZipFile, ValueError, OSError) as error:
        raise IntegrityError(f"{str(_npz(path))!r} cannot be read ({error}). Fetch it again.") from error
    encoder, bias, decoder, decoder_bias, threshold = need(
        weights, "w_enc", "b_enc", "w_dec", "b_dec", "threshold"
    )
    layer = re.search(r"layer_(\d+)", str(path.resolve()))
    kind = "mlp_out" if "-mlp" in str(path.resolve()) else "resid_post"
    return Declared(
        library="gemmascope",
        encoder=encoder.T.contiguous(),
        encoder_bias=bias,
        decoder=decoder,
        decoder_bias=decoder_bias,
        activation="jumprelu",
        threshold=threshold,
        site=Site(kind, int(layer[1])) if layer else None,
    )


def _write_gemma(dictionary: Dictionary, folder: Path, model: str) -> None:
    d = dictionary
    weights = {**transposed(d), "threshold": _threshold(d)}
    arrays: dict[str, Any] = {name: t.numpy() for name, t in weights.items()}
    np.savez(folder / "params.npz", **arrays)


def _threshold(d: Dictionary) -> torch.Tensor:
    if d.activation == "topk":
        raise InputError("The format holds thresholds, and a topk dictionary has none.")
    return torch.zeros(d.num_features) if d.threshold is None else d.threshold.clamp(min=0)


def _read_llama(path: Path) -> Declared:
    config = files.read_json(path / "hyperparams.json")
    weights = load_weights(path / _LLAMA_WEIGHTS)
    encoder, bias, decoder, decoder_bias = need(
        weights, "encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"
    )
    width, norms, bar, hook, goal = need(
        config,
        "d_model",
        "dataset_average_activation_norm",
        "jump_relu_threshold",
        "hook_point_in",
        "hook_point_out",
    )
    if hook != goal:
        raise InputError(
            f"The dictionary reads {hook!r} and writes {goal!r}: transcoders cannot be read yet."
        )
    scale = math.sqrt(width) / float(norms["in"])
    return Declared(
        library="llamascope",
        encoder=encoder,
        encoder_bias=bias,
        decoder=decoder.T.contiguous(),
        decoder_bias=decoder_bias,
        activation="jumprelu",
        # It is given in the units of the model, and compared with value times norm.
        threshold=torch.full((len(encoder),), float(bar) * scale),
        scale=scale,
        by_norm=bool(config.get("sparsity_include_decoder_norm", False)),
        site=site_of_hook(hook),
        model=config.get("model_name"),
    )


def _write_llama(dictionary: Dictionary, folder: Path, model: str) -> None:
    d = dictionary
    bars = _threshold(d)
    if float(bars.max() - bars.min()) > 1e-6 * float(bars.max()):
        raise InputError("Llama Scope keeps one threshold for all features, and this dictionary has many.")
    (folder / "checkpoints").mkdir()
    weights = {
        "encoder.weight": d.encoder,
        "encoder.bias": d.encoder_bias,
        "decoder.weight": d.decoder.T,
        "decoder.bias": d.decoder_bias,
    }
    save_weights(weights, folder / _LLAMA_WEIGHTS)
    hook = hook_of_site(d.site)
    root = math.sqrt(d.width)
    files.write_json(
        folder / "hyperparams.json",
        {
            "d_model": d.width,
            "d_sae": d.num_features,
            "hook_point_in": hook,
            "hook_point_out": hook,
            "jump_relu_threshold": float(bars[0]),
            "dataset_average_activation_norm": {"in": root, "out": root},
            "model_name": model,
        },
    )


GEMMA = Format(lambda path: _npz(path).suffix == ".npz" and _npz(path).is_file(), _read_gemma, _write_gemma)
LLAMA = Format(has("hyperparams.json", _LLAMA_WEIGHTS), _read_llama, _write_llama)
