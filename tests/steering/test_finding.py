from __future__ import annotations

import pytest
import torch

from pellucid.core.errors import InputError
from pellucid.dictionaries.base import Dictionary
from pellucid.models.model import Model
from pellucid.steering import effects, finding, vectors

CONCEPT = ("dogs bark at the moon", "the lazy dog and the other dogs", "brown dogs look on")
NEUTRAL = ("the rain came in the morning", "people talked about the weather", "nothing in the world")


def no_promotions(dictionary: Dictionary) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (dictionary.num_features, 4)
    return torch.zeros(shape, dtype=torch.int32), torch.zeros(shape)


def test_a_feature_planted_along_the_concept_is_found_first(tiny: Model, dictionary: Dictionary) -> None:
    direction = torch.nn.functional.normalize(
        vectors.mean_difference(tiny, CONCEPT, NEUTRAL, dictionary.site), dim=0
    )
    assert dictionary.maximum is not None
    encoder, decoder = dictionary.encoder.clone(), dictionary.decoder.clone()
    encoder[11] = decoder[11] = direction
    bias = dictionary.encoder_bias.clone()
    peaks = {
        name: [
            float(
                (
                    tiny.capture(torch.tensor([tiny.encode_text(t)]), [dictionary.site])[dictionary.site][
                        0, 1:
                    ]
                    @ direction
                ).max()
            )
            for t in texts
        ]
        for name, texts in (("concept", CONCEPT), ("neutral", NEUTRAL))
    }
    # Shifted so that it is silent on the neutral sentences, scaled so that it peaks at its maximum on the
    # others.
    bias[11] = -max(peaks["neutral"])
    top = max(peaks["concept"]) - max(peaks["neutral"])
    assert top > 0.3, "the sentences do not differ enough to plant a feature"
    maximum = dictionary.maximum.clone()
    maximum[11] = top
    changes = {"encoder": encoder, "decoder": decoder, "encoder_bias": bias, "maximum": maximum}
    planted = Dictionary(**{**dictionary.__dict__, **changes})
    found = finding.by_contrast(tiny, planted, CONCEPT, NEUTRAL, promoted=no_promotions(planted), count=6)
    best = next(c for c in found if c.feature == 11)
    assert best.on_neutral == 0
    assert best.on_concept > 0.3
    assert best.input == max(c.input for c in found)


def test_output_scores_sum_the_named_tokens(tiny: Model) -> None:
    dog = tiny.tokenizer(" dog", add_special_tokens=False).input_ids
    ids = torch.tensor([[dog[-1], 5], [6, 7]])
    scores = torch.tensor([[2.0, 1.0], [3.0, 4.0]])
    word = tiny.decode([dog[-1]]).strip()
    if len(word) < 2:
        pytest.skip("the tiny tokenizer has no token for a whole word")
    assert finding.output_scores(tiny, ids, scores, [word]).tolist() == [2.0, 0.0]


def test_trials_are_ranked_by_hits_and_price(tiny: Model, dictionary: Dictionary) -> None:
    candidates = [finding.Candidate(f, 0.5, 0.0, 0.0) for f in (3, 4)]
    judges = [effects.by_words(["e*"]), lambda texts: [True] * len(texts)]
    found = finding.trial(
        tiny, dictionary, candidates, (1.0, 4.0), ["The rain", "Dogs"], judges, max_tokens=4
    )
    assert len(found) == 4
    assert [t.score for t in found] == sorted((t.score for t in found), reverse=True)
    assert all(t.total == 2 for t in found)


def test_the_gentlest_surely_does_enough_at_the_least_price() -> None:
    # Lower ends of the intervals: 0.31, 0.40 and 0.72.
    candidate = finding.Candidate(3, 0.5, 0.0, 0.0)
    trials = [
        finding.Trial(candidate, s, hits, 10, price)
        for s, hits, price in ((1.0, 6, 4.0), (1.5, 7, 6.0), (2.0, 10, 9.0))
    ]
    assert finding.gentlest(trials, 0.6).strength == 2.0
    assert finding.gentlest(trials, 0.35).strength == 1.5
    assert finding.gentlest(trials, 0.3).strength == 1.0
    assert finding.gentlest(trials[:2], 0.9).strength == 1.5


def test_the_strictest_judge_counts(tiny: Model, dictionary: Dictionary) -> None:
    candidates = [finding.Candidate(3, 0.5, 0.0, 0.0)]
    judges: list[effects.Judge] = [lambda texts: [True] * len(texts), lambda texts: [False, True]]
    (found,) = finding.trial(tiny, dictionary, candidates, (1.0,), ["The rain", "Dogs"], judges, max_tokens=4)
    assert (found.hits, found.total) == (1, 2)
    assert finding.Trial(candidates[0], 1.0, 3, 4, 32.0).score == pytest.approx(0.75 - 0.5)


def test_empty_sets_and_missing_maxima_are_refused(tiny: Model, dictionary: Dictionary) -> None:
    with pytest.raises(InputError, match="needs sentences"):
        finding.by_contrast(tiny, dictionary, [], NEUTRAL, promoted=no_promotions(dictionary))
    bare = Dictionary(**{**dictionary.__dict__, "maximum": None})
    with pytest.raises(InputError, match="maxima"):
        finding.by_contrast(tiny, bare, CONCEPT, NEUTRAL, promoted=no_promotions(bare))


def test_distinctive_words_are_those_the_others_lack() -> None:
    assert finding.distinctive_words(["Dogs bark at rain"], ["the rain came"]) == ["bark", "dogs"]
