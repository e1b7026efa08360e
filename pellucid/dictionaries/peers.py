"""Dictionaries of other libraries: what a file says of itself, folded into one of ours, and back.

A reader turns a folder or file into a `Declared`: the weights as they lie there, with every convention that
libraries differ in spelt out. `Declared.dictionary` folds these conventions in. Whether they are the ones the
weights were trained with, `remeasure` finds out. A writer does the reverse.

    saelens               cfg.json, sae_weights.safetensors
    dictionary_learning   config.json, ae.pt
    sparsify              cfg.json, sae.safetensors
    gemmascope            params.npz
    llamascope            hyperparams.json, checkpoints/final.safetensors

N features, D width.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pellucid.core import files
from pellucid.core.errors import InputError, IntegrityError, UnknownNameError
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Activation, Dictionary
from pellucid.dictionaries.ports import Ports

_EQUAL_NORMS = 1e-3


@dataclass(frozen=True)
class Declared:
    """A dictionary as a file declares it, in the file's own units.

    With y = scale · x, and y less `decoder_bias` where `centred`, pre-activations are
    encoder · y + encoder_bias, and the reconstruction of x is (Σ value · decoder row + decoder_bias) / scale.
    """

    library: str
    encoder: Tensor
    """[N, D] float32."""
    encoder_bias: Tensor
    """[N]."""
    decoder: Tensor
    """[N, D], of any norm."""
    decoder_bias: Tensor
    """[D]."""
    activation: Activation
    k: int | None = None
    threshold: Tensor | None = None
    """[N], in the units of the pre-activations."""
    centred: bool = False
    """Whether the decoder bias is taken off before encoding."""
    scale: float = 1.0
    """What activations are multiplied by before encoding."""
    by_norm: bool = False
    """Whether features compete, and pass their thresholds, by value times norm of the decoder row."""
    site: Site | None = None
    """Where it says it was trained; none where it does not say."""
    model: str | None = None
    """The name of the model it says it was trained on."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else it says; kept on the card."""

    def dictionary(self, site: Site, model_digest: str) -> Dictionary:
        """The same function as one of our dictionaries.

        Raises:
            InputError: when it cannot be: `topk` by values of rows of several lengths, or a shape is wrong.
        """
        self._check_shapes()
        norms = self.decoder.norm(dim=1).clamp(min=1e-12)
        uneven = float((norms.max() - norms.min()) / norms.max()) > _EQUAL_NORMS
        if self.activation == "topk" and uneven and not self.by_norm:
            raise InputError(
                "The k largest are chosen by values whose decoder rows have several lengths, and features of "
                "ours compete by the length they write. Let the library that trained it fold the norms in."
            )
        unit = norms / self.scale
        bias = self.encoder_bias - (self.encoder @ self.decoder_bias if self.centred else 0)
        threshold = None
        if self.activation == "jumprelu":
            assert self.threshold is not None
            threshold = self.threshold / self.scale if self.by_norm else self.threshold * unit
        return Dictionary(
            ports=Ports.of(site),
            model_digest=model_digest,
            activation=self.activation,
            encoder=(self.encoder * norms[:, None]).contiguous(),
            encoder_bias=bias * unit,
            decoder=(self.decoder / norms[:, None]).contiguous(),
            decoder_bias=self.decoder_bias / self.scale,
            k=self.k,
            threshold=threshold,
        )

    def _check_shapes(self) -> None:
        n, width = self.encoder.shape
        shapes = {
            "encoder": ((n, width), self.encoder),
            "encoder bias": ((n,), self.encoder_bias),
            "decoder": ((n, width), self.decoder),
            "decoder bias": ((width,), self.decoder_bias),
            "threshold": ((n,), self.threshold),
        }
        for name, (expected, tensor) in shapes.items():
            if tensor is None:
                continue
            if tuple(tensor.shape) != expected:
                raise InputError(
                    f"The {name} has the shape {list(tensor.shape)} where {list(expected)} belongs. "
                    "The file is damaged, or of another kind than its configuration says."
                )
            if not bool(torch.isfinite(tensor).all()):
                raise InputError(f"The {name} holds NaN or infinite numbers. Fetch the file again.")


@dataclass(frozen=True)
class Format:
    """How one library keeps a dictionary."""

    holds: Callable[[Path], bool]
    """Whether a folder or file looks like one."""
    read: Callable[[Path], Declared]
    write: Callable[[Dictionary, Path, str], None]
    """Write a dictionary of ours into an empty folder; the text is the name of the model."""


