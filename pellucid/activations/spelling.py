"""Words of a model's vocabulary, read where the model is asked for their first letter.

The task is that of Chanin et al. 2024 (arXiv 2409.14507): a word of one token stands behind examples of
`WORD has the first letter: L`, and the activation on the word itself is looked at. A row of tokens holds many
words one after the other, and each is an example for those behind it; the first few of a row are examples
only. So a word costs eight tokens and not the hundred of a prompt of its own.

Words are taken and put in order by their digest. Three in ten are set aside for testing; rows hold words of
one side only. W words, D width.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from pellucid.activations.labelled import digest_of
from pellucid.activations.reading import RowPool
from pellucid.activations.tokens import separator_of
from pellucid.core import digests, kept
from pellucid.core.progress import Progress, silent
from pellucid.core.sites import Site
from pellucid.models.model import Model

LETTERS = "abcdefghijklmnopqrstuvwxyz"
_EXAMPLES = 5
_WORDS_IN_A_ROW = 31
_ROWS_AT_ONCE = 64
_FEWEST = 40
"""Letters with fewer words are left out: a dozen to test on is too few for a rate."""


@dataclass(frozen=True)
class Spelling:
    """Activations on words, and their first letters."""

    words: tuple[str, ...]
    activations: np.ndarray
    """[W, D] float32."""
    letters: np.ndarray
    """[W] index into `LETTERS`."""
    training: np.ndarray
    """[W] bool; the others test."""


def read(model: Model, site: Site, *, words: int = 300, progress: Progress = silent) -> Spelling:
    """Read words of the vocabulary, or take what was kept of an earlier reading.

    Args:
        model: what reads.
        site: where.
        words: at most so many of each letter.
        progress: told of rows.

    Returns:
        The words; none where the vocabulary holds too few for any letter.
    """
    model.check_site(site)
    ids = words_of(model, words)
    test = {letter: max(1, round(0.3 * len(own))) for letter, own in ids.items()}
    sides = {
        True: [i for letter, own in ids.items() for i in own[test[letter] :]],
        False: [i for letter, own in ids.items() for i in own[: test[letter]]],
    }
    pieces = {i: model.decode([i]) for own in ids.values() for i in own}
    pool = RowPool(model, (site,))
    frame = _Frame(model)
    total = sum(-(-len(own) // (_WORDS_IN_A_ROW - _EXAMPLES)) for own in sides.values())
    found, order, training, done = [], [], [], 0
    for side, own in sides.items():
        mixed = sorted(own, key=lambda i: digest_of(pieces[i]))
        rows = _rows(mixed)
        for at in range(0, len(rows), _ROWS_AT_ONCE):
            part = rows[at : at + _ROWS_AT_ONCE]
            laid = [frame.lay(row, pieces) for row in part]
            key = {
                "model": model.digest,
                "precision": str(model.dtype),
                "site": str(site),
                "rows": digests.of_json(laid),
            }
            found.append(kept.arrays("spelling", key, partial(_read, pool, laid))["activations"])
            order += [i for row in part for i in row[_EXAMPLES:]]
            done += len(part)
            progress("read words", done, total)
        training += [side] * len(mixed)
    texts = tuple(pieces[i] for i in order)
    return Spelling(
        texts,
        np.concatenate([np.zeros((0, model.width), np.float32), *found]),
        np.array([LETTERS.index(t.strip()[0].lower()) for t in texts], np.int64),
        np.array(training, bool),
    )


def words_of(model: Model, count: int) -> dict[str, list[int]]:
    """Tokens that are a whole word (a space and two letters or more) by first letter, in order of digest."""
    found: dict[str, list[tuple[bytes, int]]] = defaultdict(list)
    for token in sorted(set(model.tokenizer.get_vocab().values())):
        text = model.decode([token])
        if re.fullmatch(r" [A-Za-z]{2,}", text):
            found[text[1].lower()].append((digest_of(text), token))
    return {
        letter: [token for _, token in sorted(own)[:count]]
        for letter, own in sorted(found.items())
        if len(own) >= _FEWEST
    }


class _Frame:
    """What stands around the words of a row, as tokens."""

    def __init__(self, model: Model) -> None:
        def ids(text: str) -> list[int]:
            return list(model.tokenizer(text, add_special_tokens=False).input_ids)

        self.separator = separator_of(model)
        self.before, self.asked = ids("\n"), ids(" has the first letter:")
        self.answers = {letter: ids(" " + letter.upper()) for letter in LETTERS}

    def lay(self, row: list[int], pieces: dict[int, str]) -> tuple[list[int], list[int]]:
        """The tokens of a row of words, and where the words that are looked at stand."""
        tokens, places = [self.separator], []
        for word in row:
            tokens += self.before
            places.append(len(tokens))
            tokens += [word, *self.asked, *self.answers[pieces[word].strip()[0].lower()]]
        return tokens, places[_EXAMPLES:]


def _rows(words: list[int]) -> list[list[int]]:
    """Rows of words, each opened by the words before it (the first by the last) as examples."""
    step = _WORDS_IN_A_ROW - _EXAMPLES
    starts = range(0, len(words), step)
    return [
        [words[(at - e) % len(words)] for e in range(_EXAMPLES, 0, -1)] + words[at : at + step]
        for at in starts
    ]


def _read(pool: RowPool, rows: list[tuple[list[int], list[int]]]) -> dict[str, np.ndarray]:
    """Activations of the words of some rows, in order."""
    longest = max(len(tokens) for tokens, _ in rows)
    # What is behind a token does not reach it, so rows are filled up with anything.
    filled = torch.tensor([tokens + tokens[:1] * (longest - len(tokens)) for tokens, _ in rows])
    read = pool.read(filled).float().cpu().numpy()
    return {"activations": np.concatenate([read[i, places] for i, (_, places) in enumerate(rows)])}
