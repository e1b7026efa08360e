from __future__ import annotations

import json
import pickle
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file

from pellucid.core import digests
from pellucid.core.errors import (
    InputError,
    IntegrityError,
    PellucidError,
    UnknownNameError,
)
from pellucid.models import weights
from pellucid.models.families import FAMILIES
from pellucid.models.model import Model, load

IDS = torch.randint(3, 300, (2, 24), generator=torch.Generator().manual_seed(3))
NOWHERE = "0" * 64


def logits(model: Model) -> torch.Tensor:
    with torch.inference_mode():
        return cast(torch.Tensor, cast(Any, model.network)(IDS).logits)


def digest_of(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): digests.of_file(p) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def test_a_gguf_file_becomes_the_very_weights_it_was_written_from(tiny_gguf: Path, tiny: Model) -> None:
    model = load(str(tiny_gguf), precision="fp32", device="cpu")
    mine, theirs = tiny.network.state_dict(), model.network.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert torch.equal(logits(model), logits(tiny)), "rotary tables and settings as well"
    assert model.digest == digests.of_file(tiny_gguf), "a GGUF file is named by its own SHA-256"


def test_the_tokenizer_in_a_gguf_file_reads_and_writes_as_the_one_it_was_written_from(
    tiny_gguf: Path, tiny: Model
) -> None:
    model = load(str(tiny_gguf), precision="fp32", device="cpu")
    chat = [{"role": "user", "content": "How are the dogs?"}]
    for text in ("The quick brown fox", " é日本\n\t🙂", "a<|im_end|>b"):
        assert model.encode_text(text) == tiny.encode_text(text)
        assert model.decode(model.encode_text(text)) == text
    assert model.encode_chat(chat) == tiny.encode_chat(chat)
    assert model.end_ids == tiny.end_ids


def test_quantised_weights_are_unpacked_to_the_values_they_stand_for(quantised_gguf: Path) -> None:
    model = load(str(quantised_gguf), precision="fp32", device="cpu")
    stored = {t.name: t for t in gguf.GGUFReader(quantised_gguf).tensors}
    for theirs, ours in (
        ("token_embd.weight", "model.embed_tokens.weight"),
        ("blk.1.ffn_down.weight", "model.layers.1.mlp.down_proj.weight"),
        ("blk.3.attn_v.weight", "model.layers.3.self_attn.v_proj.weight"),
        ("output_norm.weight", "model.norm.weight"),
    ):
        expected = gguf.dequantize(stored[theirs].data, stored[theirs].tensor_type)
        found = model.network.get_parameter(ours)
        assert torch.equal(found.detach(), torch.from_numpy(expected.copy()).reshape(found.shape))


def test_a_conversion_is_made_once(tiny_gguf: Path, home: Path) -> None:
    first = weights.locate(str(tiny_gguf))
    stamps = {p: p.stat().st_mtime_ns for p in first.folder.iterdir()}
    assert weights.locate(str(tiny_gguf)) == first
    assert {p: p.stat().st_mtime_ns for p in first.folder.iterdir()} == stamps
    assert [p.name for p in (home / "models").iterdir()] == [digests.short(first.digest)]


@pytest.mark.parametrize("damage", ["flip", "remove", "swap"])
def test_a_damaged_conversion_in_the_cache_is_refused_and_the_folder_named(
    tiny_gguf: Path, damage: str
) -> None:
    found = weights.locate(str(tiny_gguf))
    path = found.folder / "model.safetensors"
    if damage == "flip":
        raw = bytearray(path.read_bytes())
        raw[-5] ^= 1
        path.write_bytes(raw)
    elif damage == "remove":
        path.unlink()
    else:
        record = json.loads((found.folder / "source.json").read_text())
        (found.folder / "source.json").write_text(json.dumps({**record, "source": f"sha256:{NOWHERE}"}))
    with pytest.raises(IntegrityError, match="Remove the folder") as caught:
        weights.locate(str(tiny_gguf))
    assert str(found.folder) in str(caught.value)


@pytest.mark.parametrize("share", [0.0, 1e-5, 5e-5, 1e-4, 0.004, 0.02, 0.035, 0.05, 0.5, 0.999, 1.0])
def test_a_truncated_gguf_file_is_one_clear_error_and_leaves_nothing(
    tiny_gguf: Path, tmp_path: Path, home: Path, share: float
) -> None:
    raw = tiny_gguf.read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(raw[: min(len(raw) - 1, int(share * len(raw)))])
    with pytest.raises(IntegrityError, match=r"(?i)fetch it again") as caught:
        load(str(cut))
    assert str(cut) in str(caught.value)
    assert [p for p in home.rglob("*") if p.is_file()] == []


