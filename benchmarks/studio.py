"""What the pages of the studio cost a browser: first paint, bytes, frames per second where there is much.

A server of random features stands in for a model, so that the page alone is measured: it streams 100 tokens a
second with 30 features each, a conversation of 5,000 tokens, and a map of a million points. Chromium draws
without a graphics processor (`--disable-gpu`), as on the smallest machine; with `--gpu` it may use one.

The bars: first paint under 1 s on loopback; under 500 KB of script and style, compressed, before the map; 50
frames per second or better under the stream, at the start and at the end of a conversation of 5,000 tokens; a
map of 1,000,000 points at 30 or better; nothing blocks the page for over 100 ms. A browser draws 60 frames
at most. `pellucid studio --demo` sends its first page within 10 s.

    python benchmarks/studio.py [--points 1000000] [--tokens 5000] [--seconds 6] [--gpu]
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

from pellucid.cli import printing
from pellucid.serving import built
from pellucid.serving.pages import mount

FLAGS = ("--no-sandbox", "--disable-quic", "--no-first-run", "--disable-background-networking")
FEATURES, EACH, PER_SECOND = 16_384, 30, 100
Row = tuple[str, str, str]
WORDS = ["the", "orchestra", "played", "by", "a", "sea", "while", "nobody", "left", "before", "its", "songs"]

FRAMES = """
seconds => new Promise(done => {
  const gaps = [], began = performance.now();
  let last = began;
  const frame = now => {
    gaps.push(now - last);
    last = now;
    now < began + 1000 * seconds ? requestAnimationFrame(frame) : done(gaps.slice(1));
  };
  requestAnimationFrame(frame);
})
"""
"""Milliseconds between pictures, for so many seconds."""
_EACH_FRAME = """
const each = (seconds, work, end = () => {}) => {
  const began = performance.now();
  const frame = n => {
    work(n);
    performance.now() < began + 1000 * seconds ? requestAnimationFrame(() => frame(n + 1)) : end();
  };
  frame(0);
};
const plane = document.querySelector('[role=application]');
const point = (type, x) => plane.dispatchEvent(
  new PointerEvent(type, {pointerId: 1, clientX: x, clientY: 400, bubbles: true, pointerType: 'touch'}));
const wheel = by => plane.dispatchEvent(
  new WheelEvent('wheel', {deltaY: by, clientX: 600, clientY: 400, cancelable: true}));
