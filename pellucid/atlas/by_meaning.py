"""Search by meaning: the features whose labels have the embeddings nearest to a query's.

Embeddings are turned to the principal axes of all labels, which changes no product, and kept as int8 with a
scale each. A search scans the first 64 coordinates, which hold the most, takes the 16,384 best, and ranks
those by all coordinates: of a million features it reads 64 MB and 4 MB. How often that finds the exact ten
nearest is measured in benchmarks/atlas_find.py.

    turn.npy       [D, D] float32: the principal axes, largest first
    heads.npy      [N, 64] int8: the first coordinates
    vectors.npy    [N, D] int8: all of them
    scales.npy     [N] float32: what each row is multiplied by; 0 where there is no label
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from pellucid.atlas import indices
from pellucid.atlas.by_words import Hit
from pellucid.atlas.embedding import Embedder
from pellucid.atlas.scans import largest, products, top
from pellucid.core.errors import InputError

HEAD = 64
_RANKED = 16_384
_SAMPLE = 65_536
_LIMIT = 127


@dataclass(frozen=True)
class MeaningIndex:
    """Embeddings of what is said of features, open for searching."""

    embedder: Embedder
    turn: np.ndarray
    heads: np.ndarray
    vectors: np.ndarray
    scales: np.ndarray

    @classmethod
    def opened(
        cls,
        key: Any,
        features: int,
        embedder: Embedder,
        said: Callable[[], Iterable[tuple[int, Sequence[str]]]],
    ) -> MeaningIndex:
        """The index under a key, made from what is said if it is not kept.

        Args:
            key: all that it is made from, but the embedder, as JSON values.
            features: N.
            embedder: embeds texts and queries.
            said: gives blocks of texts, one for each feature, in order, with the number of the first; it is
                read twice, and only if there is no index yet.

        Raises:
            IntegrityError: when the index is damaged.
        """
        key = {"format": 1, "embedder": embedder.digest, "of": key}
        index = indices.opened("meaning", key, lambda folder: _make(folder, features, embedder, said))
        # Kept mapped: mapping 64 MB anew takes as long as scanning them.
        return cls(embedder, *(index.array(name) for name in ("turn", "heads", "vectors", "scales")))

    def search(self, query: str, count: int = 10) -> list[Hit]:
        """The features whose labels mean nearly the same, best first; the score is the cosine.

        Raises:
            InputError: when the query holds nothing that could be embedded.
        """
        (vector,) = self.embedder.embed([query])
        if not vector.any():
            raise InputError(f"The query {query!r} is empty. Give at least one word.")
        turned = (vector @ self.turn).astype(np.float32)
        found: slice | np.ndarray = slice(None)
        if len(self.scales) > _RANKED:
            estimates = np.empty(len(self.scales), np.float32)
            products(self.heads, turned[:HEAD], self.scales, estimates)
            found = np.sort(top(estimates, _RANKED))
        scales = self.scales[found]
        scores = np.empty(len(scales), np.float32)
        products(self.vectors[found], turned, scales, scores)
        scores[scales == 0] = -1
        best = [int(b) for b in largest(scores, count) if scales[b] > 0]
        features = best if isinstance(found, slice) else found[best].tolist()
        return [Hit(feature, float(scores[b])) for feature, b in zip(features, best, strict=True)]


def _make(
    folder: Path,
    features: int,
    embedder: Embedder,
    said: Callable[[], Iterable[tuple[int, Sequence[str]]]],
) -> dict[str, Any]:
    """Write the files; holds one block of embeddings at a time."""
    width = embedder.matrix.shape[1]
    moment, seen = np.zeros((width, width), np.float64), 0
    for _, texts in said():
        some = embedder.embed(texts).astype(np.float64)
        moment += some.T @ some
        seen += len(texts)
        if seen >= _SAMPLE:
            break
    turn = np.linalg.eigh(moment)[1][:, ::-1].astype(np.float32)
    shapes = {"vectors": (np.int8, (features, width)), "heads": (np.int8, (features, min(HEAD, width)))}
    shapes["scales"] = (np.float32, (features,))  # type: ignore[assignment]
    files = {
        name: open_memmap(folder / f"{name}.npy", "w+", dtype, shape)
        for name, (dtype, shape) in shapes.items()
    }
    for first, texts in said():
        rows = slice(first, first + len(texts))
        turned = embedder.embed(texts) @ turn
        scale = np.abs(turned).max(1) / _LIMIT
        files["vectors"][rows] = np.round(turned / np.where(scale > 0, scale, 1)[:, None])
        files["heads"][rows] = files["vectors"][rows][:, :HEAD]
        files["scales"][rows] = scale
    for array in files.values():
        array.flush()
    np.save(folder / "turn.npy", turn)
    return {"features": features}
