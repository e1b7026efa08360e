"""dictionary_learning: config.json and ae.pt.

The weights are a pickle, the one kind of file that could run code when it is read. It is read by
`torch.load(weights_only=True)`, which makes tensors and plain containers and refuses everything else
(docs/decisions/0011). Read off dictionary_learning/dictionary.py and utils.py of version 0.1.
"""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pellucid.core import files
from pellucid.core.errors import InputError, IntegrityError
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Activation, Dictionary
from pellucid.dictionaries.peer_saelens import ungated
from pellucid.dictionaries.peers import Declared, Format, has, need, transposed, uncentred_bias

_CLASSES: dict[str, Activation] = {
    "AutoEncoder": "relu",
    "AutoEncoderNew": "relu",
    "GatedAutoEncoder": "jumprelu",
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "jumprelu",
    "MatryoshkaBatchTopKSAE": "jumprelu",
    "JumpReluAutoEncoder": "jumprelu",
}
_TRANSPOSED = ("JumpReluAutoEncoder", "MatryoshkaBatchTopKSAE")
"""Those with `W_enc` [D, N] and `W_dec` [N, D]; the others hold two linear layers."""


def _read(path: Path) -> Declared:
    trainer = need(files.read_json(path / "config.json"), "trainer")[0]
    (kind,) = need(trainer, "dict_class")
    if kind not in _CLASSES:
        raise InputError(
            f"A dictionary of class {kind!r} cannot be kept as one of ours. Those that can: "
            f"{', '.join(_CLASSES)}."
        )
    weights = _load(path / "ae.pt")
    if kind in _TRANSPOSED:
        encoder, decoder = need(weights, "W_enc", "W_dec")
        encoder = encoder.T
    else:
        encoder, decoder = need(weights, "encoder.weight", "decoder.weight")
        decoder = decoder.T
    decoder_bias = _first(weights, "b_dec", "bias", "decoder_bias", "decoder.bias")
    threshold = k = None
    if kind == "GatedAutoEncoder":
        encoder, bias, threshold = ungated(encoder, *need(weights, "r_mag", "mag_bias", "gate_bias"))
    else:
        bias = _first(weights, "b_enc", "encoder.bias")
    if kind == "AutoEncoderTopK":
        k = int(need(weights, "k")[0])
        if trainer.get("k", k) != k:
            raise InputError(
                f"config.json says k = {trainer['k']}, and ae.pt says {k}: one of them is wrong."
            )
    elif kind != "GatedAutoEncoder" and _CLASSES[kind] == "jumprelu":
        (bar,) = need(weights, "threshold")
        if bar.ndim == 0 and float(bar) < 0:
            raise InputError(
                "The dictionary has no threshold yet: training ended before one was set, and it can be read "
                "in batches alone."
            )
        threshold = bar.expand(len(encoder)).clone()
    layer = trainer.get("layer")
    name = str(trainer.get("submodule_name") or "")
    return Declared(
        library="dictionary_learning",
        encoder=encoder.contiguous(),
        encoder_bias=bias,
        decoder=decoder.contiguous(),
        decoder_bias=decoder_bias,
        activation=_CLASSES[kind],
        k=k,
        threshold=threshold,
        centred=kind not in ("AutoEncoderNew", "JumpReluAutoEncoder"),
        site=Site("resid_post", int(layer)) if layer is not None and "resid_post" in name else None,
        model=trainer.get("lm_name"),
        facts={"class": kind},
    )


def _load(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings(action="ignore"):
            found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise IntegrityError(
            f"{str(path)!r} is damaged, or holds more than tensors; nothing in it was run. "
            "Save the state dict of the dictionary again."
        ) from error
    if not isinstance(found, dict) or not all(isinstance(t, Tensor) for t in found.values()):
        raise IntegrityError(f"{str(path)!r} is not a dictionary's state dict. Save it again.")
    return {name: t.float() for name, t in found.items()}


def _first(weights: dict[str, Tensor], *names: str) -> Tensor:
    present = [name for name in names if name in weights]
    found: Tensor = need(weights, (present or names)[0])[0]
    return found


def _write(dictionary: Dictionary, folder: Path, model: str) -> None:
    d = dictionary
    trainer: dict[str, Any] = {
        "activation_dim": d.width,
        "dict_size": d.num_features,
        "lm_name": model,
        "layer": d.site.layer,
        "submodule_name": f"{d.site.kind}_layer_{d.site.layer}",
    }
    if d.activation == "jumprelu":
        trainer["dict_class"] = "JumpReluAutoEncoder"
        weights = transposed(d)
    else:
        layers = {
            "encoder.weight": d.encoder,
            "encoder.bias": uncentred_bias(d),
            "decoder.weight": d.decoder.T,
        }
        if d.activation == "topk":
            assert d.k is not None
            trainer |= {"dict_class": "AutoEncoderTopK", "k": d.k}
            weights = {
                **layers,
                "b_dec": d.decoder_bias,
                "k": torch.tensor(d.k, dtype=torch.int),
                "threshold": torch.tensor(-1.0),
            }
        else:
            trainer["dict_class"] = "AutoEncoder"
            weights = {**layers, "bias": d.decoder_bias}
    torch.save({name: t.contiguous() for name, t in weights.items()}, folder / "ae.pt")
    files.write_json(folder / "config.json", {"trainer": trainer, "buffer": {}})


FORMAT = Format(has("config.json", "ae.pt"), _read, _write)