"""
SCROLL = f"seconds => {{ {_EACH_FRAME} each(seconds, n => scrollBy(0, n % 200 < 100 ? -60 : 60)); }}"
PAN = f"""seconds => {{ {_EACH_FRAME}
  plane.setPointerCapture = () => {{}};
  point('pointerdown', 600);
  each(seconds, n => point('pointermove', 600 + 200 * Math.sin(n / 20)), () => point('pointerup', 600));
}}"""
ZOOM = f"seconds => {{ {_EACH_FRAME} each(seconds, n => wheel(30 * Math.sin(n / 30))); }}"


def stand_in(points: int, at_once: int) -> FastAPI:
    """The API that the pages ask, over nothing.

    Args:
        points: of the map.
        at_once: so many tokens come as fast as they are taken, the rest at 100 a second.
    """
    app = FastAPI()
    random = np.random.default_rng(0)
    name = "stand-in"

    def told(feature: int, share: float) -> dict[str, Any]:
        words = {"label": f"texts about number {feature}", "promotes": WORDS[:6]}
        return {"dictionary": name, "feature": feature, "activation": share, "share": share, **words}

    def features() -> list[dict[str, Any]]:
        chosen = random.choice(200, EACH, replace=False)
        return [told(int(f), float(s)) for f, s in zip(chosen, random.random(EACH) ** 2, strict=True)]

    ready = [json.dumps({"token": " x", "features": features()}) for _ in range(500)]

    @app.get("/v1/models")
    async def models() -> Any:
        return {"data": [{"id": "stand-in", "pellucid": {"digest": "sha256:0", "dictionaries": [name]}}]}

    @app.get("/v1/dictionaries")
    async def dictionaries() -> Any:
        return [{"name": name, "site": "resid_post.13", "features": FEATURES, "atlas": ["features", "map"]}]

    @app.get("/v1/features/{feature}")
    async def feature(feature: int) -> Any:
        facts = {"site": "resid_post.13", "frequency": 0.01, "maximum": 10.0}
        return {
            **told(feature, 0),
            **facts,
            "labelled": None,
            "page": None,
            "neighbours": None,
            "place": None,
        }

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        most = (await request.json())["max_tokens"]

        async def events() -> AsyncIterator[bytes]:
            began = time.perf_counter()
            for number in range(most):
                late = began + max(0, number - at_once) / PER_SECOND - time.perf_counter()
                if number >= at_once and late > 0:
                    await asyncio.sleep(late)
                elif number == at_once:
                    began = time.perf_counter()
                word = " " + WORDS[number % len(WORDS)] + (".\n\n" if number % 60 == 59 else "")
                delta = json.dumps({"choices": [{"delta": {"content": word}}]})[:-1]
                yield f'data: {delta}, "pellucid": {ready[number % len(ready)]}}}\n\n'.encode()
            yield b'data: {"choices":[{"delta":{},"finish_reason":"length"}]}\n\ndata: [DONE]\n\n'

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/v1/map")
    async def about() -> Any:
        clusters = [{"name": f"cluster {i}", "features": 9, "x": i / 20, "y": i / 20} for i in range(20)]
        return {"clusters": clusters, "quality": {}, "left_out": 0}

    @app.get("/v1/map/points")
    async def arrow() -> Any:
        centres = random.random((60, 2)) * 0.8 + 0.1
        cluster = random.integers(0, 60, points)
        places = np.clip(centres[cluster] + random.normal(0, 0.03, (points, 2)), 0, 0.999).astype(np.float32)
        columns: dict[str, Any] = {
            "x": places[:, 0],
            "y": places[:, 1],
            "frequency": random.random(points).astype(np.float32),
            "cluster": cluster.astype(np.int32),
        }
        sink = pa.BufferOutputStream()
        batch = pa.record_batch(columns)
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return Response(sink.getvalue().to_pybytes(), media_type="application/vnd.apache.arrow.stream")

    mount(app, built.pages())
    return app


BLOCKS = """
window.blocks = [];
new PerformanceObserver(list => window.blocks.push(...list.getEntries().map(e => e.duration)))
  .observe({type: 'longtask', buffered: true});
"""
"""Keeps how long the page's own thread was held at once, where that was over 50 ms (w3.org/TR/longtasks)."""


def blocked(page: Any, while_: str) -> Row:
    """How long the page was blocked at the longest since it was opened, or since the last question."""
    page.wait_for_timeout(100)
    longest = page.evaluate("() => { const most = Math.max(0, ...blocks); blocks.length = 0; return most; }")
    return f"longest block while {while_}", f"{longest:.0f} ms" if longest else "under 50 ms", "under 100"


