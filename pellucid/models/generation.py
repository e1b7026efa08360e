"""Generation: a model writes, token by token, while dictionaries watch and edits act.

Prompts of several lengths run as one batch, padded on the left. Each step yields the token of every row with
its log-probability under the model as edited, and, for each watcher, the codes at that token's own position:
what was active when the model read the token it had just written. The first event holds the codes of the
prompts.

Between two events nothing is attached to the model, and gradient modes are the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch
from torch import Tensor

from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.models import hooks
from pellucid.models.model import Model

C_co = TypeVar("C_co", covariant=True)


class Watcher(Protocol[C_co]):
    """What reads a site during generation: a dictionary does."""

    @property
    def site(self) -> Site:
        """Where to read."""

    def encode(self, x: Tensor, /) -> C_co:
        """What to make of activations [T, D]."""


Phase = Literal["prompt", "answer"]


@dataclass(frozen=True)
class Pass:
    """What an editor may know of the forward pass it edits."""

    phase: Phase
    """Whether the positions are those of the prompt, or one of the answer."""
    real: Tensor
    """[rows, positions] bool: tokens, not padding."""


Editor = Callable[[Tensor, Pass], Tensor]
"""[rows, positions, D] in, the same shape out."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen."""

    max_tokens: int = 64
    """The most tokens an answer may have."""
    temperature: float = 0.0
    """0 takes the likeliest token; 1 samples from the model's own distribution."""
    top_p: float = 1.0
    """Sample among the likeliest tokens that together have this probability."""
    seed: int = 0
    """Fixes the choices."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise InputError(
                "Sampling needs max_tokens of 1 or more, temperature of 0 or more, top_p in (0, 1]; "
                f"got {self}."
            )


@dataclass(frozen=True)
class PromptRead(Generic[C_co]):
    """The prompts have been read."""

    codes: list[list[C_co]]
    """For each watcher, for each row, the codes of the prompt's tokens."""


@dataclass(frozen=True)
class Step(Generic[C_co]):
    """One token of every row has been written."""

    token_ids: list[int]
    """[rows]; of a row that has ended, the end token again."""
    logprobs: list[float]
    """[rows] the natural logarithm of each token's probability."""
    live: list[bool]
    """[rows] whether the token belongs to the answer: false once a row has ended."""
    codes: list[C_co]
    """For each watcher, the codes of the tokens, one per row."""


