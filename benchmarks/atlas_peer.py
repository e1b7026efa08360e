"""Building pages, beside SAEDashboard 0.8: the same model, dictionary, text and machine, in one run.

Both read SmolLM2 on the same rows of text and write pages of the shipped dictionary's features, on all cores,
timed by the clock from the loaded model to the pages: in fp32, and each in its faster precision. Ours is what
`pellucid atlas build` takes by itself; SAEDashboard is tried in bfloat16 too, model and dictionary, and its
faster run counts.

SAEDashboard takes the settings of its runner for Neuronpedia: 128 features and 32 rows at a time, 20 top
examples and 5 of each of 5 quantiles; the activations of the model are kept between features. After the first
batch of features, which reads the model, its work is the same for every batch, so that a few say what all
pages take. Ours are those of `pellucid atlas build`, bare and whole: whole pages also have promoted tokens
measured by running the model on each feature, where SAEDashboard multiplies by the unembedding, and
neighbours.

That both see the same is checked: how often each feature is active, and its largest activation.

SAEDashboard excludes our versions of transformers, and lives in an environment of its own:

    python3.11 -m venv .venv/dashboard
    .venv/dashboard/bin/pip install torch==2.13.0
    .venv/dashboard/bin/pip install -r benchmarks/dashboard.txt
    .venv/dashboard/bin/pip uninstall -y torchvision torchaudio  # of another torch; decode-clt brings them
    python benchmarks/atlas_peer.py [--tokens 50k] [--pages 512] [--python .venv/dashboard/bin/python]

The bar: at least 5 times faster to the same pages, of all features.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

BAR = 5.0
FEATURES_AT_ONCE = 128
SITE_HOOK = "blocks.13.hook_resid_post"
PRECISIONS = ("fp32", "auto")
"""Ours; `auto` is what `pellucid atlas build` takes."""


def theirs(work: Path, pages: int, precision: str, rows_at_once: int = 32) -> dict[str, Any]:
    """Pages of the first features by SAEDashboard; runs in its environment.

    Args:
        work: where `ours` left what is read.
        pages: how many features.
        precision: `float32` or `bfloat16`, of model, dictionary and activations.
        rows_at_once: rows of text in a pass.
    """
    import torch
    from sae_dashboard.components_config import (
        ActsHistogramConfig,
        Column,
        FeatureTablesConfig,
        LogitsHistogramConfig,
        LogitsTableConfig,
        SequencesConfig,
    )
    from sae_dashboard.layout import SaeVisLayoutConfig
    from sae_dashboard.sae_vis_data import SaeVisConfig
    from sae_dashboard.sae_vis_runner import SaeVisRunner
    from sae_lens import SAE, HookedSAETransformer
    from transformer_lens import HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_llama_weights
    from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

    told = json.loads((work / "model.json").read_text())
    dtype = getattr(torch, precision)
    network = LlamaForCausalLM.from_pretrained(told["folder"], dtype=dtype)
    given = network.config
    config = HookedTransformerConfig(
        d_model=given.hidden_size,
        d_head=given.hidden_size // given.num_attention_heads,
        n_heads=given.num_attention_heads,
        n_key_value_heads=given.num_key_value_heads,
        d_mlp=given.intermediate_size,
        n_layers=given.num_hidden_layers,
        n_ctx=256,
        eps=given.rms_norm_eps,
        d_vocab=given.vocab_size,
        act_fn="silu",
        normalization_type="RMS",
        positional_embedding_type="rotary",
        rotary_base=told["rotary_base"],
        rotary_adjacent_pairs=False,
        rotary_dim=given.hidden_size // given.num_attention_heads,
        final_rms=True,
        gated_mlp=True,
        original_architecture="LlamaForCausalLM",
        device="cpu",
        dtype=dtype,
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=f"{told['folder']}/tokenizer.json",
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
    )
    tokenizer.save_pretrained(work / "tokenizer")  # it is loaded by its folder once more
    model = HookedSAETransformer(config, tokenizer=AutoTokenizer.from_pretrained(work / "tokenizer"))
    with torch.no_grad():
        weights = convert_llama_weights(network, config)
    model.load_and_process_state_dict(
        weights, fold_ln=False, center_writing_weights=False, center_unembed=False, fold_value_biases=False
    )
    encoder = SAE.load_from_disk(work / "saelens").to(dtype)
    tokens = torch.from_numpy(np.load(work / "tokens.npy").astype(np.int64))
    layout = SaeVisLayoutConfig(
        columns=[
            Column(
                SequencesConfig(
                    stack_mode="stack-all",
                    buffer=None,
                    compute_buffer=True,
                    n_quantiles=5,
                    top_acts_group_size=20,
                    quantile_group_size=5,
                ),
                ActsHistogramConfig(),
                LogitsHistogramConfig(),
                LogitsTableConfig(),
                FeatureTablesConfig(n_rows=3),
            )
        ]
    )
    started, worked = time.perf_counter(), time.process_time()
    spent, densities, maxima = [], [], []
    for first in range(0, pages, FEATURES_AT_ONCE):
        begun = time.perf_counter()
        batch = list(range(first, min(pages, first + FEATURES_AT_ONCE)))
        settings = SaeVisConfig(
            hook_point=SITE_HOOK,
            features=batch,
            dtype=precision,
            minibatch_size_features=FEATURES_AT_ONCE,
            minibatch_size_tokens=rows_at_once,
            feature_centric_layout=layout,
            ignore_positions=[0],
            cache_dir=work / f"kept-{precision}",
        )
        found = SaeVisRunner(settings).run(encoder=encoder, model=model, tokens=tokens)
        spent.append(time.perf_counter() - begun)
        for feature in batch:
            title = found.feature_data_dict[feature].acts_histogram_data.title  # none of a silent feature
            densities.append(float(title.split("= ")[1].rstrip("%")) / 100 if title else 0.0)
        maxima += found.feature_stats.max
    return {
        "seconds": time.perf_counter() - started,
        "processor": time.process_time() - worked,
        "batches": spent,
        "density": densities,
        "maximum": maxima,
    }


def ours(work: Path, tokens: int) -> dict[str, Any]:
    """All pages by Pellucid, bare and whole in each precision; leaves what the other side reads."""
    from pellucid.activations.reading import Reader
    from pellucid.activations.tokens import TokenStore
    from pellucid.atlas import build as building
    from pellucid.atlas import neighbours
    from pellucid.atlas.pages import Atlas
    from pellucid.atlas.promoted import measure
    from pellucid.dictionaries import files, peers, shipped
    from pellucid.models import weights
    from pellucid.models.model import load

    home = shipped.resolve("smollm2")
    dictionary, card = files.load(home)
    store = TokenStore.open(home / "text")
    rows = np.sort(building.rows_of(len(store.tokens), -(-tokens // store.length)))
    peers.write(dictionary, "saelens", work / "saelens", "smollm2")
    np.save(work / "tokens.npy", store.tokens[rows])
    found: dict[str, Any] = {"pages": dictionary.num_features, "tokens": len(rows) * store.length, "runs": {}}
    for precision in PRECISIONS:
        model = load(card["model_reference"], precision=precision)
        reader = Reader(model, store, dictionary.site)
        measure(model, dictionary, dictionary.maximum, features=[0])
        makes = (
            ("warm", 0, building.build),
            ("bare", 0, building.build),
            ("whole", 32, neighbours.with_atlas),
        )
        for name, promoted, make in makes:
            some = rows[:2] if name == "warm" else rows  # kernels are compiled once per machine
            settings = building.AtlasSettings(promoted=promoted)
            started, worked = time.perf_counter(), time.process_time()
            make([building.Target(dictionary, reader, work / f"{name}-{precision}")], some, settings=settings)
            if name != "warm":
                spent = time.perf_counter() - started, time.process_time() - worked
                found["runs"][name, precision] = spent
    told = {
        "folder": str(weights.locate(card["model_reference"]).folder),
        "rotary_base": float(model.network.config.rope_parameters["rope_theta"]),
    }
    (work / "model.json").write_text(json.dumps(told))
    atlas = Atlas.open(work / "bare-fp32", dictionary)
    found["density"] = atlas.frequency
    found["maximum"] = atlas.features.column("maximum")
    return found


def main() -> None:
    """Measure both and print."""
    from pellucid.cli import printing
    from pellucid.core.numbers import parse_count

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", default="50k", help="tokens of the shipped dictionary's text to read")
    parser.add_argument("--pages", type=int, default=512, help="pages that SAEDashboard writes")
    parser.add_argument("--python", type=Path, default=Path(sys.prefix) / "dashboard" / "bin" / "python")
    given = parser.parse_args()
    if not given.python.exists():
        print(f"SAEDashboard is not installed in {str(given.python)!r}: benchmarks/atlas_peer.py says how")
        return
    peers: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        mine = ours(work, parse_count(given.tokens))
        for precision in ("float32", "bfloat16"):
            command = [str(given.python), "-W", "ignore", __file__, "theirs", str(work), str(given.pages)]
            ran = subprocess.run(
                [*command, precision], check=precision == "float32", stdout=subprocess.DEVNULL
            )
            if ran.returncode == 0:
                peers[precision] = json.loads((work / f"theirs-{precision}.json").read_text())
            else:
                print(f"SAEDashboard does not run in {precision}")
    rows = []
    for precision, peer in peers.items():
        first, *others = peer["batches"]
        everything = first + (mine["pages"] / FEATURES_AT_ONCE - 1) * float(np.median(others))
        scale = everything / peer["seconds"]
        rows.append((f"SAEDashboard, {precision}", everything, peer["processor"] * scale))
        batches = ", ".join(f"{seconds:.1f}" for seconds in peer["batches"])
        print(f"its batches in {precision}: {batches} s, the first with reading")
    fastest = min(seconds for _, seconds, _ in rows)
    rows += [(f"Pellucid, {name} pages, {kind}", *spent) for (name, kind), spent in mine["runs"].items()]
    printing.table(
        ["", "seconds", "of the processor", "ms a page", "times"],
        [
            (
                kind,
                f"{seconds:.1f}",
                f"{own:.1f}",
                f"{1e3 * seconds / mine['pages']:.2f}",
                f"{fastest / seconds:.1f}",
            )
            for kind, seconds, own in rows
        ],
        title=f"{mine['pages']:,} pages of {mine['tokens']:,} tokens; SAEDashboard's from {given.pages:,}",
    )
    peer, pages = peers["float32"], slice(0, given.pages)
    seen = np.array(peer["density"]) > 0
    for what, tolerance in (("density", 0.05), ("maximum", 0.01)):
        one, two = (np.asarray(side[what][pages])[seen] for side in (mine, peer))
        alike = np.abs(one / two - 1) <= tolerance
        print(f"{what}: alike within {tolerance:.0%} for {alike.mean():.1%} of {seen.sum()} active features")
    for (name, kind), (seconds, _) in mine["runs"].items():
        met = "met" if fastest / seconds >= BAR else "NOT MET"
        print(f"bar, {name} pages in {kind} at least {BAR:.0f} times faster: {met}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["theirs"]:
        folder, pages, precision = Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
        written = theirs(folder, pages, precision)
        (folder / f"theirs-{precision}.json").write_text(json.dumps(written))
    else:
        main()
