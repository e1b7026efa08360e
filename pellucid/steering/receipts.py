"""Receipts: the proof that an edit took effect.

After a steered answer is written, the model reads prompt and answer twice more, plain and edited, and the
receipt says what the feature's activation was, what was asked of it, what it became, and how far the edit
moved the model's predictions (KL). An edit that changed nothing is an error: silence about it is the
commonest defect of steering tools.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pellucid.core.errors import NoEffectError
from pellucid.dictionaries.base import Dictionary
from pellucid.models import generation
from pellucid.models.generation import Pass
from pellucid.models.model import Model
from pellucid.steering.edits import EditPlan, FeatureEdit


@dataclass(frozen=True)
class Receipt:
    """What one edit of one row did."""

    edit: str
    """The edit, as it was asked for."""
    feature: int | None
    """None for a vector."""
    before: float
    """Mean activation on the edited tokens without the edit; for a vector, its mean component."""
    asked: float
    """Mean activation asked for."""
    reached: float
    """Mean activation measured after the edit; of a transcoder, which does not read what it writes, by what
    was added along its direction."""
    tokens: int
    """How many tokens were edited."""
    kl: float
    """KL(plain ‖ edited) of the predictions along the answer, nats per token, of all edits of the row."""
    kept: float
    """Largest change outside the edited directions, relative to the change inside: 0 when the error term is
    kept exactly."""


def prove(
    model: Model, plan: EditPlan, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> list[list[Receipt]]:
    """Receipts of every edit of every row.

    Args:
        model: the model that wrote.
        plan: the edits of each row.
        prompts: token ids of each row's prompt.
        answers: token ids of what was written under the edits.

    Raises:
        NoEffectError: when the edits left the activations, or every prediction of an answer, as they were.
    """
    plain = generation.logprobs_of(model, prompts, answers)
    found: list[list[Receipt]] = []
    for row, edits in enumerate(plan.rows):
        if not edits:
            found.append([])
            continue
        alone = plan.part(row, row + 1)
        changed = generation.logprobs_of(model, [prompts[row]], [answers[row]], editors=alone.editors)[0]
        read, before, after, phase = _read(model, alone, prompts[row], answers[row])
        divergence = (plain[row].exp() * (plain[row] - changed)).sum(-1)
        kl = max(0.0, float(divergence.mean())) if len(divergence) else 0.0
        found.append(_receipts(alone, read, before, after, phase, kl if len(divergence) else None, row))
    return found


def of_written(plan: EditPlan, before: Tensor, prompt: int, kl: float) -> list[Receipt]:
    """Receipts of the edits of a text, by what was measured while it was written.

    Args:
        plan: of one row; it reads where it writes.
        before: [tokens, D] the activations there before the edits.
        prompt: how many of the tokens are the prompt's.
        kl: of the predictions along the answer, nats per token.

    Raises:
        NoEffectError: when the edits left the activations, or every prediction of the answer, as they were.
    """
    answer = torch.arange(len(before)) >= prompt
    return _receipts(
        plan, before, before, _edited(plan, before[None], before[None], answer[None])[0], answer, kl, 0
    )


def _receipts(
    plan: EditPlan, read: Tensor, before: Tensor, after: Tensor, phase: Tensor, kl: float | None, row: int
) -> list[Receipt]:
    """Those of the one row of a plan; `kl` is none where nothing was predicted."""
    (edits,) = plan.rows
    moved = after - before
    receipts = []
    directions = torch.stack([_direction(e, plan.dictionary).to(moved) for e in edits])
    basis = torch.linalg.qr(directions.T).Q
    outside = float(
        (moved - moved @ basis @ basis.T).norm(dim=1).max() / moved.norm(dim=1).max().clamp(min=1e-9)
    )
    for edit, direction in zip(edits, directions, strict=True):
        on = (
            torch.ones(len(phase), dtype=torch.bool)
            if edit.scope == "all"
            else phase == (edit.scope == "answer")
        )
        if isinstance(edit, FeatureEdit):
            index = torch.tensor([edit.feature])
            was = plan.dictionary.activations_of(read[on], index)[:, 0]
            became = (
                plan.dictionary.activations_of(after[on], index)[:, 0]
                if plan.dictionary.ports.same
                else was + moved[on] @ direction
            )
            asked = edit.wanted(was, plan.dictionary)
            name = f"{edit.kind} {edit.feature}" + ("" if edit.kind == "ablate" else f" = {edit.strength:g}")
        else:
            was, became = before[on] @ direction, after[on] @ direction
            asked = was + edit.strength * edit.vector.float().norm()
            name = f"add vector × {edit.strength:g}"
        receipts.append(
            Receipt(
                edit=f"{name} on {edit.scope}",
                feature=edit.feature if isinstance(edit, FeatureEdit) else None,
                before=_mean(was),
                asked=_mean(asked),
                reached=_mean(became),
                tokens=int(on.sum()),
                kl=kl or 0.0,
                kept=outside,
            )
        )
    if not bool(moved.any()) or kl == 0.0:
        raise NoEffectError(
            f"The edits of row {row} changed nothing ({'; '.join(r.edit for r in receipts)}): "
            "the feature was not active where the edit holds. Use 'set' or 'add', or a wider scope."
        )
    return receipts


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0


def _direction(edit: object, dictionary: Dictionary) -> Tensor:
    if isinstance(edit, FeatureEdit):
        return dictionary.decoder[edit.feature].float()
    return torch.nn.functional.normalize(edit.vector.float(), dim=0)  # type: ignore[attr-defined]


def _read(
    model: Model, plan: EditPlan, prompt: Sequence[int], written: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Activations [tokens, D] read; where it writes, before and after; and which tokens are of the answer."""
    site, target = plan.dictionary.site, plan.dictionary.target
    tokens = torch.tensor([[*prompt, *written]], device=model.device)
    found = model.capture(tokens, list(dict.fromkeys([site, target])))
    read, x = found[site], found[target]
    answer = torch.arange(tokens.shape[1], device=model.device)[None] >= len(prompt)
    edited = _edited(plan, x, read, answer)
    return read[0].float().cpu(), x[0].float().cpu(), edited[0].float().cpu(), answer[0].cpu()


def _edited(plan: EditPlan, x: Tensor, read: Tensor, answer: Tensor) -> Tensor:
    """Activations [rows, tokens, D] with the edits of the plan, by which tokens are of the answer."""
    return torch.where(
        answer[..., None],
        plan.edit(x, read, Pass("answer", answer)),
        plan.edit(x, read, Pass("prompt", ~answer)),
    )
