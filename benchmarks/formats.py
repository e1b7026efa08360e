"""Do files change hands without changing meaning?

For every class of dictionary that SAELens, dictionary_learning and sparsify keep, with weights at random:
their own code saves, ours reads, and both reconstruct the same vectors; then ours writes, their own code
loads, and both reconstruct again. Last, the shipped dictionary goes to SAELens' own code and reads real text.

The largest difference is printed relative to the largest number; the bar is 1e-4, fp32 rounding.

    python benchmarks/formats.py
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

# Where `make bench` puts peers whose requirements exclude ours.
sys.path.insert(0, str(Path(sys.prefix) / "peers"))

from pellucid.cli import printing
from pellucid.core.sites import Site
from pellucid.dictionaries import files, peers, shipped
from pellucid.dictionaries.base import Dictionary

D, N, K, BAR = 64, 512, 16, 1e-4
SITE = Site("resid_post", 3)
X = 3 * torch.randn(500, D, generator=torch.Generator().manual_seed(0))

Forward = Callable[[Tensor], Tensor]


def randomise(module: nn.Module) -> nn.Module:
    """Fill every parameter; thresholds stay positive."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if name == "threshold":
                values = values.abs()
            elif parameter.ndim == 2:
                values = values / D**0.5
            parameter.copy_(values)
    return module


def saelens() -> Iterator[tuple[str, Callable[[Path], Forward], Callable[[Path], Forward]]]:
    """Name, how it saves, how it loads; each gives its own forward pass."""
    from sae_lens import SAE
    from sae_lens.saes.gated_sae import GatedSAE, GatedSAEConfig
    from sae_lens.saes.jumprelu_sae import JumpReLUSAE, JumpReLUSAEConfig
    from sae_lens.saes.sae import SAEMetadata
    from sae_lens.saes.standard_sae import StandardSAE, StandardSAEConfig
    from sae_lens.saes.topk_sae import TopKSAE, TopKSAEConfig

    def load(folder: Path) -> Forward:
        forward: Forward = SAE.load_from_disk(folder)
        return forward

    metadata = SAEMetadata(model_name="m", hook_name="blocks.3.hook_resid_post")
    makes: list[tuple[str, Any, Any, dict[str, Any]]] = [
        ("standard", StandardSAE, StandardSAEConfig, {}),
        ("standard, bias left on", StandardSAE, StandardSAEConfig, {"apply_b_dec_to_input": False}),
        ("jumprelu", JumpReLUSAE, JumpReLUSAEConfig, {}),
        ("gated", GatedSAE, GatedSAEConfig, {}),
        ("topk by norm", TopKSAE, TopKSAEConfig, {"k": K, "rescale_acts_by_decoder_norm": True}),
    ]
    for name, sae, config, options in makes:

        def save(folder: Path, sae: Any = sae, config: Any = config, options: Any = options) -> Forward:
            made = randomise(sae(config(d_in=D, d_sae=N, metadata=metadata, **options)))
            made.save_model(folder)  # type: ignore[operator]
            return made

        yield name, save, load


def dictionary_learning() -> Iterator[tuple[str, Callable[[Path], Forward], Callable[[Path], Forward]]]:
    """As for SAELens."""
    from dictionary_learning import dictionary as dl
    from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
    from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
    from dictionary_learning.trainers.top_k import AutoEncoderTopK
    from dictionary_learning.utils import load_dictionary

    def load(folder: Path) -> Forward:
        forward: Forward = load_dictionary(str(folder), "cpu")[0]
        return forward

    makes: list[tuple[Any, tuple[Any, ...]]] = [
        (dl.AutoEncoder, ()),
        (dl.AutoEncoderNew, ()),
        (dl.GatedAutoEncoder, ()),
        (dl.JumpReluAutoEncoder, ()),
        (AutoEncoderTopK, (K,)),
        (BatchTopKSAE, (K,)),
        (MatryoshkaBatchTopKSAE, (K, [N // 4, 3 * N // 4])),
    ]
    for kind, arguments in makes:

        def save(folder: Path, kind: Any = kind, arguments: Any = arguments) -> Forward:
            made: Any = randomise(kind(D, N, *arguments))
            if kind is AutoEncoderTopK:
                with torch.no_grad():
                    made.decoder.weight.div_(made.decoder.weight.norm(dim=0, keepdim=True))
            elif "threshold" in dict(made.named_buffers()):
                made.threshold.fill_(0.8)
            torch.save(made.state_dict(), folder / "ae.pt")
            trainer = {"dict_class": kind.__name__, "layer": 3, "submodule_name": "resid_post_layer_3"}
            trainer |= {"lm_name": "m", **({"k": K} if arguments else {})}
            (folder / "config.json").write_text(json.dumps({"trainer": trainer}))
            return made  # type: ignore[no-any-return]

        yield kind.__name__, save, load


def sparsify() -> Iterator[tuple[str, Callable[[Path], Forward], Callable[[Path], Forward]]]:
    """As for SAELens."""
    from sparsify import SparseCoder, SparseCoderConfig

    def of(coder: Any) -> Forward:
        return lambda x: coder(x).sae_out

    def save(folder: Path) -> Forward:
        made: Any = randomise(SparseCoder(D, SparseCoderConfig(num_latents=N, k=K)))
        made.set_decoder_norm_to_unit_norm()
        made.save_to_disk(folder)
        return of(made)

    yield "topk", save, lambda folder: of(SparseCoder.load_from_disk(folder))


def difference(one: Tensor, two: Tensor) -> float:
    """The largest, relative to the largest number."""
    return float((one - two).abs().max() / two.abs().max())


def ours(d: Dictionary) -> Forward:
    """Encode and decode."""
    return lambda x: d.decode(d.encode(x))


def main() -> None:
    """Measure and print."""
    rows, worst = [], 0.0
    makers = {"saelens": saelens, "dictionary_learning": dictionary_learning, "sparsify": sparsify}
    with tempfile.TemporaryDirectory() as room, torch.no_grad():
        for library, make in makers.items():
            for number, (name, save, load) in enumerate(make()):
                theirs, back = (
                    Path(room) / f"{library}{number}" / "layers.3",
                    Path(room) / f"{library}{number}b",
                )
                theirs.mkdir(parents=True)
                forward = save(theirs)
                d = peers.read(theirs).dictionary(SITE, "sha256:0")
                here = difference(ours(d)(X), forward(X))
                peers.write(d, library, back, "m")
                there = difference(load(back)(X), ours(d)(X))
                worst = max(worst, here, there)
                rows.append((library, name, f"{here:.1e}", f"{there:.1e}"))
        d, card = files.load(shipped.resolve("smollm2"))
        back = Path(room) / "shipped"
        peers.write(d, "saelens", back, card["model_reference"])
        from safetensors.torch import load_file

        x = load_file(shipped.resolve("smollm2") / "fixture.safetensors")["inputs"]
        from sae_lens import SAE

        there = difference(SAE.load_from_disk(back)(x), ours(d)(x))
        worst = max(worst, there)
        rows.append(("saelens", "the shipped dictionary, on text", "", f"{there:.1e}"))
    printing.table(["library", "class", "theirs read by ours", "ours read by theirs"], rows)
    print(f"largest difference {worst:.1e} (bar: {BAR:.0e}): {'met' if worst <= BAR else 'NOT MET'}")
    sys.exit(worst > BAR)


if __name__ == "__main__":
    main()
