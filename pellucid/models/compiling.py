"""Layers compiled by PyTorch's compiler, for reading alone: norms, rotations and attention in fewer passes.

It needs a C++ compiler on the machine, takes about a minute to begin, and then reads a third faster on a
processor (benchmarks/LOG.md). The last bits differ from those of the modules.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from pellucid.core.sites import Site
from pellucid.models import families

_BETWEEN_LAYERS = ("embed", "resid_pre", "resid_post", "resid_final")


def can_compile(device: torch.device) -> bool:
    """Whether there is a C++ compiler, for a model on a processor."""
    found = any(shutil.which(name) for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++") if name)
    return device.type == "cpu" and found


class CompiledLayers:
    """The layers of a network, compiled on their first use, each in its own place."""

    def __init__(self, network: nn.Module, sites: Sequence[Site], backend: str = "inductor") -> None:
        """Compile what lies before the last of some sites; a layer with a site inside stays as it is.

        Args:
            network: a Hugging Face causal language model.
            sites: where it will be read.
            backend: of `torch.compile`.
        """
        inside = {site.layer for site in sites if site.kind not in _BETWEEN_LAYERS}
        layers = network.get_submodule(families.of(network).layers)
        self._forwards = {
            layer: torch.compile(layer.forward, backend=backend, dynamic=False)
            for number, layer in enumerate(layers)  # type: ignore[arg-type]
            if number not in inside
        }

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network computes with them within the block; after it, it is the plain module again."""
        try:
            for layer, forward in self._forwards.items():
                layer.forward = forward
            yield
        finally:
            for layer in self._forwards:
                layer.__dict__.pop("forward", None)
