"""Reading activations to a layer, by several tools in one run.

Pellucid stands beside plain transformers with an early exit, nnsight and TransformerLens. All read the same
token rows of SmolLM2 in bf16 and must agree on the activations. The limit is what the matrix products alone
would take at the speed this machine multiplies bf16 matrices of those shapes, measured in the same run. Peers
that are not installed are named and skipped (`make bench` installs them).

    python benchmarks/reading.py [--layer 15] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from pellucid.activations.reading import RowPool
from pellucid.cli import printing
from pellucid.core.sites import Site
from pellucid.models.model import Model, load

ROWS, LENGTH = 64, 256


def plain(model: Model, layer: int) -> Callable[[Tensor], Tensor]:
    """Transformers with one hook that leaves early, sixteen rows at a time."""

    class StopError(Exception):
        pass

    def read(tokens: Tensor) -> Tensor:
        found: list[Tensor] = []

        def hook(_module: object, _args: object, output: Tensor) -> None:
            found.append(output)
            raise StopError

        handle = model.network.get_submodule(f"model.layers.{layer}").register_forward_hook(hook)
        try:
            for part in tokens.split(16):
                try:
                    with torch.inference_mode():
                        model.network.model(input_ids=part, use_cache=False)  # type: ignore[operator,union-attr]
                except StopError:
                    pass
        finally:
            handle.remove()
        return torch.cat(found)

    return read


def ours(model: Model, layer: int) -> Callable[[Tensor], Tensor]:
    """The reader of `pellucid.activations`."""
    pool = RowPool(model, (Site("resid_post", layer),))
    return pool.read


def compiled(model: Model, layer: int) -> Callable[[Tensor], Tensor]:
    """The same with compiled layers, as `pellucid train --compile` reads."""
    return RowPool(model, (Site("resid_post", layer),), compiled=True).read


def by_nnsight(model: Model, layer: int) -> Callable[[Tensor], Tensor]:
    """nnsight: a trace that saves the layer's output and stops there."""
    from nnsight import NNsight

    wrapped = NNsight(model.network)

    def read(tokens: Tensor) -> Tensor:
        found = []
        for part in tokens.split(16):
            with torch.inference_mode(), wrapped.trace(input_ids=part, use_cache=False) as tracer:
                output = wrapped.model.layers[layer].output.save()
                tracer.stop()
            found.append(output[0] if isinstance(output, tuple) else output)
        return torch.cat(found)

    return read


def by_transformer_lens(model: Model, layer: int) -> Callable[[Tensor], Tensor]:
    """TransformerLens: its bridge over the same network, stopped after the layer."""
    from transformer_lens.model_bridge import TransformerBridge

    # A network of its own: the bridge puts its hooks into the one it is given.
    with tempfile.TemporaryDirectory() as folder:
        model.network.save_pretrained(folder)  # type: ignore[operator]
        model.tokenizer.save_pretrained(folder)
        network = AutoModelForCausalLM.from_pretrained(folder, dtype=model.dtype)
        bridge = TransformerBridge.boot_transformers(
            folder, hf_model=network, tokenizer=model.tokenizer, dtype=model.dtype, device="cpu"
        )
    name = f"blocks.{layer}.hook_out"

    def read(tokens: Tensor) -> Tensor:
        found = []
        for part in tokens.split(16):
            with torch.inference_mode():
                _, cache = bridge.run_with_cache(part, names_filter=[name], stop_at_layer=layer + 1)
            found.append(cache[name])
        return torch.cat(found)

    return read


def limit(model: Model, layer: int) -> float:
    """Tokens per second if only the matrix products of the layers were computed, at this machine's speed."""
    tokens = 4096
    seconds = 0.0
    for module in model.network.get_submodule("model.layers.0").modules():
        if isinstance(module, torch.nn.Linear):
            x = torch.randn(tokens, module.in_features, dtype=model.dtype)
            with torch.inference_mode():
                module(x)
                times = []
                for _ in range(5):
                    started = time.perf_counter()
                    module(x)
                    times.append(time.perf_counter() - started)
            seconds += min(times)
    return tokens / (seconds * (layer + 1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--layer", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    model = load("smollm2", precision="bf16")
    tokens = torch.from_numpy(np.random.default_rng(0).integers(3, 49_000, (ROWS, LENGTH)))
    makers = {
        "pellucid": ours,
        "pellucid, compiled": compiled,
        "transformers, early exit": plain,
        "nnsight": by_nnsight,
        "TransformerLens": by_transformer_lens,
    }
    readers: dict[str, Callable[[Tensor], Tensor]] = {}
    for name, make in makers.items():
        try:
            readers[name] = make(model, given.layer)
            readers[name](tokens[:16])
        except Exception as error:  # a peer may fail in any way: it is named and left out
            readers.pop(name, None)
            printing.note(f"{name} is left out: {type(error).__name__}: {str(error)[:120]}")
    reference = readers["transformers, early exit"](tokens[:16]).float()
    times: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(given.rounds):
        for name, read in readers.items():
            started = time.perf_counter()
            read(tokens)
            times[name].append(ROWS * LENGTH / (time.perf_counter() - started))
    ceiling = limit(model, given.layer)
    rows = []
    for name, rates in times.items():
        found = readers[name](tokens[:16]).float()
        apart = float((found - reference).norm() / reference.norm())
        rate = statistics.median(rates)
        spread = f"{min(rates):,.0f} to {max(rates):,.0f}"
        rows.append((name, f"{rate:,.0f}", spread, f"{rate / ceiling:.0%}", f"{apart:.1e}"))
    printing.table(["", "tokens/s", "spread", "of the limit", "difference"], rows)
    print(
        f"limit: {ceiling:,.0f} tokens/s, the matrix products of {given.layer + 1} layers alone "
        "at this machine's measured speed"
    )
    print(
        "the rest: attention, norms, rotary embedding and the activation function, "
        "which read and write memory"
    )


if __name__ == "__main__":
    main()
