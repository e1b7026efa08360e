"""Files as other libraries write them, read by our code and by their formulas.

The formulas are written down here from the libraries' source; benchmarks/formats.py runs their own code.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pellucid.core.errors import InputError, IntegrityError, UnknownNameError
from pellucid.core.sites import Site
from pellucid.dictionaries import peers, remeasure
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.ports import Ports

N, D, K = 48, 12, 4
SITE = Site("resid_post", 3)
G = torch.Generator().manual_seed(5)
ENCODER, DECODER = torch.randn(N, D, generator=G), 3 * torch.randn(N, D, generator=G)
BIAS, CENTRE = torch.randn(N, generator=G), torch.randn(D, generator=G)
BARS = 0.5 + torch.rand(N, generator=G)
X = 2 * torch.randn(200, D, generator=G)
UNIT = DECODER / DECODER.norm(dim=1, keepdim=True)


def topk(pre: Tensor, k: int = K) -> Tensor:
    values, chosen = pre.relu().topk(k, dim=1)
    return torch.zeros_like(pre).scatter_(1, chosen, values)


def saelens(folder: Path, weights: dict[str, Tensor], **config: Any) -> None:
    save_file({n: t.contiguous() for n, t in weights.items()}, folder / "sae_weights.safetensors")
    metadata = {"hook_name": "blocks.3.hook_resid_post", "model_name": "m"}
    (folder / "cfg.json").write_text(json.dumps({"d_in": D, "d_sae": N, "metadata": metadata, **config}))


def dl(folder: Path, weights: dict[str, Tensor], kind: str, **config: Any) -> None:
    torch.save(weights, folder / "ae.pt")
    trainer = {
        "dict_class": kind,
        "layer": 3,
        "submodule_name": "resid_post_layer_3",
        "lm_name": "m",
        **config,
    }
    (folder / "config.json").write_text(json.dumps({"trainer": trainer}))


def lens(decoder: Tensor = DECODER, **more: Tensor) -> dict[str, Tensor]:
    return {"W_enc": ENCODER.T, "b_enc": BIAS, "W_dec": decoder, "b_dec": CENTRE, **more}


def linear(decoder: Tensor = DECODER, **more: Tensor) -> dict[str, Tensor]:
    return {"encoder.weight": ENCODER, "encoder.bias": BIAS, "decoder.weight": decoder.T.contiguous(), **more}


def gated(pre: Tensor, r: Tensor, magnitude: Tensor, gate: Tensor) -> Tensor:
    return ((pre + gate) > 0) * (pre * r.exp() + magnitude).relu()


def rebuilt(values: Tensor, decoder: Tensor = DECODER) -> Tensor:
    return values @ decoder + CENTRE


Write, Forward = Callable[[Path], None], Callable[[], Tensor]
STRETCH, MAGNITUDE = 0.1 * BIAS.flip(0), BIAS.roll(3) + 1.0


def _sparsify(folder: Path) -> None:
    weights = {"encoder.weight": ENCODER, "encoder.bias": BIAS, "W_dec": UNIT, "b_dec": CENTRE}
    save_file(weights, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps({"activation": "topk", "k": K, "d_in": D, "num_latents": N}))


def _gemma(folder: Path) -> None:
    np.savez(folder / "params.npz", **{n: t.numpy() for n, t in lens(threshold=BARS).items()})


def _llama(folder: Path) -> None:
    (folder / "checkpoints").mkdir()
    weights = {**linear(UNIT), "decoder.bias": CENTRE}
    save_file(weights, folder / "checkpoints" / "final.safetensors")
    config = {
        "d_model": D, "jump_relu_threshold": 0.7, "dataset_average_activation_norm": {"in": 8.0, "out": 8.0},
        "hook_point_in": "blocks.3.hook_resid_post", "hook_point_out": "blocks.3.hook_resid_post",
    }  # fmt: skip
    (folder / "hyperparams.json").write_text(json.dumps(config))


SCALE = D**0.5 / 8


def _scaled(activation: Callable[[Tensor], Tensor]) -> Tensor:
    return rebuilt(activation(SCALE * X @ ENCODER.T + BIAS), UNIT) / SCALE


CASES: dict[str, tuple[Write, Forward]] = {
    "saelens standard": (
        lambda f: saelens(f, lens(), architecture="standard", apply_b_dec_to_input=True),
        lambda: rebuilt(((X - CENTRE) @ ENCODER.T + BIAS).relu()),
    ),
    "saelens jumprelu": (
        lambda f: saelens(f, lens(threshold=BARS), architecture="jumprelu", apply_b_dec_to_input=False),
        lambda: rebuilt((p := X @ ENCODER.T + BIAS) * (p > BARS)),
    ),
    "saelens topk by norm": (
        lambda f: saelens(f, lens(), architecture="topk", k=K, rescale_acts_by_decoder_norm=True),
        lambda: rebuilt(topk(((X - CENTRE) @ ENCODER.T + BIAS) * (n := DECODER.norm(dim=1))) / n),
    ),
    "saelens 3 topk": (
        lambda f: saelens(f, lens(UNIT), activation_fn_str="topk", activation_fn_kwargs={"k": K}),
        lambda: rebuilt(topk((X - CENTRE) @ ENCODER.T + BIAS), UNIT),
    ),
    "saelens gated": (
        lambda f: saelens(
            f,
            {k: v for k, v in lens(r_mag=STRETCH, b_mag=MAGNITUDE, b_gate=BIAS).items() if k != "b_enc"},
            architecture="gated",
        ),
        lambda: rebuilt(gated((X - CENTRE) @ ENCODER.T, STRETCH, MAGNITUDE, BIAS)),
    ),
    "saelens scaled": (
        lambda f: saelens(
            f,
            lens(UNIT),
            architecture="standard",
            apply_b_dec_to_input=False,
            normalize_activations="expected_average_only_in",
            norm_scaling_factor=SCALE,
        ),
        lambda: _scaled(torch.relu),
    ),
    "dl AutoEncoder": (
        lambda f: dl(f, linear(bias=CENTRE), "AutoEncoder"),
        lambda: rebuilt(((X - CENTRE) @ ENCODER.T + BIAS).relu()),
    ),
    "dl AutoEncoderNew": (
        lambda f: dl(f, linear() | {"decoder.bias": CENTRE}, "AutoEncoderNew"),
        lambda: rebuilt((X @ ENCODER.T + BIAS).relu()),
    ),
    "dl AutoEncoderTopK": (
        lambda f: dl(f, linear(UNIT, b_dec=CENTRE, k=torch.tensor(K)), "AutoEncoderTopK", k=K),
        lambda: rebuilt(topk((X - CENTRE) @ ENCODER.T + BIAS), UNIT),
    ),
    "dl BatchTopKSAE": (
        lambda f: dl(f, linear(b_dec=CENTRE, k=torch.tensor(K), threshold=torch.tensor(0.9)), "BatchTopKSAE"),
        lambda: rebuilt((p := (X - CENTRE) @ ENCODER.T + BIAS) * (p > 0.9)),
    ),
    "dl MatryoshkaBatchTopKSAE": (
        lambda f: dl(f, lens(threshold=torch.tensor(0.9)), "MatryoshkaBatchTopKSAE"),
        lambda: rebuilt((p := (X - CENTRE) @ ENCODER.T + BIAS) * (p > 0.9)),
    ),
    "dl JumpReluAutoEncoder": (
        lambda f: dl(f, lens(threshold=BARS), "JumpReluAutoEncoder"),
        lambda: rebuilt((p := X @ ENCODER.T + BIAS) * (p > BARS)),
    ),
    "dl GatedAutoEncoder": (
        lambda f: dl(
            f,
            {"encoder.weight": ENCODER, "decoder.weight": DECODER.T.contiguous(), "decoder_bias": CENTRE,
             "r_mag": STRETCH, "mag_bias": MAGNITUDE, "gate_bias": BIAS},
            "GatedAutoEncoder",
        ),
        lambda: rebuilt(gated((X - CENTRE) @ ENCODER.T, STRETCH, MAGNITUDE, BIAS)),
    ),
    "layers.3": (_sparsify, lambda: rebuilt(topk((X - CENTRE) @ ENCODER.T + BIAS), UNIT)),
    "layer_3": (_gemma, lambda: rebuilt((p := X @ ENCODER.T + BIAS) * (p > BARS))),
    "llamascope": (_llama, lambda: _scaled(lambda p: p * (p > 0.7 * SCALE))),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_file_is_read_as_its_library_means_it(name: str, tmp_path: Path) -> None:
    write, forward = CASES[name]
    folder = tmp_path / name
    folder.mkdir()
    write(folder)
    declared = peers.read(folder)
    assert declared.site == SITE
    d = declared.dictionary(SITE, "sha256:0")
    torch.testing.assert_close(d.decode(d.encode(X)), forward(), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(d.decoder.norm(dim=1), torch.ones(N))


def ours(activation: str = "jumprelu", *, even: bool = False) -> Dictionary:
    return Dictionary(
        ports=Ports.of(SITE),
        model_digest="sha256:0",
        activation=activation,  # type: ignore[arg-type]
        encoder=ENCODER,
        encoder_bias=BIAS,
        decoder=UNIT,
        decoder_bias=CENTRE,
        k=K if activation == "topk" else None,
        threshold=(torch.full((N,), 0.6) if even else BARS) if activation == "jumprelu" else None,
    )


TRIPS = [
    ("saelens", ours()), ("saelens", ours("topk")), ("saelens", ours("relu")),
    ("dictionary_learning", ours()), ("dictionary_learning", ours("topk")),
    ("dictionary_learning", ours("relu")), ("sparsify", ours("topk")), ("gemmascope", ours()),
    ("gemmascope", ours("relu")),
    ("llamascope", ours(even=True)), ("llamascope", ours("relu")),
]  # fmt: skip


@pytest.mark.parametrize(("library", "d"), TRIPS, ids=[f"{library} {d.activation}" for library, d in TRIPS])
def test_there_and_back_is_the_same_dictionary(library: str, d: Dictionary, tmp_path: Path) -> None:
    out = tmp_path / "layers.3"
    peers.write(d, library, out, "m")
    declared = peers.read(out)
    assert declared.library == library
    back = declared.dictionary(SITE, "sha256:0")
    torch.testing.assert_close(back.encode(X).dense(), d.encode(X).dense(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(back.decode(back.encode(X)), d.decode(d.encode(X)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("library", "d", "words"),
    [
        ("sparsify", ours(), "topk dictionaries alone"),
        ("gemmascope", ours("topk"), "topk dictionary has none"),
        ("llamascope", ours(), "one threshold for all"),
        (
            "saelens",
            replace(ours(), ports=Ports.of(Site("mlp_in", 3))),
            "no hook that means the same as mlp_in.3",
        ),
    ],
)
def test_what_a_format_cannot_hold_is_refused_and_nothing_is_left(
    library: str, d: Dictionary, words: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=words):
        peers.write(d, library, tmp_path / "out", "m")
    assert list(tmp_path.iterdir()) == []


REFUSED: dict[str, tuple[Write, str]] = {
    "uneven topk": (
        lambda f: saelens(f, lens(), architecture="topk", k=K),
        "several lengths",
    ),
    "a threshold nobody declared": (
        lambda f: saelens(f, lens(threshold=BARS), architecture="standard"),
        "says 'standard', and the weights hold a threshold",
    ),
    "no factor": (
        lambda f: saelens(
            f, lens(), architecture="standard", normalize_activations="expected_average_only_in"
        ),
        "no factor is kept",
    ),
    "each token by itself": (
        lambda f: saelens(f, lens(), architecture="standard", normalize_activations="layer_norm"),
        "normalises every token by itself",
    ),
    "another architecture": (
        lambda f: saelens(f, lens(), architecture="temporal"),
        "architecture 'temporal' cannot be kept",
    ),
    "a head's output": (
        lambda f: saelens(f, lens(), architecture="standard", metadata={"hook_name": "blocks.3.attn.hook_z"}),
        "'blocks.3.attn.hook_z', which is none of our sites",
    ),
    "missing weights": (
        lambda f: saelens(f, {"W_enc": ENCODER.T}, architecture="standard"),
        "lacks 'W_dec', 'b_dec'",
    ),
    "a wrong shape": (
        lambda f: saelens(f, lens() | {"b_enc": BIAS[:5]}, architecture="standard"),
        r"encoder bias has the shape \[5\] where \[48\] belongs",
    ),
    "NaN": (
        lambda f: saelens(f, lens() | {"b_enc": BIAS * torch.nan}, architecture="standard"),
        "encoder bias holds NaN",
    ),
    "two numbers for k": (
        lambda f: dl(f, linear(UNIT, b_dec=CENTRE, k=torch.tensor(K)), "AutoEncoderTopK", k=9),
        "config.json says k = 9, and ae.pt says 4",
    ),
    "no threshold yet": (
        lambda f: dl(f, linear(b_dec=CENTRE, threshold=torch.tensor(-1.0)), "BatchTopKSAE"),
        "no threshold yet",
    ),
    "another class": (lambda f: dl(f, linear(), "IdentityDict"), "class 'IdentityDict' cannot be kept"),
    "nothing": (lambda f: None, "no dictionary of a known library"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_one_clear_error(name: str, tmp_path: Path) -> None:
    write, words = REFUSED[name]
    write(tmp_path)
    with pytest.raises(InputError, match=words):
        peers.read(tmp_path).dictionary(SITE, "sha256:0")


class Rogue:
    """A pickle that would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_pickle_that_would_run_code_is_refused_unrun(tmp_path: Path) -> None:
    dl(tmp_path, linear(), "AutoEncoder")
    mark = tmp_path / "ran"
    torch.save({"encoder.weight": Rogue(mark)}, tmp_path / "ae.pt")
    with pytest.raises(IntegrityError, match="more than tensors; nothing in it was run"):
        peers.read(tmp_path)
    (tmp_path / "ae.pt").write_bytes(pickle.dumps(Rogue(mark)))
    with pytest.raises(IntegrityError, match="nothing in it was run"):
        peers.read(tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["saelens standard", "layer_3", "dl AutoEncoder"])
