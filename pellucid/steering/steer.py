"""Steering: the same prompts answered plainly and with edits, side by side, with receipts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pellucid.dictionaries.base import Dictionary
from pellucid.models import generation
from pellucid.models.generation import Answer, Generator, Sampling
from pellucid.models.model import Model
from pellucid.steering import receipts
from pellucid.steering.edits import Edit, EditPlan
from pellucid.steering.receipts import Receipt


@dataclass(frozen=True)
class Steered:
    """One prompt, answered twice with the same seed."""

    prompt: str
    plain: str
    steered: str
    plain_answer: Answer
    steered_answer: Answer
    receipts: list[Receipt]


def steer(
    model: Model,
    dictionary: Dictionary,
    prompts: Sequence[str],
    edits: Sequence[Edit],
    *,
    sampling: Sampling = Sampling(),  # noqa: B008  frozen
) -> list[Steered]:
    """Answer each prompt plainly and with the edits.

    Raises:
        NoEffectError: when the edits did nothing.
        InputError: when a prompt is empty or an edit cannot be made.
    """
    tokens = model.encode_prompts(prompts)
    plan = EditPlan.same(dictionary, edits, len(tokens))
    plain = generation.answers(Generator(model, tokens, sampling))
    steered = generation.answers(Generator(model, tokens, sampling, editors=plan.editors))
    proofs = receipts.prove(model, plan, tokens, [a.token_ids for a in steered])
    return [
        Steered(prompt, model.decode(a.token_ids), model.decode(b.token_ids), a, b, proof)
        for prompt, a, b, proof in zip(prompts, plain, steered, proofs, strict=True)
    ]
