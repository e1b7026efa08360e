"""How near do the kernels come to what an accelerator allows, and what does a step of training cost on it?

First the rates of the machine: a copy between two places of its memory, and a large product in bf16. Then
each kernel of `dictionaries/triton_selection.py` and `triton_kernels.py` beside the time that its bytes or
its operations take at these rates (docs/explanation/accelerators.md says how they are counted). Then whole
steps by the number of features, with all features looked at and with 16 groups of them visited, and beside
them a plain PyTorch step: dense codes, autograd, `torch.optim.Adam`, in bf16 where it multiplies. A step is
timed by itself and in a row of steps, and profiled: how long the accelerator works on it, how many
operations it is asked for, and how often the processor waits until all of them are done.

Activations are sums of random directions; what is timed does not depend on what they say. Batches of 4,096,
k = 32.

    python benchmarks/accelerator.py [--device cuda] [--width 576] [--features 16384 131072 1048576]
"""

from __future__ import annotations

import argparse
import gc
import itertools
import statistics
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from pellucid.cli import printing
from pellucid.core.errors import InputError
from pellucid.core.sites import Site
from pellucid.dictionaries import kernels
from pellucid.dictionaries.codes import offsets_of
from pellucid.dictionaries.kernels import Adam, Extra, Wiring
from pellucid.dictionaries.ports import Ports
from pellucid.dictionaries.product import Product
from pellucid.dictionaries.settings import Architecture, TrainSettings
from pellucid.dictionaries.trainer import Trainer

BATCH, K, VISITS, STEPS, ROW = 4096, 32, 16, 25, 10
DENSE_AT_MOST = 2**19
"""Features beyond which dense codes and their gradients are not tried."""


def seconds(work: Callable[[], object], device: str, times: int = 10) -> float:
    """Median time of a piece of work on a device."""
    found = []
    for _ in range(times + 2):
        wait(device)
        started = time.perf_counter()
        work()
        wait(device)
        found.append(time.perf_counter() - started)
    return statistics.median(found[2:])


def wait(device: str) -> None:
    """Until the device has done what it was asked."""
    if device == "cuda":
        torch.cuda.synchronize()


def rates(device: str) -> tuple[float, float]:
    """Bytes a second of a copy, read and written; operations a second of a product in bf16."""
    size = 2**30 if device == "cuda" else 2**26
    source = torch.rand(size // 4, device=device)
    target = torch.empty_like(source)
    copied = 2 * size / seconds(lambda: target.copy_(source), device)
    side = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).bfloat16() for _ in range(2))
    return copied, 2 * side**3 / seconds(lambda: a @ b, device)


