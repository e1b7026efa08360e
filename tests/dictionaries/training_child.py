"""Sittings of training runs on a tiny model, for tests that kill them: `training_child.py STORE SITTINGS`.

SITTINGS is a JSON list of [run folder, seconds between checkpoints, kill after]. Each sitting is a process of
its own, forked after the imports and the loading of numba's own parts, which take longer than the training.
`kill after` is the number of batches after which it kills itself, counted in this sitting; in the middle of
the write of so many checkpoints if it is negative; 0 for never. At the end it writes the weights into the run
folder. Prints the exit status of each.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numba
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from pellucid.activations.reading import Reader
from pellucid.activations.tokens import TokenStore
from pellucid.core.runs import RunFolder
from pellucid.core.sites import Site
from pellucid.dictionaries import checkpoints, compiled, training
from pellucid.dictionaries.settings import Architecture, TrainSettings
from pellucid.models.model import Model
from pellucid.testing import tiny_model

SETTINGS = TrainSettings(
    features=48, k=4, tokens=24 * 64, batch_tokens=64, silent_tokens=256, learning_rate=3e-3
)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Mortal(Reader):
    """A reader whose process dies after so many batches."""

    left = 0

    def batches(self, position: tuple[int, int] = (0, 0)) -> Iterator[tuple[tuple[int, int], Tensor]]:
        for number, item in enumerate(super().batches(position)):
            if self.left > 0 and number == self.left:
                kill()
            yield item


def sit(model: Model, store: Path, run_folder: Path, checkpoint_s: float, kill_after: int) -> None:
    numba.set_num_threads(1 if kill_after else 2)  # the bits do not depend on it
    architecture, _, visits = run_folder.name.partition("-")[0].partition("+")
    settings = replace(
        SETTINGS, architecture=cast(Architecture, architecture), visits=int(visits) if visits else None
    )
    stream = Mortal(model, TokenStore.open(store), Site("resid_post", 1), 64, 16)
    Mortal.left = kill_after
    if kill_after < 0:
        whole, seen = checkpoints.save_file, []

        def torn(tensors: dict[str, Tensor], path: Path) -> None:
            seen.append(path)
            if len(seen) == -kill_after:
                path.write_bytes(b"half a checkpoint")
                kill()
            whole(tensors, path)

        checkpoints.save_file = torn  # type: ignore[assignment]
    with RunFolder.open(run_folder, identity={"settings": settings.as_json()}) as run:
        d, _ = training.train(stream, settings, run, checkpoint_every_s=checkpoint_s)
    names = ("encoder", "encoder_bias", "decoder", "decoder_bias", "threshold")
    save_file(
        {n: t.contiguous() for n in names if (t := getattr(d, n)) is not None},
        run_folder / "weights.safetensors",
    )


def main() -> None:
    torch.set_num_threads(1)
    compiled.by_feature(np.zeros(1, np.int32), 1)  # numba's own parts; a parallel kernel would start threads
    model = tiny_model(layers=2, width=16)
    for run_folder, checkpoint_s, kill_after in json.loads(sys.argv[2]):
        process = os.fork()
        if process == 0:
            code = 1
            try:
                sit(model, Path(sys.argv[1]), Path(run_folder), checkpoint_s, kill_after)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
