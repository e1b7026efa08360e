"""Labels for the shipped dictionary: an atlas over some text of every kind, labelled without a model.

The atlas that ships is drawn from the model's own chats. Labels need more kinds of text; only they are kept
in the repository, in compact form, and not the text.

    python recipes/label.py runs/labels pellucid/dictionaries/shipped/smollm2-resid_post.13-16k/atlas/labels
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from pellucid.activations.reading import Reader
from pellucid.activations.tokens import TokenStore
from pellucid.atlas import build as building
from pellucid.atlas import labelling, labels
from pellucid.atlas.explainer_words import WordsExplainer
from pellucid.atlas.pages import Atlas
from pellucid.atlas.subjects import Subject
from pellucid.cli import printing
from pellucid.cli.session import Session
from pellucid.cli.train import read_sources

SOURCES = "recipes/labels.txt"
ROWS = (420, 100, 220, 90, 90, 50, 50, 50, 90, 70, 80, 30, 280)
"""Rows of 128 tokens taken of each source, at random."""


def main() -> None:
    """Build the atlas where it is not yet, label it, and write the compact form."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path, help="a folder for text and atlas")
    parser.add_argument("out", type=Path, help="where the labels go")
    given = parser.parse_args()
    session = Session.open("smollm2")
    model, dictionary = session.model, session.dictionary
    folder = given.work / "atlas"
    with printing.progress(quiet=False) as progress:
        store = TokenStore.build(
            model, read_sources([f"@{SOURCES}"]), length=128, folder=given.work / "store", progress=progress
        )
        random = np.random.default_rng(0)
        rows = np.concatenate(
            [
                random.permutation(np.flatnonzero(store.sources == number))[:count]
                for number, count in enumerate(ROWS)
            ]
        )
        if not (folder / building.RECORD).exists():
            target = building.Target(dictionary, Reader(model, store, dictionary.site), folder)
            building.build([target], rows, progress=progress)
        subject = Subject(Atlas.open(folder, dictionary), store, model, dictionary)
        summary = labelling.run(subject, WordsExplainer(), given.work / "labelling", progress=progress)
    table = Atlas.open(folder).table(labels.TABLE)
    assert table is not None
    labels.compact(table, given.out)
    printing.note(f"{summary.reliable:,} of {summary.labelled:,} labels are reliable: {given.out}")


if __name__ == "__main__":
    main()
