"""Pellucid: see inside a language model, steer it, and prove that it is safe to ship.

The names below are imported when they are first used, so that `import pellucid` is quick and needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pellucid.activations.reading import Reader
    from pellucid.activations.text import TextSource
    from pellucid.activations.tokens import TokenStore
    from pellucid.atlas.pages import Atlas
    from pellucid.core.errors import (
        InputError,
        IntegrityError,
        MissingDependencyError,
        NoEffectError,
        PellucidError,
        UnknownNameError,
        UpstreamError,
    )
    from pellucid.core.sites import Site
    from pellucid.dictionaries.base import Dictionary
    from pellucid.dictionaries.codes import Codes
    from pellucid.dictionaries.files import load as load_dictionary
    from pellucid.dictionaries.settings import TrainSettings
    from pellucid.models.generation import Generator, Sampling
    from pellucid.models.model import Model
    from pellucid.models.model import load as load_model
    from pellucid.steering.edits import EditPlan, FeatureEdit, VectorEdit
    from pellucid.steering.receipts import Receipt
    from pellucid.steering.steer import Steered, steer

__version__ = "0.1.0"

_HOME = {
    "Atlas": "atlas.pages",
    "Codes": "dictionaries.codes",
    "Dictionary": "dictionaries.base",
    "EditPlan": "steering.edits",
    "FeatureEdit": "steering.edits",
    "Generator": "models.generation",
    "InputError": "core.errors",
    "IntegrityError": "core.errors",
    "MissingDependencyError": "core.errors",
    "Model": "models.model",
    "NoEffectError": "core.errors",
    "PellucidError": "core.errors",
    "Reader": "activations.reading",
    "Receipt": "steering.receipts",
    "Sampling": "models.generation",
    "Site": "core.sites",
    "Steered": "steering.steer",
    "TextSource": "activations.text",
    "TokenStore": "activations.tokens",
    "TrainSettings": "dictionaries.settings",
    "UnknownNameError": "core.errors",
    "UpstreamError": "core.errors",
    "VectorEdit": "steering.edits",
    "load_dictionary": "dictionaries.files:load",
    "load_model": "models.model:load",
    "steer": "steering.steer",
}

__all__ = [
    "Atlas",
    "Codes",
    "Dictionary",
    "EditPlan",
    "FeatureEdit",
    "Generator",
    "InputError",
    "IntegrityError",
    "MissingDependencyError",
    "Model",
    "NoEffectError",
    "PellucidError",
    "Reader",
    "Receipt",
    "Sampling",
    "Site",
    "Steered",
    "TextSource",
    "TokenStore",
    "TrainSettings",
    "UnknownNameError",
    "UpstreamError",
    "VectorEdit",
    "load_dictionary",
    "load_model",
    "steer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'pellucid' has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    return getattr(importlib.import_module(f"pellucid.{module}"), attribute or name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