def of_kernels(n: int, d: int, device: str, copied: float, multiplied: float) -> None:
    """Print each kernel beside its limit."""
    torch.manual_seed(0)
    x = torch.randn(1, BATCH, d, device=device)
    encoder = torch.nn.functional.normalize(torch.randn(n, d, device=device), dim=1)
    decoder, bias, wiring = encoder.clone(), torch.zeros(n, device=device), Wiring.simple(n, device=device)
    multiply = Product()
    scores = multiply(x, encoder, bias)
    counts, features = kernels.select_per_row(scores, K)
    offsets = offsets_of(counts)
    values = kernels.dots(x[0], encoder, offsets, features)
    rows = torch.repeat_interleave(counts)
    by_feature = kernels.by_feature(features, n)
    base, slopes = torch.zeros(d, device=device), torch.randn(1, BATCH, d, device=device)
    moments = [(torch.zeros_like(encoder), torch.zeros_like(encoder)) for _ in range(2)]
    none = torch.full((n,), -1, dtype=torch.int32, device=device)
    extra, adam = Extra(none, x.new_zeros(0, d), x.new_zeros(0, d)), Adam(1e-4, 0.9, 0.999, 1e-9)
    clock = torch.zeros(n, dtype=torch.int32, device=device)
    biases = torch.zeros(4, n, device=device).unbind()
    # As many as are wanted stay positive, as where features have thresholds.
    few = scores - scores.topk(K + 1, dim=1).values[:, K:]
    counters = torch.zeros_like(clock).long(), torch.zeros(n, device=device), torch.zeros_like(clock).long()
    entries, e, touched = (rows, values, values), len(features), len(features.unique())

    def update(own: Tensor | None) -> None:
        weights = encoder, decoder
        kernels.update(weights, *moments, entries, by_feature, x, slopes, wiring, extra, adam, 9, own)

    work: list[tuple[str, Callable[[], object], float, float]] = [
        ("product in bf16", lambda: multiply(x, encoder, bias), 8 * n * d + 2 * BATCH * n, 2 * BATCH * n * d),
        ("selection per row", lambda: kernels.select_per_row(scores, K), 2 * BATCH * n, 0),
        ("selection in the batch", lambda: kernels.select_in_batch(scores, K), 2 * BATCH * n, 0),
        ("all positive ones", lambda: kernels.positive(few), 4 * BATCH * n, 0),
        ("values", lambda: kernels.dots(x[0], encoder, offsets, features), 4 * e * d, 0),
        ("decoding", lambda: kernels.decode(offsets, features, values, decoder, base), 4 * e * d, 0),
        (
            "error, and along each row",
            lambda: kernels.miss(offsets, features, values, decoder, base, wiring, x[0]),
            4 * e * d + 8 * BATCH * d,
            0,
        ),
        ("sorting by feature", lambda: kernels.by_feature(features, n), 12 * e, 0),
        ("sums by feature", lambda: kernels.sums(by_feature, values), 12 * e + 12 * n, 0),
        ("tally", lambda: kernels.tally(by_feature, values, BATCH, *counters), 12 * e + 48 * n, 0),
        (
            "a bias moved",
            lambda: kernels.move(biases[0], (biases[1], biases[2]), biases[3], adam, 9),
            28 * n,
            0,
        ),
        ("update of all rows", lambda: update(None), 8 * e * d + 48 * n * d, 0),
        ("update of rows with a gradient", lambda: update(clock), 8 * e * d + 48 * touched * d, 0),
    ]
    lines = []
    for name, piece, size, operations in work:
        least = max(size / copied, operations / multiplied)
        took = seconds(piece, device)
        lines.append((name, f"{took * 1e3:.2f}", f"{least * 1e3:.2f}", f"{least / took:.0%}"))
    printing.table([f"{n:,} features of width {d}", "ms", "limit, ms", "of the limit"], lines)


def dense(n: int, d: int, device: str) -> Callable[[Tensor], object]:
    """A TopK step as a few lines of PyTorch have it."""
    decoder = torch.nn.functional.normalize(torch.randn(n, d, device=device), dim=1).requires_grad_()
    encoder = decoder.detach().clone().requires_grad_()
    adam = torch.optim.Adam([encoder, decoder], lr=1e-4, fused=device == "cuda")

    def step(x: Tensor) -> None:
        with torch.autocast(device, torch.bfloat16):
            scores = x @ encoder.T
            kept = scores.topk(K, dim=1)
            codes = torch.zeros_like(scores).scatter(1, kept.indices, kept.values.relu())
            rebuilt = codes @ decoder
        (rebuilt - x).square().mean().backward()
        adam.step()
        adam.zero_grad()
        with torch.no_grad():
            decoder.div_(decoder.norm(dim=1, keepdim=True))

    return step


def ours(
    n: int, device: str, sample: Tensor, visits: int | None = None, kind: Architecture = "batchtopk"
) -> Callable[[Tensor], object]:
    """A step of the trainer; no feature counts as silent."""
    settings = TrainSettings(
        architecture=kind,
        features=n,
        k=K,
        tokens=10**6 * BATCH,
        batch_tokens=BATCH,
        visits=visits,
        silent_tokens=10**12,
    )
    trainer = Trainer(settings, sample, Ports.of(Site("resid_post", 0)))
    wait(device)
    return trainer.train_on


def of_step(step: Callable[[Tensor], object], batches: list[Tensor], device: str) -> tuple[float, float]:
    """Median seconds of a step that is waited for, and of one of ten in a row, as in training."""
    turn = itertools.cycle(batches)

    def run() -> None:
        for _ in range(ROW):
            step(next(turn))

    return seconds(lambda: step(next(turn)), device, STEPS), seconds(run, device, 3) / ROW


