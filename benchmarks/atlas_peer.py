"""Building pages, beside SAEDashboard 0.8: the same model, dictionary, text and machine, in one run.

Both read SmolLM2, ours in fp32 too unless --precision says else, on the same rows of text and write pages of
the shipped dictionary's features, on all cores, timed by the clock from the loaded model to the pages.
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


def theirs(work: Path, pages: int, rows_at_once: int = 32) -> dict[str, Any]:
    """Pages of the first features by SAEDashboard; runs in its environment."""
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
    network = LlamaForCausalLM.from_pretrained(told["folder"], dtype=torch.float32)
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
    encoder = SAE.load_from_disk(work / "saelens")
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
            minibatch_size_features=FEATURES_AT_ONCE,
            minibatch_size_tokens=rows_at_once,
            feature_centric_layout=layout,
            ignore_positions=[0],
            cache_dir=work / "kept",
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


def ours(work: Path, tokens: int, precision: str) -> dict[str, Any]:
    """All pages by Pellucid, bare and whole; leaves what the other side reads."""
    from pellucid.activations.reading import Reader
    from pellucid.activations.tokens import TokenStore
    from pellucid.atlas import build as building
    from pellucid.atlas import neighbours
    from pellucid.atlas.pages import Atlas
    from pellucid.dictionaries import files, peers, shipped
    from pellucid.models import weights
    from pellucid.models.model import load

    home = shipped.resolve("smollm2")
    dictionary, card = files.load(home)
    model = load(card["model_reference"], precision=precision)
    store = TokenStore.open(home / "text")
    rows = np.sort(building.rows_of(len(store.tokens), -(-tokens // store.length)))
    peers.write(dictionary, "saelens", work / "saelens", "smollm2")
    np.save(work / "tokens.npy", store.tokens[rows])
    folder = weights.locate(card["model_reference"]).folder
    rotary_base = float(model.network.config.rope_parameters["rope_theta"])
    told = {"folder": str(folder), "rotary_base": rotary_base}
    (work / "model.json").write_text(json.dumps(told))
    reader = Reader(model, store, dictionary.site)
    found: dict[str, Any] = {"pages": dictionary.num_features, "tokens": len(rows) * store.length}
    makes = (("warm", 0, building.build), ("bare", 0, building.build), ("whole", 32, neighbours.with_atlas))
    for name, promoted, make in makes:
        some = rows[:2] if name == "warm" else rows  # kernels are compiled once per machine
        settings = building.AtlasSettings(promoted=promoted)
        started, worked = time.perf_counter(), time.process_time()
        target = building.Target(dictionary, reader, work / name)
        make([target], some, settings=settings)
        found[name] = time.perf_counter() - started
        found[f"{name}, processor"] = time.process_time() - worked
    atlas = Atlas.open(work / "bare", dictionary)
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
    parser.add_argument("--precision", default="fp32", help="of our model; 'auto' is what atlas build takes")
    parser.add_argument("--pages", type=int, default=512, help="pages that SAEDashboard writes")
    parser.add_argument("--python", type=Path, default=Path(sys.prefix) / "dashboard" / "bin" / "python")
    given = parser.parse_args()
    if not given.python.exists():
        print(f"SAEDashboard is not installed in {str(given.python)!r}: benchmarks/atlas_peer.py says how")
        return
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        mine = ours(work, parse_count(given.tokens), given.precision)
        command = [str(given.python), "-W", "ignore", __file__, "theirs", str(work), str(given.pages)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        peer = json.loads((work / "theirs.json").read_text())
    first, *others = peer["batches"]
    batches = mine["pages"] / FEATURES_AT_ONCE
    everything = first + (batches - 1) * float(np.median(others))
    rows = [(f"SAEDashboard, from {given.pages:,} pages", everything, everything / peer["seconds"])]
    rows += [(f"Pellucid, {name} pages", mine[name], 1.0) for name in ("bare", "whole")]
    processor = [peer["processor"], *(mine[f"{name}, processor"] for name in ("bare", "whole"))]
    printing.table(
        ["", "seconds", "of the processor", "ms a page", "times"],
        [
            (
                kind,
                f"{seconds:.1f}",
                f"{own * scale:.1f}",
                f"{1e3 * seconds / mine['pages']:.2f}",
                f"{everything / seconds:.1f}",
            )
            for (kind, seconds, scale), own in zip(rows, processor, strict=True)
        ],
        title=f"{mine['pages']:,} pages of {mine['tokens']:,} tokens",
    )
    print(f"its batches: {', '.join(f'{s:.1f}' for s in peer['batches'])} s, the first with reading")
    pages = slice(0, given.pages)
    seen = np.array(peer["density"]) > 0
    for what, tolerance in (("density", 0.05), ("maximum", 0.01)):
        one, two = (np.asarray(side[what][pages])[seen] for side in (mine, peer))
        alike = np.abs(one / two - 1) <= tolerance
        print(f"{what}: alike within {tolerance:.0%} for {alike.mean():.1%} of {seen.sum()} active features")
    for name in ("bare", "whole"):
        met = everything / mine[name] >= BAR
        print(f"bar, {name} pages at least {BAR:.0f} times faster: {'met' if met else 'NOT MET'}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["theirs"]:
        written = theirs(Path(sys.argv[2]), int(sys.argv[3]))
        (Path(sys.argv[2]) / "theirs.json").write_text(json.dumps(written))
    else:
        main()
