"""A build of two atlases, whole and killed, for tests: `build_child.py STORE WHOLE KILLED KILLS`.

The whole build comes first, in this process, so that all is loaded when sittings are forked. KILLS is a JSON
list: each sitting is a process of its own that kills itself before it syncs something to the disk for the
so-many-th time; 0 for never. Prints the exit status of each.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path

import numba
import torch

from pellucid.activations.reading import Reader
from pellucid.activations.tokens import TokenStore
from pellucid.atlas import build as building
from pellucid.atlas import neighbours, postings
from pellucid.core.sites import Site
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.baselines import random_dictionary
from pellucid.dictionaries.ports import Ports
from pellucid.models.model import Model
from pellucid.testing import tiny_model

SETTINGS = building.AtlasSettings(examples=3, per_band=2, promoted=2, memory_bytes=64 * 1500)


def sit(model: Model, dictionaries: list[Dictionary], store: TokenStore, out: Path, kill_at: int) -> None:
    count = 0

    def mortal(_handle: int) -> None:
        # Nothing is synced: what a killed process wrote is there all the same.
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = mortal
    building._ROWS_AT_ONCE, building._FEATURES_AT_ONCE = 16, 20
    postings._POSTINGS |= {"rows_per_file": 1024, "rows_per_group": 64}
    targets = [
        building.Target(d, Reader(model, store, d.site), out / str(n)) for n, d in enumerate(dictionaries)
    ]
    rows = building.rows_of(len(store.tokens), 60)
    neighbours.with_atlas(targets, rows, settings=SETTINGS)


def main() -> None:
    torch.set_num_threads(1)
    numba.config.THREADING_LAYER = "workqueue"  # the one that a forked process may use
    numba.set_num_threads(1)
    model, store = tiny_model(layers=2, width=16), TokenStore.open(Path(sys.argv[1]))
    x = torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    ports = Ports.of(Site("resid_post", 1))
    dictionaries = [
        random_dictionary(x, features=n, k=3, ports=ports, model_digest=model.digest) for n in (48, 30)
    ]
    whole, killed = Path(sys.argv[2]), Path(sys.argv[3])
    sit(model, dictionaries, store, whole, 0)
    for kill_at in json.loads(sys.argv[4]):
        process = os.fork()
        if process == 0:
            code = 1
            try:
                sit(model, dictionaries, store, killed, kill_at)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        print(code, flush=True)
        if code == 0:
            break


if __name__ == "__main__":
    main()