def test_a_gguf_file_with_a_flipped_bit_loads_as_another_model_or_is_one_clear_error(
    tiny_gguf: Path, tmp_path: Path, home: Path
) -> None:
    raw, dice = tiny_gguf.read_bytes(), random.Random(5)
    header = raw.index(b"tokenizer.ggml.tokens")
    for number in range(8):
        damaged = bytearray(raw)
        damaged[dice.randrange(4, header)] ^= 1 << dice.randrange(8)
        path = tmp_path / f"{number}.gguf"
        path.write_bytes(damaged)
        try:
            assert load(str(path), precision="fp32").digest != digests.of_file(tiny_gguf)
        except PellucidError as error:
            assert str(path) in str(error) or str(home) in str(error) or isinstance(error, UnknownNameError)


def test_a_gguf_file_that_lacks_weights_is_refused(tiny_gguf: Path, tmp_path: Path, home: Path) -> None:
    raw = tiny_gguf.read_bytes()
    path = tmp_path / "renamed.gguf"
    path.write_bytes(raw.replace(b"blk.3.ffn_down", b"blk.3.ffn_dawn"))
    with pytest.raises(IntegrityError, match="down_proj"):
        load(str(path))
    assert [p for p in home.rglob("*") if p.is_file()] == []


def test_what_is_called_gguf_but_is_not_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"<!doctype html><p>404")
    with pytest.raises(IntegrityError, match="not a GGUF file"):
        load(str(tmp_path / "model.gguf"))


