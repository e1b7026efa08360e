"""The journey of the demonstration: what is measured, as the JSON value that the report page draws.

Read a text; find features by example sentences; try which of them write their concept when turned up; turn
the best one up for good, and measure what that did, beside the plain model, a mean-difference vector, and
asking in the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pellucid.atlas.pages import snippets
from pellucid.cli.session import Session
from pellucid.core.progress import Progress
from pellucid.models.generation import Sampling
from pellucid.steering import effects, receipts, vectors
from pellucid.steering.concepts import CONCEPTS, NEUTRAL_PROMPTS, NEUTRAL_SENTENCES, SEARCH_PROMPTS, Concept
from pellucid.steering.edits import EditPlan, FeatureEdit
from pellucid.steering.finding import Candidate, Trial, by_contrast, gentlest, trial

TEXT = (
    "The orchestra played by the sea while the tide came in. "
    "A judge, a nurse and two soldiers sat in the front row, eating fresh bread with cheese. "
    '"Magnificent!" the conductor was told. "Merci beaucoup," he said, and went home to write Python.'
)
_ROUGH_STRENGTHS = (1.0, 2.0)
_STRENGTHS = (0.6, 1.0, 1.6)
_VECTOR_STRENGTHS = (0.6, 0.9, 1.3, 1.8)
_ROUGH_PROMPTS = 3
_FINALISTS = 2
_FINAL_PROMPTS = 8
_ENOUGH = 0.6  # of the answers are to be about the concept
# bf16 rounds every number by up to 0.4 %; more change than this outside the direction is a defect.
_KEPT = 0.05
_SAMPLING = Sampling(max_tokens=40, temperature=0.7, top_p=0.9)


@dataclass(frozen=True)
class Chosen:
    """The feature that became the model's own Golden Gate."""

    concept: Concept
    trial: Trial


def read(session: Session, text: str = TEXT, *, tops: int = 5) -> dict[str, Any]:
    """The features on each token of a text, and the strongest of all."""
    ids = session.model.encode_text(text)
    site = session.dictionary.site
    codes = session.dictionary.encode(session.model.capture(torch.tensor([ids]), [site])[site][0])
    per_token: list[list[list[float]]] = [[]]
    best: dict[int, float] = {}
    for token in range(1, len(ids)):
        features, values = codes.row(token)
        found = sorted(
            (
                [int(f), float(v), min(1.0, float(v) / session.unit(int(f)))]
                for f, v in zip(features, values, strict=True)
            ),
            key=lambda item: -item[2],
        )
        per_token.append(found[:tops])
        for feature, _, share in found[:tops]:
            best[int(feature)] = max(best.get(int(feature), 0.0), share)
    strongest = sorted(best.items(), key=lambda item: -item[1])[:12]
    return {
        "pieces": session.model.pieces(ids),
        "tops": per_token,
        "strongest": [{"feature": f, "peak": p} for f, p in strongest],
    }


def find(session: Session, names: Sequence[str], *, count: int = 6) -> dict[str, list[Candidate]]:
    """Candidates for some concepts."""
    return {
        name: by_contrast(
            session.model,
            session.dictionary,
            CONCEPTS[name].sentences,
            NEUTRAL_SENTENCES,
            promoted=session.promotions,
            words=CONCEPTS[name].words,
            count=count,
        )[:count]
        for name in names
    }


def choose(session: Session, found: dict[str, list[Candidate]], progress: Progress) -> Chosen:
    """The candidate that writes its concept best, at the strength that does so most gently.

    Every candidate is turned up on a few prompts, then the best few of each concept on more, and the best of
    all on yet more: a handful of answers is enough to drop a feature that does nothing, and too few to tell a
    good one, or a good strength, from a lucky one.
    """
    model, dictionary = session.model, session.dictionary
    best = []
    for number, (name, candidates) in enumerate(found.items()):
        concept = CONCEPTS[name]
        judges = [effects.by_words(concept.words)]
        rough = trial(
            model, dictionary, candidates, _ROUGH_STRENGTHS, SEARCH_PROMPTS[:_ROUGH_PROMPTS], judges
        )
        finalists = list(dict.fromkeys(t.candidate for t in rough))[:_FINALISTS]
        tried = trial(model, dictionary, finalists, _STRENGTHS, SEARCH_PROMPTS[:_FINAL_PROMPTS], judges)
        best.append(Chosen(concept, tried[0]))
        progress("turn candidates up", number + 1, len(found) + 1)
    first = max(best, key=lambda c: c.trial.score)
    judges = [effects.by_words(first.concept.words)]
    tried = trial(model, dictionary, [first.trial.candidate], _STRENGTHS, SEARCH_PROMPTS * 2, judges)
    progress("turn candidates up", len(found) + 1, len(found) + 1)
    return Chosen(first.concept, gentlest(tried, _ENOUGH))


