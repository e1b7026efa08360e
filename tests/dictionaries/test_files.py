from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pellucid.core import digests
from pellucid.core.errors import InputError, IntegrityError
from pellucid.core.sites import Site
from pellucid.dictionaries import files
from pellucid.dictionaries.base import Dictionary
from pellucid.dictionaries.ports import Ports

N, D = 64, 16


def make(activation: str = "jumprelu", seed: int = 0) -> Dictionary:
    g = torch.Generator().manual_seed(seed)
    decoder = torch.nn.functional.normalize(torch.randn(N, D, generator=g), dim=1)
    return Dictionary(
        ports=Ports.of(Site("resid_post", 1)),
        model_digest="sha256:" + "0" * 64,
        activation=activation,  # type: ignore[arg-type]
        encoder=decoder * 0.6,
        encoder_bias=torch.randn(N, generator=g) / 10,
        decoder=decoder,
        decoder_bias=torch.randn(D, generator=g),
        k=5 if activation == "topk" else None,
        threshold=torch.full((N,), 0.3) if activation == "jumprelu" else None,
        maximum=torch.rand(N, generator=g) + 1,
        frequency=torch.rand(N, generator=g),
    )


def saved(folder: Path, *, compact: bool = False, activation: str = "jumprelu") -> Dictionary:
    x = torch.randn(8, D, generator=torch.Generator().manual_seed(7)) * 2
    return files.save(make(activation), folder, card={"note": "a test"}, fixture=x, compact=compact)


@pytest.mark.parametrize("activation", ["jumprelu", "topk", "relu"])
@pytest.mark.parametrize("compact", [False, True])
def test_what_is_read_does_what_was_written(tmp_path: Path, activation: str, compact: bool) -> None:
    written = saved(tmp_path / "d", compact=compact, activation=activation)
    read, card = files.load(tmp_path / "d")
    x = torch.randn(40, D) * 2
    torch.testing.assert_close(read.encode(x).dense(), written.encode(x).dense())
    assert card["note"] == "a test"
    assert card["features"] == N
    assert read.maximum is not None
    assert torch.equal(read.maximum, make(activation).maximum)  # type: ignore[arg-type]


def test_compact_rows_are_close_to_the_full_ones(tmp_path: Path) -> None:
    saved(tmp_path / "d", compact=True)
    read, _ = files.load(tmp_path / "d")
    full = make()
    assert float((read.decoder - full.decoder).abs().max()) < 0.01
    small = (tmp_path / "d" / "dictionary.safetensors").stat().st_size
    saved(tmp_path / "e")
    assert small < (tmp_path / "e" / "dictionary.safetensors").stat().st_size / 2


def test_a_truncated_or_changed_file_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "d")
    for name in ("dictionary.safetensors", "fixture.safetensors", "card.json"):
        path = tmp_path / "d" / name
        whole = path.read_bytes()
        for damaged in (whole[:-100], whole[:9] + bytes([whole[9] ^ 128]) + whole[10:], None):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            with pytest.raises(IntegrityError, match=r"is damaged .*remove the folder and repeat"):
                files.load(tmp_path / "d")
        path.write_bytes(whole)
    files.load(tmp_path / "d")


@pytest.mark.parametrize("name", ["digests", "model", "activation", "k", "ports"])
def test_a_card_that_lost_an_entry_is_damaged(tmp_path: Path, name: str) -> None:
    saved(tmp_path / "d")
    card = json.loads((tmp_path / "d" / "card.json").read_text())
    if name in card:
        card[f"_{name}"] = card.pop(name)
    else:
        card.pop("site")
    (tmp_path / "d" / "card.json").write_text(json.dumps(card))
    with pytest.raises(IntegrityError, match="is damaged"):
        files.load(tmp_path / "d")


def test_weights_that_do_not_do_what_the_fixture_says_are_refused_even_with_a_mended_digest(
    tmp_path: Path,
) -> None:
    saved(tmp_path / "d")
    weights = tmp_path / "d" / "dictionary.safetensors"
    tensors = load_file(weights)
    tensors["encoder"] = tensors["encoder"].flip(0)
    save_file({k: v.contiguous() for k, v in tensors.items()}, weights)
    card = json.loads((tmp_path / "d" / "card.json").read_text())
    card["digests"]["dictionary.safetensors"] = digests.of_file(weights)
    (tmp_path / "d" / "card.json").write_text(json.dumps(card))
    with pytest.raises(IntegrityError, match="fixture"):
        files.load(tmp_path / "d")


def test_a_jumprelu_read_as_relu_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "d")
    card = json.loads((tmp_path / "d" / "card.json").read_text())
    card["activation"] = "relu"
    (tmp_path / "d" / "card.json").write_text(json.dumps(card))
    with pytest.raises((IntegrityError, InputError)):
        files.load(tmp_path / "d")


def test_another_model_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "d")
    with pytest.raises(InputError, match="belongs to the model"):
        files.load(tmp_path / "d", model_digest="sha256:" + "1" * 64)


def test_a_missing_folder_a_foreign_card_and_an_existing_target_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no dictionary"):
        files.load(tmp_path / "nowhere")
    saved(tmp_path / "d")
    before = digests.of_file(tmp_path / "d" / "dictionary.safetensors")
    with pytest.raises(InputError, match="exists already"):
        saved(tmp_path / "d")
    assert digests.of_file(tmp_path / "d" / "dictionary.safetensors") == before
    shutil.copytree(tmp_path / "d", tmp_path / "e")
    (tmp_path / "e" / "card.json").write_text('{"format": 99}')
    with pytest.raises(IntegrityError, match="format"):
        files.load(tmp_path / "e")
    (tmp_path / "e" / "card.json").write_text("{")
    with pytest.raises(IntegrityError, match="JSON"):
        files.load(tmp_path / "e")


def test_a_feature_out_of_range_and_nan_activations_are_refused() -> None:
    dictionary = make()
    with pytest.raises(InputError, match=f"0 to {N - 1}"):
        dictionary.check_feature(N)
    with pytest.raises(InputError, match="NaN"):
        dictionary.encode(torch.full((1, D), float("nan")))
