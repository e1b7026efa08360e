"""The ground of an evaluation: what is the same for every dictionary of a site.

It is the labelled sets, the words, the activations on both, and how far the activations themselves get: a
probe on a few of their coordinates, and on all. It is read once and kept, by the digest of all it depends on,
so that a second dictionary pays for its own codes and probes alone, and a run that was killed goes on behind
the last that was kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from pellucid.activations import endings, labelled, spelling
from pellucid.activations.endings import Endings
from pellucid.activations.labelled import LabelledSet
from pellucid.activations.reading import SINK_FACTOR
from pellucid.activations.spelling import Spelling
from pellucid.core import digests, kept
from pellucid.core.progress import Progress, silent
from pellucid.core.sites import Site
from pellucid.dictionaries import absorption, probing
from pellucid.dictionaries.absorption import LetterProbes
from pellucid.dictionaries.codes import Codes
from pellucid.models.model import Model

VERSION = 1
"""Part of every key: raised when a figure is computed otherwise."""


@dataclass(frozen=True)
class EvaluationSettings:
    """How much is read. Larger numbers narrow the intervals and cost in proportion."""

    source: str = labelled.SOURCE
    """The labelled sets."""
    texts: int = 200
    """Texts of each set, half to fit on and half to test. With 100 to test, the AUC of one set is known to
    about 0.05, and the mean over 155 sets to about 0.02, most of which is how the sets differ."""
    tokens: int = 32
    """Tokens of each text, the last ones. The median set has texts of 24; of those with hundreds the end is
    read. They come to 460,000 tokens (with 200 texts of each set), most of what a first run takes."""
    words: int = 300
    """Words of each first letter. Three in ten test: a rate over 90 words is known to about 0.1, and the mean
    over 24 letters to about 0.02."""


@dataclass(frozen=True)
class Ground:
    """What every dictionary of a site is measured on."""

    model: Model
    site: Site
    settings: EvaluationSettings
    sets: list[LabelledSet]
    rows: list[np.ndarray]
    """Of each set: where its texts stand in `endings`."""
    endings: Endings
    """Of the texts of all sets, each once."""
    spelling: Spelling
    probes: LetterProbes
    plain: dict[str, list[float]]
    """AUC of each set by method: `neurons 1`, `neurons 5`, `dense`."""
    seconds: float
    """What it took, this time."""

    @classmethod
    def prepare(
        cls,
        model: Model,
        site: Site,
        settings: EvaluationSettings | None = None,
        *,
        progress: Progress = silent,
    ) -> Ground:
        """Read texts and words and fit the probes of the activations, or take what was kept.

        Args:
            model: whose activations.
            site: where.
            settings: how much to read; the defaults take about seven minutes of two slow cores.
            progress: told of texts, words and sets.

        Raises:
            MissingDependencyError: when scikit-learn is not installed.
            InputError, UpstreamError: see `labelled.read`.
        """
        started = time.monotonic()
        settings = settings or EvaluationSettings()
        probing.regression()  # refused before anything is read, where scikit-learn is missing
        sets = labelled.read(settings.source, texts=settings.texts)
        place = {text: i for i, text in enumerate(dict.fromkeys(text for s in sets for text in s.texts))}
        rows = [np.array([place[text] for text in s.texts]) for s in sets]
        ends = endings.read(model, site, list(place), tokens=settings.tokens, progress=progress)
        words = spelling.read(model, site, words=settings.words, progress=progress)
        key = {"version": VERSION, "words": _digest(words.activations), "split": words.training.tolist()}
        with probing.one_thread():
            found = kept.arrays("letters", key, lambda: asdict(absorption.letter_probes(words)))
        ground = cls(model, site, settings, sets, rows, ends, words, LetterProbes(**found), {}, 0.0)
        aucs = ground.probe("neurons", lambda: ends.last, progress)
        plain = {f"neurons {c}": [a["few"][str(c)] for a in aucs] for c in probing.COUNTS}
        plain["dense"] = [a["all"] for a in aucs]
        return replace(ground, plain=plain, seconds=time.monotonic() - started)

    @cached_property
    def groups(self) -> np.ndarray:
        """[sets] which sets share texts."""
        return labelled.groups(self.sets)

    @cached_property
    def digest(self) -> str:
        """Names the activations."""
        return _digest(self.endings.last, self.endings.sample, self.spelling.activations)

    @cached_property
    def usable(self) -> np.ndarray:
        """[tokens, D] one token of each text, attention sinks left out."""
        x = self.endings.sample
        norms = np.linalg.norm(x, axis=1)
        ordinary: np.ndarray = x[norms < SINK_FACTOR * np.median(norms)]
        return ordinary

    def probe(
        self, method: Any, columns: Callable[[], np.ndarray | Codes], progress: Progress
    ) -> list[dict[str, Any]]:
        """AUCs of every set, computed where they are not kept.

        Args:
            method: names what gives the columns, as JSON values.
            columns: gives activations [texts, F] in the order of `endings`, or codes; asked for only if they
                are needed.
            progress: told of sets.
        """
        found, made = [], None
        told = method if isinstance(method, str) else next(iter(method))
        for number, (one, rows) in enumerate(zip(self.sets, self.rows, strict=True)):
            key = {
                "version": VERSION,
                "method": method,
                "set": one.name,
                "x": _digest(self.endings.last[rows]),
                "labels": one.labels.tolist(),
            }

            def compute(one: LabelledSet = one, rows: np.ndarray = rows) -> dict[str, Any]:
                nonlocal made
                made = columns() if made is None else made
                x = _active(made, rows) if isinstance(made, Codes) else made[rows]
                with probing.one_thread():
                    return asdict(probing.probe(x, one.labels, one.training))

            found.append(kept.json_value("probing", key, compute))
            progress(f"probe ({told})", number + 1, len(self.sets))
        return found


def _active(codes: Codes, rows: np.ndarray) -> np.ndarray:
    """[R, F] the codes of some rows, dense over the features that are active on any of them."""
    own = [codes.row(int(row)) for row in rows]
    features, columns = np.unique(np.concatenate([f.numpy() for f, _ in own]), return_inverse=True)
    x = np.zeros((len(rows), len(features)), np.float32)
    x[np.repeat(np.arange(len(rows)), [len(f) for f, _ in own]), columns] = np.concatenate(
        [v for _, v in own]
    )
    return x


def _digest(*arrays: np.ndarray) -> str:
    return digests.of_bytes(*(np.ascontiguousarray(a).tobytes() for a in arrays if a.size))
