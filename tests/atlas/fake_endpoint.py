"""An endpoint of this machine for the tests: answers as it is told to, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, bytes] | None
"""A status and a body; none hangs up without a word."""


@dataclass
class Fake:
    """What the server does, and did."""

    answer: Callable[[dict[str, Any]], Answer]
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    cost_tokens: int = 0
    """Tokens it has charged for: read and written."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def charged(self, text: str, *, read: int, written: int) -> Answer:
        """A whole answer in OpenAI's format, which is paid for."""
        with self.lock:
            self.cost_tokens += read + written
        return 200, openai(text, read=read, written=written)


def openai(text: str, *, read: int = 10, written: int = 5) -> bytes:
    return json.dumps(
        {
            "choices": [{"message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": read, "completion_tokens": written},
        }
    ).encode()


def anthropic(text: str, *, read: int = 10, written: int = 5) -> bytes:
    return json.dumps(
        {
            "content": [{"type": "text", "text": text}],
            "usage": {"input_tokens": read, "output_tokens": written},
        }
    ).encode()


@contextmanager
def serving(answer: Callable[[dict[str, Any]], Answer], path: str = "/v1/chat/completions") -> Iterator[Fake]:
    """A server while the block runs; `url` is its address."""
    fake = Fake(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with fake.lock:
                fake.requests.append(body)
                fake.headers.append({k.lower(): v for k, v in self.headers.items()})
            found = fake.answer(body)
            if found is None:
                return
            status, text = found
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_port}{path}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def sensible(fake: Fake) -> Callable[[dict[str, Any]], Answer]:
    """Answers that are: a label, or the first text."""

    def answer(body: dict[str, Any]) -> Answer:
        prompt = body["messages"][0]["content"]
        if "Label:" in prompt:
            return fake.charged("They are alike.\nLabel: rainy words", read=len(prompt) // 4, written=12)
        return fake.charged("[1]", read=len(prompt) // 4, written=5)

    return answer
