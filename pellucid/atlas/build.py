"""Building atlases: one pass over stored text, for one dictionary or several, memory bounded by a setting.

The model reads rows of text in ascending order. What each dictionary finds is gathered until it fills a
segment (`segments`); segments are merged into tables (`postings`), features are turned up (`promoted`), and
`atlas.json` is written last, so that an atlas is whole or absent.

Work lies in a folder of its own until then: `.building` in the first atlas, or in the cache where that is
in an object store. A build that was killed at any moment goes on there with the same call, to the same bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pellucid.activations.reading import Reader, RowPool
from pellucid.activations.tokens import TokenStore
from pellucid.atlas import postings, promoted, tables
from pellucid.atlas.segments import BYTES_PER_POSTING, Gathering, Segment, Segments
from pellucid.atlas.tables import Columns, Table
from pellucid.core import digests, files, paths
from pellucid.core.errors import InputError
from pellucid.core.places import Place
from pellucid.core.progress import Progress, silent
from pellucid.core.runs import RunFolder
from pellucid.dictionaries.base import Dictionary

FORMAT = 2
RECORD = "atlas.json"
_WORK = ".building"
_ROWS_AT_ONCE = 64
_FEATURES_AT_ONCE = 8192
_EFFECTS = dict.fromkeys(
    ("promoted", "promoted_scores", "suppressed", "suppressed_scores"), "BYTE_STREAM_SPLIT"
)


@dataclass(frozen=True)
class AtlasSettings:
    """What an atlas keeps of each feature, and what building it may take."""

    examples: int = 12
    """Top examples, each from another row."""
    per_band: int = 4
    """Examples of each of the five bands from weak to strong."""
    promoted: int = 32
    """Promoted tokens, and as many suppressed ones; 0 measures none."""
    postings: bool = True
    """Keep the index itself, beside what it says of each feature."""
    memory_bytes: int = 1 << 29
    """For what is sorted or merged at a time, beyond the model, the dictionaries and what they compute."""

    @property
    def kept(self) -> dict[str, Any]:
        """What two atlases have in common that are the same."""
        return {name: value for name, value in asdict(self).items() if name != "memory_bytes"}

    @property
    def postings_at_once(self) -> int:
        """So many are sorted or merged at a time."""
        return max(1, self.memory_bytes // BYTES_PER_POSTING)


@dataclass(frozen=True)
class Target:
    """A dictionary, what reads for it, and where its atlas goes."""

    dictionary: Dictionary
    reader: Reader
    address: str | Path
    """A folder that does not exist yet or is empty, or the URL of one in an object store."""


def build(
    targets: Sequence[Target],
    rows: np.ndarray,
    *,
    settings: AtlasSettings = AtlasSettings(),
    progress: Progress = silent,
    then: Callable[[Target], None] | None = None,
) -> None:
    """Read rows of the readers' store, given by their numbers, once, and write an atlas for each target.

    Args:
        targets: their readers read one model and one store.
        rows: [rows] numbers of training rows in that token store.
        settings: what to keep.
        progress: told of tokens read, of features merged, and of features turned up.
        then: called for each target when its atlas is written. A build that was killed there calls it again.

    Raises:
        InputError: when a dictionary and its reader are not for the same model and sites, there are no rows,
            or an address is taken.
    """
    for target in targets:
        _check(target, targets[0].reader)
    rows = np.unique(rows)
    if len(rows) == 0:
        raise InputError("There is no text to build an atlas from.")
    places = [Place.of(target.address) for target in targets]
    work = _work_folder(targets[0].address)
    done = _done(work)
    if done.exists():
        # Killed when all was written: nothing is left to do but this.
        shutil.rmtree(done)
        return
    check_addresses([target.address for target in targets])
    identity = _identity(targets, rows, settings)
    with RunFolder.open(work, identity=identity) as run:
        segments = _read(targets, rows, run.path, settings, progress)
        for number, (target, place) in enumerate(zip(targets, places, strict=True)):
            if place.size(RECORD) is None:
                _write(target, place, number, segments, rows, run.path, settings, progress)
            for name in place.names():
                if name.startswith(f".{RECORD}."):  # half a record, of a build that was killed
                    place.remove(name)
            if then is not None:
                then(target)
        work.rename(done)
    shutil.rmtree(done)


def is_whole(address: str | Path) -> bool:
    """Whether an atlas is there, and no build of it was killed before its end."""
    work = _work_folder(address)
    return Place.of(address).size(RECORD) is not None and not work.exists() and not _done(work).exists()


def check_addresses(addresses: Sequence[str | Path]) -> None:
    """Whether atlases can be written there, or a build of them goes on.

    Raises:
        InputError: when something else is there.
    """
    work = _work_folder(addresses[0])
    if (work / "run.json").exists() or _done(work).exists():
        return
    for address in addresses:
        if _taken(address):
            raise InputError(f"{str(address)!r} exists already. Choose another name, or remove it first.")


def decoder_digest(dictionary: Dictionary) -> str:
    """Names the features of a dictionary by their decoder directions."""
    return _digest(dictionary.decoder)


def _digest(rows: torch.Tensor) -> str:
    return digests.of_bytes(memoryview(rows.cpu().contiguous().numpy().data).cast("B"))


def rows_of(total: int, wanted: int | None, *, seed: int = 0) -> np.ndarray:
    """Numbers of rows to read: all, or so many at random."""
    numbers = np.random.default_rng(seed).permutation(total)
    return numbers if wanted is None else numbers[:wanted]


def _check(target: Target, first: Reader) -> None:
    ports, reader = target.dictionary.ports, target.reader
    if ports.beside:
        raise InputError("An atlas is of one model, and this dictionary reads two.")
    if target.dictionary.model_digest != reader.model.digest or ports.reads != reader.sites:
        read = ", ".join(map(str, reader.sites))
        raise InputError(f"The dictionary is for {ports} of another model than the one read at {read}.")
    if reader.model.digest != first.model.digest or reader.store.digest != first.store.digest:
        raise InputError("Dictionaries share a reading if they are of one model and one text.")


def _is_local(address: str | Path) -> bool:
    return "://" not in str(address)


def _taken(address: str | Path) -> bool:
    """Whether there is an atlas, or, on this machine, anything but what we left there ourselves."""
    folder = Path(address).expanduser()
    if _is_local(address) and folder.exists():
        return not folder.is_dir() or any(p.name != _WORK for p in folder.iterdir())
    return Place.of(address).size(RECORD) is not None


def _work_folder(address: str | Path) -> Path:
    if _is_local(address):
        return Path(address).expanduser() / _WORK
    return paths.home() / "building" / digests.short(digests.of_json(str(address)))


def _done(work: Path) -> Path:
    return work.with_name(f"{work.name}.done")


def _identity(targets: Sequence[Target], rows: np.ndarray, settings: AtlasSettings) -> dict[str, Any]:
    reader = targets[0].reader
    return {
        "format": FORMAT,
        "settings": settings.kept,
        "model": reader.model.digest,
        "precision": str(reader.model.dtype).removeprefix("torch."),
        "store": reader.store.digest,
        "rows": digests.of_bytes(rows.astype(np.int64).tobytes()),
        "atlases": [
            {
                "address": str(t.address),
                "dictionary": decoder_digest(t.dictionary),
                "encoder": _digest(t.dictionary.encoder),
                "seed": t.reader.seed,
            }
            for t in targets
        ],
    }


def _read(
    targets: Sequence[Target], rows: np.ndarray, work: Path, settings: AtlasSettings, progress: Progress
) -> list[Segment]:
    """All segments: those that are there, and what is missing."""
    folder = work / "segments"
    segments = (
        [Segment.open(p) for p in sorted(folder.iterdir()) if p.name.isdecimal()] if folder.is_dir() else []
    )
    at = int(segments[-1].record["stop"]) if segments else 0
    model, store = targets[0].reader.model, targets[0].reader.store
    sites = tuple(dict.fromkeys(site for t in targets for site in t.reader.sites))
    columns = [_columns_of(t.reader, sites) for t in targets]
    encoders = [t.dictionary.to(model.device) for t in targets]
    pool = RowPool(model, sites)
    while at < len(rows):
        first = at
        gathered = [Gathering(store.length, len(model.tokenizer)) for _ in targets]
        while at < len(rows) and sum(g.postings for g in gathered) < settings.postings_at_once:
            numbers = rows[at : at + _ROWS_AT_ONCE]
            ids = np.asarray(store.tokens[numbers]).astype(np.int64)
            tokens = torch.from_numpy(ids).to(model.device)
            activations = pool.read(tokens)
            for target, chosen, encoder, gathering in zip(targets, columns, encoders, gathered, strict=True):
                own = activations if chosen is None else activations[..., chosen]
                keep = target.reader.usable(tokens, own)
                codes = encoder.encode(own[keep]).to("cpu")
                gathering.add(
                    numbers, ids, keep.cpu().numpy(),
                    codes.offsets.numpy(), codes.features.numpy(), codes.values.numpy(),
                )  # fmt: skip
            at += len(numbers)
            progress("atlas", at * store.length, len(rows) * store.length)
        with files.new_folder(folder / f"{first:09d}") as partial:
            facts = [gathering.write(partial, number) for number, gathering in enumerate(gathered)]
            files.write_json(partial / "segment.json", {"first": first, "stop": at, "dictionaries": facts})
        segments.append(Segment.open(folder / f"{first:09d}"))
    return segments


def _columns_of(reader: Reader, sites: Sequence[Any]) -> torch.Tensor | None:
    """Which columns of what is read at all sites are a reader's; none for all."""
    if tuple(sites) == reader.sites:
        return None
    width = reader.model.width
    return torch.cat([torch.arange(width) + width * sites.index(site) for site in reader.sites])


