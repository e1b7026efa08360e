"""A dictionary on disk: a folder that is read without our code, and that proves itself when it is loaded.

    dictionary.safetensors   encoder [N, D], encoder_bias [N], decoder [N, D], decoder_bias [D], threshold [N]
                             (jumprelu), maximum [N] and frequency [N] over the measured text, skip [D', D]
                             (skip transcoder), router [G, D] and router_bias [G] (features in groups);
                             float32, or
                             `compact`: encoder and decoder as int8 with a float32 scale per row
                             (`encoder.scale`, `decoder.scale`)
    card.json                format, architecture, sizes, site, model digest, recipe and settings, corpus
                             digest, tokens seen, measured quality, digest of the safetensors file
    fixture.safetensors      a few activations [T, D] with their codes

Loading checks the digest, and computes the codes of the fixture again: a file that was mixed up, or code that
reads it wrongly, is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pellucid.core import digests, files
from pellucid.core.errors import InputError, IntegrityError
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.codes import Codes
from pellucid.dictionaries.ports import Ports
from pellucid.dictionaries.routing import Router

FORMAT = 1
"""Of a dictionary that writes the one site it reads and has no router; others are of format 2, which has
`ports` and `visits`."""
_TOLERANCE = 1e-3  # of the largest value of a fixture: processors differ in the last bits of a product
_SLIPS = 0.02  # the share of a fixture's entries that may fall on the other side of a threshold


@dataclass(frozen=True)
class Card:
    """What is known of a dictionary beside its weights."""

    values: dict[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def get(self, key: str, default: Any = None) -> Any:
        """A value, or the default where the card has none."""
        return self.values.get(key, default)


def save(
    dictionary: Dictionary, folder: Path, *, card: dict[str, Any], fixture: Tensor, compact: bool = False
) -> Dictionary:
    """Write a new folder; returns the dictionary as it will be read.

    Args:
        dictionary: what to write.
        folder: a folder that does not exist yet.
        card: JSON values beside those that are derived here.
        fixture: [T, D] a few activations from text.
        compact: int8 rows, a quarter of the size.
    """
    tensors = _packed(dictionary.to("cpu"), compact)
    ports = dictionary.ports
    simple = ports == Ports.of(ports.reads[0])
    visits = None if dictionary.router is None else dictionary.router.visits
    stored = _unpacked(tensors, ports, dictionary.model_digest, dictionary.activation, dictionary.k, visits)
    codes = stored.encode(fixture)
    with files.new_folder(folder) as partial:
        save_file(tensors, partial / "dictionary.safetensors")
        parts = {
            "inputs": fixture.float().cpu(),
            "offsets": codes.offsets,
            "features": codes.features,
            "values": codes.values,
        }
        save_file({name: t.contiguous() for name, t in parts.items()}, partial / "fixture.safetensors")
        files.write_json(
            partial / "card.json",
            {
                "format": FORMAT if simple and visits is None else FORMAT + 1,
                "activation": dictionary.activation,
                "features": dictionary.num_features,
                "width": dictionary.width,
                "k": dictionary.k,
                "site": str(ports),
                **({} if simple else {"ports": ports.as_json()}),
                **({} if visits is None else {"visits": visits}),
                "model": dictionary.model_digest,
                "digests": {
                    n: digests.of_file(partial / n) for n in ("dictionary.safetensors", "fixture.safetensors")
                },
                **card,
            },
        )
    return stored


def load(folder: str | Path, *, model_digest: str | None = None) -> tuple[Dictionary, Card]:
    """Read a dictionary and prove it.

    Args:
        folder: where it is.
        model_digest: the model it is wanted for.

    Raises:
        InputError: when there is none, or it belongs to another model.
        IntegrityError: when a file is damaged, of a newer format, or does not do what its fixture says.
    """
    folder = Path(folder).expanduser()
    if not (folder / "card.json").is_file() and not (folder / "dictionary.safetensors").is_file():
        raise InputError(
            f"There is no dictionary in {str(folder)!r}: a dictionary is a folder with card.json."
        )
    try:
        values = files.read_json(folder / "card.json")
    except (InputError, IntegrityError) as error:
        raise _damaged(folder, error) from error
    if not isinstance(values, dict) or values.get("format") not in (FORMAT, FORMAT + 1):
        raise IntegrityError(
            f"The card in {str(folder)!r} is of none of the formats {FORMAT} and {FORMAT + 1}. "
            "A newer Pellucid may have written it."
        )
    try:
        for name, expected in values["digests"].items():
            if not (folder / name).is_file() or digests.of_file(folder / name) != expected:
                raise IntegrityError(f"{name} is missing, or its digest is not the card's")
        tensors = load_file(folder / "dictionary.safetensors")
        proof = load_file(folder / "fixture.safetensors")
        ports = (
            Ports.from_json(values["ports"]) if "ports" in values else Ports.of(Site.parse(values["site"]))
        )
        dictionary = _unpacked(
            tensors, ports, values["model"], values["activation"], values["k"], values.get("visits")
        )
    except (IntegrityError, InputError, SafetensorError, KeyError, AttributeError, RuntimeError) as error:
        raise _damaged(folder, error) from error
    if model_digest is not None:
        check_model(Card(values), model_digest)
    prove(dictionary, proof, folder)
    return dictionary, Card(values)


def _damaged(folder: Path, error: Exception) -> IntegrityError:
    return IntegrityError(
        f"The dictionary in {str(folder)!r} is damaged ({error}). "
        "Fetch it again, or remove the folder and repeat the command that made it."
    )


def check_model(card: Card, model_digest: str) -> None:
    """Refuse a model that a dictionary was not trained on.

    Raises:
        InputError: when the digests differ.
    """
    if card["model"] != model_digest:
        raise InputError(
            f"The dictionary belongs to the model {digests.short(card['model'])}, and this is "
            f"{digests.short(model_digest)}. Use the model it was trained on."
        )


def prove(dictionary: Dictionary, proof: dict[str, Tensor], folder: Path) -> None:
    """Refuse a dictionary whose codes of the fixture are not those it was saved with."""
    expected = Codes(proof["offsets"], proof["features"], proof["values"], dictionary.num_features)
    found = dictionary.encode(proof["inputs"])
    a, b = found.dense(), expected.dense()
    bar = _TOLERANCE * float(b.max())
    flipped = int((((a > 0) != (b > 0)) & ((a - b).abs() > bar)).sum())
    both = (a > 0) & (b > 0)
    worst = float((a - b)[both].abs().max()) if bool(both.any()) else float("inf")
    if flipped > _SLIPS * len(expected.values) or worst > bar:
        raise IntegrityError(
            f"The dictionary in {str(folder)!r} does not do what its fixture says: {flipped} of "
            f"{len(expected.values)} codes differ, by up to {worst:.3g}. It is damaged, or was written by a "
            "version that encodes otherwise. Fetch it again, or remove the folder and repeat the command "
            "that made it."
        )


def _packed(dictionary: Dictionary, compact: bool) -> dict[str, Tensor]:
    tensors = {"encoder_bias": dictionary.encoder_bias, "decoder_bias": dictionary.decoder_bias}
    for name in ("threshold", "maximum", "frequency", "skip"):
        value = getattr(dictionary, name)
        if value is not None:
            tensors[name] = value
    if dictionary.router is not None:
        tensors |= {"router": dictionary.router.rows, "router_bias": dictionary.router.bias}
    for name, matrix in (("encoder", dictionary.encoder), ("decoder", dictionary.decoder)):
        if compact:
            scale = matrix.abs().amax(1).clamp(min=1e-12) / 127
            tensors[name] = (matrix / scale[:, None]).round().to(torch.int8)
            tensors[f"{name}.scale"] = scale
        else:
            tensors[name] = matrix
    return {name: t.contiguous() for name, t in tensors.items()}


def _unpacked(
    tensors: dict[str, Tensor],
    ports: Ports,
    model: str,
    activation: Any,
    k: int | None,
    visits: int | None,
) -> Dictionary:
    def matrix(name: str) -> Tensor:
        raw = tensors[name]
        return raw.float() * tensors[f"{name}.scale"][:, None] if raw.dtype == torch.int8 else raw

    return Dictionary(
        ports=ports,
        model_digest=model,
        activation=activation,
        encoder=matrix("encoder"),
        encoder_bias=tensors["encoder_bias"],
        decoder=torch.nn.functional.normalize(matrix("decoder"), dim=1),
        decoder_bias=tensors["decoder_bias"],
        k=k,
        threshold=tensors.get("threshold"),
        maximum=tensors.get("maximum"),
        frequency=tensors.get("frequency"),
        skip=tensors.get("skip"),
        router=None if visits is None else Router(tensors["router"], tensors["router_bias"], visits),
    )
