"""Answers by vLLM, on GPUs, behind the interface of `Engine`; `pellucid[vllm]`.

What reaches into vLLM is vllm-lens (github.com/UKGovernmentBEIS/vllm-lens, its README of version 1.3): a
request brings functions that run on its own tokens behind a layer, or before it, and may return the
activations they want in place of those; what they wrote down comes when the request has ended. So edits are
the same value-space edits as everywhere, and what a dictionary watched comes with each token as everywhere,
but all at once at the end: a watched answer is not streamed.

A function that raised would make the extension leave out what all requests wanted at that layer in that step;
so none may raise here, and what went wrong is written down. At the end it is checked that every function saw
every token: an edit that did not hold is an error, not an answer.

This module was tested against an engine that does what that README says; it has not been run on vLLM. See
docs/explanation/serving.md.
"""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pellucid.core.errors import InputError, MissingDependencyError, PellucidError
from pellucid.core.sites import Site
from pellucid.dictionaries.codes import Codes
from pellucid.models.generation import UNSOUND, Editor, Pass, Watcher
from pellucid.models.model import Model
from pellucid.models.requests import Ended, Event, Failed, Read, Request, Seen, Wrote, check
from pellucid.serving.engine import BusyError, Load, StoppedError, Stream

_SITES = ("resid_pre", "resid_post")


@dataclass(frozen=True)
class Editing:
    """What the extension calls with a request's activations at a site it edits."""

    editor: Editor
    prompt: int
    """Tokens of the prompt: what comes after is the answer's."""

    def __call__(self, context: Any, x: Tensor) -> Tensor | None:
        """The edited activations of [tokens, D]."""
        saved = context.saved
        if "error" in saved:
            return None
        seen = saved.get("seen", 0)
        real = torch.ones(1, len(x), dtype=torch.bool, device=x.device)
        try:
            edited = self.editor(x[None], Pass("prompt" if seen < self.prompt else "answer", real))[0]
        except Exception as error:  # whatever it is, the other requests of the step must not notice
            saved["error"] = error if isinstance(error, PellucidError) else repr(error)
            return None
        saved["seen"] = seen + len(x)
        return edited


@dataclass(frozen=True)
class Watching:
    """What the extension calls with a request's activations at a site that a dictionary watches."""

    watcher: Watcher[Codes]

    def __call__(self, context: Any, x: Tensor) -> None:
        """Write down the codes of [tokens, D], under the number of the first."""
        saved = context.saved
        if "error" in saved:
            return
        seen = saved.get("seen", 0)
        try:
            # By number, so that what several devices wrote down is the same once.
            saved[str(seen)] = self.watcher.encode(x).to("cpu")
        except Exception as error:  # as above
            saved["error"] = error if isinstance(error, PellucidError) else repr(error)
            return
        saved["seen"] = seen + len(x)


def functions(request: Request[Codes]) -> list[tuple[Callable[..., Any], Site]]:
    """What a request does at its sites: the edits in order, then what watches, which sees what they left.

    Raises:
        InputError: when a site is not one that the extension reaches.
    """
    found: list[tuple[Callable[..., Any], Site]] = [
        *((Editing(editor, len(request.prompt)), site) for site, editor in request.editors),
        *((Watching(watcher), watcher.site) for watcher in request.watch),
    ]
    for _, site in found:
        if site.kind not in _SITES:
            raise InputError(f"With vLLM {' and '.join(_SITES)} can be watched and edited; {site} cannot.")
    return found