def looked_into(
    step: Callable[[Tensor], object], x: Tensor, device: str
) -> tuple[Counter[str], Counter[str], int]:
    """Of a step on an accelerator: microseconds by kernel, how often each ran, how often it stood still.

    It stands still where the processor waits for all that it was asked for.
    """
    micros: Counter[str] = Counter()
    times: Counter[str] = Counter()
    if device != "cuda":
        return micros, times, 0
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        step(x)
        wait(device)
    for event in profile.events() or ():
        if event.device_type == torch.autograd.DeviceType.CUDA:
            micros[event.name] += event.time_range.elapsed_us()
            times[event.name] += 1
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as stalls:
        warnings.simplefilter("always")
        step(x)
    torch.cuda.set_sync_debug_mode("default")
    return micros, times, len(stalls)


def of_steps(sizes: list[int], d: int, device: str) -> None:
    """Print tokens a second, and the memory that is taken."""
    torch.manual_seed(0)
    mixing = torch.randn(512, d, device=device)

    def batch(rows: int) -> Tensor:
        codes = torch.rand(rows, 512, device=device) * (torch.rand(rows, 512, device=device) < 0.05)
        return codes @ mixing + 0.3 * torch.randn(rows, d, device=device)

    sample = batch(16_384)
    lines: list[tuple[object, ...]] = []
    work: list[tuple[object, ...]] = []
    parts: list[tuple[object, ...]] = []
    for n in sizes:
        makers: dict[str, Callable[[], Callable[[Tensor], object]]] = {
            "all looked at": lambda n=n: ours(n, device, sample),  # type: ignore[misc]
            "the same, k a row": lambda n=n: ours(n, device, sample, kind="topk"),  # type: ignore[misc]
            f"{VISITS} groups visited": lambda n=n: ours(n, device, sample, VISITS),  # type: ignore[misc]
        }
        if n <= DENSE_AT_MOST:
            makers["plain PyTorch, dense"] = lambda n=n: dense(n, d, device)  # type: ignore[misc]
        for name, make in makers.items():
            gc.collect()
            if device == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            try:
                step = make()
                alone, took = of_step(step, [batch(BATCH) for _ in range(8)], device)
                memory = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else float("nan")
                micros, times, stalls = looked_into(step, batch(BATCH), device)
                work.append((f"{n:,}", name, f"{micros.total() / 1e3:.2f}", times.total(), stalls))
                speed = f"{alone * 1e3:.2f}", f"{took * 1e3:.2f}", f"{BATCH / took:,.0f}"
                lines.append((f"{n:,}", name, *speed, f"{memory:.1f}"))
                parts = parts or [(k[:60], f"{us / 1e3:.3f}", times[k]) for k, us in micros.most_common(25)]
            except torch.OutOfMemoryError:
                lines.append((f"{n:,}", name, *[""] * 3, "does not fit"))
    step = f"features of width {d}", "a step with"
    printing.table([*step, "ms", "ms in a row", "tokens/s", "GB"], lines)
    printing.table([*step, "ms of work", "operations", "stalls"], work)
    printing.table(["what the first of these steps is made of", "ms", "times"], parts)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--features", type=int, nargs="*", default=[2**14, 2**17, 2**20])
    parser.add_argument(
        "--steps", type=int, nargs="*", help="sizes to take whole steps at; the same by default"
    )
    given = parser.parse_args()
    if given.device == "cpu" and "--device" not in sys.argv:
        print("There is no accelerator; skipped.")
        return
    name = torch.cuda.get_device_name() if given.device == "cuda" else "the processor"
    copied, multiplied = rates(given.device)
    print(f"{name}: copies {copied / 1e12:.2f} TB/s, multiplies bf16 at {multiplied / 1e12:.0f} TFLOP/s")
    for n in given.features:
        of_kernels(n, given.width, given.device, copied, multiplied)
        gc.collect()
    try:
        of_steps(given.features if given.steps is None else given.steps, given.width, given.device)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
