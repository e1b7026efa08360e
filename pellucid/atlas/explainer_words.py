"""The explainer without a model: it looks for the rule that fits the examples best, and says it in words.

Rules are tried on the examples a label is written from and on as many texts in which the feature is silent:
the words it is active on, what stands before them, the sort of word, the words read so far, the language, the
source; then two of these together. A rule is worth the mean of how well it tells the texts apart and how well
it tells active tokens from silent ones; a longer rule must be worth more. What comes out is a description of
words, not of a meaning: a topic is named from a hand-written list (`lexicon`) where the words agree on one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.atlas.evidence import Evidence
from pellucid.atlas.explainers import Judged, Marked, Sheet, Written
from pellucid.atlas.lexicon import FUNCTION_WORDS, LANGUAGES, TOPICS, topic_of
from pellucid.atlas.rules import Condition, ConditionKind, Rule
from pellucid.atlas.wording import SHAPES, Grid

VERSION = 1
"""Part of what names a label: raised when the same examples would be given another."""
_MOST_WORDS = 16
_PER_WORD = 0.002
"""What a word more must add to a rule's worth."""
_PER_CONDITION = 0.03
_PER_KIND: dict[ConditionKind, float] = {"begins": 0.01, "so far": 0.02, "source": 0.02}
"""What conditions that hold on much by chance must be worth more."""
_DIVERSE = 0.6
"""No one word may be a greater share of those that begin with the same letters."""
_BEST = 3
"""Conditions to which a second one is looked for."""


@dataclass(frozen=True)
class WordsExplainer:
    """Labels from words alone; the same examples give the same label."""

    name: str = "words"
    at_once: int = 1

    def identity(self) -> dict[str, Any]:
        """What labels depend on: this code."""
        return {"explainer": self.name, "version": VERSION}

    def write(self, evidence: Evidence) -> Written:
        """The rule that fits best, in words."""
        search = _Search(evidence)
        rule = search.best()
        return Written(rule.text(_shown(evidence, rule)), rule)

    def judge(self, label: Written, sheet: Sheet) -> Judged:
        """Where the rule holds: on any token of a text; on half of the marked tokens or more."""
        assert label.rule is not None
        windows = [m.window for m in sheet.active]
        matches = label.rule.matches(Grid.of((*windows, *sheet.silent), sheet.source_names))
        texts = [bool(found) for found in np.any(matches, axis=1)]

        def located(marked: Sequence[Marked]) -> list[bool]:
            return [
                bool(m.marks) and 2 * int(matches[w, list(m.marks)].sum()) >= len(m.marks)
                for w, m in enumerate(marked)
            ]

        return Judged(
            texts[: len(windows)], texts[len(windows) :], located(sheet.active), located(sheet.moved)
        )


