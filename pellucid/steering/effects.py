"""Measured effects: how often a concept appears in answers, and what steering costs in fluency.

Whether an answer is about a concept is judged by a fixed word list, and by the distance of its embedding to
two sets of texts (the embedding model is the caller's). The price is the perplexity of the answers under the
plain model. Rates stand with Wilson's 95 % interval.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.models import generation
from pellucid.models.model import Model


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % interval (Wilson 1927)."""

    hits: int
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, hits: int, total: int) -> Rate:
        """The share of hits."""
        z = 1.959964
        share = hits / total
        middle = (share + z * z / (2 * total)) / (1 + z * z / total)
        half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
        return cls(hits, total, max(0.0, middle - half), min(1.0, middle + half))


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


Embed = Callable[[Sequence[str]], Tensor]
"""Texts in, unit vectors [texts, E] out."""


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

        The score of a text is its cosine with the concept's mean less that with the mean of the others. The
        bar lies midway between the mean score of the concept's texts, each left out of its own mean, and that
        of the others.
        """
        a, b = embed(concept), embed(others)
        rest = (a.sum(0) - a) / (len(a) - 1)
        centre = b.mean(0)
        own = ((a * rest).sum(1) - a @ centre).mean()
        away = (b @ a.mean(0) - b @ centre).mean()
        return cls(embed, a.mean(0), b, float((own + away) / 2))

    def __call__(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is about the concept."""
        x = self.embed(texts)
        scores = x @ self.concept - x @ self.others.mean(0)
        return [bool(s > self.bar) for s in scores]