class Bomb:
    """Leaves a mark if it is ever unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("name", ["weights.bin", "weights.pt", "weights.pth", "weights.pkl", "weights.ckpt"])
def test_a_pickle_is_refused_and_never_opened(tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        pickle.dump(Bomb(tmp_path / "exploded"), file)
    with pytest.raises(InputError, match="pickle, which can run code"):
        load(str(tmp_path / name))
    assert not (tmp_path / "exploded").exists()


def test_a_folder_with_pickled_weights_is_refused_and_never_opened(folder: Path, tmp_path: Path) -> None:
    (folder / "model.safetensors").unlink()
    with (folder / "pytorch_model.bin").open("wb") as file:
        pickle.dump(Bomb(tmp_path / "exploded"), file)
    with pytest.raises(InputError, match=r"pickles \(pytorch_model\.bin\)"):
        load(str(folder))
    assert not (tmp_path / "exploded").exists()


def test_a_pickle_called_safetensors_is_refused_and_never_opened(folder: Path, tmp_path: Path) -> None:
    with (folder / "model.safetensors").open("wb") as file:
        pickle.dump(Bomb(tmp_path / "exploded"), file)
    with pytest.raises(IntegrityError, match="truncated or damaged"):
        load(str(folder))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_model_of_every_family_loads_to_the_same_logits(
    family: str, tiny_family: Callable[[str], Model], tmp_path: Path
) -> None:
    saved = tiny_family(family)
    cast(Any, saved.network).save_pretrained(tmp_path / "model")
    saved.tokenizer.save_pretrained(tmp_path / "model")
    model = load(str(tmp_path / "model"), precision="fp32", device="cpu")
    assert torch.equal(logits(model), logits(saved))
    assert model.encode_text("The lazy dog") == saved.encode_text("The lazy dog")
    assert model.bos_id == saved.bos_id


def test_the_digest_of_a_folder_names_weights_and_tokenizer(folder: Path) -> None:
    first = weights.locate(str(folder)).digest
    assert weights.locate(f"{folder}!{first}").digest == first
    (folder / "README.md").write_text("words")
    assert weights.locate(str(folder)).digest == first
    (folder / "tokenizer_config.json").write_text("{}")
    second = weights.locate(str(folder)).digest
    state = load_file(folder / "model.safetensors")
    state["model.norm.weight"][0] += 1e-3
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert len({first, second, weights.locate(str(folder)).digest}) == 3


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_another_digest_than_the_one_named_is_refused_with_both(
    kind: str, folder: Path, tiny_gguf: Path
) -> None:
    path = folder if kind == "folder" else tiny_gguf
    found = weights.locate(str(path)).digest
    with pytest.raises(IntegrityError) as caught:
        load(f"{path}!sha256:{NOWHERE}")
    assert found in str(caught.value)
    assert NOWHERE in str(caught.value)


def _edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def _halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _drop_weight(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["model.norm.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def _drop_shard(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(state)
    save_file({n: state[n] for n in names[:5]}, folder / "model-1.safetensors", metadata={"format": "pt"})
    shards = {n: f"model-{1 if n in names[:5] else 2}.safetensors" for n in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shards}))


DAMAGES: dict[str, tuple[Callable[[Path], Any], type[PellucidError], str]] = {
    "no configuration": (lambda f: (f / "config.json").unlink(), InputError, "no config.json"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), InputError, r"no \.safetensors weights"),
    "no tokenizer": (
        lambda f: [(f / n).unlink() for n in ("tokenizer.json", "tokenizer_config.json")],
        IntegrityError,
        r"Expected .*tokenizer\.json",
    ),
    "truncated weights": (lambda f: _halve(f / "model.safetensors"), IntegrityError, "truncated or damaged"),
    "truncated tokenizer": (lambda f: _halve(f / "tokenizer.json"), IntegrityError, "cannot be read"),
    "truncated configuration": (lambda f: _halve(f / "config.json"), IntegrityError, "not readable as JSON"),
    "configuration of nothing": (
        lambda f: (f / "config.json").write_text("[]"),
        UnknownNameError,
        "architecture",
    ),
    "unknown architecture": (
        lambda f: _edit_config(f, model_type="lama"),
        UnknownNameError,
        "Did you mean 'llama'",
    ),
    "one weight missing": (_drop_weight, IntegrityError, r"lacks model\.norm\.weight"),
    "one shard missing": (_drop_shard, IntegrityError, r"model-2\.safetensors"),
    "too few layers": (
        lambda f: _edit_config(f, num_hidden_layers=5),
        IntegrityError,
        r"lacks model\.layers\.4\.input_layernorm",
    ),
    "too many layers": (
        lambda f: _edit_config(f, num_hidden_layers=3),
        IntegrityError,
        r"no place for model\.layers\.3\.input_layernorm",
    ),
    "another width": (
        lambda f: _edit_config(f, intermediate_size=80),
        IntegrityError,
        r"another size .*mlp\.down_proj",
    ),
    "a word for a number": (lambda f: _edit_config(f, hidden_size="wide"), IntegrityError, "cannot be read"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_folder_is_one_clear_error_and_nothing_is_overwritten(
    damage: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hurt, kind, words = DAMAGES[damage]
    hurt(folder)
    before = digest_of(folder)
    with pytest.raises(kind, match=words) as caught:
        load(str(folder), precision="fp32", device="cpu")
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert digest_of(folder) == before
    assert capfd.readouterr() == ("", ""), "the error says it all"


def test_a_name_that_is_nothing_lists_the_aliases() -> None:
    with pytest.raises(InputError, match=r"no model 'smolm2'.*must be one of: smollm2"):
        load("smolm2")


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        load(str(tmp_path / "absent.gguf"))


def test_another_kind_of_file_is_refused_with_what_was_expected(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"x")
    with pytest.raises(InputError, match=r"folder with safetensors, or a \.gguf file"):
        load(str(tmp_path / "model.onnx"))


@pytest.mark.parametrize("reference", ["npm:model@1.0.0#x.gguf", "deb:model#x.gguf"])
def test_a_model_cannot_come_from_a_registry_of_text(reference: str) -> None:
    with pytest.raises(InputError, match="A model cannot come from"):
        load(reference)


@pytest.mark.parametrize("reference", ["pypi:package==1.0", "pypi:package==1.0#model.bin"])
def test_a_package_must_name_the_gguf_file_inside(reference: str) -> None:
    with pytest.raises(InputError, match=r"must name the \.gguf file inside"):
        load(reference)


def test_a_hub_that_does_not_deliver_is_an_upstream_error() -> None:
    from pellucid.core.errors import UpstreamError

    with pytest.raises(UpstreamError, match="did not deliver 'hf:org/name@main'"):
        weights.locate("hf:org/name@main")


def test_a_safetensors_file_whose_header_and_size_disagree_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.ones(10)}, path)
    weights.check_safetensors(path)
    for raw in (path.read_bytes() + b"\0", path.read_bytes()[:-1], b"", b"\xff" * 100):
        path.write_bytes(raw)
        with pytest.raises(IntegrityError, match="truncated or damaged"):
            weights.check_safetensors(path)
