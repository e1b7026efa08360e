"""What lies near a feature, at a million features: how fast, how surely, in how much memory, how good a map.

    search      the nearest of a million directions of 576 numbers to a feature, to the sum of two, and to a
                random direction: time of one query (processor time of one thread, and time on the clock), and
                recall at 10 against all products. Beside it, on as many directions as --peers says and where
                they install, usearch and hnswlib (graphs), and faiss (RaBitQ, and 8-bit numbers, scanned).
    neighbours  all neighbours by direction of a million features in cells: processor time of --parts of the
                cells and what that makes for all, recall, and the largest memory of the process.
    map         kept neighbours and trustworthiness on the directions of the shipped dictionary, of t-SNE,
                UMAP where it is installed, two principal components and random places.
    layout      processor time of 50 steps of the layout at a million features, and the largest memory.
    whole       all of it at a million features: an atlas of drawn codes (--tokens of them), its neighbours by
                direction and by firing, and its map; seconds of each stage on the clock and on the processor,
                memory, recall and the map's quality. Killed, it goes on. Only when it is asked for: it takes
                hours.

The million directions are made: around each of the shipped dictionary's 16,384 lie families of families,
with noise of the dictionary's own covariance. What a trained dictionary of that width looks like is not
known here; random directions, the other end, are measured with --structure none.

The bar: a query under 50 ms with a recall at 10 of 0.95 or more.

    python benchmarks/atlas_near.py [search|neighbours|map|layout|whole] [--features 1000000] [--peers 100000]
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from atlas import drawn_atlas

from pellucid.atlas import build as building
from pellucid.atlas import map as mapping
from pellucid.atlas import nearest
from pellucid.atlas import neighbours as finding
from pellucid.atlas.directions import Directions
from pellucid.atlas.pages import Atlas
from pellucid.atlas.search import Search
from pellucid.cli import printing
from pellucid.core import paths
from pellucid.dictionaries import shipped

QUERIES = 100
AT_ONCE = 65_536


def made(count: int, structure: str) -> Directions:
    """So many directions, written to the cache once, as a dictionary that is nothing but a decoder."""
    folder = paths.home() / "benchmarks" / f"directions-{structure}-{count}"
    path = folder / "dictionary.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        real = torch.from_numpy(Directions.open(shipped.resolve("smollm2")).block(0, 16_384))
        g = torch.Generator().manual_seed(0)
        root = torch.linalg.cholesky(torch.cov(real.T) + 1e-7 * torch.eye(real.shape[1]))

        def noise(rows: int) -> torch.Tensor:
            return torch.nn.functional.normalize(torch.randn(rows, len(root), generator=g) @ root.T, dim=1)

        header = {"decoder": {"dtype": "F32", "shape": [count, 576], "data_offsets": [0, count * 576 * 4]}}
        text = json.dumps(header).encode()
        each = max(1, count // 8 // len(real))
        children, order = noise(each * len(real)), torch.randperm(count, generator=g)
        with path.with_suffix(".partial").open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for at in range(0, count, AT_ONCE):
                leaf = order[at : at + AT_ONCE]
                own = noise(len(leaf))
                if structure == "families":
                    base, child = leaf % len(real), leaf // len(real) % each
                    near, far = torch.rand(2, len(leaf), 1, generator=g)
                    middle = children[base * each + child]
                    own = real[base] + (0.4 + 0.6 * near) * middle + (0.3 + 0.9 * far) * own
                file.write(torch.nn.functional.normalize(own, dim=1).numpy().tobytes())
        path.with_suffix(".partial").rename(path)
    return Directions.open(folder)


def questions(among: Directions) -> dict[str, np.ndarray]:
    """Queries of three kinds."""
    rng = np.random.default_rng(0)
    some = among.take(np.sort(rng.choice(among.count, 2 * QUERIES, replace=False)))
    return {
        "a feature": some[:QUERIES],
        "the sum of two": some[:QUERIES] + some[QUERIES:],
        "a random direction": rng.standard_normal((QUERIES, among.width), dtype=np.float32),
    }


def exact(among: Directions, queries: np.ndarray, count: int = 10) -> np.ndarray:
    """The nearest of each query by all products."""
    best, ids = torch.full((len(queries), count), -2.0), torch.zeros(len(queries), count, dtype=torch.int64)
    unit = torch.nn.functional.normalize(torch.from_numpy(queries), dim=1)
    for at in range(0, among.count, AT_ONCE):
        products = unit @ torch.from_numpy(among.block(at, min(among.count, at + AT_ONCE))).T
        values, places = products.topk(count, dim=1)
        best, chosen = torch.cat([best, values], 1).topk(count, dim=1)
        ids = torch.cat([ids, places + at], 1).gather(1, chosen)
    return ids.numpy()


def asked(
    ask: Callable[[np.ndarray], np.ndarray], queries: np.ndarray, wanted: np.ndarray
) -> dict[str, float]:
    """Milliseconds of a query on the processor and on the clock (medians), and recall."""
    ask(queries[0])
    own, clock, recall = [], [], []
    for query, known in zip(queries, wanted, strict=True):
        began, started = time.process_time(), time.perf_counter()
        found = ask(query)
        clock.append(time.perf_counter() - started)
        own.append(time.process_time() - began)
        recall.append(np.isin(known, found).mean())
    own_ms, clock_ms = (1e3 * float(np.median(times)) for times in (own, clock))
    return {"ms": own_ms, "clock": clock_ms, "recall": float(np.mean(recall))}


def search(args: argparse.Namespace) -> None:
    among = made(args.features, args.structure)
    numba.set_num_threads(1)
    torch.set_num_threads(1)
    began = time.process_time()
    found = Search.build(among)
    built = time.process_time() - began
    rows = []
    for kind, queries in questions(among).items():
        told = asked(lambda q: found.nearest(q, 10)[0], queries, exact(among, queries))
        rows.append((kind, f"{told['ms']:.1f}", f"{told['clock']:.1f}", f"{told['recall']:.4f}"))
        met = told["ms"] < 50 and told["recall"] >= 0.95
        print(f"bar, {kind}: under 50 ms at recall 0.95 or more: {'met' if met else 'not met'}")
    size = f"{built:.0f} s to build, {found.codes.nbytes / 1e6:.0f} MB"
    title = f"signs of {among.count:,} directions ({args.structure}): {size}"
    printing.table(["query", "ms of one thread", "ms on the clock", "recall at 10"], rows, title=title)
    if args.peers:
        peers(made(args.features, args.structure), args.peers)


def peers(whole: Directions, count: int) -> None:
    """Libraries for the same, on the first so many directions."""
    rows = whole.block(0, min(count, whole.count))
    among = Directions(torch.from_numpy(rows))
    queries = questions(among)
    wanted = {kind: exact(among, q) for kind, q in queries.items()}
    table = []
    for name, make in PEERS.items():
        began = time.process_time()
        try:
            ask = make(among, rows)
        except ImportError:
            print(f"{name} is not installed")
            continue
        built = time.process_time() - began
        for kind, asked_for in queries.items():
            told = asked(ask, asked_for, wanted[kind])
            table.append((name, f"{built:.0f}", kind, f"{told['ms']:.2f}", f"{told['recall']:.3f}"))
    heads = ["", "s to build", "query", "ms", "recall at 10"]
    printing.table(heads, table, title=f"{len(rows):,} directions, one thread")


def _signs(among: Directions, _rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    found = Search.build(among)
    return lambda q: found.nearest(q, 10)[0]


def _usearch(_among: Directions, rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    made_by = importlib.import_module("usearch.index").Index
    index = made_by(ndim=rows.shape[1], metric="cos", dtype="i8", expansion_search=256)
    index.add(np.arange(len(rows)), rows, threads=1)
    return lambda q: np.asarray(index.search(q / np.linalg.norm(q), 10, threads=1).keys)


def _hnswlib(_among: Directions, rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    index = importlib.import_module("hnswlib").Index(space="cosine", dim=rows.shape[1])
    index.init_index(max_elements=len(rows), ef_construction=128, M=16)
    index.set_num_threads(1)
    index.add_items(rows)
    index.set_ef(256)
    return lambda q: np.asarray(index.knn_query(q, 10)[0][0])


def _faiss(make: Callable[[Any], Any], rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    faiss = importlib.import_module("faiss")
    faiss.omp_set_num_threads(1)
    index = make(faiss)
    index.train(rows[:20_000])
    index.add(rows)

    def ask(query: np.ndarray) -> np.ndarray:
        unit = query / np.linalg.norm(query)
        tried = index.search(unit[None], 640)[1][0]
        return np.asarray(tried[np.argsort(-(rows[tried] @ unit))[:10]])

    return ask


def _rabitq(_among: Directions, rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    return _faiss(lambda f: f.IndexRaBitQFastScan(rows.shape[1], f.METRIC_INNER_PRODUCT), rows)


def _bits(_among: Directions, rows: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    def make(faiss: Any) -> Any:
        kind = faiss.ScalarQuantizer.QT_8bit
        return faiss.IndexScalarQuantizer(rows.shape[1], kind, faiss.METRIC_INNER_PRODUCT)

    return _faiss(make, rows)


PEERS = {
    "signs (ours)": _signs,
    "usearch": _usearch,
    "hnswlib": _hnswlib,
    "faiss RaBitQ": _rabitq,
    "faiss 8 bits": _bits,
}


def neighbours(args: argparse.Namespace) -> None:
    among = made(args.features, args.structure)
    began = time.process_time()
    plan = nearest.plan(among, among)
    planned = time.process_time() - began
    began, done = time.process_time(), 0
    some = np.linspace(0, plan.parts - 1, min(args.parts, plan.parts)).astype(int)
    for number in some:
        done += len(plan.part(int(number))[0])
    spent = time.process_time() - began
    print(f"{among.count:,} features: {plan.facts}")
    total = planned + spent * among.count / done
    print(
        f"{planned:.0f} s of processor time to put into cells and to measure, {spent:.0f} s for {done:,} "
        f"features in {len(some)} of {plan.parts} parts: {total:,.0f} s in all; {memory()}"
    )


def map_(args: argparse.Namespace) -> None:
    among = Directions.open(shipped.resolve("smollm2"))
    living = np.arange(among.count)
    plan = nearest.plan(among, among)
    similar = np.concatenate([plan.part(n)[1] for n in range(plan.parts)])
    components = mapping.principal(among, living)
    spent: dict[str, float] = {}
    places = np.random.default_rng(0).random((among.count, 2))
    layouts = {"two principal components": components, "random places": places}
    began = time.process_time()
    folder = paths.home() / "benchmarks" / "layout"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "layout.npz").unlink(missing_ok=True)
    layouts["t-SNE (ours)"] = mapping._laid_out(similar, components, folder, lambda *_, **__: None)
    spent["t-SNE (ours)"] = time.process_time() - began
    try:
        umap = importlib.import_module("umap")
    except ImportError:
        print("UMAP is not installed")
    else:
        began = time.process_time()
        near = np.concatenate([living[:, None], similar], axis=1)
        rows = among.block(0, among.count)
        far = np.sqrt(np.maximum(0, 2 - 2 * np.einsum("nd,nkd->nk", rows, rows[similar]))).astype(np.float32)
        far = np.concatenate([np.zeros((len(far), 1), np.float32), far], axis=1)
        known = (near, far, None)
        made_by = umap.UMAP(precomputed_knn=known, n_neighbors=11, n_epochs=500, random_state=0, n_jobs=1)
        layouts["UMAP"] = made_by.fit_transform(components.astype(np.float32))
        spent["UMAP"] = time.process_time() - began
    found = mapping.quality(among, living, similar, layouts)
    rows_ = [
        (n, f"{q['kept']:.3f}", f"{q['trustworthiness']:.3f}", f"{spent.get(n, 0):.0f}")
        for n, q in found.items()
    ]
    printing.table(["", "neighbours kept", "trustworthiness", "s of processor time"], rows_)


def layout(args: argparse.Namespace) -> None:
    near = np.random.default_rng(0).integers(0, args.features, (args.features, 10))
    near = (np.arange(args.features)[:, None] // 50 * 50 + near % 50) % args.features
    begin = np.random.default_rng(1).standard_normal((args.features, 2))
    folder = paths.home() / "benchmarks" / "layout-million"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "layout.npz").unlink(missing_ok=True)
    began = time.process_time()

    class Enough(Exception):  # noqa: N818
        """Fifty steps were made."""

    def stop(*_: object, **__: object) -> None:
        raise Enough

    try:
        mapping._laid_out(near, begin, folder, stop)
    except Enough:
        spent = time.process_time() - began
        print(f"{args.features:,} features: {spent:.0f} s of processor time for 50 of 750 steps; {memory()}")


class Stages:
    """A `Progress` that prints what each stage took, when the next begins."""

    def __init__(self) -> None:
        self._stage = "begin"
        self._began = self._now()

    def __call__(self, stage: str, done: float, total: float, /, **figures: float) -> None:
        """As `Progress` says."""
        if stage != self._stage:
            self.end()
            self._stage = stage

    def end(self) -> None:
        """Print what the stage that is under way took."""
        clock, own = self._now()
        told = f"{clock - self._began[0]:,.0f} s on the clock, {own - self._began[1]:,.0f} s of the processor"
        print(f"until the end of {self._stage!r}: {told}; {memory()}", flush=True)
        self._began = clock, own

    @staticmethod
    def _now() -> tuple[float, float]:
        return time.perf_counter(), time.process_time()


def whole(args: argparse.Namespace) -> None:
    among = made(args.features, args.structure)
    folder = paths.home() / "benchmarks" / f"atlas-{args.structure}-{args.features}-{args.tokens}"
    stages = Stages()
    if not (folder / building.RECORD).exists():
        drawn_atlas(folder, args.features, args.tokens, digest=among.digest)
        stages("neighbours", 0, 1)
    opened = Atlas.open(folder)
    facts = finding.build(opened, among, progress=stages).record["facts"]
    stages("map", 0, 1)
    print(facts)
    table = mapping.build(Atlas.open(folder), among, str, progress=stages)
    stages.end()
    print({name: told for name, told in table.record["facts"].items() if name in ("quality", "left_out")})


def memory() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB at most"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("only", nargs="?", choices=["search", "neighbours", "map", "layout", "whole"])
    parser.add_argument("--features", type=int, default=1_000_000)
    parser.add_argument("--structure", choices=["families", "none"], default="families")
    parser.add_argument("--peers", type=int, default=100_000)
    parser.add_argument("--parts", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=4_000_000)
    chosen = parser.parse_args()
    if chosen.only == "whole":
        whole(chosen)
    for name, job in (("search", search), ("neighbours", neighbours), ("map", map_), ("layout", layout)):
        if chosen.only in (None, name):
            job(chosen)