def serve(app: FastAPI) -> str:
    """The address of an application, which ends with this process."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


def chat(page: Any, address: str, tokens: int) -> None:
    """Begin an answer of so many tokens."""
    page.goto(address)
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Length").fill(str(tokens))
    page.keyboard.press("Escape")
    page.get_by_role("textbox", name="Message").fill("Go on.")
    page.keyboard.press("Enter")
    page.locator(".side .tk").first.wait_for()


def pin_some(page: Any, count: int) -> None:
    """Pin the strongest features of a token."""
    page.locator(".side .tk").first.click()
    for _ in range(count):
        page.locator("#card li button:not(.mine)").first.click()
    page.keyboard.press("Escape")


def opening(page: Any, address: str) -> Iterator[Row]:
    """First paint, and what is loaded for it."""
    page.goto(address)
    page.get_by_role("textbox", name="Message").wait_for()
    page.reload()
    page.get_by_role("textbox", name="Message").wait_for()
    paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    yield "first paint", f"{paint:.0f} ms", "under 1,000"
    loaded = page.evaluate("performance.getEntriesByType('resource').map(e => e.name)")
    files = [built.pages() / "assets" / name.split("/")[-1] for name in loaded if "/assets/" in name]
    packed = sum(len(gzip.compress(f.read_bytes(), 9, mtime=0)) for f in files)
    yield "script and style before the map", f"{packed / 1000:.0f} KB compressed", "under 500"


def told(gaps: list[float]) -> str:
    """Frames per second, and what all but one in a hundred gaps between them stay under."""
    return f"{1000 * len(gaps) / sum(gaps):.0f} frames/s, 99 % within {np.quantile(gaps, 0.99):.0f} ms"


def stream(page: Any, address: str, seconds: float) -> Iterator[Row]:
    """An answer that has just begun."""
    chat(page, address, 4000)
    pin_some(page, 3)
    page.wait_for_timeout(500)
    yield "stream of 100 tokens/s × 30, 3 pinned", told(page.evaluate(FRAMES, seconds)), "50"
    yield blocked(page, "it streams")
    page.get_by_role("button", name="Stop").click()


def long_conversation(page: Any, address: str, tokens: int, seconds: float) -> Iterator[Row]:
    """An answer that is nearly whole, and then scrolled."""
    chat(page, address, tokens)
    pin_some(page, 6)
    page.locator(".side .tk").nth(tokens - 100 * int(seconds + 3)).wait_for(state="attached", timeout=120_000)
    yield f"the same at {tokens:,} tokens, 6 pinned", told(page.evaluate(FRAMES, seconds)), "50"
    page.locator("[aria-busy=true]").first.wait_for(state="detached", timeout=120_000)
    yield blocked(page, "these are written")
    page.evaluate(SCROLL, seconds)
    yield f"scrolling through {tokens:,} tokens", told(page.evaluate(FRAMES, seconds)), "50"
    yield blocked(page, "they are scrolled")


def map_of(page: Any, address: str, points: int, seconds: float) -> Iterator[Row]:
    """A map that is panned and zoomed."""
    page.goto(f"{address}/map")
    began = time.perf_counter()
    page.get_by_role("application").wait_for(timeout=60_000)
    while not page.evaluate("performance.getEntriesByName('map').length"):
        page.wait_for_timeout(50)
    yield f"map of {points:,} points, until it is drawn", f"{time.perf_counter() - began:.1f} s", ""
    yield blocked(page, "it is opened")
    for what, script in (("panned", PAN), ("zoomed", ZOOM)):
        page.evaluate(script, seconds)
        yield f"the same, {what}", told(page.evaluate(FRAMES, seconds)), "30"
        yield blocked(page, f"it is {what}")


def starting() -> Row:
    """The studio over what is shipped, from the command to its first page; the model is in the cache."""
    command = [sys.executable, "-u", "-m", "pellucid", "studio", "--demo", "--port", "0"]
    began = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = next(found for line in process.stderr if (found := re.search(r"studio: (http://\S+)", line)))
        with urllib.request.urlopen(told[1], timeout=60) as page:
            page.read()
        seconds = time.perf_counter() - began
        process.terminate()
    return "pellucid studio --demo, to its first page", f"{seconds:.1f} s", "within 10"


def main() -> None:
    """Measure and print."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--tokens", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--gpu", action="store_true")
    asked = parser.parse_args()
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None or shutil.which("npm") is None:
        printing.note("Not measured: the studio's benchmark needs Chromium and npm.")
        return
    slow = serve(stand_in(asked.points, 0))
    long = serve(stand_in(10, asked.tokens - 100 * int(asked.seconds + 4)))
    with tempfile.TemporaryDirectory() as profile, sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=program,
            headless=True,
            args=[*FLAGS, *([] if asked.gpu else ["--disable-gpu"])],
            viewport={"width": 1280, "height": 860},
        )
        context.add_init_script(BLOCKS)
        page = context.new_page()
        rows = [
            starting(),
            *opening(page, slow),
            *stream(page, slow, asked.seconds),
            *long_conversation(page, long, asked.tokens, asked.seconds),
            *map_of(page, slow, asked.points, asked.seconds),
        ]
        version = page.evaluate("navigator.userAgent.match(/Chrome.([0-9]+)/)[1]")
        context.close()
    how = "with" if asked.gpu else "without"
    printing.console().print(f"Chromium {version}, {how} a graphics processor, 1280 × 860")
    printing.table(["what", "measured", "bar"], rows)


if __name__ == "__main__":
    main()
