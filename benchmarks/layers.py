"""Which layer to train a dictionary at: where do directions steer best?

No dictionary is needed to ask. Mean-difference vectors of the everyday concepts are added to every token at
one layer after another, and the model answers neutral prompts. Counted are the answers about the concept (by
its word list) and the perplexity of the answers under the plain model, at several strengths: a layer is good
where many hits cost little.

    python benchmarks/layers.py [MODEL] [--layers 5,9,13] [--strengths 0.7,1,1.4]
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor

from pellucid.cli import printing
from pellucid.core.sites import Site
from pellucid.models import generation
from pellucid.models.generation import Generator, Pass, Sampling
from pellucid.models.model import Model, load
from pellucid.steering import effects, vectors
from pellucid.steering.concepts import CONCEPTS, NEUTRAL_SENTENCES, SEARCH_PROMPTS

SAMPLING = Sampling(max_tokens=32, temperature=0.7, top_p=0.9, seed=1)


def measure(model: Model, site: Site, strengths: list[float]) -> list[tuple[float, effects.Rate, float]]:
    """For each strength the rate of hits over all concepts and prompts, and the perplexity."""
    tokens = model.encode_prompts(SEARCH_PROMPTS)
    added = torch.stack(
        [vectors.mean_difference(model, c.sentences, NEUTRAL_SENTENCES, site) for c in CONCEPTS.values()]
    ).repeat_interleave(len(tokens), dim=0)
    prompts = tokens * len(CONCEPTS)
    words = [c.words for c in CONCEPTS.values() for _ in tokens]
    found = []
    for strength in strengths:

        def push(x: Tensor, this: Pass, strength: float = strength) -> Tensor:
            return x + (strength * added[:, None] * this.real[..., None]).to(x)

        written = [
            a.token_ids
            for a in generation.answers(Generator(model, prompts, SAMPLING, editors=[(site, push)]))
        ]
        hits = sum(effects.mentions(model.decode(ids), w) for ids, w in zip(written, words, strict=True))
        price = effects.perplexity(model, prompts, written)
        found.append((strength, effects.Rate.of(hits, len(prompts)), price))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2")
    parser.add_argument("--layers", default="5,7,9,11,13,15,18,21")
    parser.add_argument("--strengths", default="0.7,1,1.4")
    given = parser.parse_args()
    model, started = load(given.model), time.monotonic()
    strengths = [float(s) for s in given.strengths.split(",")]
    rows: list[list[str]] = []
    for layer in map(int, given.layers.split(",")):
        found = measure(model, Site("resid_post", layer), strengths)
        rows.append([str(layer)])
        for _, rate, price in found:
            rows[-1] += [f"{rate.hits} [{rate.low * rate.total:.0f}, {rate.high * rate.total:.0f}]"]
            rows[-1] += [f"{price:.1f}"]
        printing.note(f"layer {layer}: {time.monotonic() - started:.0f} s")
    heads = [h for s in strengths for h in (f"hits at {s:g}", "perplexity")]
    printing.table(["layer", *heads], rows)
    print(f"hits of {len(CONCEPTS) * len(SEARCH_PROMPTS)} answers, with 95 % intervals")


if __name__ == "__main__":
    main()