def test_a_truncated_file_is_one_clear_error(name: str, tmp_path: Path) -> None:
    CASES[name][0](tmp_path)
    weights = next(p for p in tmp_path.iterdir() if p.suffix in (".safetensors", ".npz", ".pt"))
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(IntegrityError, match=r"Fetch it again|Save the state dict"):
        peers.read(tmp_path)


def test_an_unknown_library_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'saelens'"):
        peers.write(ours(), "sealens", tmp_path / "out", "m")


# Re-measuring: a dictionary that is right on its data, and files that say something else of it.

BASES = [torch.linalg.qr(torch.randn(24, 24, generator=G)).Q for _ in range(4)]
TRUE = BASES[0]
MEAN = 4 * torch.randn(24, generator=G)


def _activations() -> Tensor:
    chosen = torch.rand(3000, 24, generator=G).topk(3, dim=1).indices
    sizes = 20 + 20 * torch.rand(3000, 3, generator=G)
    return torch.zeros(3000, 24).scatter_(1, chosen, sizes) @ TRUE + MEAN


DATA = _activations()
OTHER = torch.randn(3000, 24, generator=G) @ torch.randn(24, 24, generator=G) * 10


def right(**changes: Any) -> peers.Declared:
    """The true directions, at a threshold above what others cast on them, and three bases that never fire."""
    scale = 24**0.5 / float(DATA.norm(dim=1).mean())
    made = peers.Declared(
        library="saelens",
        encoder=torch.cat([TRUE, *(0.3 * rows for rows in BASES[1:])]),
        encoder_bias=torch.zeros(96),
        decoder=torch.cat(BASES),
        decoder_bias=MEAN * scale,
        activation="jumprelu",
        threshold=torch.tensor([10.0 * scale, 1e6, 1e6, 1e6]).repeat_interleave(24),
        centred=True,
        scale=scale,
    )
    return replace(made, **changes)


