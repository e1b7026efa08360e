"""The explainer behind an endpoint: a server with OpenAI's or Anthropic's chat API writes and judges labels.

An answer is kept under the digest of its prompt once it has been understood, so that a job that goes on, and
another with the same prompts, pay for it no more. One that is nonsense is not kept: the feature has failed,
and is tried again with the next command.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pellucid.atlas import prompts
from pellucid.atlas.endpoint import Endpoint
from pellucid.atlas.evidence import Evidence
from pellucid.atlas.explainers import Judged, Sheet, Written
from pellucid.atlas.kept_labels import Kept
from pellucid.atlas.spending import Budget
from pellucid.core import digests

T = TypeVar("T")
_TEXTS_AT_ONCE = 10
"""Texts that are judged in one request."""


@dataclass(frozen=True)
class EndpointExplainer:
    """Labels by a model behind an endpoint."""

    endpoint: Endpoint
    answers: Kept
    """Answers to what was asked before."""
    budget: Budget
    at_once: int = 8
    again: bool = False
    """Ask even where an answer is kept."""

    @property
    def name(self) -> str:
        """The name of its model."""
        return self.endpoint.model

    def identity(self) -> dict[str, Any]:
        """What labels depend on: who is asked, and how."""
        return {
            "explainer": "endpoint",
            "url": self.endpoint.url,
            "model": self.endpoint.model,
            "prompts": prompts.VERSION,
        }

    def write(self, evidence: Evidence) -> Written:
        """A label from one request.

        Raises:
            LabelError: when the answer holds none.
        """
        return Written(self._ask(prompts.to_write(evidence), prompts.LABEL_TOKENS, prompts.label_in))

    def judge(self, label: Written, sheet: Sheet) -> Judged:
        """Texts in mixed order, some in each request.

        Raises:
            LabelError: when an answer is none.
        """
        windows = [*(m.window for m in sheet.active), *sheet.silent]
        marked = [*sheet.active, *sheet.moved]
        texts = self._judged(windows, lambda some: prompts.to_detect(label.text, some), label.text)
        places = self._judged(marked, lambda some: prompts.to_locate(label.text, some), label.text)
        count = len(sheet.active)
        return Judged(texts[:count], texts[count:], places[:count], places[count:])

    def _judged(self, items: Sequence[T], told: Callable[[list[T]], str], seed: str) -> list[bool]:
        order = list(range(len(items)))
        random.Random(seed).shuffle(order)
        found = [False] * len(items)
        for at in range(0, len(order), _TEXTS_AT_ONCE):
            part = order[at : at + _TEXTS_AT_ONCE]
            parse = partial(prompts.numbers_in, count=len(part))
            answer = self._ask(told([items[i] for i in part]), prompts.LIST_TOKENS, parse)
            for i, said in zip(part, answer, strict=True):
                found[i] = said
        return found

    def _ask(self, prompt: str, max_tokens: int, parse: Callable[[str], T]) -> T:
        name = digests.of_json([self.endpoint.url, self.endpoint.model, prompt, max_tokens])
        kept = None if self.again else self.answers.get(name)
        if kept is not None:
            return parse(kept)
        answer = self.endpoint.ask(prompt, max_tokens=max_tokens, budget=self.budget)
        found = parse(answer)
        self.answers.put(name, answer)
        return found
