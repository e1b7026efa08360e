"""A server under rough use for minutes: is anything lost, crossed, or kept?

32 clients at once over HTTP: most read their answers, a tenth read slowly, a tenth go away midway, and some
requests make no sense. Every answer that is read to its end is compared with the one the same request got
alone before: a difference is a request lost or crossed. Printed: requests by kind and status, and the
largest memory of the server in each tenth of the time.

The bars: no answer differs, no status of 500 or more, and memory in the last tenth within 5 % of the second.

    python benchmarks/soak.py [--minutes 10] [--clients 32]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
from serving import started

THINGS = ("bread", "paper", "glass", "cheese", "a violin", "a boat", "wine", "steel")
MALFORMED: tuple[Any, ...] = (
    b"{",
    b"\xff\xfe\x00",
    b"[]",
    {"messages": []},
    {"messages": [{"role": "user", "content": "Hi"}], "temperature": 9},
    {"messages": [{"role": "user", "content": "Hi"}], "pellucid": {"edits": [{"feature": 10**9}]}},
    {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10**7},
    {"messages": [{"role": "user", "content": "word " * 3000}]},
)


def request_of(number: int) -> dict[str, Any]:
    """One of the requests that make sense; the same number is the same request."""
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": f"How is {THINGS[number % 8]} made?"}],
        "max_tokens": 16 + number % 48,
        "temperature": (0, 0.8)[number % 2],
        "seed": number,
        "stream": True,
    }
    if number % 3 == 1:
        body["pellucid"] = {"watch": [{"top": 3}]}
    if number % 3 == 2:
        body["pellucid"] = {"edits": [{"feature": 1 + number, "kind": "add", "strength": 0.5}]}
    return body


async def read(
    client: httpx.AsyncClient, body: dict[str, Any], *, pause: float = 0, leave: int | None = None
) -> tuple[int, str | None]:
    """Status, and the answer's text if it was read to its end."""
    text, pieces = "", 0
    async with client.stream("POST", "/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            await answer.aread()
            return answer.status_code, None
        async for line in answer.aiter_lines():
            if line == "data: [DONE]":
                return 200, text
            if line.startswith("data: {"):
                event = json.loads(line[6:])
                if "error" in event:
                    return 599, None
                text += event["choices"][0]["delta"].get("content") or ""
                pieces += 1
                if leave is not None and pieces > leave:
                    return 200, None
                await asyncio.sleep(pause)
    return 598, None


async def run(given: argparse.Namespace, address: str, process: int) -> bool:
    """Use the server roughly, and print what came of it."""
    statuses: Counter[tuple[str, int]] = Counter()
    differing: list[int] = []
    memory: list[tuple[float, float]] = []
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=address, timeout=300, limits=limits) as client:
        alone = [(await read(client, request_of(n)))[1] for n in range(24)]
        assert all(text is not None for text in alone)
        started = time.monotonic()
        end = started + 60 * given.minutes

        async def use(seed: int) -> None:
            draw = random.Random(seed)
            while time.monotonic() < end:
                number, kind = draw.randrange(24), draw.random()
                if kind < 0.1:
                    body = draw.choice(MALFORMED)
                    content = body if isinstance(body, bytes) else json.dumps(body).encode()
                    found = await client.post(
                        "/chat/completions", content=content, headers={"content-type": "application/json"}
                    )
                    statuses["malformed", found.status_code] += 1
                    continue
                name, pause, leave = "read", 0.0, None
                if kind < 0.2:
                    name, pause = "slow", 0.2
                elif kind < 0.3:
                    name, leave = "left", draw.randrange(8)
                status, text = await read(client, request_of(number), pause=pause, leave=leave)
                statuses[name, status] += 1
                if text is not None and text != alone[number]:
                    differing.append(number)
                if status == 429:
                    await asyncio.sleep(1)

        async def weigh() -> None:
            while time.monotonic() < end:
                pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
                memory.append((time.monotonic() - started, pages * 4096 / 1e6))
                await asyncio.sleep(1)

        await asyncio.gather(weigh(), *(use(n) for n in range(given.clients)))
        ready = (await client.get(address.removesuffix("/v1") + "/readyz")).json()
    for (name, status), count in sorted(statuses.items()):
        print(f"{name:10} {status}  {count:,}")
    tenths = [max(m for t, m in memory if int(10 * t / (60 * given.minutes)) == n) for n in range(10)]
    print("memory by tenths, MB: " + ", ".join(f"{m:,.0f}" for m in tenths))
    print(f"left in the server: {ready['running']} running, {ready['waiting']} waiting")
    bad = sum(c for (_, s), c in statuses.items() if s >= 500)
    growth = tenths[-1] / tenths[1] - 1
    results = [
        (f"{len(differing)} answers differ from the same request alone (none may)", not differing),
        (f"{bad} statuses of 500 and more (none may)", bad == 0),
        (f"memory grew by {growth:.1%} from the second tenth to the last (at most 5 %)", growth <= 0.05),
    ]
    for text, met in results:
        print(f"{'met' if met else 'NOT MET':8}{text}")
    return all(met for _, met in results)


def main() -> None:
    """Start the server, use it, stop it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=32)
    given = parser.parse_args()
    with started("--slots", "16", "--room", "1024") as server:
        ok = asyncio.run(run(given, server.address, server.process))
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
