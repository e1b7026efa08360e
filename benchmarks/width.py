"""What does a token cost as a dictionary grows wider, and what does routing save and lose?

The curve: processor time per token of encoding, and of a step of training, without a router and with one that
visits 16 groups, from 2¹² to 2²⁰ features. TopK, k = 32, on activations of SmolLM2 at layer 13 (those of
`training.py`), encoder rows as at the start of training. Encodings take turns in one process; at 2²⁰ features
that takes 4 GB, so few tokens are encoded there at once, and steps, whose weights and moments are six
matrices in place of one, are measured up to --steps-up-to.

The trade, at 2¹⁸ features: the encoder without a router, with one, and product keys (Lample et al. 2019,
arXiv 1907.05242: a feature's pre-activation is the sum of one of √N of each of two lists, so that the k
largest are found among k² sums), each trained for the same steps on the same batches, from tokens on.
The bar: at least 5 times less time per token to encode, at no more than 1.05 times the variance
unexplained. The recall is the share of the k largest pre-activations of all that routing finds.

Time is the time of the process on all its threads, so that a busy machine counts little.

    python benchmarks/width.py [--only curve|trade] [--features 262144] [--steps 100] [--batch 1024]
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from training import HELD_OUT, SITE, activations

from pellucid.cli import printing
from pellucid.core import paths
from pellucid.core.sites import Site
from pellucid.dictionaries import routing
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.beginning import geometric_median
from pellucid.dictionaries.ports import Ports
from pellucid.dictionaries.settings import TrainSettings, groups_of
from pellucid.dictionaries.trainer import Trainer

K, WARM_UP, VISITS = 32, 20, 16
TRADE_VISITS = 56  # with which the bar is met at 2¹⁸ features: 48 of 512 lose 5.1 %
RATE = 2e-3  # of 1e-3 and 2e-3 the better at 2¹⁴ features, without a router
ROUTED_RATE = 2e-3  # of 1e-3, 2e-3 and 4e-3 the best at 2¹⁸ features with 32 of 512 groups visited
TOKENS = 409_600  # read once; what a run leaves of them is where its features begin
SAMPLE = 16_384
JUDGED = 8192  # held-out tokens that the three are compared on
KEY_RATE = 3e-3  # of 1e-3 and 3e-3 the better for product keys at 2¹⁴ features
RATES = {"flat": RATE, "routed": ROUTED_RATE, "product keys": KEY_RATE}
PORTS = Ports.of(Site.parse(SITE))


def begun(features: int, sample: Tensor, visits: int | None) -> tuple[Dictionary, Dictionary]:
    """Dictionaries with the rows of the start, without and with a router, on one matrix."""
    generator = torch.Generator().manual_seed(0)
    centre = geometric_median(sample)
    router = routing.cluster(sample - centre, groups_of(features), visits or VISITS, generator)
    rows = routing.directions_of((sample - centre)[None], features, router, generator)
    for part in rows.split(2**14):
        part.add_(torch.nn.functional.normalize(torch.randn(part.shape, generator=generator), dim=1))
        part.div_(part.norm(dim=1, keepdim=True))
    plain = Dictionary(PORTS, "", "topk", rows, -(rows @ centre), rows, centre, K)
    return plain, Dictionary(
        PORTS, "", "topk", rows, plain.encoder_bias, rows, centre, K, router=router.centred_at(centre)
    )


def least(job: Callable[[], object], tokens: int, repeats: int) -> float:
    """Processor time per token in µs, the least of some repeats."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        job()
        times.append(time.process_time() - started)
    return 1e6 * min(times) / tokens


