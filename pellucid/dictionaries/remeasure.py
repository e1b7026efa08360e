"""Does a file say the truth about its dictionary? Measured on activations, against what else it could mean.

Libraries keep activation, normalisation, centring and site in a configuration beside the weights, or in a
folder's name, and releases were found whose configuration was wrong: they load, and reconstruct worse than
the mean. Here every declared convention is changed by itself, and the variance left unexplained is measured.
If a change fits clearly better, or as well with half the active features, the declaration is refused and the
change is named.

T tokens, D width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pellucid.activations.reading import Reader
from pellucid.core.errors import InputError, IntegrityError
from pellucid.core.progress import Progress, silent
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.peers import Declared

_BETTER = 0.8
"""A change is believed if it leaves less than this share of the variance that the declaration leaves."""
_DENSER = 1.5
"""A change may activate at most so many times the features: more of them nearly always explain more."""
_SPARSER = 0.5
"""A change is also believed if it explains no less with at most such a share of the active features."""
_USELESS = 0.9
_KS = (8, 16, 32, 64, 128, 256)
_SAME_SCALE = 0.02
_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Fit:
    """How well one reading of a file fits."""

    field: str
    """What is changed; `as declared` for nothing."""
    value: str
    """What it is changed to."""
    unexplained: float
    """Σ‖x − x̂‖² / Σ‖x − mean‖²."""
    l0: float
    """Active features per token."""


def fits(declared: Declared, site: Site, activations: Mapping[Site, Tensor]) -> list[Fit]:
    """The declaration, and every single change of it that can be tried; the declaration first.

    Args:
        declared: what the file says.
        site: the site it is taken to be of.
        activations: [T, D] of the same text at that site, and at those it might be of instead.

    Raises:
        InputError: when the width is not that of the site.
    """
    x = activations[site]
    if x.shape[1] != declared.encoder.shape[1]:
        raise InputError(
            f"The dictionary reads vectors of width {declared.encoder.shape[1]}, and {site} has width "
            f"{x.shape[1]}. Give the model it was trained on."
        )
    found = [_fit("as declared", "", declared, site, x)]
    found += [_fit(name, value, changed, site, x) for name, value, changed in _changes(declared, x)]
    found += [
        _fit("site", str(other), declared, other, y)
        for other, y in activations.items()
        if other != site and y.shape == x.shape
    ]
    return found


def check(found: list[Fit], site: Site) -> None:
    """Refuse a declaration that another reading of the weights fits clearly better, or that fits nothing.

    Args:
        found: what `fits` gave.
        site: the site it was taken to be of.

    Raises:
        IntegrityError: naming what is wrong.
    """
    said, *others = found
    sparse = [f for f in others if f.l0 <= _DENSER * said.l0]
    left = f"leaves {said.unexplained:.3f} of the variance at {site} unexplained"
    if min(f.unexplained for f in (said, *sparse)) > _USELESS:
        raise IntegrityError(
            f"The dictionary {left}, and no other reading of it does much better: it belongs to another "
            "model or another site, or its weights are damaged."
        )
    better = [f for f in sparse if f.unexplained < _BETTER * said.unexplained]
    plainer = [f for f in sparse if f.l0 <= _SPARSER * said.l0 and f.unexplained <= said.unexplained]
    if better or plainer:
        best = min(better or plainer, key=lambda f: f.unexplained)
        raise IntegrityError(
            f"The {best.field} is not what the file says. As declared, the dictionary {left}, with "
            f"{said.l0:.0f} features active; with {best.field} {best.value}, {best.unexplained:.3f}, with "
            f"{best.l0:.0f}. Correct its configuration (or --site), and convert it again."
        )


def _changes(declared: Declared, x: Tensor) -> Iterator[tuple[str, str, Declared]]:
    """Every single change of a convention: its name, the new value, the dictionary so read."""
    if declared.activation != "relu":
        yield "activation", "relu", replace(declared, activation="relu", k=None, threshold=None)
    for k in _KS:
        if k < len(declared.encoder) and declared.activation != "topk":
            yield "activation", f"topk of k = {k}", replace(declared, activation="topk", k=k, threshold=None)
    centre = "taken off first" if not declared.centred else "left on"
    yield "decoder bias before encoding", centre, replace(declared, centred=not declared.centred)
    norms = x.norm(dim=1)
    root = math.sqrt(x.shape[1])
    scales = {
        "none": 1.0,
        "to a mean norm of √width": root / float(norms.mean()),
        "to a mean norm of 1": 1 / float(norms.mean()),
        "to a mean square norm of 1": 1 / float(norms.square().mean().sqrt()),
    }
    for name, scale in scales.items():
        if abs(scale / declared.scale - 1) > _SAME_SCALE:
            yield "normalisation", f"{name} (× {scale:.4g})", replace(declared, scale=scale)
    if declared.activation == "jumprelu" and declared.scale != 1 and declared.threshold is not None:
        bar = declared.threshold / declared.scale
        yield "threshold", "in scaled units already", replace(declared, threshold=bar)


def _fit(name: str, value: str, declared: Declared, site: Site, x: Tensor) -> Fit:
    try:
        dictionary = declared.dictionary(site, "")
    except InputError:
        # A topk of uneven rows has no reading of ours.
        return Fit(name, value, math.inf, math.inf)
    codes = dictionary.encode(x)
    rest = dictionary.decode(codes) - x.float()
    spread = (x.float() - x.float().mean(0)).square().sum(dtype=torch.float64)
    return Fit(name, value, float(rest.square().sum(dtype=torch.float64) / spread), codes.mean_l0)


def with_maxima(
    dictionary: Dictionary, reader: Reader, tokens: int, *, progress: Progress = silent
) -> Dictionary:
    """The dictionary with the maximum and the frequency of every feature over some tokens of text."""
    n = dictionary.num_features
    peak, fired, seen = np.zeros(n, np.float32), np.zeros(n, np.int64), 0
    for at in range(0, len(reader.store.tokens), _ROWS_AT_ONCE):
        activations, keep = reader.read(np.asarray(reader.store.tokens[at : at + _ROWS_AT_ONCE]))
        codes = dictionary.encode(activations[keep]).to("cpu")
        features = codes.features.numpy()
        np.maximum.at(peak, features, codes.values.numpy())
        fired += np.bincount(features, minlength=n)
        seen += int(keep.sum())
        progress("maxima", min(seen, tokens), tokens)
        if seen >= tokens:
            break
    where = dictionary.encoder.device
    frequency = torch.from_numpy(fired / max(1, seen)).float().to(where)
    return replace(dictionary, maximum=torch.from_numpy(peak).to(where), frequency=frequency)
