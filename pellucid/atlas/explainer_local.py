"""The explainer on this machine: a model that Pellucid has loaded writes labels, and judges by yes or no.

Small models rarely write a list that can be read, so each text is a question of its own, answered by whether
the model finds `Yes` likelier than `No`. Models lean to one of the two whatever they are asked; what counts
is therefore how much more likely `Yes` is than for the middle text of the sheet (the idea of Zhao et al.,
arXiv 2102.09690, with the texts themselves in the place of empty ones).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pellucid.atlas import prompts
from pellucid.atlas.evidence import Evidence
from pellucid.atlas.explainers import Judged, Sheet, Written
from pellucid.models import generation
from pellucid.models.generation import Generator, Sampling
from pellucid.models.model import Model

_ROWS_AT_ONCE = 8


@dataclass(frozen=True)
class LocalExplainer:
    """Labels by a loaded model."""

    model: Model
    at_once: int = 1

    @property
    def name(self) -> str:
        """The reference of its model."""
        return self.model.name

    def identity(self) -> dict[str, Any]:
        """What labels depend on: the model, and what it is told."""
        return {
            "explainer": "local",
            "model": self.model.digest,
            "precision": str(self.model.dtype),
            "prompts": prompts.VERSION,
        }

    def write(self, evidence: Evidence) -> Written:
        """The label of its likeliest answer.

        Raises:
            LabelError: when the answer holds none.
        """
        prompt = self.model.encode_chat([{"role": "user", "content": prompts.to_write(evidence)}])
        # The answer is begun for it: small models forget how it is to end.
        opening = self.model.tokenizer("Label:", add_special_tokens=False).input_ids
        generator: Generator[Any] = Generator(
            self.model, [[*prompt, *opening]], Sampling(max_tokens=prompts.LABEL_TOKENS // 4)
        )
        (answer,) = generation.answers(generator)
        text = self.model.decode(answer.token_ids).strip().split("\n")[0]
        return Written(prompts.label_in(f"Label: {text}"))

    def judge(self, label: Written, sheet: Sheet) -> Judged:
        """Each text by itself; half of all, those where `Yes` is likeliest, are answered with yes."""
        texts = [m.window.text for m in sheet.active] + [w.text for w in sheet.silent]
        marked = [prompts.marks(m) for m in (*sheet.active, *sheet.moved)]
        detected = self._leaning([prompts.to_judge(label.text, t, marked=False) for t in texts])
        located = self._leaning([prompts.to_judge(label.text, t, marked=True) for t in marked])
        count = len(sheet.active)
        return Judged(detected[:count], detected[count:], located[:count], located[count:])

    def _leaning(self, questions: Sequence[str]) -> list[bool]:
        rows = self.model.encode_prompts(questions)
        yes, no = (self.model.tokenizer(w, add_special_tokens=False).input_ids[0] for w in ("Yes", "No"))
        found: list[float] = []
        for at in range(0, len(rows), _ROWS_AT_ONCE):
            part = rows[at : at + _ROWS_AT_ONCE]
            for logprobs in generation.logprobs_of(self.model, part, [[yes]] * len(part)):
                found.append(float(logprobs[0, yes] - logprobs[0, no]))
        middle = float(np.median(found))
        return [f > middle for f in found]
