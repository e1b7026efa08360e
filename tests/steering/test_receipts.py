from __future__ import annotations

import pytest
import torch

from pellucid.core.errors import NoEffectError
from pellucid.dictionaries.base import Dictionary
from pellucid.models import generation
from pellucid.models.generation import Generator, Sampling
from pellucid.models.model import Model
from pellucid.steering import receipts
from pellucid.steering.edits import EditPlan, FeatureEdit, VectorEdit
from pellucid.steering.steer import steer

PROMPTS = ("The rain came", "Dogs bark at the moon")


def prove(model: Model, plan: EditPlan) -> list[list[receipts.Receipt]]:
    tokens = [model.encode_text(p) for p in PROMPTS]
    written = generation.answers(Generator(model, tokens, Sampling(max_tokens=6), editors=plan.editors))
    return receipts.prove(model, plan, tokens, [a.token_ids for a in written])


def test_a_receipt_says_what_was_asked_and_what_was_reached(tiny: Model, dictionary: Dictionary) -> None:
    found = prove(tiny, EditPlan.same(dictionary, [FeatureEdit("set", 7, 4.0)], 2))
    assert dictionary.maximum is not None
    for (receipt,) in found:
        assert receipt.asked == pytest.approx(4 * float(dictionary.maximum[7]), rel=1e-5)
        # Below its threshold a feature counts as 0 though its score may be negative: what is read back falls
        # short by that.
        assert receipt.before < receipt.reached <= receipt.asked * (1 + 1e-5)
        assert receipt.kl > 0
        assert receipt.kept < 1e-4


def test_what_is_read_back_is_the_encoders_score_after_the_edit(tiny: Model, dictionary: Dictionary) -> None:
    plan = EditPlan.same(dictionary, [FeatureEdit("set", 7, 4.0)], 1)
    prompt = tiny.encode_text(PROMPTS[0])
    written = generation.answers(Generator(tiny, [prompt], Sampling(max_tokens=4), editors=plan.editors))
    (receipt,) = receipts.prove(tiny, plan, [prompt], [written[0].token_ids])[0]
    tokens = torch.tensor([[*prompt, *written[0].token_ids]])
    score = tiny.capture(tokens, [dictionary.site])[dictionary.site][0] @ dictionary.encoder[7]
    assert dictionary.maximum is not None
    after = torch.where(score > 0.2, 0.0, score) + 4 * dictionary.maximum[7]
    assert receipt.reached == pytest.approx(float(after.mean()), rel=1e-4)


def test_kl_is_that_of_two_plain_passes(tiny: Model, dictionary: Dictionary) -> None:
    plan = EditPlan.same(dictionary, [FeatureEdit("set", 7, 4.0)], 1)
    prompt = [tiny.encode_text(PROMPTS[0])]
    written = generation.answers(Generator(tiny, prompt, Sampling(max_tokens=5), editors=plan.editors))
    (receipt,) = receipts.prove(tiny, plan, prompt, [written[0].token_ids])[0]
    tail = [written[0].token_ids]
    p = generation.logprobs_of(tiny, prompt, tail)[0]
    q = generation.logprobs_of(tiny, prompt, tail, editors=plan.editors)[0]
    expected = torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum") / len(tail[0])
    assert receipt.kl == pytest.approx(float(expected), rel=1e-4)


def test_only_tokens_in_scope_are_counted(tiny: Model, dictionary: Dictionary) -> None:
    found = prove(tiny, EditPlan.same(dictionary, [FeatureEdit("set", 7, 4.0, "prompt")], 2))
    assert [r[0].tokens for r in found] == [len(tiny.encode_text(p)) for p in PROMPTS]


def test_an_edit_that_does_nothing_is_an_error(tiny: Model, dictionary: Dictionary) -> None:
    with pytest.raises(NoEffectError, match="changed nothing"):
        prove(tiny, EditPlan.same(dictionary, [FeatureEdit("scale", 7, 1.0)], 2))
    with pytest.raises(NoEffectError, match="changed nothing"):
        prove(tiny, EditPlan.same(dictionary, [VectorEdit(torch.zeros(tiny.width))], 2))


def test_steer_answers_twice_and_proves_each(tiny: Model, dictionary: Dictionary) -> None:
    found = steer(tiny, dictionary, PROMPTS, [FeatureEdit("add", 3, 5.0)], sampling=Sampling(max_tokens=5))
    assert [f.prompt for f in found] == list(PROMPTS)
    assert all(f.plain_answer != f.steered_answer for f in found)
    assert all(len(f.receipts) == 1 for f in found)