class Generator(Generic[C_co]):
    """One batch being written. Iterate over it."""

    def __init__(
        self,
        model: Model,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling = Sampling(),
        *,
        watch: Sequence[Watcher[C_co]] = (),
        editors: Sequence[tuple[Site, Editor]] = (),
    ) -> None:
        """Prepare to write.

        Args:
            model: who writes.
            prompts: token ids of each row.
            sampling: how to choose.
            watch: what reads along.
            editors: what edits, in order, at which sites.

        Raises:
            InputError: when a prompt is empty.
        """
        if not prompts or not all(len(p) for p in prompts):
            raise InputError("A prompt is empty. Give at least one word.")
        for site in (*(w.site for w in watch), *(s for s, _ in editors)):
            model.check_site(site)
        self.model, self.sampling, self.watch, self.editors = model, sampling, watch, editors
        longest = max(map(len, prompts))
        end = min(model.end_ids, default=0)
        padded = [[end] * (longest - len(p)) + list(p) for p in prompts]
        self._tokens = torch.tensor(padded, device=model.device)
        lengths = torch.tensor([len(p) for p in prompts], device=model.device)
        self._mask = torch.arange(longest, device=model.device)[None] >= longest - lengths[:, None]
        self._padded = not bool(self._mask.all())
        self._lengths = lengths
        self._random = torch.Generator().manual_seed(sampling.seed)
        self._cache: Any = None

    def __iter__(self) -> Iterator[PromptRead[C_co] | Step[C_co]]:
        rows = len(self._tokens)
        end = min(self.model.end_ids, default=0)
        logits, seen = self._forward(self._tokens, Pass("prompt", self._mask))
        yield PromptRead(
            [
                [w.encode(x[r][self._mask[r]]) for r in range(rows)]
                for w, x in zip(self.watch, seen, strict=True)
            ]
        )
        live = [True] * rows
        for number in range(self.sampling.max_tokens):
            chosen, logprobs = self._choose(logits)
            ids = [int(i) if alive else end for i, alive in zip(chosen, live, strict=True)]
            counted = [alive and i not in self.model.end_ids for i, alive in zip(ids, live, strict=True)]
            last = not any(counted) or number == self.sampling.max_tokens - 1
            seen = []
            if self.watch or not last:
                step = torch.tensor(ids, device=self.model.device)[:, None]
                self._mask = torch.cat([self._mask, self._mask.new_ones(rows, 1)], dim=1)
                logits, seen = self._forward(step, Pass("answer", self._mask[:, -1:]))
            yield Step(
                ids,
                logprobs.tolist(),
                live,
                [w.encode(x[:, -1]) for w, x in zip(self.watch, seen, strict=True)],
            )
            live = counted
            if not any(live):
                return

    def _forward(self, tokens: Tensor, this: Pass) -> tuple[Tensor, list[Tensor]]:
        """Logits [rows, vocabulary] at the last position, and what each watcher's site held."""
        seen: list[Tensor] = [torch.empty(0)] * len(self.watch)

        def keep(index: int) -> hooks.Reader:
            def read(x: Tensor) -> None:
                seen[index] = x

            return read

        def bound(editor: Editor) -> hooks.Editor:
            return lambda x: editor(x, this)

        positions = None
        if self._padded:
            positions = (self._mask.long().cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        with (
            torch.inference_mode(),
            hooks.edited(self.model.network, [(site, bound(e)) for site, e in self.editors]),
            hooks.watched(self.model.network, [(w.site, keep(i)) for i, w in enumerate(self.watch)]),
        ):
            out = self.model.network(
                input_ids=tokens,
                attention_mask=self._mask.long() if self._padded else None,
                position_ids=positions,
                past_key_values=self._cache,
                use_cache=True,
                logits_to_keep=1,
            )
        self._cache = out.past_key_values
        return out.logits[:, -1], seen

    def _choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """A token for each row, with its log-probability.

        Raises:
            InputError: when the logits of a row are no numbers.
        """
        if unsound(logits):
            raise InputError(UNSOUND)
        logprobs = logits.float().log_softmax(-1).cpu()
        s = self.sampling
        if s.temperature == 0:
            chosen = logprobs.argmax(-1)
        else:
            draws = torch.rand(len(logprobs), 1, generator=self._random)
            top_p = torch.full((len(logprobs), 1), s.top_p)
            chosen = drawn(at_temperature(logprobs, torch.tensor(s.temperature)), top_p, draws)
        return chosen, logprobs.gather(-1, chosen[:, None])[:, 0]


UNSOUND = "The logits are no finite numbers, so no token can be chosen. Make the edits weaker."


def unsound(logits: Tensor) -> list[int]:
    """The rows of logits [rows, vocabulary] from which no token can be chosen: those that are no numbers."""
    return (~logits.amax(-1).isfinite()).nonzero()[:, 0].tolist() if len(logits) else []


_NUCLEUS = 1024
"""So many of the likeliest tokens nearly always hold the nucleus; finding them is a tenth of a full sort."""
_COLDEST = 1e-6


def at_temperature(logprobs: Tensor, temperature: Tensor) -> Tensor:
    """[rows, vocabulary] probabilities at a temperature [rows, 1] above 0, or at one for all.

    One that is all but 0 leaves the likeliest token, as 0 would: nothing is divided by what rounds to 0.
    """
    below = logprobs - logprobs.max(-1, keepdim=True).values
    return (below / temperature.clamp(min=_COLDEST).to(below)).softmax(-1)


def drawn(weights: Tensor, top_p: Tensor, draws: Tensor) -> Tensor:
    """[rows] the tokens that uniform draws [rows, 1] pick from probabilities [rows, vocabulary].

    Where top_p [rows, 1] is below 1, from the likeliest tokens that together have it (Holtzman et al. 2020).
    One draw a row, looked up in the sums of the weights; with top_p, the likeliest token first.
    """
    whole = top_p[:, 0] == 1
    chosen = torch.empty(len(weights), dtype=torch.int64)
    if bool(whole.any()):
        sums = weights[whole].double().cumsum(-1)
        places = torch.searchsorted(sums, draws[whole] * sums[:, -1:], right=True)
        chosen[whole] = places[:, 0].clamp(max=weights.shape[1] - 1)
    if not bool(whole.all()):
        chosen[~whole] = _nucleus(weights[~whole], top_p[~whole], draws[~whole])
    return chosen


def _nucleus(weights: Tensor, top_p: Tensor, draws: Tensor) -> Tensor:
    likeliest = weights.topk(min(_NUCLEUS, weights.shape[1]), dim=-1)
    short = likeliest.values.sum(-1) < top_p[:, 0]
    chosen = _looked_up(*likeliest, top_p, draws)
    if bool(short.any()):
        chosen[short] = _looked_up(*weights[short].sort(dim=-1, descending=True), top_p[short], draws[short])
    return chosen


def _looked_up(ordered: Tensor, order: Tensor, top_p: Tensor, draws: Tensor) -> Tensor:
    sums = ordered.double().cumsum(-1)
    sizes = (sums - ordered < top_p).sum(-1, keepdim=True).clamp(min=1)  # top_p may have been rounded to 0
    places = torch.searchsorted(sums, draws * sums.gather(-1, sizes - 1), right=True)
    return order.gather(-1, places.minimum(sizes - 1))[:, 0]


@dataclass(frozen=True)
class Answer:
    """What one row wrote."""

    token_ids: list[int]
    logprobs: list[float]


def answers(generator: Generator[Any]) -> list[Answer]:
    """Run a generator to its end; the end token is not part of an answer."""
    found: list[Answer] = []
    for event in generator:
        if isinstance(event, PromptRead):
            continue
        if not found:
            found = [Answer([], []) for _ in event.token_ids]
        for row, (token, logprob, live) in enumerate(
            zip(event.token_ids, event.logprobs, event.live, strict=True)
        ):
            if live and token not in generator.model.end_ids:
                found[row].token_ids.append(token)
                found[row].logprobs.append(logprob)
    return found


def logprobs_of(
    model: Model,
    prompts: Sequence[Sequence[int]],
    written: Sequence[Sequence[int]],
    *,
    editors: Sequence[tuple[Site, Editor]] = (),
    rows_at_once: int = 16,
) -> list[Tensor]:
    """The log-probabilities [tokens, vocabulary] at each token of given answers, in one pass over each.

    Rows come back as float32 tensors, one per answer, the distribution from which each of its tokens was
    drawn.
    """
    found: list[Tensor] = []
    for at in range(0, len(prompts), rows_at_once):
        heads, tails = prompts[at : at + rows_at_once], written[at : at + rows_at_once]
        longest = max(len(h) + len(t) for h, t in zip(heads, tails, strict=True))
        end = min(model.end_ids, default=0)
        rows = [[end] * (longest - len(h) - len(t)) + [*h, *t] for h, t in zip(heads, tails, strict=True)]
        tokens = torch.tensor(rows, device=model.device)
        lengths = torch.tensor(
            [len(h) + len(t) for h, t in zip(heads, tails, strict=True)], device=model.device
        )
        mask = torch.arange(longest, device=model.device)[None] >= longest - lengths[:, None]
        depth = max(map(len, tails)) + 1
        answer = torch.zeros_like(mask)
        for r, tail in enumerate(tails):
            answer[r, longest - len(tail) :] = True

        def both(editor: Editor, mask: Tensor = mask, answer: Tensor = answer) -> hooks.Editor:
            def edit(x: Tensor) -> Tensor:
                prompt = editor(x, Pass("prompt", mask & ~answer))
                return torch.where(answer[..., None], editor(x, Pass("answer", answer)), prompt)

            return edit

        with torch.inference_mode(), hooks.edited(model.network, [(site, both(e)) for site, e in editors]):
            logits = model.network(
                input_ids=tokens,
                attention_mask=mask.long(),
                position_ids=(mask.long().cumsum(1) - 1).clamp(min=0),
                use_cache=False,
                logits_to_keep=depth,
            ).logits
        for r, tail in enumerate(tails):
            rows_of = logits[r, logits.shape[1] - 1 - len(tail) : logits.shape[1] - 1]
            found.append(rows_of.float().log_softmax(-1).cpu())
    return found
