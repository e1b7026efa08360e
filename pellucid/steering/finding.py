"""Finding features by contrast: a few sentences with a concept, a few without.

Two kinds of evidence are kept apart. What switches a feature on: how strongly it fires in sentences with the
concept, against those without. What it does: how far turning it up raises the concept's words among all
tokens (`atlas.promoted`). The features that write a concept are seldom those that fire most on it (arXiv
2505.20063: choosing by output score tripled the success of steering), so both lists give candidates, and
`trial` lets the model itself decide.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.intervals import wilson
from pellucid.dictionaries.base import Dictionary
from pellucid.models import generation
from pellucid.models.generation import Generator, Sampling
from pellucid.models.model import Model
from pellucid.steering import effects
from pellucid.steering.edits import EditPlan, FeatureEdit
from pellucid.steering.vectors import text_activations

_MOST_ON_NEUTRAL = 0.3  # of its maximum: what fires on everything is not for the concept


@dataclass(frozen=True)
class Candidate:
    """A feature that may stand for a concept."""

    feature: int
    on_concept: float
    """Mean over the concept's sentences of the feature's peak, as a share of its maximum."""
    on_neutral: float
    """The same over the other sentences."""
    output: float
    """How far turning it up raises the concept's words: their summed scores as promoted tokens, in nats."""

    @property
    def input(self) -> float:
        """How much more it fires with the concept."""
        return self.on_concept - self.on_neutral


def by_contrast(
    model: Model,
    dictionary: Dictionary,
    concept: Sequence[str],
    neutral: Sequence[str],
    *,
    promoted: tuple[Tensor, Tensor],
    words: Sequence[str] = (),
    count: int = 12,
) -> list[Candidate]:
    """Candidates, best first.

    Args:
        model: the dictionary's model.
        dictionary: where to look; must hold its maxima.
        concept: sentences with the concept.
        neutral: sentences without.
        promoted: ids [N, P] and scores [N, P] of the tokens each feature promotes, as an atlas keeps them.
        words: words that name the concept; none takes those the two sets differ in.
        count: how many to return.

    Raises:
        InputError: when a set is empty or the dictionary holds no maxima.
    """
    if not concept or not neutral:
        raise InputError("Finding by contrast needs sentences with the concept and sentences without it.")
    if dictionary.maximum is None:
        raise InputError("The dictionary holds no maxima. Train it with this version of Pellucid.")
    maximum = dictionary.maximum.cpu()
    unit = maximum.clamp(min=1e-6)
    with_it, without = (_peaks(model, dictionary, texts) / unit for texts in (concept, neutral))
    on_concept, on_neutral = with_it.mean(0), without.mean(0)
    output = output_scores(model, *promoted, words or distinctive_words(concept, neutral))
    firing = on_concept - on_neutral
    alive = (maximum > 0) & (on_neutral < _MOST_ON_NEUTRAL)
    score = torch.where(alive, firing.clamp(min=0) / 0.5 + output / 5, -1)
    third = -(-count // 3)
    best = torch.cat(
        [
            score.topk(count - third).indices,
            torch.where(alive, output, -1).topk(third).indices,
            score.topk(count).indices,
        ]
    )
    kept = list(dict.fromkeys(best.tolist()))[:count]
    found = [Candidate(f, float(on_concept[f]), float(on_neutral[f]), float(output[f])) for f in kept]
    return sorted(found, key=lambda c: -float(score[c.feature]))


def _peaks(model: Model, dictionary: Dictionary, texts: Sequence[str]) -> Tensor:
    """[texts, N] the peak activation of every feature in each text, the first token left out."""
    codes = (dictionary.encode(text_activations(model, text, dictionary.site)) for text in texts)
    return torch.stack([c.dense().amax(0).cpu() for c in codes])


def distinctive_words(texts: Sequence[str], others: Sequence[str]) -> list[str]:
    """The longer words of some texts that the others lack."""
    away = {w for t in others for w in re.findall(r"\w+", t.lower())}
    return sorted({w for t in texts for w in re.findall(r"\w{4,}", t.lower())} - away)


def output_scores(model: Model, ids: Tensor, scores: Tensor, words: Sequence[str]) -> Tensor:
    """[N] the summed scores of promoted tokens (ids, scores [N, P]) that are or begin one of the words."""
    tokens = {int(i): model.decode([int(i)]).strip().lower() for i in torch.unique(ids)}
    named = torch.tensor([i for i, text in tokens.items() if len(text) > 1 and effects.mentions(text, words)])
    return (torch.isin(ids, named) * scores.clamp(min=0)).sum(1).float()


@dataclass(frozen=True)
class Trial:
    """What a candidate did when it was turned up."""

    candidate: Candidate
    strength: float
    hits: int
    """Answers about the concept, by the strictest judge."""
    total: int
    perplexity: float

    @property
    def score(self) -> float:
        """The share of hits, less the price in fluency: a quarter per doubling of perplexity beyond 8."""
        return self.hits / self.total - 0.25 * max(0.0, math.log2(max(self.perplexity, 1e-9) / 8))


def gentlest(trials: Sequence[Trial], share: float) -> Trial:
    """The trial of least perplexity among those that surely reach a share of hits; where none does, the best.

    Surely: with the lower end of the 95 % interval, since the gentlest of many is else one that was lucky.
    """
    enough = [t for t in trials if wilson(t.hits / t.total, t.total)[0] >= share]
    return min(enough, key=lambda t: t.perplexity) if enough else max(trials, key=lambda t: t.score)


def trial(
    model: Model,
    dictionary: Dictionary,
    candidates: Sequence[Candidate],
    strengths: Sequence[float],
    prompts: Sequence[str],
    judges: Sequence[effects.Judge],
    *,
    max_tokens: int = 24,
    seed: int = 0,
    rows_at_once: int = 48,
) -> list[Trial]:
    """Turn each candidate up to each strength and count the answers about the concept; best first.

    Candidates and strengths run side by side as rows of one batch.
    """
    tokens = model.encode_prompts(prompts)
    jobs = [(c, s) for c in candidates for s in strengths]
    at_once = max(1, rows_at_once // len(prompts))
    found: list[Trial] = []
    sampling = Sampling(max_tokens=max_tokens, temperature=0.7, top_p=0.9, seed=seed)
    for start in range(0, len(jobs), at_once):
        part = jobs[start : start + at_once]
        rows = tuple((FeatureEdit("set", c.feature, s),) for c, s in part for _ in prompts)
        plan = EditPlan(dictionary, rows)
        written = generation.answers(Generator(model, tokens * len(part), sampling, editors=plan.editors))
        for number, (candidate, strength) in enumerate(part):
            mine = written[number * len(prompts) : (number + 1) * len(prompts)]
            seen = effects.Outcome.of(model, tokens, [a.token_ids for a in mine], judges)
            found.append(Trial(candidate, strength, min(seen.hits), len(prompts), seen.perplexity))
    return sorted(found, key=lambda t: -t.score)