def test_a_true_declaration_passes() -> None:
    found = remeasure.fits(right(), SITE, {SITE: DATA, Site("resid_post", 4): OTHER})
    assert found[0].unexplained < 0.01
    remeasure.check(found, SITE)


@pytest.mark.parametrize(
    ("declared", "site", "words"),
    [
        (right(activation="relu", threshold=None), SITE, "activation is not what .* activation topk of k"),
        (right(scale=1.0), SITE, "normalisation is not what .* normalisation to a mean norm of √width"),
        (right(centred=False), SITE, "decoder bias before encoding is not what .* taken off first"),
        (right(), Site("resid_post", 4), "site is not what .* with site resid_post.3"),
    ],
    ids=["activation", "normalisation", "centring", "site"],
)
def test_a_wrong_declaration_is_refused_and_what_is_wrong_is_named(
    declared: peers.Declared, site: Site, words: str
) -> None:
    found = remeasure.fits(declared, site, {site: DATA} if site == SITE else {site: OTHER, SITE: DATA})
    with pytest.raises(IntegrityError, match=words):
        remeasure.check(found, site)


def test_a_reading_that_explains_as_much_with_half_the_features_is_believed() -> None:
    declared = remeasure.Fit("as declared", "", 0.145, 211)
    topk = remeasure.Fit("activation", "topk of k = 64", 0.126, 64)
    with pytest.raises(IntegrityError, match=r"activation is not what .* with activation topk of k = 64"):
        remeasure.check([declared, topk], SITE)
    remeasure.check([declared, replace(topk, l0=128)], SITE)
    remeasure.check([declared, replace(topk, unexplained=0.146)], SITE)


def test_weights_that_fit_nothing_are_refused() -> None:
    strange = right(encoder=torch.randn(96, 24, generator=G), decoder=torch.randn(96, 24, generator=G))
    with pytest.raises(IntegrityError, match="another model or another site"):
        remeasure.check(remeasure.fits(strange, SITE, {SITE: DATA}), SITE)


def test_a_width_that_is_not_the_models_is_refused() -> None:
    with pytest.raises(InputError, match=r"reads vectors of width 24, and resid_post\.3 has width 12"):
        remeasure.fits(right(), SITE, {SITE: X})


def test_weights_come_back_from_disk_in_their_own_library_layout(tmp_path: Path) -> None:
    peers.write(ours(), "saelens", tmp_path / "out", "m")
    assert load_file(tmp_path / "out" / "sae_weights.safetensors")["W_enc"].shape == (D, N)
