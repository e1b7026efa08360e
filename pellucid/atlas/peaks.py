"""Peaks: how strongly each feature of some dictionaries fires on some texts, in one reading of the model.

The first token of a text, which collects attention, is left out, and so are other attention sinks: tokens
whose activation is many times longer than the median of the text. What is kept is sparse, so that memory
does not grow with the number of features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pellucid.activations.reading import SINK_FACTOR
from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary
from pellucid.models.model import Model

_TEXTS_AT_ONCE = 16


@dataclass(frozen=True)
class Peaks:
    """Peaks of U features of a dictionary over T texts: those active on any of them."""

    features: np.ndarray
    """[U] int64 feature numbers, ascending."""
    values: np.ndarray
    """[T, U] float32 the largest activation in each text."""


@dataclass(frozen=True)
class Read:
    """The activations of a text that are used."""

    ids: list[int]
    """All token ids of the text."""
    kept: Tensor
    """[K] positions that are used."""
    columns: dict[tuple[Site, ...], Tensor]
    """[K, D] float32 for each tuple of sites that was asked for."""


def read(
    model: Model, dictionaries: Sequence[Dictionary], texts: Sequence[str], *, chat: bool = False
) -> list[Read]:
    """Read some texts once, at all the sites that several dictionaries read.

    Texts of like length are read together.

    Args:
        model: reads them.
        dictionaries: which sites to keep.
        texts: the texts.
        chat: put each through the model's chat template, as a prompt.

    Raises:
        InputError: when a dictionary is not of this model, a text holds no token, or the model overflows.
    """
    check(model, dictionaries)
    ids = model.encode_prompts(texts) if chat else [model.encode_text(text) for text in texts]
    sites = list(dict.fromkeys(site for d in dictionaries for site in d.ports.reads))
    found: list[Read | None] = [None] * len(texts)
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    for at in range(0, len(order), _TEXTS_AT_ONCE):
        some = order[at : at + _TEXTS_AT_ONCE]
        # What stands behind a text is not seen by it, so any token fills its row.
        rows = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids[i]) for i in some], batch_first=True)
        captured = model.capture(rows, sites)
        for row, i in enumerate(some):
            x = {site: captured[site][row, : len(ids[i])].float().cpu() for site in sites}
            kept = _usable(x, len(ids[i]))
            columns = {
                d.ports.reads: torch.cat([x[site][kept] for site in d.ports.reads], dim=1)
                for d in dictionaries
            }
            found[i] = Read(ids[i], kept.nonzero()[:, 0], columns)
    return [r for r in found if r is not None]


def _usable(x: dict[Site, Tensor], tokens: int) -> Tensor:
    """[tokens] which of a text's tokens are used."""
    keep = torch.ones(tokens, dtype=torch.bool)
    if tokens == 1:
        return keep
    keep[0] = False
    for site, activations in x.items():
        norms = activations.norm(dim=1)
        if not bool(norms.isfinite().all()):
            raise InputError(
                f"Activations at {site} are NaN or infinite. Load the model with precision fp32, or check "
                "its weights."
            )
        keep &= norms < SINK_FACTOR * norms[1:].median()
    return keep


def of_reads(dictionary: Dictionary, reads: Sequence[Read]) -> Peaks:
    """Peaks of one dictionary on texts that were read for it."""
    x = torch.cat([r.columns[dictionary.ports.reads] for r in reads])
    codes = dictionary.encode(x).to("cpu")
    text_of_token = np.repeat(np.arange(len(reads)), [len(r.kept) for r in reads])
    features, where = np.unique(codes.features.numpy().astype(np.int64), return_inverse=True)
    values = np.zeros((len(reads), len(features)), np.float32)
    np.maximum.at(values, (text_of_token[codes.rows.numpy()], where), codes.values.numpy())
    return Peaks(features, values)


def check(model: Model, dictionaries: Sequence[Dictionary]) -> None:
    """Refuse dictionaries that are not of this model.

    Raises:
        InputError: when one is of another, or reads two models.
    """
    for dictionary in dictionaries:
        if dictionary.ports.beside:
            raise InputError("Features are looked for in one model, and this dictionary reads two.")
        if dictionary.model_digest != model.digest:
            raise InputError(
                f"The dictionary at {dictionary.ports} is of another model than {model.name}. Dictionaries "
                "that share a reading share a model."
            )
