"""Measured effects: how often a concept appears in answers, and what steering costs in fluency.

Whether an answer is about a concept is judged twice: by a fixed word list, and by the distance of the answer's embedding to two
sets of texts. The price is the perplexity of the answers under the plain model. Rates stand with Wilson's 95 % interval.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.core.sites import Site
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


def embed(model: Model, texts: Sequence[str], site: Site) -> Tensor:
    """[texts, D] unit vectors: the mean activation of each text's tokens but the first, centred on nothing."""
    found = []
    for text in texts:
        tokens = torch.tensor([model.encode_text(text or " ")])
        x = model.capture(tokens, [site])[site][0].float().cpu()
        found.append((x[1:] if len(x) > 1 else x).mean(0))
    return torch.nn.functional.normalize(torch.stack(found), dim=1)


@dataclass(frozen=True)
class EmbeddingJudge:
    """Judges by distance: nearer to the concept's texts than to the neutral ones, by more than held-out neutral texts are."""

    model: Model
    site: Site
    direction: Tensor
    """[D]"""
    middle: Tensor
    """[D] the mean of all reference texts."""
    bar: float

    @classmethod
    def fit(cls, model: Model, concept: Sequence[str], neutral: Sequence[str], *, site: Site) -> EmbeddingJudge:
        """From texts about the concept and texts about other things; the bar lies midway between the two means."""
        a, b = embed(model, concept, site), embed(model, neutral, site)
        middle = torch.cat([a, b]).mean(0)
        direction = torch.nn.functional.normalize(a.mean(0) - b.mean(0), dim=0)
        return cls(model, site, direction, middle, float(((a.mean(0) + b.mean(0)) / 2 - middle) @ direction))

    def __call__(self, texts: Sequence[str]) -> list[bool]:
        """Whether each text is about the concept."""
        scores = (embed(self.model, texts, self.site) - self.middle) @ self.direction
        return [bool(s > self.bar) for s in scores]
