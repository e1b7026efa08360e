from __future__ import annotations

import math

import pytest
import torch

from pellucid.dictionaries.base import Dictionary
from pellucid.models import generation
from pellucid.models.generation import Generator, Sampling
from pellucid.models.model import Model
from pellucid.steering import effects
from pellucid.steering.concepts import CONCEPTS, NEUTRAL_PROMPTS, NEUTRAL_SENTENCES, SEARCH_PROMPTS
from pellucid.steering.edits import FeatureEdit


def test_a_rate_stands_with_its_interval() -> None:
    rate = effects.Rate.of(81, 263)
    assert (rate.low, rate.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe (1998), table I


def test_words_match_whole_and_stems_match_beginnings() -> None:
    assert effects.mentions("The OCEAN is wide", ["ocean*"])
    assert effects.mentions("many melodies", ["melod*"])
    assert not effects.mentions("a warning toward", ["war", "wars"])
    assert not effects.mentions("", ["war"])


def test_perplexity_equals_the_loss_of_one_pass(tiny: Model) -> None:
    prompt, answer = tiny.encode_text("The rain came"), tiny.encode_text(" in the morning")
    logits = tiny.network(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
    losses = [-float(logits[len(prompt) - 1 + i, t].detach()) for i, t in enumerate(answer)]
    assert effects.perplexity(tiny, [prompt], [answer]) == pytest.approx(
        math.exp(sum(losses) / len(losses)), rel=1e-4
    )
    assert math.isnan(effects.perplexity(tiny, [prompt], [[]]))
    assert len(generation.logprobs_of(tiny, [prompt], [[]])[0]) == 0


def test_an_outcome_counts_by_each_judge_and_prices_the_answers(tiny: Model, dictionary: Dictionary) -> None:
    prompts = [tiny.encode_text("The rain came"), tiny.encode_text("Dogs")]
    judges: list[effects.Judge] = [lambda texts: [True] * len(texts), lambda _texts: [False, True]]
    seen = effects.outcome(tiny, dictionary, [], prompts, Sampling(max_tokens=5), judges)
    written = generation.answers(Generator(tiny, prompts, Sampling(max_tokens=5)))
    assert seen.token_ids == [a.token_ids for a in written]
    assert seen.hits == (2, 1)
    assert [r.total for r in seen.rates] == [2, 2]
    assert seen.perplexity == pytest.approx(effects.perplexity(tiny, prompts, seen.token_ids))
    steered = effects.outcome(
        tiny, dictionary, [FeatureEdit("set", 3, 4.0)], prompts, Sampling(max_tokens=5), judges
    )
    assert steered.token_ids != seen.token_ids


def test_the_least_vector_stops_where_it_does_enough_and_else_takes_the_best(
    tiny: Model, dictionary: Dictionary
) -> None:
    prompts = [tiny.encode_text("The rain came"), tiny.encode_text("Dogs")]
    vector = torch.randn(tiny.width, generator=torch.Generator().manual_seed(0))
    counts = {0.5: 0, 1.0: 1, 2.0: 2, 4.0: 2}
    tried: list[float] = []

    def judge(texts: object) -> list[bool]:
        tried.append(strengths[len(tried)])
        return [i < counts[tried[-1]] for i in range(2)]

    for strengths, wanted, expected in (
        ((0.5, 1.0, 2.0, 4.0), 1, 1.0),
        ((0.5, 1.0, 2.0, 4.0), 2, 2.0),
        ((0.5, 2.0, 4.0), 3, 2.0),
    ):
        tried.clear()
        strength, seen = effects.least_vector(
            tiny, dictionary, vector, strengths, prompts, Sampling(max_tokens=3), [judge], wanted=wanted
        )
        assert strength == expected
        assert seen.hits == (counts[expected],)


def test_the_embedding_judge_tells_two_clusters_apart() -> None:
    g = torch.Generator().manual_seed(0)
    centres = {"a": torch.randn(16, generator=g), "b": torch.randn(16, generator=g)}

    def embed(texts: object) -> torch.Tensor:
        rows = [centres[t[0]] + 0.2 * torch.randn(16, generator=g) for t in texts]  # type: ignore[attr-defined]
        return torch.nn.functional.normalize(torch.stack(rows), dim=1)

    judge = effects.EmbeddingJudge.fit(embed, ["a"] * 8, ["b"] * 8)
    assert judge(["a"] * 10) == [True] * 10
    assert judge(["b"] * 10) == [False] * 10


def test_the_embedding_judge_lets_one_in_twenty_of_the_others_pass_at_most() -> None:
    """The two sets overlap so far that midway between their means a quarter of the others would count."""
    g = torch.Generator().manual_seed(0)

    def embed(texts: object) -> torch.Tensor:
        rows = [
            torch.tensor([1.0, 0.0])
            + 0.3 * torch.randn(2, generator=g)
            + torch.tensor([0.0, 0.4 if t == "a" else 0.0])
            for t in texts
        ]  # type: ignore[attr-defined]
        return torch.nn.functional.normalize(torch.stack(rows), dim=1)

    judge = effects.EmbeddingJudge.fit(embed, ["a"] * 200, ["b"] * 200)
    assert sum(judge(["b"] * 1000)) <= 90
    assert sum(judge(["a"] * 1000)) >= 150


def test_concepts_are_whole_and_what_is_neutral_names_none_of_them() -> None:
    assert len(CONCEPTS) == 12
    assert len(NEUTRAL_PROMPTS) == 20
    assert not set(SEARCH_PROMPTS) & set(NEUTRAL_PROMPTS)
    for concept in CONCEPTS.values():
        assert len(concept.sentences) >= 10
        if concept.name not in ("praise", "code"):
            named = sum(effects.mentions(s, concept.words) for s in concept.sentences)
            assert named >= 0.7 * len(concept.sentences), concept.name
        assert not any(effects.mentions(s, concept.words) for s in (*NEUTRAL_SENTENCES, *NEUTRAL_PROMPTS)), (
            concept.name
        )
