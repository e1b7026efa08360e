from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from pellucid.models.generation import Sampling
from pellucid.models.requests import Ended, Request, Wrote
from pellucid.models.steps import steps_of
from pellucid.serving.engine import BusyError, Engine, StoppedError
from pellucid.serving.served import Served
from tests.serving.conftest import running


def engine_of(served: Served, **bounds: Any) -> Engine:
    engine = Engine(steps_of(served.model, slots=1, room=200), **bounds)
    engine.start()
    return engine


def request_of(served: Served, tokens: int = 20) -> Request[Any]:
    return Request(served.model.encode_text("The rain in the town"), Sampling(tokens, 1.0))


async def read(stream: Any) -> list[Any]:
    return [event async for event in stream]


def test_more_than_may_wait_are_refused_and_room_comes_back(served: Served) -> None:
    async def go() -> None:
        engine = engine_of(served, waiting=1)
        streams = [await engine.submit(request_of(served)) for _ in range(2)]
        with pytest.raises(BusyError, match="waiting already"):
            await engine.submit(request_of(served))
        found = await asyncio.gather(*map(read, streams))
        assert all(isinstance(events[-1], Ended) for events in found)
        assert (engine.load.running, engine.load.waiting) == (0, 0)
        again = await read(await engine.submit(request_of(served)))
        assert isinstance(again[-1], Ended)
        engine.stop()

    asyncio.run(go())


def test_a_cancelled_stream_frees_its_slot(served: Served) -> None:
    async def go() -> None:
        engine = engine_of(served, waiting=1)
        first = await engine.submit(request_of(served, 150))
        second = await engine.submit(request_of(served, 5))
        first.cancel()
        assert isinstance((await read(second))[-1], Ended)
        engine.stop()

    asyncio.run(go())


def test_a_defect_ends_what_was_running_and_the_next_begin_anew(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def go() -> None:
        engine = engine_of(served)
        step = engine.steps.step

        def broken(*_: Any) -> Any:
            raise ZeroDivisionError("a defect")

        monkeypatch.setattr(engine.steps, "step", broken)
        with pytest.raises(StoppedError, match="a defect"):
            await read(await engine.submit(request_of(served)))
        monkeypatch.setattr(engine.steps, "step", step)
        events = await read(await engine.submit(request_of(served)))
        assert any(isinstance(e, Wrote) for e in events)
        engine.stop()
        with pytest.raises(StoppedError, match="shutting down"):
            await engine.submit(request_of(served))

    asyncio.run(go())


def test_stopping_finishes_what_was_begun(served: Served) -> None:
    async def go() -> None:
        engine = engine_of(served)
        stream = await engine.submit(request_of(served))
        await asyncio.to_thread(engine.stop)
        assert isinstance((await read(stream))[-1], Ended)

    asyncio.run(go())


def test_a_server_that_is_full_says_when_to_come_back(served: Served) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 300}

    async def go(address: str) -> None:
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:
            found = await asyncio.gather(
                *(client.post("/v1/chat/completions", json={**body, "seed": i}) for i in range(6))
            )
            refused = [r for r in found if r.status_code == 429]
            assert {r.status_code for r in found} == {200, 429}
            assert all(int(r.headers["retry-after"]) > 0 for r in refused)
            ready = (await client.get("/readyz")).json()
            assert (ready["running"], ready["waiting"]) == (0, 0)

    with running(served, slots=1, waiting=1) as address:
        asyncio.run(go(address))


def test_clients_that_go_away_leave_the_server_idle(served: Served) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 350, "temperature": 1.5}

    async def go(address: str) -> None:
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:
            async with client.stream("POST", "/v1/chat/completions", json={**body, "stream": True}) as answer:
                await anext(answer.aiter_lines())
            with pytest.raises(httpx.TimeoutException):
                await client.post("/v1/chat/completions", json=body, timeout=0.02)
            for _ in range(200):
                ready = (await client.get("/readyz")).json()
                if ready["running"] == 0:
                    return
                await asyncio.sleep(0.05)
            raise AssertionError("an answer goes on that nobody reads")

    with running(served, slots=2) as address:
        asyncio.run(go(address))
