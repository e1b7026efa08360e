"""How many labels hold, and would they hold of anything?

For features of an atlas, drawn by lot, the share of labels that are called reliable, the mean score on
held-out texts and the mean floor (the same labels on other features' texts), for:

    words            the explainer without a model
    another's label  that label of another feature: what a wrong label scores
    random words     as many words drawn from the text, in the place of those of the label
    random features  the explainer without a model, on random directions that are active on as many tokens:
                     what it finds where nothing was learnt (with --random ROWS, which are read by the model)
    a local model    on a smaller sample (with --local)

Bars: at most 2.5 % of wrong labels and of random words are called reliable; at least a fourth of the labels
from words is; and the mean score is above the floor by more than the sum of both intervals.

    python benchmarks/atlas_labels.py ATLAS [--features 300] [--random 500] [--store FOLDER]
        [--local smollm2 --local-features 12]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pellucid.activations.reading import Reader
from pellucid.activations.tokens import TokenStore
from pellucid.atlas import labelling
from pellucid.atlas.evidence import Evidence, EvidenceSettings, gather
from pellucid.atlas.explainer_local import LocalExplainer
from pellucid.atlas.explainer_words import WordsExplainer
from pellucid.atlas.explainers import Explainer, Written
from pellucid.atlas.rules import Condition, Rule
from pellucid.atlas.scoring import Score, score
from pellucid.atlas.subjects import Subject
from pellucid.cli import printing
from pellucid.cli.session import Session
from pellucid.core.errors import LabelError
from pellucid.core.intervals import wilson
from pellucid.models.model import load

WRONG = 0.025
RELIABLE = 0.25


def opened(dictionary: str, atlas: str, store: Path | None) -> Subject:
    """An atlas with its text."""
    session = Session.open(dictionary, atlas=atlas)
    text = TokenStore.open(store) if store is not None else session.store
    if text is None:
        raise SystemExit("the text of the atlas is not at hand: name it with --store")
    return Subject(session.needed_atlas(), text, session.model, session.dictionary)


def drawn(subject: Subject, count: int, settings: EvidenceSettings, seed: int) -> list[Evidence]:
    """Evidence of so many features that are active on enough text."""
    able = np.flatnonzero(subject.counts > 0)
    chosen = np.sort(np.random.default_rng(seed).permutation(able)[:count]).tolist()
    return [one for one in subject.evidence(chosen, settings) if one.enough]


def random_features(
    subject: Subject, rows: int, settings: EvidenceSettings, seed: int, count: int = 200
) -> list[Evidence]:
    """Evidence of random directions, each active on as many tokens as some feature of the atlas."""
    assert subject.dictionary is not None
    random = np.random.default_rng(seed)
    read = np.sort(random.permutation(subject.corpus.rows)[:rows])
    first, *further = subject.dictionary.ports.reads
    reader = Reader(subject.model, subject.store, first, further=tuple(further))
    directions = random.standard_normal((count, subject.dictionary.width)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    tokens, values = [], []
    for at in range(0, len(read), 64):
        numbers = read[at : at + 64]
        x, keep = reader.read(np.asarray(subject.store.tokens[numbers]))
        row_of, position_of = (part.numpy() for part in keep.nonzero(as_tuple=True))
        tokens.append(numbers[row_of] * subject.store.length + position_of)
        values.append((x[keep].float() - subject.dictionary.decoder_bias).numpy() @ directions.T)
    place, projected = np.concatenate(tokens), np.concatenate(values)
    corpus = replace(subject.corpus, rows=read)
    able = subject.counts[subject.counts > 0]
    sizes = np.minimum(random.choice(able, count), len(place) // 10)
    strongest = [np.sort(np.argsort(-projected[:, f])[: sizes[f]]) for f in range(count)]
    cosines = directions @ directions.T - 2 * np.eye(count)
    found = []
    for f, mine in enumerate(strongest):
        similar = np.concatenate([place[strongest[g]][:20] for g in np.argsort(-cosines[f])[:10]])
        own = projected[mine, f]
        one = gather(
            f, place[mine], own - own.min() + 1e-3, corpus, similar=np.unique(similar), settings=settings
        )
        if one.enough:
            found.append(one)
    return found


def scored(
    explainer: Explainer,
    features: Sequence[Evidence],
    others: Sequence[Evidence],
    write: Callable[[Evidence], Written],
) -> list[Score]:
    """The score of each label that could be had."""
    found = []
    for one in features:
        try:
            found.append(score(explainer, write(one), one, others))
        except LabelError as error:
            printing.note(f"feature {one.feature}: {error}")
    return found


def random_words(features: Sequence[Evidence], labels: Sequence[Written], seed: int) -> list[Written]:
    """For each label, words that are drawn from the examples of all features, as many as its rule has."""
    random = np.random.default_rng(seed)
    words = [p.lower() for one in features for w in one.writing for p in w.words.prefixes]
    found = []
    for label in labels:
        assert label.rule is not None
        count = sum(len(c.words) for c in label.rule.conditions)
        some = tuple(dict.fromkeys(words[i] for i in random.integers(len(words), size=count)))
        found.append(Written("", Rule((Condition("here", some),))))
    return found


def row(name: str, scores: Sequence[Score], seconds: float) -> tuple[str, ...]:
    """A line of the table."""
    count = len(scores)
    share = sum(s.reliable for s in scores) / count
    low, high = wilson(share, count)
    own, floor = (np.array([getattr(s, side).score.value for s in scores]) for side in ("own", "floor"))

    def mean(values: np.ndarray) -> str:
        return f"{values.mean():.3f} ± {1.96 * values.std() / math.sqrt(count):.3f}"

    return (
        name,
        str(count),
        f"{share:.1%} [{low:.1%}, {high:.1%}]",
        mean(own),
        mean(floor),
        f"{np.mean([s.own.detection for s in scores]):.3f}",
        f"{np.mean([s.own.fuzzing for s in scores]):.3f}",
        f"{1000 * seconds / count:.0f}",
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("atlas", nargs="?")
    parser.add_argument("--dictionary", default="smollm2")
    parser.add_argument("--store", type=Path, help="where the text of the atlas is, if not in the cache")
    parser.add_argument("--features", type=int, default=300)
    parser.add_argument("--random", type=int, default=0, help="rows of text to read for random features")
    parser.add_argument("--local", help="a reference of a model that writes and judges as well")
    parser.add_argument("--local-features", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.atlas is None:
        print("no atlas was named: build one with 'pellucid atlas build' first")
        return
    rows = []
    words, settings = WordsExplainer(), EvidenceSettings()
    subject = opened(given.dictionary, given.atlas, given.store)
    others = labelling.others_of(subject, settings)
    features = drawn(subject, given.features, settings, given.seed)

    def measure(
        name: str, explainer: Explainer, some: Sequence[Evidence], write: Callable[[Evidence], Written]
    ) -> list[Score]:
        begun = time.process_time()
        scores = scored(explainer, some, others, write)
        if scores:
            rows.append(row(name, scores, time.process_time() - begun))
        return scores

    labels = {one.feature: words.write(one) for one in features}
    own = measure("words", words, features, words.write)
    names = list(labels)
    shifted = dict(zip(names, [*names[len(names) // 2 :], *names[: len(names) // 2]], strict=True))
    wrong = measure("another's label", words, features, lambda one: labels[shifted[one.feature]])
    lots = dict(zip(names, random_words(features, list(labels.values()), given.seed), strict=True))
    by_lot = measure("random words", words, features, lambda one: lots[one.feature])
    if given.random:
        measure(
            "random features",
            words,
            random_features(subject, given.random, settings, given.seed),
            words.write,
        )
    if given.local:
        few = EvidenceSettings(held_out=10)
        model = LocalExplainer(load(given.local))
        sample = drawn(subject, given.local_features, few, given.seed + 1)
        measure(f"words, on the sample of {given.local}", words, sample, words.write)
        measure(given.local, model, sample, model.write)
    printing.table(
        ["labels", "features", "reliable", "score", "floor", "detection", "fuzzing", "ms of a processor"],
        rows,
    )
    share = {name: np.mean([s.reliable for s in some]) for name, some in (("wrong", wrong), ("lot", by_lot))}
    gap = [s.own.score.value - s.floor.score.value for s in own]
    bars = [
        ("wrong labels called reliable", f"{share['wrong']:.1%}", f"≤ {WRONG:.1%}", share["wrong"] <= WRONG),
        ("random words called reliable", f"{share['lot']:.1%}", f"≤ {WRONG:.1%}", share["lot"] <= WRONG),
        (
            "labels from words called reliable",
            f"{np.mean([s.reliable for s in own]):.1%}",
            f"≥ {RELIABLE:.0%}",
            np.mean([s.reliable for s in own]) >= RELIABLE,
        ),
        (
            "mean score less mean floor",
            f"{np.mean(gap):.3f}",
            f"> {2 * 1.96 * np.std(gap) / math.sqrt(len(gap)):.3f}",
            np.mean(gap) > 2 * 1.96 * np.std(gap) / math.sqrt(len(gap)),
        ),
    ]
    printing.table(["", "figure", "bar", ""], [(n, f, b, "met" if m else "not met") for n, f, b, m in bars])
    near = 1 - np.mean([one.random_share for one in features])
    print(
        f"{subject.atlas.record['tokens']:,} tokens; {len(features)} of {given.features} features have "
        f"enough text; {near:.0%} of silent texts are near ones. 95 % intervals: Wilson, and normal over "
        "features."
    )


if __name__ == "__main__":
    main()
