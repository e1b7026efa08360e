"""An endpoint that answers prompts over HTTP, in the manner of OpenAI's or of Anthropic's API.

One prompt in, one text out, with the tokens it took. What may pass by itself (429, 5xx, a connection that
breaks, no answer in time) is tried again, each time later; what will not (a wrong key, a wrong name) ends the
job. The key is read from the environment when a request is sent, and written nowhere.

The two request formats: https://platform.openai.com/docs/api-reference/chat and
https://docs.anthropic.com/en/api/messages.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pellucid.atlas.spending import FREE, Budget, Prices
from pellucid.core.errors import InputError, LabelError, UpstreamError

Style = Literal["openai", "anthropic"]
_PASSES = (408, 409, 425, 429)
_LONGEST_BYTES = 4_000_000
_OVERHEAD_TOKENS = 64
"""What an endpoint may add to a prompt: marks of the chat's roles and the like."""
_KEYS: dict[Style, str] = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}


@dataclass(frozen=True)
class Endpoint:
    """Where prompts go."""

    url: str
    """The whole address, such as http://localhost:8000/v1/chat/completions or …/v1/messages."""
    model: str
    """The name the endpoint knows its model by."""
    prices: Prices = FREE
    timeout_s: float = 60
    """How long an answer may take."""
    tries: int = 5
    """How often a prompt is sent at most."""
    wait_s: float = 1
    """The wait before the second try; it doubles with each."""
    longest_wait_s: float = 60

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise InputError(
                f"An endpoint is the whole address of a chat API, http://… or https://…; got {self.url!r}."
            )

    @property
    def style(self) -> Style:
        """Whose format it speaks, by the end of its address: …/messages is Anthropic's."""
        return "anthropic" if self.url.rstrip("/").endswith("/messages") else "openai"

    def ask(self, prompt: str, *, max_tokens: int, budget: Budget) -> str:
        """The answer to a prompt.

        Raises:
            BudgetError: when a try might cost more than is left.
            LabelError: when all tries gave nothing that is an answer.
            UpstreamError: when the endpoint refuses, and would again.
        """
        body = json.dumps(
            {
                "model": self.model,
                "max_tokens": max_tokens,
                "temperature": 0,
                "messages": [{"role": "user", "content": prompt}],
            }
        ).encode()
        # A token holds a byte at least, so that bytes bound tokens.
        most = self.prices.nanos(len(prompt.encode()) + _OVERHEAD_TOKENS, max_tokens)
        problem = ""
        for number in range(self.tries):
            if number:
                time.sleep(self._wait(number))
            request = budget.reserve(most)
            try:
                status, answer = self._send(body)
            except (OSError, http.client.HTTPException) as error:
                # It may have been answered, and be paid for: what was set aside stays.
                problem = f"no answer ({error or type(error).__name__})"
                continue
            if status in _PASSES or status >= 500:
                budget.settle(request, 0)
                problem = f"status {status}"
                continue
            if status != 200:
                budget.settle(request, 0)
                said = answer[:300].decode(errors="replace")
                raise UpstreamError(
                    f"{self.url!r} refused: status {status}, {said!r}. Check "
                    f"the address, the name {self.model!r} and the key in {_KEYS[self.style]}, and repeat."
                )
            try:
                text, read, written = self._parse(answer)
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
                problem = f"an answer that is none ({type(error).__name__}: {error})"
                continue
            budget.settle(request, self.prices.nanos(read, written))
            return text
        raise LabelError(f"{self.tries} tries at {self.url!r}, the last with {problem}")

    def _wait(self, number: int) -> float:
        """Seconds before a try: twice as many each time, spread so that many callers do not come at once."""
        longest: float = min(self.longest_wait_s, self.wait_s * 2 ** (number - 1))
        return longest * (0.5 + random.random() / 2)

    def _send(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of what comes back."""
        key = os.environ.get(_KEYS[self.style], "")
        headers = {"content-type": "application/json"}
        if self.style == "anthropic":
            headers |= {"anthropic-version": "2023-06-01", "x-api-key": key}
        elif key:
            headers["authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url, body, headers, method="POST")
        deadline = time.monotonic() + self.timeout_s
        try:
            with _opener().open(request, timeout=self.timeout_s) as response:
                return response.status, _read(response, deadline)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read(1000)

    def _parse(self, answer: bytes) -> tuple[str, int, int]:
        """Text, tokens read and tokens written."""
        value = json.loads(answer)
        if self.style == "anthropic":
            text = "".join(part["text"] for part in value["content"] if part["type"] == "text")
            usage = value["usage"]
            extra = ("cache_creation_input_tokens", "cache_read_input_tokens")
            read = int(usage["input_tokens"]) + sum(int(usage.get(name) or 0) for name in extra)
            return text, read, int(usage["output_tokens"])
        text = value["choices"][0]["message"]["content"]
        if not isinstance(text, str):
            raise TypeError(f"content is {text!r}")
        return text, int(value["usage"]["prompt_tokens"]), int(value["usage"]["completion_tokens"])


def _opener() -> urllib.request.OpenerDirector:
    """Follows no redirect: a key goes to the address that was named and to no other."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_args: Any, **_options: Any) -> None:
            return None

    return urllib.request.build_opener(Stay)


def _read(response: Any, deadline: float) -> bytes:
    """The body, if it comes before the deadline and is no longer than an answer can be."""
    found = b""
    read: Callable[[int], bytes] = response.read1
    while part := read(1 << 16):
        found += part
        if len(found) > _LONGEST_BYTES:
            raise OSError(f"more than {_LONGEST_BYTES:,} bytes")
        if time.monotonic() > deadline:
            raise TimeoutError("timed out")
    if (promised := response.headers.get("content-length")) and len(found) < int(promised):
        raise OSError(f"{len(found)} of {promised} bytes")
    return found
