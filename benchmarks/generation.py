"""What watching and steering cost while a model writes.

Beside it stand the same loop without, and transformers' own `generate`.

One row, greedy, in one process; the variants take turns so that a noisy machine is noisy for all, and medians
of rounds are compared. The bars: watching under 10 %, steering under 5 %, and the plain loop no slower than
`generate`.

    python benchmarks/generation.py [DICTIONARY] [--tokens 64] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from pellucid.cli import printing
from pellucid.cli.session import Session
from pellucid.models import generation
from pellucid.models.generation import Generator, Sampling
from pellucid.steering.edits import EditPlan, FeatureEdit

PROMPT = "Explain in detail how bread is made, step by step."


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dictionary", nargs="?", default="smollm2")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    session = Session.open(given.dictionary)
    model, dictionary = session.model, session.dictionary
    prompt = model.encode_chat([{"role": "user", "content": PROMPT}])
    sampling = Sampling(max_tokens=given.tokens)
    # A feature that hardly moves the answer, so that both loops write about as much.
    edit = EditPlan.same(dictionary, [FeatureEdit("add", 0, 0.01)], 1)

    def plain() -> int:
        return len(generation.answers(Generator(model, [prompt], sampling))[0].token_ids)

    def watched() -> int:
        return len(generation.answers(Generator(model, [prompt], sampling, watch=[dictionary]))[0].token_ids)

    def steered() -> int:
        generator = Generator(model, [prompt], sampling, editors=edit.editors)
        return len(generation.answers(generator)[0].token_ids)

    def theirs() -> int:
        with torch.inference_mode():
            out = model.network.generate(  # type: ignore[operator]
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=given.tokens,
                do_sample=False,
                pad_token_id=model.tokenizer.pad_token_id,
            )
        return int(out.shape[1]) - len(prompt)

    variants: dict[str, Callable[[], int]] = {
        "transformers generate": theirs,
        "plain loop": plain,
        "watching": watched,
        "steering": steered,
    }
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(given.rounds + 1):
        # Forwards and backwards in turn: on a shared machine it matters who follows whom.
        for name, run in list(variants.items())[:: -1 if number % 2 else 1]:
            started = time.perf_counter()
            written = run()
            rates[name].append(written / (time.perf_counter() - started))
    medians = {name: statistics.median(values[1:]) for name, values in rates.items()}
    base = medians["plain loop"]
    printing.table(
        ["", "tokens/s", "spread", "against the plain loop"],
        [
            (
                name,
                f"{m:.1f}",
                f"{min(rates[name][1:]):.1f} to {max(rates[name][1:]):.1f}",
                f"{m / base - 1:+.1%}",
            )
            for name, m in medians.items()
        ],
    )
    print(
        f"{dictionary.num_features:,} features watched at {dictionary.site}, {model.dtype}, "
        f"{torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()