def _write(
    target: Target,
    place: Place,
    number: int,
    segments: Sequence[Segment],
    rows: np.ndarray,
    work: Path,
    settings: AtlasSettings,
    progress: Progress,
) -> None:
    """All tables of one atlas, and its record."""
    dictionary, reader, store = target.dictionary, target.reader, target.reader.store
    own = work / str(number)
    own.mkdir(exist_ok=True)
    mine = Segments(segments, number)
    made = postings.write(
        mine,
        place,
        store,
        rows,
        dictionary.num_features,
        examples=settings.examples,
        per_band=settings.per_band,
        keep=settings.postings,
        memory_bytes=settings.memory_bytes,
        journals=own,
        progress=progress,
    )
    if settings.promoted:
        units = dictionary.maximum
        if units is None:
            units = torch.from_numpy(made["features"].column("maximum"))
        made["effects"] = _effects(target, place, units, own / "effects", settings.promoted, progress)
    known = {
        "features": dictionary.num_features,
        "model": dictionary.model_digest,
        "site": str(dictionary.ports),
        "precision": str(reader.model.dtype).removeprefix("torch."),
        "dictionary": decoder_digest(dictionary),
    }
    place.write_json(RECORD, record_of(known, store, rows, mine, settings, made))


def record_of(
    known: Mapping[str, Any],
    store: TokenStore,
    rows: np.ndarray,
    segments: Segments,
    settings: AtlasSettings,
    made: Mapping[str, Table],
) -> dict[str, Any]:
    """The record of an atlas.

    Args:
        known: of dictionary and model: `features`, `model`, `site`, `precision`, `dictionary`.
        store: the text.
        rows: numbers of the rows that were read, ascending.
        segments: all postings.
        settings: what was kept.
        made: the tables.
    """
    kept = np.concatenate(list(segments.facts("kept", np.int32)))
    by_source = np.bincount(store.sources[rows], kept, minlength=len(store.record["sources"]))
    return {
        "format": FORMAT,
        **known,
        "store": store.digest,
        "length": store.length,
        "rows": len(rows),
        "tokens": int(kept.sum()),
        "postings": len(segments),
        "sources": [
            {"spec": source["spec"], "tokens": int(count)}
            for source, count in zip(store.record["sources"], by_source, strict=True)
        ],
        "position_tokens": segments.positions.tolist(),
        "settings": settings.kept,
        "tables": {name: digests.of_json(table.record) for name, table in made.items()},
    }


