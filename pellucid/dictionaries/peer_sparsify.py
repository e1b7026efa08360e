"""sparsify (EleutherAI): cfg.json and sae.safetensors; TopK alone.

The folder is named after the module whose output was read, such as `layers.9` or `layers.9.mlp`. Read off
sparsify/sparse_coder.py of version 1.3.
"""

from __future__ import annotations

import re
from pathlib import Path

from pellucid.core import files
from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.peers import (
    Declared,
    Format,
    has,
    load_weights,
    need,
    save_weights,
    uncentred_bias,
)

_WEIGHTS = "sae.safetensors"
_MODULES = {
    "": "resid_post",
    "mlp": "mlp_out",
    "attn": "attn_out",
    "self_attn": "attn_out",
    "attention": "attn_out",
}


def _read(path: Path) -> Declared:
    config = files.read_json(path / "cfg.json")
    weights = load_weights(path / _WEIGHTS)
    if config.get("transcode") or "W_skip" in weights:
        raise InputError("The folder holds a transcoder. Transcoders of sparsify cannot be read yet.")
    if (function := config.get("activation", "topk")) != "topk":
        raise InputError(f"A sparsify dictionary with activation {function!r} cannot be kept as one of ours.")
    encoder, bias, decoder, decoder_bias = need(weights, "encoder.weight", "encoder.bias", "W_dec", "b_dec")
    (k,) = need(config, "k")
    return Declared(
        library="sparsify",
        encoder=encoder,
        encoder_bias=bias,
        decoder=decoder,
        decoder_bias=decoder_bias,
        activation="topk",
        k=int(k),
        centred=True,
        site=_site(path.name),
    )


def _site(folder: str) -> Site | None:
    found = re.fullmatch(r"(?:.*\.)?(?:layers|h)\.(\d+)(?:\.(\w+))?", folder)
    if found is None or (found[2] or "") not in _MODULES:
        return None
    return Site(_MODULES[found[2] or ""], int(found[1]))


def _write(dictionary: Dictionary, folder: Path, model: str) -> None:
    d = dictionary
    if d.activation != "topk":
        raise InputError(f"sparsify keeps topk dictionaries alone, and this one is {d.activation}.")
    weights = {
        "encoder.weight": d.encoder,
        "encoder.bias": uncentred_bias(d),
        "W_dec": d.decoder,
        "b_dec": d.decoder_bias,
    }
    save_weights(weights, folder / _WEIGHTS)
    files.write_json(
        folder / "cfg.json",
        {
            "activation": "topk",
            "expansion_factor": max(1, round(d.num_features / d.width)),
            "normalize_decoder": True,
            "num_latents": d.num_features,
            "k": d.k,
            "multi_topk": False,
            "skip_connection": False,
            "transcode": False,
            "d_in": d.width,
        },
    )


FORMAT = Format(has("cfg.json", _WEIGHTS), _read, _write)