def formats() -> dict[str, Format]:
    """The formats by the name of their library."""
    from pellucid.dictionaries import peer_dictionary_learning, peer_saelens, peer_scopes, peer_sparsify

    return {
        "saelens": peer_saelens.FORMAT,
        "dictionary_learning": peer_dictionary_learning.FORMAT,
        "sparsify": peer_sparsify.FORMAT,
        "gemmascope": peer_scopes.GEMMA,
        "llamascope": peer_scopes.LLAMA,
    }


def read(path: Path) -> Declared:
    """Read a dictionary of any library, known by the files that are there.

    Raises:
        InputError: when it is of none, or holds what a dictionary of ours cannot.
    """
    for made in formats().values():
        if made.holds(path):
            return made.read(path)
    raise InputError(
        f"{str(path)!r} holds no dictionary of a known library ({', '.join(formats())}). "
        "Give the folder with its configuration and weights, or a params.npz."
    )


def write(dictionary: Dictionary, library: str, folder: Path, model: str) -> None:
    """Write a new folder as a library keeps its dictionaries, whole or not at all.

    Args:
        dictionary: one of ours.
        library: for whom.
        folder: it must not exist yet.
        model: the name of the model, for formats that hold it.

    Raises:
        InputError: when the folder exists, the format cannot hold the dictionary, or (UnknownNameError) there
            is no such library.
    """
    if not dictionary.ports.same:
        raise InputError(
            f"The formats of other libraries are for dictionaries that write what they read; this is a "
            f"{dictionary.ports.kind}."
        )
    if dictionary.router is not None:
        raise InputError(
            "The formats of other libraries have no router: they would look for features in all groups, and "
            "find others. Keep this dictionary in ours."
        )
    known = formats()
    if library not in known:
        raise UnknownNameError("library", library, known)
    with files.new_folder(folder) as partial:
        known[library].write(dictionary.to("cpu"), partial, model)


_HOOKS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
}


def site_of_hook(name: str) -> Site:
    """The site of a TransformerLens hook name.

    Raises:
        InputError: when no site is there.
    """
    if name == "hook_embed":
        return Site("embed")
    found = re.fullmatch(r"blocks\.(\d+)\.(\w+)", name)
    if found is None or found[2] not in _HOOKS:
        raise InputError(f"The dictionary was trained at {name!r}, which is none of our sites.")
    return Site(_HOOKS[found[2]], int(found[1]))


def hook_of_site(site: Site) -> str:
    """The TransformerLens hook name of a site.

    Raises:
        InputError: when it has none of the same meaning.
    """
    if site.kind == "embed":
        return "hook_embed"
    hooks = {kind: hook for hook, kind in _HOOKS.items()}
    if site.kind not in hooks:
        raise InputError(f"TransformerLens has no hook that means the same as {site}.")
    return f"blocks.{site.layer}.{hooks[site.kind]}"


def has(*names: str) -> Callable[[Path], bool]:
    """Whether a folder holds files of these names."""
    return lambda folder: all((folder / name).is_file() for name in names)


def transposed(d: Dictionary) -> dict[str, Tensor]:
    """The weights by the names and in the layout that most share: `W_enc` [D, N], `W_dec` [N, D]."""
    weights = {"W_enc": d.encoder.T, "b_enc": d.encoder_bias, "W_dec": d.decoder, "b_dec": d.decoder_bias}
    if d.threshold is not None:
        weights["threshold"] = d.threshold.clamp(min=0)
    return {name: t.contiguous() for name, t in weights.items()}


def uncentred_bias(dictionary: Dictionary) -> Tensor:
    """[N] the encoder bias for a library that takes the decoder bias off before encoding."""
    return dictionary.encoder_bias + dictionary.encoder @ dictionary.decoder_bias


def load_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file in float32.

    Raises:
        IntegrityError: when it is damaged.
    """
    try:
        return {name: t.float() for name, t in load_file(path).items()}
    except SafetensorError as error:
        raise IntegrityError(f"{str(path)!r} cannot be read ({error}). Fetch it again.") from error


def save_weights(weights: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file in float32."""
    save_file({name: t.float().contiguous() for name, t in weights.items()}, path)


def need(values: dict[str, Any], *names: str) -> list[Any]:
    """Some entries of a configuration or of weights.

    Raises:
        InputError: when one is missing.
    """
    missing = [n for n in names if n not in values]
    if missing:
        raise InputError(
            f"The dictionary lacks {', '.join(map(repr, missing))}; it has {', '.join(sorted(values)[:12])}. "
            "The file is damaged, or of a version that is not known here."
        )
    return [values[n] for n in names]
