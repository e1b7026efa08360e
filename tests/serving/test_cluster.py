"""Replicas: what one of them is given, and on a cluster of this machine, one that is killed under load."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from pellucid.core.errors import InputError, MissingDependencyError
from pellucid.models.model import Model
from pellucid.serving import cluster
from pellucid.serving.keys import Key
from pellucid.serving.settings import Settings
from tests.models.conftest import save

STREAMS = 12


def test_replicas_share_the_rate_of_a_key() -> None:
    keys = tuple(Key(str(n), "digest", ("chat",), n, "now") for n in (60, 3, 1))
    shared = Settings("model", keys=keys).share(4)
    assert [key.per_minute for key in shared.keys] == [15, 1, 1]
    assert Settings("model", keys=keys).share(1).keys == keys


def test_without_ray_the_error_has_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    given: Any = {"most": 4, "host": "127.0.0.1", "port": 0}
    with (
        pytest.raises(MissingDependencyError, match=r"pip install 'pellucid\[cluster\]'"),
        cluster.serving(FastAPI, replicas=2, **given),
    ):
        pass
    with pytest.raises(InputError, match="1 replica or more"), cluster.serving(FastAPI, replicas=0, **given):
        pass


def telling(settings: Settings) -> Callable[[], FastAPI]:
    """Makes an application whose answers say which process they come from."""

    def build() -> FastAPI:
        app = settings.build()

        @app.middleware("http")
        async def tell(request: Request, call: Any) -> Response:
            response: Response = await call(request)
            response.headers["x-process"] = str(os.getpid())
            return response

        return app

    return build


@dataclass
class Seen:
    """One stream, as its client saw it."""

    process: int = 0
    text: str = ""
    whole: bool = False
    begun: threading.Event = field(default_factory=threading.Event)


def body_of(number: int) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": f"Tell me about the rain in town {number}."}],
        "max_tokens": 400,
        "temperature": 1.2,
        "seed": number,
        "stream": True,
    }


def read(address: str, number: int, seen: Seen) -> None:
    try:
        with httpx.stream(
            "POST", f"{address}/v1/chat/completions", json=body_of(number), timeout=120
        ) as answer:
            answer.raise_for_status()
            seen.process = int(answer.headers["x-process"])
            for line in answer.iter_lines():
                seen.whole = seen.whole or line == "data: [DONE]"
                if line.startswith("data: {"):
                    choice = json.loads(line[6:])["choices"][0]
                    seen.text += choice["delta"].get("content") or ""
                    if seen.text:
                        seen.begun.set()
    except (httpx.HTTPError, KeyError):
        pass  # a stream of the replica that was lost
    finally:
        seen.begun.set()


@pytest.mark.cluster
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore")  # those of Ray
@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pellucid[cluster]")
def test_a_replica_that_is_killed_takes_its_own_streams_alone(tiny: Model, tmp_path: Path) -> None:
    model = save(tiny, tmp_path / "model")
    settings = Settings(str(model), slots=STREAMS, room=480, weights="same")
    with cluster.serving(
        telling(settings), replicas=2, most=STREAMS + 64, host="127.0.0.1", port=0
    ) as address:

        def all_at_once(kill: bool) -> tuple[list[Seen], int]:
            seen = [Seen() for _ in range(STREAMS)]
            threads = [threading.Thread(target=read, args=(address, n, s)) for n, s in enumerate(seen)]
            for thread in threads:
                thread.start()
            for stream in seen:
                assert stream.begun.wait(120)
            victim = next((s.process for s in seen if s.process and not s.whole), 0)
            if kill:
                assert victim > 0
                os.kill(victim, signal.SIGKILL)
            for thread in threads:
                thread.join(120)
            return seen, victim

        alone, _ = all_at_once(kill=False)
        assert all(s.whole for s in alone)
        assert len({s.process for s in alone}) == 2
        seen, victim = all_at_once(kill=True)
        others = [n for n, s in enumerate(seen) if s.process != victim]
        assert others
        for number in others:
            assert seen[number].whole
            assert seen[number].text == alone[number].text
        # Those of the lost replica are cut short; none is changed.
        for number, stream in enumerate(seen):
            assert alone[number].text.startswith(stream.text)
        for number in range(6):
            again = Seen()
            read(address, number, again)
            assert again.whole
            assert again.text == alone[number].text
            assert again.process != victim
        processes: set[int] = set()
        until = time.monotonic() + 120
        while len(processes) < 2 and time.monotonic() < until:
            processes |= {int(httpx.get(f"{address}/readyz").headers["x-process"])}
        assert len(processes) == 2
