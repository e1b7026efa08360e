"""The activation at the end of each of many short texts, read once and kept.

A text is read behind the separator, as it would stand in a row of a token store; of a long one the last
tokens alone are read, because the end is what is looked at and reading is what costs. Nothing is padded:
texts of one length are read together.

Of each text one more token is taken, drawn by the digest of the text: together they are a sample of ordinary
tokens, on which several dictionaries can be compared. T texts, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from pellucid.activations.labelled import digest_of
from pellucid.activations.reading import RowPool
from pellucid.activations.tokens import separator_of
from pellucid.core import digests, kept
from pellucid.core.errors import InputError
from pellucid.core.progress import Progress, silent
from pellucid.core.sites import Site
from pellucid.models.model import Model

_TOKENS_AT_ONCE = 2048
_TEXTS_AT_ONCE = 1024
"""Texts per kept file: what a killed run loses at most, some twenty seconds of two slow cores."""


@dataclass(frozen=True)
class Endings:
    """Activations of some texts."""

    last: np.ndarray
    """[T, D] float32, of the last token of each text."""
    sample: np.ndarray
    """[T, D] float32, of one token of each text."""
    tokens: int
    """How many tokens were read for them."""


def read(
    model: Model, site: Site, texts: Sequence[str], *, tokens: int = 32, progress: Progress = silent
) -> Endings:
    """Read the ends of some texts, or take what was kept of an earlier reading.

    Args:
        model: what reads.
        site: where.
        texts: each of at least one token; the same text twice is read once.
        tokens: at most so many of each text, the separator included; the last ones.
        progress: told of texts.

    Raises:
        InputError: when a text is empty, or an activation is not finite.
    """
    model.check_site(site)
    distinct = sorted(set(texts), key=digest_of)
    separator = separator_of(model)
    encoded = model.tokenizer(distinct, add_special_tokens=False, verbose=False).input_ids
    if not all(encoded):
        raise InputError("A text holds no token. Give at least one word.")
    rows = [[separator, *ids[-(tokens - 1) :]] for ids in encoded]
    order = sorted(range(len(rows)), key=lambda i: (len(rows[i]), i))
    pool = RowPool(model, (site,))
    last, sample = (np.zeros((len(rows), model.width), np.float32) for _ in range(2))
    for at in range(0, len(order), _TEXTS_AT_ONCE):
        part = order[at : at + _TEXTS_AT_ONCE]
        chosen = [rows[i] for i in part]
        drawn = [1 + digest_of(distinct[i])[-1] % (len(rows[i]) - 1) for i in part]
        key = {
            "model": model.digest,
            "precision": str(model.dtype),
            "site": str(site),
            "rows": digests.of_json([chosen, drawn]),
        }
        found = kept.arrays("endings", key, partial(_read, pool, chosen, drawn))
        last[part], sample[part] = found["last"], found["sample"]
        progress("read texts", at + len(part), len(rows))
    if not (np.isfinite(last).all() and np.isfinite(sample).all()):
        raise InputError(
            f"Activations at {site} are not finite. Read the model in fp32, or check its weights."
        )
    place = {text: i for i, text in enumerate(distinct)}
    where = [place[text] for text in texts]
    return Endings(last[where], sample[where], sum(map(len, rows)))


def _read(pool: RowPool, rows: list[list[int]], drawn: list[int]) -> dict[str, np.ndarray]:
    """Activations of the last and of the drawn token of rows, which are in the order of their length."""
    width = pool.model.width
    last, sample = (np.zeros((len(rows), width), np.float32) for _ in range(2))
    lengths = np.array([len(row) for row in rows])
    for length in np.unique(lengths):
        same = np.flatnonzero(lengths == length)
        tokens = torch.tensor([rows[i] for i in same])
        read = pool.read(tokens, max(1, _TOKENS_AT_ONCE // length)).float().cpu().numpy()
        last[same] = read[:, -1]
        sample[same] = read[np.arange(len(same)), [drawn[i] for i in same]]
    return {"last": last, "sample": sample}
