"""All features in two dimensions, such that features of like direction lie near each other.

The layout is t-SNE (van der Maaten and Hinton 2008) by openTSNE, from the ten neighbours of each feature in
`neighbours`, all of one weight, begun at the two first principal components and with repulsion by
interpolation (FIt-SNE: Linderman et al. 2019, arXiv 1712.09005), whose cost grows as the number of features.
Clusters are k-means on the layout: every feature has one, and a cluster is a region that can be pointed at.

    map            x f32, y f32 in [0, 1), cluster i32: row i is feature i; NaN and -1 where it was never
                   active
    map_clusters   name text, features i64, x f32, y f32, share f32, background f32: see `naming`
    map_points     the features again, in the order of tiles: see `tiles`
    map_tiles      the tiles

A map says what is near; what is far means little. How many of a feature's neighbours it keeps, and its
trustworthiness (Venna and Kaski 2001), are measured on a sample of features, beside PCA and random places;
they are in the `facts` of `map`, with the number of features left out because they were never active.

The layout is written down every fifty steps; a killed job goes on from there, to the same map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.atlas import naming, neighbours, tables, tiles
from pellucid.atlas.directions import Directions
from pellucid.atlas.pages import Atlas
from pellucid.atlas.tables import Table
from pellucid.core import digests, files
from pellucid.core.errors import InputError, MissingDependencyError
from pellucid.core.progress import Progress, silent

_STEPS_AT_ONCE = 50
_EARLY, _STEPS = 250, 500
"""Steps with exaggerated attraction, and without: those of openTSNE."""
_EXAGGERATION = 12.0
_FEWEST = 32
_FEW = 2000
"""Features below which repulsion is cheaper over a tree than by interpolation."""
_SAMPLE = 512
_ROWS_AT_ONCE = 65_536
_KMEANS_SAMPLE = 100_000


@dataclass(frozen=True)
class MapSettings:
    """How a map is made."""

    seed: int = 0
    """Of clusters and of which features stand for others."""
    clusters: int | None = None
    """How many; by default a quarter of the square root of the number of features, 8 to 256."""


def build(
    atlas: Atlas,
    directions: Directions,
    piece: Callable[[int], str],
    *,
    settings: MapSettings = MapSettings(),
    progress: Progress = silent,
) -> Table:
    """Write the tables of the map of an atlas that has neighbours.

    Args:
        atlas: with the table `neighbours`.
        directions: of its dictionary.
        piece: the text of a token.
        settings: how.
        progress: told of steps.

    Raises:
        InputError: when there are no neighbours, they are of another dictionary, or too few features.
        MissingDependencyError: without the extra `atlas`.
    """
    _library()
    neighbours.check(atlas, directions)
    table = neighbours.of(atlas)
    alive = atlas.features.column("count") > 0
    living = np.flatnonzero(alive)
    if len(living) < _FEWEST:
        raise InputError(
            f"A map needs {_FEWEST} features that were active on some token; this atlas has {len(living)}. "
            "Build it over more text."
        )
    similar = table.column("similar")[living]
    identity = {"map": atlas.record, "neighbours": table.record["files"], "settings": asdict(settings)}
    done = atlas.table("map")
    identity |= {"labels": labels.record["files"] if (labels := atlas.table("labels")) is not None else None}
    if done is not None and done.record["facts"]["identity"] == digests.of_json(identity):
        return done
    with neighbours.working(identity) as folder:
        components = principal(directions, living)
        layout = _laid_out(_places(similar, living), components, folder, progress)
        measured = quality(
            directions,
            living,
            similar,
            {
                "map": layout,
                "pca": components,
                "random": np.random.default_rng(settings.seed).random(layout.shape),
            },
        )
        unit = _into_unit(layout)
        cluster, centres = _clusters(unit, settings)
        wanted = {"cluster": cluster, "features": living}
        names = naming.names(atlas, cluster, living, len(centres), piece, seed=settings.seed)
        sizes = np.bincount(cluster, minlength=len(centres))
        centre = {"x": centres[:, 0].astype(np.float32), "y": centres[:, 1].astype(np.float32)}
        tables.write(atlas.place / "map_clusters", [{**names, "features": sizes, **centre}])
        points, index = tiles.cut(unit, wanted, first=naming.labelled(atlas, living), seed=settings.seed)
        tables.write(atlas.place / "map_points", [points], rows_per_group=1024)
        tables.write(atlas.place / "map_tiles", [index])
        whole = {
            "x": np.full(len(alive), np.nan, np.float32),
            "y": np.full(len(alive), np.nan, np.float32),
            "cluster": np.full(len(alive), -1, np.int32),
        }
        whole["x"][living], whole["y"][living], whole["cluster"][living] = unit[:, 0], unit[:, 1], cluster
        facts = {
            "dictionary": directions.digest,
            "identity": digests.of_json(identity),
            "left_out": int((~alive).sum()),
            "named_by": "tokens" if naming.by_model(atlas) is None else "labels",
            **asdict(settings),
            "quality": measured,
        }
        return tables.write(atlas.place / "map", [whole], facts=facts)


def principal(directions: Directions, living: np.ndarray) -> np.ndarray:
    """[n, 2] the two first principal components of the directions of some features."""
    total, square = np.zeros(directions.width), np.zeros((directions.width, directions.width))
    parts = np.array_split(living, -(-len(living) // _ROWS_AT_ONCE))
    for part in parts:
        rows = directions.take(part)
        total += rows.sum(0, dtype=np.float64)
        square += rows.T @ rows
    mean = total / len(living)
    _, vectors = np.linalg.eigh(square / len(living) - np.outer(mean, mean))
    axes = vectors[:, -1:-3:-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), [0, 1]])
    return np.concatenate([(directions.take(p) - mean.astype(np.float32)) @ axes for p in parts])


def quality(
    directions: Directions, living: np.ndarray, similar: np.ndarray, layouts: dict[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    """How much of what is near in full is near in two dimensions, over a sample of features.

    Args:
        directions: of the dictionary.
        living: [n] the features laid out.
        similar: [n, K] the nearest of each by direction.
        layouts: [n, 2] each.

    Returns:
        For each layout `kept`, the share of the K nearest that are among the K nearest there, and
        `trustworthiness`: 1 less what those that are near only there are too far down the true order, 0.5 by
        chance.
    """
    from scipy.spatial import cKDTree

    count, near = len(living), similar.shape[1]
    rng = np.random.default_rng(0)
    sample = np.sort(rng.choice(count, min(_SAMPLE, count), replace=False))
    query = directions.take(living[sample])
    shown: dict[str, np.ndarray] = {}
    for name, layout in layouts.items():
        _, found = cKDTree(layout).query(layout[sample], near + 1)
        # Itself first, except where others lie on the same place.
        own = np.where((found == sample[:, None]).any(1), (found == sample[:, None]).argmax(1), near)
        shown[name] = np.stack([np.delete(row, at) for row, at in zip(found, own, strict=True)])
    cosines = {
        name: np.stack([directions.take(living[row]) @ q for row, q in zip(found, query, strict=True)])
        for name, found in shown.items()
    }
    closer = {name: np.zeros(found.shape, np.int64) for name, found in shown.items()}
    for part in np.array_split(living, -(-count // _ROWS_AT_ONCE)):
        products = np.sort(query @ directions.take(part).T, axis=1)
        for name, own in cosines.items():
            for i, row in enumerate(products):
                closer[name][i] += len(row) - np.searchsorted(row, own[i] + 1e-6, side="right")
    worst = len(sample) * near * (2 * count - 3 * near - 1) / 2
    return {
        name: {
            "kept": float(
                np.mean([np.isin(living[f], s).mean() for f, s in zip(found, similar[sample], strict=True)])
            ),
            # The feature itself is closer than all others, so that the count is the rank.
            "trustworthiness": float(1 - np.maximum(closer[name] - near, 0).sum() / worst),
        }
        for name, found in shown.items()
    }


def _library() -> Any:
    try:
        import openTSNE
    except ImportError as error:
        raise MissingDependencyError("openTSNE", "atlas", "A map") from error
    return openTSNE


def _places(similar: np.ndarray, living: np.ndarray) -> np.ndarray:
    """The neighbours [n, K] as places among the living."""
    return np.searchsorted(living, similar)


def _laid_out(near: np.ndarray, begin: np.ndarray, folder: Path, progress: Progress) -> np.ndarray:
    from openTSNE import TSNEEmbedding, affinity
    from scipy.sparse import csr_matrix

    count, many = near.shape
    ones = np.full(near.size, 1 / (2 * near.size), np.float64)
    graph = csr_matrix((ones, near.ravel(), np.arange(0, near.size + 1, many)), shape=(count, count))
    weights = affinity.PrecomputedAffinities((graph + graph.T).tocsr(), normalize=False)
    del graph
    state, at = folder / "layout.npz", 0
    layout = TSNEEmbedding(
        begin / begin[:, 0].std() * 1e-4,
        weights,
        negative_gradient_method="bh" if count < _FEW else "fft",
        n_jobs=1,
        random_state=0,
        learning_rate="auto",
    )
    if state.exists():
        with np.load(state, allow_pickle=False) as bundle:
            layout[:] = bundle["layout"]
            layout.optimizer.gains, layout.optimizer.update = bundle["gains"], bundle["update"]
            at = int(bundle["at"])
    while at < _EARLY + _STEPS:
        early = at < _EARLY
        if at == _EARLY:
            layout.optimizer.gains = layout.optimizer.update = None
        layout.optimize(
            _STEPS_AT_ONCE,
            exaggeration=_EXAGGERATION if early else 1,
            momentum=0.5 if early else 0.8,
            inplace=True,
        )
        at += _STEPS_AT_ONCE
        with files.replacing(state) as file:
            np.savez(
                file,
                layout=np.asarray(layout),
                gains=layout.optimizer.gains,
                update=layout.optimizer.update,
                at=at,
            )
        progress("layout", at, _EARLY + _STEPS)
    return np.array(layout)


def _into_unit(layout: np.ndarray) -> np.ndarray:
    """The same with both coordinates in [0, 1), shape kept."""
    low, high = layout.min(0), layout.max(0)
    side = float((high - low).max()) * (1 + 1e-6)
    unit: np.ndarray = (
        ((layout - (low + high) / 2) / side + 0.5).clip(0, np.nextafter(1, 0)).astype(np.float32)
    )
    return unit.clip(0, np.nextafter(np.float32(1), np.float32(0)))


def _clusters(unit: np.ndarray, settings: MapSettings) -> tuple[np.ndarray, np.ndarray]:
    """The cluster of each place, and the centres."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    number = settings.clusters or int(np.clip(np.sqrt(len(unit)) / 4, 8, 256))
    rng = np.random.default_rng(settings.seed)
    sample = rng.choice(len(unit), min(_KMEANS_SAMPLE, len(unit)), replace=False)
    # One thread: sums of several threads differ in their last bits from run to run.
    with threadpool_limits(1):
        found = KMeans(min(number, len(unit)), n_init=1, random_state=settings.seed).fit(
            unit[np.sort(sample)]
        )
        cluster = found.predict(unit).astype(np.int32)
    return cluster, found.cluster_centers_