class _Search:
    """Rules for one feature, each with its worth on the examples."""

    def __init__(self, evidence: Evidence) -> None:
        windows = (*evidence.writing, *evidence.writing_silent)
        self.grid = Grid.of(windows, evidence.source_names)
        self.active = len(evidence.writing)
        self.marks = np.zeros(self.grid.valid.shape, bool)
        values = np.zeros(self.grid.valid.shape, np.float32)
        for w, window in enumerate(evidence.writing):
            self.marks[w, list(window.marked)] = True
            values[w, : len(window.values)] = window.values
        self.silent = self.grid.valid & (values == 0)
        """Tokens on which the feature is silent; those on which it is weak are neither."""
        self.names = [w for w, _ in sorted(self.grid.vocabulary.items(), key=lambda item: item[1])]
        # What each token adds to a rule's worth when the rule holds on it.
        self._gain = np.zeros(self.marks.shape)
        counts = self.marks[: self.active].sum(axis=1, keepdims=True)
        silent = self.silent[: self.active]
        self._gain[: self.active] = self.marks[: self.active] / counts / self.active
        self._gain[: self.active] -= silent / max(1, silent.sum())
        rest = len(windows) - self.active
        self._text_gain = np.repeat([1 / self.active, -1 / rest], [self.active, rest])

    def worth(self, matches: np.ndarray) -> float:
        """The mean of how well texts, and how well tokens, are told apart: 0.5 is chance."""
        texts = float(self._text_gain[matches.any(axis=1)].sum())
        return (2 + texts + float(self._gain[matches].sum())) / 4

    def best(self) -> Rule:
        """The rule of the greatest worth; of equals the one met first."""
        everything = self.grid.valid
        singles = sorted(self._conditions(everything), key=lambda found: -found[1])
        best, worth = Rule((singles[0][0],)), singles[0][1]
        for first, _ in singles[:_BEST]:
            within = first.matches(self.grid)
            for second, gained in self._conditions(within):
                if first.kind == second.kind and first.kind != "shape":
                    continue
                if gained - _PER_CONDITION > worth + 1e-9 and not (
                    first.kind == second.kind and first.words == second.words
                ):
                    best, worth = Rule((first, second)), gained - _PER_CONDITION
        return best

    def _conditions(self, within: np.ndarray) -> Iterator[tuple[Condition, float]]:
        """Conditions on tokens that another one holds on, each with the worth of both together."""
        for kind, at in (("here", self.grid.here), ("before", self.grid.before)):
            yield from self._of_words(kind, self._weighed_tokens(at, within), within)  # type: ignore[arg-type]
        yield from self._of_words("so far", self._weighed_texts(within), within)
        for letters in self._beginnings(within):
            condition = Condition("begins", (letters,))
            yield condition, self.worth(condition.matches(self.grid) & within) - _PER_KIND["begins"]
        names: list[tuple[ConditionKind, Sequence[str]]] = [
            ("shape", SHAPES),
            ("language", tuple(LANGUAGES)),
            ("source", tuple(dict.fromkeys(self.grid.sources[: self.active]))),
        ]
        for kind, choices in names:
            for name in choices:
                condition = Condition(kind, (name,))
                yield condition, self.worth(condition.matches(self.grid) & within) - _PER_KIND.get(kind, 0.0)

    def _of_words(
        self, kind: ConditionKind, words: list[str], within: np.ndarray
    ) -> Iterator[tuple[Condition, float]]:
        """The first of the words, or the first few: as many as pay for themselves; and all of their topic."""
        best: tuple[Condition, float] | None = None
        matches = np.zeros_like(within)
        for count, word in enumerate(words, 1):
            matches |= Condition(kind, (word,)).matches(self.grid) & within
            worth = self.worth(matches) - _PER_WORD * (count - 1) - _PER_KIND.get(kind, 0.0)
            if best is None or worth > best[1] + 1e-9:
                best = Condition(kind, tuple(words[:count])), worth
        if best is None:
            return
        yield best
        topic = topic_of([w for w in best[0].words if w not in FUNCTION_WORDS])
        if topic and kind != "before":
            more = tuple(dict.fromkeys((*best[0].words, *sorted(TOPICS[topic]))))
            condition = Condition(kind, more)
            worth = self.worth(condition.matches(self.grid) & within) - _PER_KIND.get(kind, 0.0)
            yield condition, worth

    def _beginnings(self, within: np.ndarray) -> list[str]:
        """Letters that words at marked tokens begin with, the commonest of one, two and three."""
        found = Counter(self.names[i] for i in self.grid.here[within & self.marks].tolist())
        best = []
        for size in (1, 2, 3):
            letters, most = Counter[str](), Counter[str]()
            for word, count in found.items():
                if len(word) > size and word[:size].isalpha():
                    letters[word[:size]] += count
                    most[word[:size]] = max(most[word[:size]], count)
            diverse = [n for n, count in letters.most_common(3) if most[n] <= _DIVERSE * count]
            best += diverse[:1]
        return best

    def _weighed_tokens(self, at: np.ndarray, within: np.ndarray) -> list[str]:
        """Words at marked tokens, those first that are in many examples and on few silent tokens."""
        size = len(self.names)
        on: np.ndarray = within & self.marks & (at >= 0)
        off: np.ndarray = within & self.silent & (at >= 0)
        examples = np.bincount(np.unique(np.nonzero(on)[0] * size + at[on]) % size, minlength=size)
        active, silent = np.bincount(at[on], minlength=size), np.bincount(at[off], minlength=size)
        return self._ranked(examples, active / np.maximum(1, active + silent))

    def _weighed_texts(self, within: np.ndarray) -> list[str]:
        """Words read before a peak, those first that are in many examples and in few silent texts."""
        size = len(self.names)
        wanted: np.ndarray = np.any(within & self.marks, axis=1)
        wanted[self.active :] = np.any(within[self.active :], axis=1)
        # Words up to a text's last marked token; of silent texts, all.
        read: np.ndarray = np.logical_or.accumulate(self.marks[:, ::-1], axis=1)[:, ::-1]
        read[self.active :] = True
        chosen: np.ndarray = (self.grid.word >= 0) & read & wanted.reshape(-1, 1)
        # Once for each text: a text and a word of it as one number.
        pairs = np.unique(np.nonzero(chosen)[0] * size + self.grid.word[chosen])
        words, in_active = pairs % size, pairs < self.active * size
        active = np.bincount(words[in_active], minlength=size)
        silent = np.bincount(words[~in_active], minlength=size)
        for number, name in enumerate(self.names):
            if len(name) < 3 or name in FUNCTION_WORDS or not name.isalpha():
                active[number] = 0
        return self._ranked(active, active / np.maximum(1, active + silent), least=3)

    def _ranked(self, counts: np.ndarray, precision: np.ndarray, *, least: int = 2) -> list[str]:
        """Words by count times precision; one that is found less often is kept only if nothing else is."""
        weights = counts * precision
        order = np.lexsort((np.arange(len(weights)), -weights))
        found = [int(i) for i in order[:_MOST_WORDS] if counts[i] >= least and precision[i] > 0.05]
        return [self.names[i] for i in found or order[:1] if counts[i]]


def _shown(evidence: Evidence, rule: Rule) -> dict[str, str]:
    """How words are written most often where the feature is active; whole, where they nearly always are."""
    written: dict[str, Counter[str]] = {}
    wanted = {w for c in rule.conditions for w in c.words}
    for window in evidence.writing:
        words = window.words
        for t, prefix in enumerate(words.prefixes):
            if prefix.lower() in wanted:
                end = t
                while end + 1 < len(words.prefixes) and words.inside[end + 1]:
                    end += 1
                found = written.setdefault(prefix.lower(), Counter())
                found[prefix if end == t else words.prefixes[end]] += 1
    shown = {}
    for word, forms in written.items():
        form, count = max(forms.items(), key=lambda item: (item[1], item[0]))
        whole = count >= 0.8 * forms.total()
        shown[word] = form if whole or form.lower() == word else f"{word}…"
    return shown
