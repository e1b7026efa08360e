"""Measured effects: how often a concept appears in answers, and what steering costs in fluency.

Whether an answer is about a concept is judged by a fixed word list, and by the distance of its embedding to
two sets of texts (the embedding model is the caller's). The price is the perplexity of the answers under the
plain model. Rates stand with Wilson's 95 % interval, and beside the baselines: the plain model, a
mean-difference vector at the strength that does as much, and simply asking in the prompt.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.core.intervals import wilson
from pellucid.dictionaries.base import Dictionary
from pellucid.models import generation
from pellucid.models.generation import Generator, Sampling
from pellucid.models.model import Model
from pellucid.steering.edits import Edit, EditPlan, VectorEdit


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % interval."""

    hits: int
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, hits: int, total: int) -> Rate:
        """The share of hits."""
        return cls(hits, total, *wilson(hits / total, total))


def mentions(text: str, words: Sequence[str]) -> bool:
    """Whether a text holds one of the words. A word ending in `*` stands for all that begin so."""
    patterns = [re.escape(w[:-1]) + r"\w*" if w.endswith("*") else re.escape(w) for w in words]
    return re.search(rf"\b(?:{'|'.join(patterns)})\b", text.lower()) is not None


def perplexity(model: Model, prompts: Sequence[Sequence[int]], written: Sequence[Sequence[int]]) -> float:
    """Perplexity of answers under the plain model: exp of the mean loss over all their tokens."""
    total, count = 0.0, 0
    for logprobs, tokens in zip(generation.logprobs_of(model, prompts, written), written, strict=True):
        if len(tokens):
            total -= float(logprobs.gather(-1, torch.tensor(list(tokens))[:, None]).sum())
            count += len(tokens)
    return math.exp(total / count) if count else math.nan


Judge = Callable[[Sequence[str]], Sequence[bool]]
"""Texts in, whether each is about the concept out."""


def by_words(words: Sequence[str]) -> Judge:
    """The judge that looks for words of a list."""
    return lambda texts: [mentions(t, words) for t in texts]


@dataclass(frozen=True)
class Outcome:
    """What a model wrote on some prompts, and how it was judged."""

    token_ids: list[list[int]]
    """The answers."""
    texts: list[str]
    """The same as text."""
    verdicts: list[list[bool]]
    """For each judge, whether each answer is about the concept."""
    perplexity: float
    """Of the answers, under the plain model."""

    @classmethod
    def of(
        cls, model: Model, prompts: Sequence[Sequence[int]], written: list[list[int]], judges: Sequence[Judge]
    ) -> Outcome:
        """Judge answers (token ids) to prompts (token ids)."""
        texts = [model.decode(ids) for ids in written]
        verdicts = [[bool(v) for v in judge(texts)] for judge in judges]
        return cls(written, texts, verdicts, perplexity(model, prompts, written))

    @property
    def hits(self) -> tuple[int, ...]:
        """How many answers are about the concept, by each judge."""
        return tuple(map(sum, self.verdicts))

    @property
    def rates(self) -> list[Rate]:
        """The same as shares, with their intervals."""
        return [Rate.of(h, len(self.texts)) for h in self.hits]


def outcome(
    model: Model,
    dictionary: Dictionary,
    edits: Sequence[Edit],
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    judges: Sequence[Judge],
) -> Outcome:
    """Let a model answer prompts (token ids) under some edits, or plainly, and judge what it wrote."""
    plan = EditPlan.same(dictionary, edits, len(prompts))
    written = generation.answers(Generator(model, prompts, sampling, editors=plan.editors))
    return Outcome.of(model, prompts, [a.token_ids for a in written], judges)


def least_vector(
    model: Model,
    dictionary: Dictionary,
    vector: Tensor,
    strengths: Sequence[float],
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    judges: Sequence[Judge],
    *,
    wanted: int,
) -> tuple[float, Outcome]:
    """The baseline of equal effect: a vector at the least strength that reaches a number of hits.

    Args:
        model: who writes.
        dictionary: at whose site the vector [D] is added.
        vector: such as a mean difference.
        strengths: to try, ascending.
        prompts: token ids of each.
        sampling: how to write.
        judges: of which the strictest counts.
        wanted: hits to reach; where none of the strengths does, the best stands.

    Returns:
        The strength and what came of it.
    """
    best: tuple[float, Outcome] | None = None
    for strength in strengths:
        tried = outcome(model, dictionary, [VectorEdit(vector, strength)], prompts, sampling, judges)
        if best is None or min(tried.hits) > min(best[1].hits):
            best = (strength, tried)
        if min(tried.hits) >= wanted:
            break
    assert best is not None
    return best


Embed = Callable[[Sequence[str]], Tensor]
"""Texts in, unit vectors [texts, E] out."""
_FALSE_ALARMS = 0.05
"""At most this share of the texts about other things may count as about the concept."""


@dataclass(frozen=True)
class EmbeddingJudge:
    """Judges by distance: whether a text lies nearer to a concept's texts than to other texts."""

    embed: Embed
    concept: Tensor
    """[E] the mean of the concept's texts."""
    others: Tensor
    """[M, E] texts that are not about it, one by one."""
    bar: float
    """How much nearer to the concept than other texts usually are a text must be."""

    @classmethod
    def fit(cls, embed: Embed, concept: Sequence[str], others: Sequence[str]) -> EmbeddingJudge:
        """From texts about the concept and texts about other things.

        The score of a text is its cosine with the concept's mean less that with the mean of the others, each
        text left out of its own mean. The bar lies midway between the mean scores of the two sets, or higher,
        where one in twenty of the others would pass.
        """
        a, b = embed(concept), embed(others)
        own = (a * _rest(a)).sum(1) - a @ b.mean(0)
        away = b @ a.mean(0) - (b * _rest(b)).sum(1)
        midway = (own.mean() + away.mean()) / 2
        return cls(embed, a.mean(0), b, float(midway.maximum(away.quantile(1 - _FALSE_ALARMS))))

    def __call__(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is about the concept."""
        x = self.embed(texts)
        scores = x @ self.concept - x @ self.others.mean(0)
        return [bool(s > self.bar) for s in scores]


def _rest(vectors: Tensor) -> Tensor:
    """[T, E] for each of the vectors the mean of the others."""
    return (vectors.sum(0) - vectors) / (len(vectors) - 1)