def turn_up(session: Session, chosen: Chosen, progress: Progress) -> dict[str, Any]:
    """Steer twenty answers with the chosen feature: rates, perplexity, receipts, the baselines."""
    model, dictionary = session.model, session.dictionary
    feature, strength = chosen.trial.candidate.feature, chosen.trial.strength
    prompts = list(NEUTRAL_PROMPTS)
    tokens = model.encode_prompts(prompts)
    judges = [effects.by_words(chosen.concept.words)]
    edit = FeatureEdit("set", feature, strength)

    def write(chats: list[list[int]], *edits: FeatureEdit) -> effects.Outcome:
        return effects.outcome(model, dictionary, edits, chats, _SAMPLING, judges)

    plain = write(tokens)
    progress("measure the effect", 1, 4)
    steered = write(tokens, edit)
    progress("measure the effect", 2, 4)
    asked = write(model.encode_prompts([f"{p} {chosen.concept.request}" for p in prompts]))
    progress("measure the effect", 3, 4)
    difference = vectors.mean_difference(
        model, chosen.concept.sentences, NEUTRAL_SENTENCES, dictionary.target
    )
    _, vector = effects.least_vector(
        model, dictionary, difference, _VECTOR_STRENGTHS, tokens, _SAMPLING, judges, wanted=steered.hits[0]
    )
    progress("measure the effect", 4, 4)
    both = zip(plain.verdicts[0], steered.verdicts[0], strict=True)
    shown = next((i for i, (a, b) in enumerate(both) if b and not a), 0)
    plan = EditPlan.same(dictionary, [edit], 1)
    receipt = receipts.prove(model, plan, [tokens[shown]], [steered.token_ids[shown]])[0][0]
    return {
        "concept": chosen.concept.name,
        "feature": feature,
        "strength": strength,
        "promotes": session.promoted(feature, 8),
        "prompt": prompts[shown],
        "plain": _lit(session, feature, tokens[shown], plain.token_ids[shown]),
        "steered": _lit(session, feature, tokens[shown], steered.token_ids[shown]),
        "receipt": {
            **asdict(receipt),
            "asked": receipt.asked / session.unit(feature),
            "reached": receipt.reached / session.unit(feature),
            "before": receipt.before / session.unit(feature),
            "tokens_edited": receipt.tokens,
            "error_kept": receipt.kept < _KEPT,
        },
        "effect": [
            _arm("as it is", plain),
            _arm("asked in the prompt", asked),
            _arm("mean-difference vector", vector),
            _arm(f"feature {feature}", steered, ours=True),
        ],
        "pairs": [
            {"prompt": p, "plain": a, "steered": b}
            for p, a, b in zip(prompts, plain.texts, steered.texts, strict=True)
        ],
    }


def _lit(session: Session, feature: int, prompt: list[int], answer: list[int]) -> dict[str, Any]:
    """An answer's pieces with the feature's activation in the plain model, in shares of its maximum."""
    model, site = session.model, session.dictionary.site
    x = model.capture(torch.tensor([[*prompt, *answer]]), [site])[site]
    values = session.dictionary.activations_of(x[0, len(prompt) :].float(), torch.tensor([feature]))[:, 0]
    return {"pieces": model.pieces(answer), "values": (values / session.unit(feature)).tolist()}


def _arm(name: str, seen: effects.Outcome, *, ours: bool = False) -> dict[str, Any]:
    """One row of the comparison: a rate with its interval, and the price."""
    rate = seen.rates[0]
    return {
        "name": name,
        "ours": ours,
        "hits": rate.hits,
        "samples": rate.total,
        "low": rate.low,
        "high": rate.high,
        "perplexity": seen.perplexity,
    }


def feature_pages(
    session: Session, features: Sequence[int], others: Sequence[int], *, examples: int = 3
) -> dict[str, Any]:
    """What the report says of each feature: with examples of the first ones, without of the others."""
    found = {}
    labels = session.labels(dict.fromkeys([*features, *others]))
    for feature in dict.fromkeys([*features, *others]):
        shown: list[dict[str, Any]] = []
        if feature in features and session.atlas is not None and session.store is not None:
            page = session.atlas.page(feature)
            unit = max(page.maximum, 1e-9)
            shown = [
                {"pieces": s.pieces, "values": [v / unit for v in s.values]}
                for s in snippets(page, session.store, session.model, session.dictionary, count=examples)
            ]
        dictionary = session.dictionary
        found[str(feature)] = {
            "promotes": session.promoted(feature, 8),
            "label": labels[feature].text if feature in labels and labels[feature].reliable else None,
            "frequency": float(dictionary.frequency[feature]) if dictionary.frequency is not None else None,
            "max": session.unit(feature),
            "examples": shown,
        }
    return found