def encoding(features: int) -> dict[str, float]:
    """µs per token of encoding, without a router and with one, taking turns."""
    x = activations(TOKENS + HELD_OUT)
    pair = begun(features, x[:SAMPLE], VISITS)
    few = max(64, min(2048, 2**26 // features))
    held = {"flat": x[-few:], "routed": x[-2048:]}
    found = {"flat": math.inf, "routed": math.inf}
    for _ in range(3):
        for (name, part), d in zip(held.items(), pair, strict=True):
            found[name] = min(found[name], least(lambda d=d, part=part: d.encode(part), len(part), 1))
    return {**found, "tokens": few}


def stepping(features: int, visits: int | None) -> dict[str, float]:
    """µs per token of a step of training, after those in which a first gradient reaches most rows."""
    x = activations(TOKENS + HELD_OUT)
    batch = max(256, min(2048, 2**28 // features))
    trainer = trainer_of(features, 20, batch, visits, x[:SAMPLE])
    at = iter(range(SAMPLE, len(x), batch))

    def step() -> None:
        start = next(at)
        trainer.train_on(x[start : start + batch].clone())

    step()
    return {"step": least(step, batch, 3), "batch": batch}


def trainer_of(features: int, steps: int, batch: int, visits: int | None, sample: Tensor) -> Trainer:
    """Ours, with features that begin at tokens either way, and no auxiliary loss."""
    settings = TrainSettings(
        features=features,
        k=K,
        architecture="topk",
        tokens=steps * batch,
        batch_tokens=batch,
        learning_rate=RATE if visits is None else ROUTED_RATE,
        warmup_steps=WARM_UP,
        decay_fraction=0.0,
        silent_tokens=steps * batch,
        visits=visits,
        token_share=1,
    )
    return Trainer(settings, sample, PORTS)


class ProductKeys:
    """N features by two lists of √N encoder rows and a decoder; in PyTorch, with sparse gradients."""

    def __init__(self, features: int, sample: Tensor) -> None:
        generator = torch.Generator().manual_seed(0)
        self.side = math.isqrt(features)
        width, self.scale = (
            sample.shape[1],
            (sample.shape[1] ** 0.5)
            / float((sample - geometric_median(sample)).norm(dim=1).square().mean().sqrt()),
        )
        centre = geometric_median(sample) * self.scale
        tokens = sample[torch.randint(len(sample), (self.side,), generator=generator)] * self.scale - centre
        rows = torch.randn(2, self.side, width, generator=generator)
        rows[0] += math.sqrt(width) * torch.nn.functional.normalize(tokens, dim=1)
        rows = torch.nn.functional.normalize(rows, dim=2) / math.sqrt(2)
        decoder = (rows[0][:, None] + rows[1][None]).flatten(0, 1)
        bias = -(rows @ centre)
        self.keys, self.bias, self.base = (torch.nn.Parameter(t) for t in (rows, bias, centre))
        self.decoder = torch.nn.Parameter(decoder)
        with torch.no_grad():
            few = sample[:1024] * self.scale
            shape = self.decode(*self.encode(few)) - self.base
            factor = float(((few - self.base) * shape).sum() / shape.square().sum())
            self.keys *= factor
            self.bias *= factor
        self.dense = torch.optim.Adam([self.keys, self.bias, self.base], lr=KEY_RATE, eps=6.25e-10)
        self.sparse = torch.optim.SparseAdam([self.decoder], lr=RATE, eps=6.25e-10)
        self.step = 0

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features and values [B, k]: of the k best of each list, the k best sums."""
        (a, first), (b, second) = (
            (x @ rows.T + bias).topk(K, dim=1) for rows, bias in zip(self.keys, self.bias, strict=True)
        )
        values, place = (a[:, :, None] + b[:, None]).flatten(1).topk(K, dim=1)
        features = first.gather(1, place // K) * self.side + second.gather(1, place % K)
        return features, values.relu()

    def decode(self, features: Tensor, values: Tensor) -> Tensor:
        """[B, D] in scaled units."""
        found: Tensor = torch.nn.functional.embedding_bag(
            features, self.decoder, per_sample_weights=values, mode="sum", sparse=True
        )
        return found + self.base

    def train_on(self, x: Tensor) -> None:
        """One step."""
        self.step += 1
        for optimiser, rate in ((self.dense, KEY_RATE), (self.sparse, RATE)):
            optimiser.param_groups[0]["lr"] = rate * min(1, self.step / WARM_UP)
            optimiser.zero_grad()
        scaled = x * self.scale
        miss = self.decode(*self.encode(scaled)) - scaled
        (miss.square().sum(1).mean() / x.shape[1]).backward()  # type: ignore[no-untyped-call]
        self.dense.step()
        self.sparse.step()

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """[B, D]."""
        return self.decode(*self.encode(x * self.scale)) / self.scale


def trained(name: str, features: int, steps: int, batch: int, visits: int) -> dict[str, Any]:
    """Train one of the three; figures, with the squared error of every held-out token."""
    x = activations(TOKENS + HELD_OUT)
    held, sample = x[-JUDGED:], x[-HELD_OUT - SAMPLE : -HELD_OUT]
    torch.manual_seed(0)
    maker: Trainer | ProductKeys = (
        ProductKeys(features, sample)
        if name == "product keys"
        else trainer_of(features, steps, batch, visits if name == "routed" else None, sample)
    )
    times = []
    for number in range(steps):
        part = x[number * batch : (number + 1) * batch].clone()
        started = time.process_time()
        told = maker.train_on(part)
        times.append(time.process_time() - started)
        printing.note(f"{name}, step {number + 1}: {times[-1]:.2f} s, {told}")
    found: dict[str, Any] = {"step": 1e6 * sorted(times)[len(times) // 2] / batch}
    if isinstance(maker, ProductKeys):
        reconstruct = maker.reconstruct
        found["encode"] = least(lambda: maker.encode(held[:1024] * maker.scale), 1024, 3)
    else:
        d = maker.dictionary("")
        del maker

        def reconstruct(part: Tensor) -> Tensor:
            return d.reconstruct(part)[0]

        few = held[:2048] if d.router else held[:256]
        found["encode"] = least(lambda: d.encode(few), len(few), 3)
        if d.router is not None:
            every = Dictionary(PORTS, "", "topk", d.encoder, d.encoder_bias, d.decoder, d.decoder_bias, K)
            a, b = (each.encode(held[:256]).dense() > 0 for each in (d, every))
            found["recall"] = float((a & b).sum() / b.sum())
    errors = [(reconstruct(part) - part).square().sum(1) for part in held.split(256)]
    return {**found, "errors": torch.cat(errors).tolist()}


def intervals(errors: Tensor, base: Tensor, spread: Tensor) -> tuple[str, float, str]:
    """The variance unexplained and its ratio to another's, with 95 % bootstrap intervals over tokens."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(len(errors), (1000, len(errors)), generator=generator)
    share = errors[drawn].sum(1) / spread[drawn].sum(1)
    ratio = errors[drawn].sum(1) / base[drawn].sum(1)
    ends = torch.tensor([0.025, 0.975])
    low, high = share.quantile(ends).tolist()
    least_, most = ratio.quantile(ends).tolist()
    whole = float(errors.sum() / base.sum())
    return (
        f"{float(errors.sum() / spread.sum()):.4f} [{low:.4f}, {high:.4f}]",
        whole,
        f"{whole:.3f} [{least_:.3f}, {most:.3f}]",
    )


def curve(widths: list[int], steps_up_to: int) -> None:
    """Measure and print cost per token by width."""
    rows, logs = [], []
    for features in widths:
        cost = alone("encoding", features)
        steps = [
            alone("stepping", features, visits) if features <= steps_up_to else None for visits in (0, VISITS)
        ]
        logs.append((math.log(features), math.log(cost["flat"]), math.log(cost["routed"])))
        rows.append(
            (
                f"2^{math.log2(features):g}",
                f"{cost['flat']:,.0f}",
                f"{cost['routed']:,.0f}",
                f"{cost['flat'] / cost['routed']:.1f}",
                f"{cost['tokens']:,.0f}",
                *("–" if s is None else f"{s['step']:,.0f}" for s in steps),
            )
        )
        printing.note(str(rows[-1]))
    head = ["features", "encode", "routed", "times less", "tokens", "step", "routed step"]
    printing.table(head, rows)
    points = torch.tensor(logs, dtype=torch.float64)
    points = points[points[:, 0] >= math.log(2**14)] if len(points) > 3 else points
    x = points[:, 0] - points[:, 0].mean()
    powers = (x[:, None] * points[:, 1:]).sum(0) / x.square().sum()
    print(f"µs of processor time per token; the cost grows with the power {powers[0]:.2f} of the width,")
    print(f"with a router that visits {VISITS} groups with the power {powers[1]:.2f} (2^14 and up)")


def trade(features: int, steps: int, batch: int, visits: int) -> bool:
    """Train the three, or take what an earlier call kept, and print what the bar asks for."""
    found: dict[str, dict[str, Any]] = {}
    for name in ("routed", "product keys", "flat"):
        # What visits no groups is the same however many the other visits.
        looked = f"-{visits}" if name == "routed" else ""
        kept = (
            paths.home()
            / "benchmarks"
            / f"width-{name}-{features}-{steps}-{batch}{looked}-{RATES[name]:g}.json"
        )
        if not kept.exists():
            result = alone("trained", features, visits, name=name, steps=steps, batch=batch)
            kept.write_text(json.dumps(result))
        found[name] = json.loads(kept.read_text())
    held = activations(TOKENS + HELD_OUT)[-JUDGED:]
    spread = (held - held.mean(0)).square().sum(1)
    flat = found["flat"]
    ratios, rows = {}, []
    for name, one in found.items():
        errors = torch.tensor(one["errors"])
        share, ratios[name], beside = intervals(errors, torch.tensor(flat["errors"]), spread)
        recall = f"{one['recall']:.2f}" if "recall" in one else "–"
        costs = [f"{one[what]:,.0f} ({flat[what] / one[what]:.1f} times less)" for what in ("encode", "step")]
        rows.append((name, share, beside, *costs, recall))
    head = [
        f"{features:,} features",
        "unexplained",
        "of flat",
        "encode, µs/token",
        "step, µs/token",
        "recall",
    ]
    printing.table(head, rows)
    times = flat["encode"] / found["routed"]["encode"]
    met = times >= 5 and ratios["routed"] <= 1.05
    print(f"after {steps * batch:,} tokens; routed: {visits} of {groups_of(features)} groups visited")
    print(
        "bar: at least 5 times less time at no more than 1.05 times the variance unexplained: "
        f"{times:.1f} times, {ratios['routed']:.3f}: {'met' if met else 'NOT MET'}"
    )
    return met


def alone(job: str, features: int, visits: int = VISITS, **words: Any) -> dict[str, Any]:
    """Run one measurement in a process of its own."""
    given = [f"--{key}={value}" for key, value in words.items()]
    command = [sys.executable, __file__, "--job", job, f"--features={features}", f"--visits={visits}", *given]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["curve", "trade"])
    parser.add_argument("--features", type=int, default=2**18, help="of the trade")
    parser.add_argument("--steps", type=int, default=100, help="of the trade")
    parser.add_argument("--batch", type=int, default=1024, help="tokens a step of the trade")
    parser.add_argument("--visits", type=int, default=TRADE_VISITS, help="of the trade")
    parser.add_argument("--widths", type=int, nargs="+", default=[2**p for p in range(12, 21)])
    parser.add_argument("--steps-up-to", type=int, default=2**18, help="features, of the curve")
    parser.add_argument("--job", choices=["encoding", "stepping", "trained"], help="in this process")
    parser.add_argument("--name", choices=["flat", "routed", "product keys"], help="what to train")
    given = parser.parse_args()
    if given.job:
        result = {
            "encoding": lambda: encoding(given.features),
            "stepping": lambda: stepping(given.features, given.visits or None),
            "trained": lambda: trained(given.name, given.features, given.steps, given.batch, given.visits),
        }[given.job]()
        print(json.dumps(result))
        return
    if given.only != "trade":
        curve(given.widths, given.steps_up_to)
    met = given.only == "curve" or trade(given.features, given.steps, given.batch, given.visits)
    sys.exit(not met)


if __name__ == "__main__":
    main()