def _going_on(progress: Progress, before: int, total: int) -> Progress:
    """Tells of a part of a stage as part of the whole."""

    def told(stage: str, done: float, _total: float, /, **figures: float) -> None:
        progress(stage, before + done, total, **figures)

    return told


def _effects(
    target: Target, place: Place, units: torch.Tensor, parts: Path, count: int, progress: Progress
) -> Table:
    """The table `effects`, measured in parts that are kept until all are there."""
    parts.mkdir(exist_ok=True)
    total = target.dictionary.num_features
    found: list[Path] = []
    for at in range(0, total, _FEATURES_AT_ONCE):
        path = parts / f"{at:012d}.npz"
        found.append(path)
        if path.exists():
            continue
        effects = promoted.measure(
            target.reader.model,
            target.dictionary,
            units,
            features=range(at, min(total, at + _FEATURES_AT_ONCE)),
            count=count,
            progress=_going_on(progress, at, total),
        )
        with files.replacing(path) as file:
            np.savez(
                file,
                promoted=effects.promoted.int().numpy(),
                promoted_scores=effects.promoted_scores.half().numpy(),
                suppressed=effects.suppressed.int().numpy(),
                suppressed_scores=effects.suppressed_scores.half().numpy(),
            )

    def block(path: Path) -> Columns:
        with np.load(path, allow_pickle=False) as bundle:
            return {name: bundle[name] for name in bundle.files}

    return tables.write(place / "effects", map(block, found), encodings=_EFFECTS)
