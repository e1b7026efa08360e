"""Checkpoints of a trainer: one file for each shard of the features.

    checkpoints/000000123/
      shard-0.safetensors   the state of the features of shard 0, and what all shards have in common
      shard-1.safetensors
      digests.json          by which a run folder knows that all shards are there, and are what was written

A checkpoint counts when all its shards are complete: every worker writes its own file into a folder that the
leader alone renames at the end. It can be taken up by another number of workers: each reads the rows that are
its own from the files they are in.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pellucid.core.runs import RunFolder
from pellucid.dictionaries.crew import Crew

_COMMON = ("scale", "step", "position", "number.", "router")
_COMMON_VECTORS = ("decoder_bias", "skip")


def _is_common(name: str) -> bool:
    """Whether a tensor of the state is that of all features, rather than a row for each."""
    return name.startswith(_COMMON) or name.rpartition(".")[2] in _COMMON_VECTORS


def shard_of(state: dict[str, Tensor], crew: Crew) -> dict[str, Tensor]:
    """The part of a whole state that this worker holds."""
    own = crew.own(len(state["encoder"])).to(state["encoder"].device)
    return {name: t if _is_common(name) else t[own] for name, t in state.items()}


def write(run: RunFolder, step: int, state: dict[str, Tensor], crew: Crew) -> None:
    """Write a checkpoint; all workers of a crew call it at the same step, each with its shard."""
    if crew.leads:
        with run.checkpoint(step) as folder:
            _write_shard(crew.told(folder), state, crew)
            crew.collect(None)
    else:
        _write_shard(crew.told(run.path), state, crew)
        crew.collect(None)
    crew.told(None)  # it counts from here on


def _write_shard(folder: Path, state: dict[str, Tensor], crew: Crew) -> None:
    """Write this worker's file, unless another holds the same features."""
    if crew.rank < crew.shards:
        path = folder / f"shard-{crew.shard}.safetensors"
        save_file({name: t.cpu().contiguous() for name, t in state.items()}, path)
        with path.open("rb") as file:
            os.fsync(file.fileno())


def read(folder: Path, features: int, crew: Crew) -> dict[str, Tensor]:
    """This worker's shard of a checkpoint, whatever number of workers wrote it.

    Args:
        folder: the checkpoint.
        features: N.
        crew: who reads it.
    """
    shards = len(list(folder.glob("shard-*.safetensors")))
    length, wrote = features // crew.parts, features // crew.parts // shards
    own = length // crew.shards
    first = crew.shard * own
    # In each part, this worker's rows lie in these files, from here to there.
    pieces = [
        (s, max(first, s * wrote) - s * wrote, min(first + own, (s + 1) * wrote) - s * wrote)
        for s in range(first // wrote, -(-(first + own) // wrote))
    ]
    opened = {s: _open(folder / f"shard-{s}.safetensors") for s, _, _ in pieces}
    any_shard = opened[pieces[0][0]]
    state = {}
    for name in any_shard.keys():  # noqa: SIM118  it is no dict
        if _is_common(name):
            state[name] = any_shard.get_tensor(name)
        else:
            rows = [
                opened[s].get_slice(name)[part * wrote + start : part * wrote + stop]
                for part in range(crew.parts)
                for s, start, stop in pieces
            ]
            state[name] = torch.cat(rows)
    return state


def _open(path: Path) -> Any:
    return safe_open(path, framework="pt")
