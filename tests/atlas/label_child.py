"""Sittings of a labelling job, for tests that kill it: `label_child.py STORE ATLAS HOME SITTINGS`.

SITTINGS is a JSON list of moments at which the process of a sitting kills itself: ["after", so many results
are kept], ["within", so many are being kept], ["table", 0] before the table has its record, null for never.
Each sitting is forked after the imports. Prints the exit status of each.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

from pellucid.activations.tokens import TokenStore
from pellucid.atlas import labelling
from pellucid.atlas.evidence import EvidenceSettings
from pellucid.atlas.explainer_words import WordsExplainer
from pellucid.atlas.kept_labels import Kept
from pellucid.atlas.pages import Atlas
from pellucid.atlas.subjects import Subject
from pellucid.core.places import Place
from pellucid.testing import tiny_model


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(moment: list[Any]) -> None:
    """Let the process die at a moment."""
    kind, count = moment
    put, write_json = Kept.put, Place.write_json
    seen = 0

    def counted(self: Kept, name: str, value: Any) -> None:
        nonlocal seen
        seen += 1
        if kind == "within" and seen == count:
            with self.transaction() as run:
                run("INSERT OR REPLACE INTO kept VALUES (?, ?)", (name, "{}"))
                kill()
        put(self, name, value)
        if kind == "after" and seen == count:
            kill()

    def never(self: Place, name: str, value: Any) -> None:
        if kind == "table":
            kill()
        write_json(self, name, value)

    Kept.put, Place.write_json = counted, never  # type: ignore[method-assign]


def main() -> None:
    labelling._OTHERS = 8  # enough for a floor of ten texts
    store_at, atlas_at, home = map(Path, sys.argv[1:4])
    model, store = tiny_model(), TokenStore.open(store_at)
    for moment in json.loads(sys.argv[4]):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                if moment is not None:
                    arm(moment)
                subject = Subject(Atlas.open(atlas_at), store, model)
                labelling.run(
                    subject, WordsExplainer(), home, settings=EvidenceSettings(writing=10, held_out=10)
                )
                status = 0
            except BaseException:
                traceback.print_exc()
            os._exit(status)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    main()
