"""The engine over vLLM, held against one that does what the extension's README says, over the tiny model.

Functions are pickled as the extension pickles them; prompts are read in pieces; an answer that has ended is
read by one token more. vLLM itself is not run: it needs a GPU.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from pellucid.core.errors import InputError, MissingDependencyError
from pellucid.core.sites import Site
from pellucid.dictionaries.codes import Codes
from pellucid.models import hooks
from pellucid.models.batching import Batch
from pellucid.models.generation import Sampling
from pellucid.models.model import Model
from pellucid.models.requests import Ended, Event, Read, Request, Wrote
from pellucid.models.steps import ModuleSteps
from pellucid.serving.engine import BusyError, StoppedError
from pellucid.serving.served import Served
from pellucid.serving.vllm_engine import VllmEngine
from pellucid.steering.edits import EditPlan, FeatureEdit

cloudpickle = pytest.importorskip("cloudpickle", reason="cloudpickle is not installed")
ROOM = 96


class FakeVllm:
    """`generate` as it is documented: greedy, without a cache, one request a step."""

    def __init__(self, model: Model, *, forgets: bool = False) -> None:
        self.model, self.forgets = model, forgets

    async def generate(self, prompt: Any, parameters: Any, request_id: str) -> AsyncIterator[Any]:
        ids = list(prompt["prompt_token_ids"])
        wanted = cloudpickle.loads(cloudpickle.dumps((parameters.extra_args or {}).get("apply_hooks", [])))
        contexts = [SimpleNamespace(saved={}, layer_idx=0, seq_len=0) for _ in wanted]
        half = len(ids) // 2
        pieces = [ids[:half], ids[half:]]
        read: list[int] = []
        for number in range(parameters.max_tokens):
            for piece in pieces:
                row = self._read(read, piece, wanted, contexts)
                read += piece
            await asyncio.sleep(0)
            logprobs = row.log_softmax(-1)
            token = int(logprobs.argmax())
            best = logprobs.topk(parameters.logprobs)
            told = {int(i): SimpleNamespace(logprob=float(logprobs[i])) for i in (*best.indices, token)}
            stops = token in parameters.stop_token_ids
            over = stops or number + 1 == parameters.max_tokens
            if over:
                self._read(read, [token], wanted, contexts)
            answer = SimpleNamespace(
                token_ids=[token],
                logprobs=[told],
                finish_reason=("stop" if stops else "length") if over else None,
            )
            output = SimpleNamespace(outputs=[answer], finished=over)
            if over and not self.forgets:
                output.hook_results = {str(n): c.saved for n, c in enumerate(contexts)}
            yield output
            if over:
                return
            pieces = [[token]]

    def _read(self, before: list[int], piece: list[int], wanted: list[Any], contexts: list[Any]) -> Any:
        """Logits after a piece; its functions see its tokens alone, and what was edited before stays."""
        start = len(before)
        self.kept = getattr(self, "kept", {}) if before else {}

        def editor_of(number: int, hook: Any, context: Any) -> hooks.Editor:
            def edit(x: torch.Tensor) -> torch.Tensor:
                changed = x.clone()
                for at, row in self.kept.get(number, []):
                    changed[0, at : at + len(row)] = row
                found = hook.fn(context, changed[0, start:])
                if found is not None:
                    changed[0, start:] = found
                self.kept.setdefault(number, []).append((start, changed[0, start:].clone()))
                return changed

            return edit

        editors = [
            (Site("resid_pre" if h.pre else "resid_post", h.layer_indices[0]), editor_of(n, h, c))
            for n, (h, c) in enumerate(zip(wanted, contexts, strict=True))
        ]
        with torch.inference_mode(), hooks.edited(self.model.network, editors):
            return self.model.network(input_ids=torch.tensor([[*before, *piece]])).logits[0, -1].float()

    def shutdown(self) -> None:
        """Nothing is held."""


def engine_of(monkeypatch: pytest.MonkeyPatch, model: Model, **bounds: Any) -> VllmEngine:
    llm = FakeVllm(model, forgets=bounds.pop("forgets", False))
    vllm, lens, parameters = ModuleType("vllm"), ModuleType("vllm_lens"), ModuleType("vllm.sampling_params")
    vllm.AsyncEngineArgs = vllm.SamplingParams = SimpleNamespace  # type: ignore[attr-defined]
    vllm.AsyncLLMEngine = SimpleNamespace(from_engine_args=lambda _: llm)  # type: ignore[attr-defined]
    parameters.RequestOutputKind = SimpleNamespace(DELTA="delta")  # type: ignore[attr-defined]
    lens.Hook = SimpleNamespace  # type: ignore[attr-defined]
    for module in (vllm, lens, parameters):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    engine = VllmEngine(model, Path("nowhere"), **{"slots": 4, "room": ROOM, "waiting": 2, **bounds})
    engine.start()
    return engine


def events_of(engine: VllmEngine, request: Request[Codes]) -> list[Event[Codes]]:
    async def go() -> list[Event[Codes]]:
        found = [event async for event in await engine.submit(request)]
        await asyncio.sleep(0)
        assert engine.load.running == 0
        return found

    return asyncio.run(go())


def own(model: Model, request: Request[Codes]) -> list[Event[Codes]]:
    batch = Batch[Codes](ModuleSteps(model, 1, ROOM))
    batch.submit(request)
    found: list[Event[Codes]] = []
    while batch.running or batch.waiting:
        found += [event for _, event in batch.step()]
    return found


def request_of(served: Served, *, edits: list[FeatureEdit], watch: bool, tokens: int = 8) -> Request[Codes]:
    dictionary = served.dictionary(None).dictionary
    return Request(
        served.model.encode_text("The rain in the town and the moon"),
        Sampling(tokens),
        watch=[dictionary] if watch else [],
        editors=EditPlan.same(dictionary, edits, 1).editors,
        alternatives=2,
    )


EDITS = [FeatureEdit("set", 5, 2.0, "answer"), FeatureEdit("add", 9, 1.0, "prompt")]


@pytest.mark.parametrize("edits", [[], EDITS])
@pytest.mark.parametrize("watch", [False, True])
def test_events_are_those_of_our_own_batch(
    served: Served, monkeypatch: pytest.MonkeyPatch, edits: list[FeatureEdit], watch: bool
) -> None:
    request = request_of(served, edits=edits, watch=watch)
    found = events_of(engine_of(monkeypatch, served.model), request)
    wanted = own(served.model, request)
    assert [type(e) for e in found] == [type(e) for e in wanted]
    for mine, theirs in zip(found, wanted, strict=True):
        if isinstance(mine, Read):
            assert isinstance(theirs, Read)
            for a, b in zip(mine.codes, theirs.codes, strict=True):
                torch.testing.assert_close(dense(a), dense(b), atol=1e-3, rtol=0)
        if isinstance(mine, Wrote):
            assert isinstance(theirs, Wrote)
            assert mine.token == theirs.token
            assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-3)
            assert [t for t, _ in mine.alternatives] == [t for t, _ in theirs.alternatives]
            if mine.token not in served.model.end_ids:
                torch.testing.assert_close(dense(mine.codes), dense(theirs.codes), atol=1e-3, rtol=0)
        if isinstance(mine, Ended):
            assert mine == theirs


def dense(seen: Any) -> torch.Tensor:
    parts = [s.codes.dense()[s.start : s.stop] for s in seen]
    return torch.cat(parts) if parts else torch.zeros(0)


def test_an_edit_that_raises_is_an_error_of_its_own_request(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_x: torch.Tensor, _this: Any) -> torch.Tensor:
        raise InputError("this edit cannot be")

    request = Request[Codes](
        served.model.encode_text("The rain"), Sampling(4), editors=[(Site("resid_post", 1), broken)]
    )
    with pytest.raises(InputError, match="cannot be"):
        events_of(engine_of(monkeypatch, served.model), request)


def test_an_edit_that_was_not_seen_to_hold_is_an_error(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(monkeypatch, served.model, forgets=True)
    with pytest.raises(StoppedError, match="cannot be relied on"):
        events_of(engine, request_of(served, edits=EDITS, watch=False))
    assert isinstance(events_of(engine, request_of(served, edits=[], watch=False))[-1], Ended)


def test_what_cannot_be_reached_or_is_too_much_is_refused(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(monkeypatch, served.model, slots=1, waiting=0)
    ids = served.model.encode_text("The rain")
    elsewhere = Request[Codes](ids, Sampling(4), editors=[(Site("mlp_out", 1), lambda x, _: x)])

    async def go() -> None:
        with pytest.raises(InputError, match="resid_post"):
            await engine.submit(elsewhere)
        with pytest.raises(InputError, match="room"):
            await engine.submit(Request[Codes](ids, Sampling(ROOM)))
        first = await engine.submit(Request[Codes](ids, Sampling(30)))
        with pytest.raises(BusyError):
            await engine.submit(Request[Codes](ids, Sampling(4)))
        first.cancel()
        for _ in range(4):
            await asyncio.sleep(0)
        again = [event async for event in await engine.submit(Request[Codes](ids, Sampling(4)))]
        assert isinstance(again[-1], Ended)
        await asyncio.to_thread(engine.stop)
        with pytest.raises(StoppedError):
            await engine.submit(Request[Codes](ids, Sampling(4)))

    asyncio.run(go())


def test_without_vllm_the_error_has_the_install_line(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'pellucid\[vllm\]'"):
        VllmEngine(served.model, Path("nowhere"), slots=1, room=ROOM, waiting=1)
