"""`pellucid train`: train a dictionary."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, Parameter

from pellucid.dictionaries.settings import Architecture

if TYPE_CHECKING:
    from pellucid.activations.reading import Reader
    from pellucid.activations.text import TextSource
    from pellucid.core.progress import Progress
    from pellucid.dictionaries.base import Dictionary
    from pellucid.dictionaries.files import Card
    from pellucid.dictionaries.ports import Ports
    from pellucid.dictionaries.training import Job, Position
    from pellucid.models.model import Model

app = App(name="train", help_format="plaintext")

_FEWEST_ROWS = 64
_WORTH_COMPILING = 5_000_000  # tokens
_SEVERAL = Parameter(consume_multiple=True, negative="", show_default=lambda given: " ".join(map(str, given)))


@app.default
def train(
    *,
    out: Path,
    text: Annotated[list[str], Parameter(consume_multiple=True, negative="")],
    model: str = "smollm2",
    site: Annotated[tuple[str, ...], _SEVERAL] = ("resid_post.13",),
    target: Annotated[tuple[str, ...], _SEVERAL] = (),
    skip: Annotated[bool, Parameter(negative="")] = False,
    beside: str | None = None,
    features: Annotated[tuple[str, ...], _SEVERAL] = ("4096",),
    k: Annotated[tuple[int, ...], _SEVERAL] = (32,),
    k_start: int | None = None,
    architecture: Annotated[tuple[Architecture, ...], _SEVERAL] = ("batchtopk",),
    visits: int | None = None,
    tokens: str = "1M",
    passes: int = 1,
    seed: int = 0,
    learning_rate: float | None = None,
    batch_tokens: int = 4096,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    compiled: Annotated[Literal["auto", "yes", "no"], Parameter(name="--compile")] = "auto",
    atlas_tokens: str = "500k",
    start: str | None = None,
    workers: int = 1,
    shards: int | None = None,
    cluster: Annotated[bool, Parameter(negative="")] = False,
    compact: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Train dictionaries on a model's activations.

    Stop it at any moment; the same command goes on where it was. Several values of --features, --k or
    --architecture train a dictionary for each combination, on one reading of the model.

    One --site makes a sparse autoencoder, several a crosscoder; with --target a transcoder, with several of
    both a cross-layer transcoder.

    Args:
        out: the run folder; the dictionary ends up in its folder `result`. Of several, each has a run folder
            in it, named after its architecture, features and k.
        text: text sources (files, folders, pypi:…, npm:…, deb:…, hf:…), or @FILE with one source a line.
        model: the model to read.
        site: the site to read it at, or several.
        target: the site to write, where that is another: one for each that is read.
        skip: with one target, also learn a linear map to it.
        beside: a second model, to learn one dictionary of both: what one has and the other lacks.
        features: how many features the dictionary has, such as 16384 or 16k.
        k: how many features are active on a token, whatever the architecture.
        k_start: k at the first step, falling to k over the first tenth of the run.
        architecture: topk keeps k on every token, the others k on average.
        visits: divide the features into about as many groups as a group has features, and look for those of a
            token in so many groups, such as 16, instead of in all: the cost grows with the root of the width.
        tokens: how many tokens to train on, such as 25M.
        passes: how many times the text may be read for that, each time in another order.
        seed: fixes the start and the order.
        learning_rate: the peak rate; by default derived from the width.
        batch_tokens: tokens per step.
        precision: what the model computes in.
        compiled: compile the model's layers for reading: a minute to begin, then a third more tokens a
            second; auto does it for 5M tokens or more, on a processor with a C++ compiler.
        atlas_tokens: how much of the text the feature pages are drawn from.
        start: a dictionary of the same size to begin from; on the text it was trained on, reading goes on
            where it ended.
        workers: how many processes share the reading and the training.
        shards: over how many of the workers the features are shared out, and over the others the rows of a
            batch; by default over all.
        cluster: place the workers on a Ray cluster: that of RAY_ADDRESS, or one on this machine.
        compact: write int8 rows, a quarter of the size.
        json: print the quality as JSON.
    """
    from pellucid.activations.precision import precision_error
    from pellucid.activations.reading import Reader
    from pellucid.activations.tokens import TokenStore
    from pellucid.atlas import build as building
    from pellucid.atlas import neighbours
    from pellucid.cli import printing
    from pellucid.core.errors import InputError
    from pellucid.core.numbers import parse_count
    from pellucid.core.runs import RunFolder
    from pellucid.dictionaries import files, shipped, training
    from pellucid.dictionaries.settings import TrainSettings
    from pellucid.models.model import load

    size = _crew_size(workers)
    if size is None:
        return None
    wanted = {
        f"{kind}-{count}-k{active}": TrainSettings(
            features=parse_count(count),
            k=active,
            k_start=k_start,
            architecture=kind,
            visits=visits,
            tokens=parse_count(tokens),
            batch_tokens=batch_tokens,
            seed=seed,
            learning_rate=learning_rate,
            skip=skip,
        ).resolved()
        for kind, count, active in product(architecture, features, k)
    }
    if start is not None and len(wanted) > 1:
        raise InputError(
            "A dictionary to start from serves one run. Give one --features, --k, --architecture."
        )
    folders = [out] if len(wanted) == 1 else [out / name for name in wanted]
    sources = read_sources(text)
    network = load(model, precision=precision)
    other = None if beside is None else load(beside, precision=precision)
    ports = _ports(site, target, other)
    begun = None if start is None else files.load(shipped.resolve(start), model_digest=network.digest)
    cards: dict[str, Card] = {}
    with printing.progress(quiet=json) as progress, ExitStack() as held:
        store = TokenStore.build(network, sources, progress=progress)
        if not len(store.heldout):
            raise InputError("The text is too short to hold any of it out for measuring. Give more text.")
        first, *further = dict.fromkeys(ports.sites)
        reader = Reader(
            network,
            store,
            first,
            batch_tokens=batch_tokens,
            block_rows=max(_FEWEST_ROWS, Reader.block_rows // len(ports.sites)),
            seed=seed,
            further=tuple(further),
            beside=other,
            compiled=compiled == "yes"
            or (compiled == "auto" and _pays(min(parse_count(tokens), passes * store.tokens.size), network)),
            passes=passes,
        )
        order = {"corpus": store.digest, "seed": seed, "batch_tokens": batch_tokens}
        earlier, position = _earlier(begun[1], ports, order) if begun else ([], (0, 0))
        identity = {
            **({"start": begun[1]["digests"]["dictionary.safetensors"]} if begun else {}),
            "model": network.digest,
            "precision": str(network.dtype),
            "site": str(ports),
            **({} if other is None else {"beside": other.digest}),
            "tokens": store.digest,
            **({"compiled": True} if reader.compiled else {}),
        }
        jobs = []
        for folder, settings in zip(folders, wanted.values(), strict=True):
            itself = {**identity, "settings": settings.as_json()}
            run = held.enter_context(RunFolder.open(folder, identity=itself, facts=training.versions()))
            jobs.append(training.Job(settings, run, begun[0] if begun else None, ports))
        unfinished = [job for job in jobs if not job.run.result.exists()]
        if unfinished and not json:
            printing.note(precision_error(network, model, store, ports.writes[-1]).sentence())
        trained, position = _train(size, shards, cluster, reader, unfinished, position, progress)
        _tell(unfinished, batch_tokens, json=json)
        facts: dict[str, Any] = {
            "model_reference": model,
            **({} if beside is None else {"beside_reference": beside}),
            "precision": str(network.dtype).removeprefix("torch."),
            "corpus": {"digest": store.digest, "sources": store.record["sources"]},
            "order": {**order, "position": position},
            "earlier": earlier,
        }
        for job, dictionary in zip(unfinished, trained, strict=True):
            _keep(dictionary, job, reader, {**facts, **_own_facts(job, earlier)}, progress, compact=compact)
        rows = building.rows_of(len(store.tokens), -(-parse_count(atlas_tokens) // store.length))
        again = Reader(network, store, ports.reads[0], seed=seed, further=ports.reads[1:])
        for name, job in zip(wanted, jobs, strict=True):
            dictionary, cards[name] = files.load(job.run.result, model_digest=network.digest)
            if other is None and not building.is_whole(address := job.run.result / "atlas"):
                neighbours.with_atlas([building.Target(dictionary, again, address)], rows, progress=progress)
    return _report(cards, out, json=json)


def _pays(tokens: int, network: Model) -> bool:
    """Whether compiling the layers takes less time than it saves."""
    from pellucid.models.compiling import can_compile

    return tokens >= _WORTH_COMPILING and can_compile(network.device)


def _tell(jobs: list[Job], batch_tokens: int, *, json: bool) -> None:
    """What whoever started the training should know of how it went."""
    from pellucid.cli import printing
    from pellucid.dictionaries.training import Spent

    for sentence in (note for job in jobs for note in job.run.notes):
        printing.note(sentence)
    if jobs and not json:
        printing.note(Spent.sentence(jobs[0].run, batch_tokens))


def _crew_size(workers: int) -> int | None:
    """How many workers train; none if this process is one of torchrun's that follow, and has done so."""
    from pellucid.core.errors import InputError
    from pellucid.dictionaries import launch

    if launch.under_torchrun():
        rank, workers = launch.join_torchrun()
        if rank > 0:
            launch.follow()
            return None
    if workers < 1:
        raise InputError(f"There must be one worker at least; got {workers}.")
    return workers


def _train(
    workers: int,
    shards: int | None,
    cluster: bool,
    reader: Reader,
    jobs: list[Job],
    position: Position,
    progress: Progress,
) -> tuple[list[Dictionary], Position]:
    """Bring runs to their end, by many workers or here."""
    from pellucid.dictionaries import cluster as clusters
    from pellucid.dictionaries import launch, training
    from pellucid.dictionaries.assignment import Assignment

    if workers > 1 or cluster:
        together = workers if shards is None else shards
        for job in jobs:
            job.run.latest_checkpoint()  # a damaged one is put aside, and noted, before any worker looks
        work = Assignment.of(reader, jobs, position=position, workers=workers, shards=together).work
        if launch.under_torchrun():
            launch.hand_out(work if jobs else launch.rest, progress=progress)
        elif jobs and cluster:
            clusters.launch(work, workers, jobs=jobs, progress=progress)
        elif jobs:
            launch.launch(work, workers, progress=progress)
    # What many have done is the last checkpoint, from which this goes on: to the end of the run, that is.
    if not jobs:
        return [], position
    return training.train_together(reader, jobs, position=position, progress=progress)


def _keep(
    dictionary: Dictionary,
    job: Job,
    reader: Reader,
    facts: dict[str, Any],
    progress: Progress,
    *,
    compact: bool,
) -> None:
    """Measure a trained dictionary and write it."""
    from pellucid.dictionaries import diffing, files, quality

    held = reader.store.heldout
    measured: dict[str, Any] = {
        "quality": quality.measure(dictionary, reader, held, progress=progress).as_json()
    }
    if reader.beside is not None:
        apart = diffing.difference(dictionary, reader, held, progress=progress)
        measured["difference"] = apart.as_json()
    files.save(
        dictionary,
        job.run.result,
        card={**facts, **measured},
        fixture=dictionary.ports.read(reader.sample(32).float()),
        compact=compact,
    )


def _report(cards: dict[str, Card], out: Path, *, json: bool) -> None:
    from pellucid.cli import printing
    from pellucid.cli.quality import print_comparison, print_quality

    if json:
        values = {name: card.values for name, card in cards.items()}
        return printing.as_json(values if len(values) > 1 else values.popitem()[1])
    if len(cards) > 1:
        print_comparison(cards)
        return printing.note(f"dictionaries: {out}")
    print_quality(cards.popitem()[1])
    return printing.note(f"dictionary: {out / 'result'}")


def _own_facts(job: Job, earlier: list[dict[str, Any]]) -> dict[str, Any]:
    """What the card says of one of several dictionaries."""
    settings = job.settings
    return {
        "architecture": settings.architecture,
        "tokens": settings.steps * settings.batch_tokens + sum(e["tokens"] for e in earlier),
        "settings": settings.as_json(),
    }


def _ports(site: tuple[str, ...], target: tuple[str, ...], other: Model | None) -> Ports:
    """What is read and written."""
    from pellucid.core.sites import Site
    from pellucid.dictionaries.ports import Ports

    reads = tuple(Site.parse(s) for s in site) * (1 if other is None else 2)
    writes = tuple(Site.parse(s) for s in target) or reads
    return Ports(reads, writes, None if other is None else other.digest)


def _earlier(card: Card, ports: Ports, order: dict[str, Any]) -> tuple[list[dict[str, Any]], tuple[int, int]]:
    """The runs behind a dictionary to start from, and where to go on if it read this text in this order."""
    from pellucid.core.errors import InputError

    if card["site"] != str(ports):
        raise InputError(
            f"The dictionary to start from is of {card['site']}, and {ports} was asked for. Name its sites."
        )
    before = card.get("earlier", [])
    last = {
        "dictionary": card["digests"]["dictionary.safetensors"],
        "corpus": card["corpus"]["digest"],
        "tokens": card.get("tokens", 0) - sum(e["tokens"] for e in before),
        "settings": card.get("settings", card.get("converted")),
    }
    read = card.get("order", {})
    block, batch = read["position"] if {**read, "position": 0} == {**order, "position": 0} else (0, 0)
    return [*before, last], (block, batch)


def read_sources(text: list[str]) -> list[TextSource]:
    """Text sources from the command line; `@FILE` stands for the lines of a file."""
    from pellucid.activations.text import TextSource
    from pellucid.core.errors import InputError

    specs: list[str] = []
    for item in text:
        if not item.startswith("@"):
            specs.append(item)
            continue
        path = Path(item[1:]).expanduser()
        if not path.is_file():
            raise InputError(f"There is no file {str(path)!r} to read text sources from.")
        lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
        specs += [line for line in lines if line and not line.startswith("#")]
    if not specs:
        raise InputError("No text was named. Give at least one source with --text.")
    return [TextSource.parse(s) for s in specs]