class VllmEngine:
    """A model that vLLM answers with. `start` and `submit` are called in one event loop."""

    name = "vLLM"

    def __init__(self, model: Model, folder: Path, *, slots: int, room: int, waiting: int) -> None:
        """Prepare; `folder` holds the model's weights, which vLLM reads for itself.

        Raises:
            MissingDependencyError: when vLLM or its extension is not installed.
        """
        try:
            import vllm
            import vllm_lens
        except ImportError as error:
            raise MissingDependencyError(str(error.name), "vllm", "Serving with vLLM") from error
        self._vllm, self._lens = vllm, vllm_lens
        self.model, self.room = model, room
        self._folder, self._slots, self._most = folder, slots, slots + waiting
        self._running: dict[Stream, asyncio.Task[None]] = {}
        self._llm: Any = None
        self._draining = False

    @property
    def load(self) -> Load:
        """Requests in slots, and those that wait for one."""
        taken = len(self._running)
        return Load(min(taken, self._slots), max(0, taken - self._slots))

    @property
    def alive(self) -> bool:
        """Whether it takes requests."""
        return self._llm is not None and not self._draining

    def start(self) -> None:
        """Begin to work: vLLM loads the model, which takes a while."""
        arguments = self._vllm.AsyncEngineArgs(
            model=str(self._folder), max_model_len=self.room, max_num_seqs=self._slots
        )
        self._llm = self._vllm.AsyncLLMEngine.from_engine_args(arguments)

    def stop(self, timeout: float = 60.0) -> None:
        """Take no more requests, finish those there are, and let go of the devices; not in the event loop."""
        self._draining = True
        until = time.monotonic() + timeout
        while self._running and time.monotonic() < until:
            time.sleep(0.05)
        if self._llm is not None:
            self._llm.shutdown()

    async def submit(self, request: Request[Codes]) -> Stream:
        """Take a request on.

        Raises:
            BusyError: when too many wait already.
            StoppedError: when it is shutting down.
            InputError: when the request does not fit, or names a site that cannot be reached.
        """
        if not self.alive:
            raise StoppedError("The server is shutting down. Try again in a moment.")
        check(request, self.model, self.room)
        found = functions(request)
        if len(self._running) >= self._most:
            raise BusyError("Too many requests are waiting already. Try again in a few seconds.")
        stream = Stream(self._cancel)
        task = self._running[stream] = asyncio.create_task(self._answer(request, found, stream))
        task.add_done_callback(lambda _: self._running.pop(stream))
        return stream

    def _cancel(self, stream: Stream) -> None:
        if stream in self._running:
            self._running[stream].cancel()

    async def _answer(
        self, request: Request[Codes], found: list[tuple[Callable[..., Any], Site]], stream: Stream
    ) -> None:
        try:
            async for event in self._events(request, found):
                stream.tell(event)
        except PellucidError as error:
            stream.tell(Failed(error))
        except Exception as error:  # whatever vLLM raises, nobody may wait for ever
            failure = StoppedError(f"vLLM failed: {type(error).__name__}: {error}.")
            failure.__cause__ = error
            stream.tell(failure)

    async def _events(
        self, request: Request[Codes], found: list[tuple[Callable[..., Any], Site]]
    ) -> AsyncIterator[Event[Codes]]:
        """The events of a request, in the order of `requests`."""
        written: list[Wrote[Codes]] = []
        results: Any = {}
        most = request.sampling.max_tokens
        request_id = secrets.token_hex(16)  # all of one length: the extension tells them apart by beginnings
        prompt = {"prompt_token_ids": list(request.prompt)}
        if not request.watch:
            yield Read[Codes]([], 0)
        async for output in self._llm.generate(prompt, self._parameters(request, found), request_id):
            (answer,) = output.outputs
            for token, logprobs in zip(answer.token_ids, answer.logprobs, strict=True):
                if len(written) < most:
                    written.append(_wrote(token, logprobs, request.alternatives))
                    if not request.watch:
                        yield written[-1]
            if output.finished:
                results = getattr(output, "hook_results", None) or {}
        stopped = bool(written) and written[-1].token in self.model.end_ids
        _check(results, len(found), len(request.prompt) + len(written) - 1)
        if request.watch:
            codes = [_codes(results[str(len(request.editors) + n)]) for n in range(len(request.watch))]
            for event in _watched(request, written, codes):
                yield event
        yield Ended("stop" if stopped else "length")

    def _parameters(self, request: Request[Codes], found: Sequence[tuple[Callable[..., Any], Site]]) -> Any:
        from vllm.sampling_params import RequestOutputKind

        sampling = request.sampling
        hooks = [
            self._lens.Hook(fn=f, layer_indices=[site.layer], pre=site.kind == "resid_pre")
            for f, site in found
        ]
        # The last token is read for its codes only if one more is asked for.
        most = min(sampling.max_tokens + bool(request.watch), self.room - len(request.prompt))
        return self._vllm.SamplingParams(
            max_tokens=most,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=sampling.seed,
            logprobs=max(1, request.alternatives),
            stop_token_ids=sorted(self.model.end_ids),
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
            extra_args={"apply_hooks": hooks} if hooks else None,
        )


def _wrote(token: int, logprobs: Any, alternatives: int) -> Wrote[Codes]:
    told = {int(t): float(found.logprob) for t, found in logprobs.items()}
    if not math.isfinite(told[token]):
        raise InputError(UNSOUND)
    best = sorted(told.items(), key=lambda pair: -pair[1])[:alternatives]
    return Wrote(token, told[token], best, [])


def _check(results: Any, functions: int, tokens: int) -> None:
    """Every function saw every token, and none went wrong.

    Raises:
        PellucidError: when that is not so.
    """
    for number in range(functions):
        saved = results.get(str(number), {})
        if (error := saved.get("error")) is not None:
            raise error if isinstance(error, PellucidError) else StoppedError(f"An edit failed: {error}.")
        # A token more where vLLM had begun another step; many more where it read the request anew.
        if not tokens <= saved.get("seen", 0) <= tokens + 2:
            raise StoppedError(
                f"vLLM showed {saved.get('seen', 0)} tokens of {tokens} to what watches and edits: the answer"
                " cannot be relied on. Try again, with fewer requests at once."
            )


def _codes(saved: Any) -> list[tuple[int, Codes]]:
    """The codes that were written down, each with the number of its first token, in order."""
    return sorted((int(key), value) for key, value in saved.items() if key.isdigit())


def _watched(
    request: Request[Codes], written: Sequence[Wrote[Codes]], codes: Sequence[Sequence[tuple[int, Codes]]]
) -> list[Event[Codes]]:
    """The events of an answer that was watched, its tokens with their codes."""
    prompt = len(request.prompt)
    reads: list[list[Seen[Codes]]] = []
    later: list[dict[int, Seen[Codes]]] = []
    for parts in codes:
        reads.append(
            [Seen(part, 0, min(len(part), prompt - first)) for first, part in parts if first < prompt]
        )
        later.append({first + n: Seen(part, n, n + 1) for first, part in parts for n in range(len(part))})
    events: list[Event[Codes]] = [Read(reads, 0)]
    for number, wrote in enumerate(written):
        seen = [
            of_one.get(prompt + number) or Seen(_nothing(parts[0][1].num_features), 0, 1)
            for of_one, parts in zip(later, codes, strict=True)
        ]
        events.append(Wrote(wrote.token, wrote.logprob, wrote.alternatives, seen))
    return events


def _nothing(num_features: int) -> Codes:
    """The codes of a token that nobody read: one that ended the answer, or filled its room."""
    none = torch.zeros(0)
    return Codes(torch.zeros(2, dtype=torch.int64), none.to(torch.int32), none, num_features)
