r"""Turns a finished run into the folder that the package ships: dictionary, atlas, the text it points into.

The atlas is drawn from chats that the model wrote (recipes/chats.jsonl), because text may be kept in the
repository only if nobody else wrote it. Labels, neighbours and the map come after it.

    python recipes/ship.py runs/smollm2 pellucid/dictionaries/shipped/smollm2-resid_post.13-16k \
        --recipe "pellucid train --out runs/smollm2 ..."
    python recipes/label.py runs/labels pellucid/dictionaries/shipped/smollm2-resid_post.13-16k/atlas/labels
    pellucid atlas neighbours && pellucid atlas map

The table `signs` need not be kept: for so few features it is made in no time.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from pellucid.activations.reading import Reader
from pellucid.activations.text import TextSource
from pellucid.activations.tokens import TokenStore
from pellucid.atlas import build as building
from pellucid.cli import printing
from pellucid.core import files as disk
from pellucid.dictionaries import files, shipped
from pellucid.models.model import load

CHATS = "recipes/chats.jsonl"
SMALL = building.AtlasSettings(examples=6, per_band=1, promoted=12, postings=False)


def main() -> None:
    """Write the folder, whole or not at all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run folder, or a dictionary")
    parser.add_argument("out", type=Path, help="a folder that does not exist yet")
    parser.add_argument("--recipe", required=True, help="the command that trains it again")
    parser.add_argument("--history", default="", help="what the card cannot know of how it was trained")
    given = parser.parse_args()
    source = shipped.resolve(given.run)
    dictionary, card = files.load(source)
    model = load(card["model_reference"])
    with printing.progress(quiet=False) as progress, disk.new_folder(given.out) as partial:
        for name in card["digests"]:
            shutil.copy(source / name, partial / name)
        known = {"recipe": given.recipe, **({"history": given.history} if given.history else {})}
        disk.write_json(partial / "card.json", {**card.values, **known})
        store = TokenStore.build(model, [TextSource.parse(CHATS)], length=128, folder=partial / "text")
        reader = Reader(model, store, dictionary.site)
        rows = building.rows_of(len(store.tokens), None)
        target = building.Target(dictionary, reader, partial / "atlas")
        building.build([target], rows, settings=SMALL, progress=progress)
    printing.note(f"wrote {given.out}")


if __name__ == "__main__":
    main()
