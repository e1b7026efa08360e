"""What a training run survives: kills at random moments, a full disk, damaged files, NaN in a batch.

The command `pellucid train` on a tiny model, forked after the imports, with a checkpoint after every batch or
so. For each architecture one run is left alone, and others are killed by SIGKILL at moments drawn at random
over the time a run takes (reading text, training, writing checkpoints, measuring, saving, drawing the atlas),
until the same command is let through. After each kill, whatever has its name must be whole; at the end,
dictionary and atlas must be byte for byte those of the run that was left alone. Then the other faults, each
with the error that was printed and whether doing what it says ends in the same bytes.

    python benchmarks/faults.py [--kills 100] [--seed 0]
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import get_args

import numba
import torch
from rich.table import Table

from pellucid import cli
from pellucid.activations.reading import Reader
from pellucid.atlas.pages import Atlas
from pellucid.cli import printing
from pellucid.core import digests
from pellucid.core.errors import PellucidError
from pellucid.core.runs import RunFolder
from pellucid.dictionaries import files, training
from pellucid.dictionaries.settings import Architecture
from pellucid.testing import WORDS, tiny_model

CHECKPOINT_S = 0.02
BATCHES = 40


@dataclass(frozen=True)
class Sitting:
    """How one attempt at a command ended."""

    code: int
    """The exit status, or less than zero for the signal that ended it."""
    printed: str
    seconds: float


@dataclass
class Bench:
    """The places of a bench, and how to run the command there."""

    folder: Path
    dice: random.Random
    usual_s: dict[str, float] = field(default_factory=dict)
    """How long a run of an architecture takes when it is left alone."""

    def __post_init__(self) -> None:
        os.environ["PELLUCID_HOME"] = str(self.folder / "home")
        model = tiny_model(layers=2, width=16)
        model.network.save_pretrained(self.folder / "model")  # type: ignore[operator]
        model.tokenizer.save_pretrained(self.folder / "model")
        (self.folder / "text").mkdir()
        for n in range(300):
            words = " ".join(self.dice.choices(WORDS, k=60))
            (self.folder / "text" / f"{n}.txt").write_text(f"{n} {words}")

    def sit(
        self,
        run: Path,
        *,
        kill_after_s: float | None = None,
        most_bytes: int | None = None,
        bad_block: bool = False,
    ) -> Sitting:
        """Run the command in a process of its own; `run` begins with the name of the architecture."""
        words = (
            "train", "--out", run, "--text", self.folder / "text", "--model", self.folder / "model",
            "--site", "resid_post.1", "--features", 48, "--k", 4, "--tokens", 64 * BATCHES,
            "--batch-tokens", 64, "--learning-rate", 3e-3, "--architecture", run.name.partition("-")[0],
            "--atlas-tokens", 2000, "--precision", "fp32",
        )  # fmt: skip
        log = self.folder / "printed"
        began = time.monotonic()
        process = os.fork()
        if process == 0:
            _become(log, [str(w) for w in words], most_bytes, bad_block=bad_block)
        if kill_after_s is not None:
            while time.monotonic() - began < kill_after_s:
                if os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT | os.WNOHANG):
                    break
                time.sleep(0.002)
            os.kill(process, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        return Sitting(code, " ".join(log.read_text().split()), time.monotonic() - began)


def _become(log: Path, words: list[str], most_bytes: int | None, *, bad_block: bool) -> None:
    """In a forked process: run the command and end."""
    code = 1
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        torch.set_num_threads(1)
        numba.set_num_threads(1)
        training.train_together = partial(training.train_together, checkpoint_every_s=CHECKPOINT_S)
        if bad_block:
            Reader.block = _with_nan(Reader.block)  # type: ignore[method-assign]
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        cli.main(words)
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _with_nan(block: Callable[[Reader, int], torch.Tensor]) -> Callable[[Reader, int], torch.Tensor]:
    """A reader one of whose activations, halfway through the first block, is NaN."""

    def spoilt(self: Reader, number: int) -> torch.Tensor:
        found = block(self, number).clone()
        found[64 * BATCHES // 2, 3] = torch.nan
        return found

    return spoilt


def result_of(run: Path) -> dict[str, str]:
    """Digests of what a run was for."""
    names = ("dictionary.safetensors", "fixture.safetensors", "atlas/atlas.json", "atlas/features/table.json")
    return {name: digests.of_file(run / "result" / name) for name in names}


def check_whole(run: Path) -> str:
    """Where a killed run stands; raises when something has its name and is not whole."""
    if not (run / "run.json").exists():
        return "not begun"
    if (run / "result").exists():
        files.load(run / "result")
        if not (run / "result" / "atlas" / "atlas.json").exists():
            return "saved"
        Atlas.open(run / "result" / "atlas")
        return "done"
    found = RunFolder(run).latest_checkpoint()
    return "no checkpoint" if found is None else "checkpoint"


def kill(bench: Bench, architecture: str, kills: int) -> list[str]:
    """Kill runs of an architecture; returns a row of the table."""
    whole = bench.folder / f"{architecture}-whole"
    alone = bench.sit(whole)
    assert alone.code == 0, alone.printed
    bench.usual_s[architecture] = bench.sit(bench.folder / f"{architecture}-warm").seconds
    expected = result_of(whole)
    stood: Counter[str] = Counter()
    runs = same = halves = done = written = 0
    while done < kills:
        run = bench.folder / f"{architecture}-{runs}"
        while done < kills:
            sitting = bench.sit(run, kill_after_s=bench.dice.uniform(0, bench.usual_s[architecture]))
            if sitting.code == 0:
                break
            assert sitting.code == -signal.SIGKILL, sitting.printed
            done += 1
            # What is being written has a name that begins with a dot.
            written += any(p.name != ".lock" for p in run.rglob(".*"))
            try:
                stood[check_whole(run)] += 1
            except PellucidError as error:
                printing.note(f"{architecture}: {error}")
                halves += 1
        last = bench.sit(run)
        runs += 1
        same += last.code == 0 and result_of(run) == expected
        shutil.rmtree(run)
    places = ("not begun", "no checkpoint", "checkpoint", "saved", "done")
    counts = (done, *(stood[p] for p in places), written, halves)
    return [architecture, *map(str, counts), f"{same} of {runs}"]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, and what is expected of the command that meets it."""

    name: str
    times: int
    begun: Path | None
    """The run it happens to, of which a copy is made; none for a new one."""
    strike: Callable[[Path], dict[str, object]]
    """Damages the copy; returns how the command is then run."""
    says: str
    """Words of the error; or of a note, where the command goes on by itself."""
    remedy: Callable[[Path], None]
    """What the error says to do before the command is repeated."""


def suffer(bench: Bench, fault: Fault, expected: dict[str, str]) -> list[str]:
    """Let a fault happen; returns a row of the table."""
    clear = unnoticed = same = 0
    for number in range(fault.times):
        run = bench.folder / f"batchtopk-{fault.name.replace(' ', '_')}{number}"
        if fault.begun is not None:
            shutil.copytree(fault.begun, run)
        sitting = bench.sit(run, **fault.strike(run))  # type: ignore[arg-type]
        if fault.says in sitting.printed and "Traceback" not in sitting.printed:
            clear += 1
        elif sitting.code == 0:
            unnoticed += 1
        else:
            printing.note(f"{fault.name}: {sitting.printed[-2000:]}")
        fault.remedy(run)
        last = bench.sit(run)
        same += last.code == 0 and result_of(run) == expected
        shutil.rmtree(run)
    return [fault.name, *map(str, (fault.times, clear, unnoticed, same)), fault.says]


def spoil(path: Path, dice: random.Random) -> None:
    """Damage a file: change a byte, cut it, zero a block as a power cut may, or remove it."""
    raw = bytearray(path.read_bytes())
    kind, at = dice.choice(("byte", "cut", "zero", "gone")), dice.randrange(len(raw))
    if kind == "gone":
        return path.unlink()
    if kind == "byte":
        raw[at] ^= 1 << dice.randrange(8)
    elif kind == "cut":
        del raw[at:]
    else:
        raw[at : at + 512] = bytes(len(raw[at : at + 512])) if any(raw[at : at + 512]) else b"?"
    path.write_bytes(raw)
    return None


def faults_of(bench: Bench) -> list[Fault]:
    """All but kills, on BatchTopK."""
    dice, whole = bench.dice, bench.folder / "batchtopk-whole"
    half = bench.folder / "batchtopk-half"
    store = next((bench.folder / "home" / "tokens").iterdir())
    while len(RunFolder(half)._checkpoints()) < 2 or (half / "result").exists():
        shutil.rmtree(half, ignore_errors=True)
        bench.sit(half, kill_after_s=dice.uniform(0.3, 0.9) * bench.usual_s["batchtopk"])

    def some(folder: Path) -> Path:
        return dice.choice(sorted(p for p in folder.rglob("*") if p.is_file() and "atlas" not in p.parts))

    def strike(folder: Callable[[Path], list[Path]]) -> Callable[[Path], dict[str, object]]:
        def act(run: Path) -> dict[str, object]:
            for each in folder(run):
                spoil(some(each), dice)
            return {}

        return act

    def full(_run: Path) -> dict[str, object]:
        largest = max(p.stat().st_size for p in whole.rglob("*") if p.is_file())
        return {"most_bytes": dice.randrange(100, largest)}

    def newest(run: Path) -> list[Path]:
        return RunFolder(run)._checkpoints()[-1:]

    def nothing(_run: Path) -> None:
        pass

    def remove(inner: str) -> Callable[[Path], None]:
        return lambda run: shutil.rmtree(run / inner, ignore_errors=True)

    return [
        Fault("full disk", 8, None, full, "make room or give access, and repeat", nothing),
        Fault("newest checkpoint", 8, half, strike(newest), "is damaged. Going on from step", nothing),
        Fault(
            "all checkpoints", 4, half, strike(lambda run: RunFolder(run)._checkpoints()),
            "remove the folder to begin this run anew", remove("checkpoints"),
        ),
        Fault(
            "token store", 8, whole, strike(lambda _run: [store]), "Remove the folder and repeat",
            lambda _run: shutil.rmtree(store),
        ),
        Fault(
            "dictionary", 12, whole, strike(lambda run: [run / "result"]),
            "remove the folder and repeat", remove("result"),
        ),
        Fault("NaN in a batch", 3, None, lambda _run: {"bad_block": True}, "is not a number", nothing),
    ]  # fmt: skip


def main() -> None:
    """Strike and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("COLUMNS", "130")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), random.Random(given.seed))
        kinds = get_args(Architecture)
        killed = Table(
            "architecture", "kills", "not begun", "no checkpoint", "checkpoint", "saved", "done",
            "in a write", "half-written", "same bytes", title="Where SIGKILL left a run, and what came of it",
        )  # fmt: skip
        for number, kind in enumerate(kinds):
            share = given.kills * (number + 1) // len(kinds) - given.kills * number // len(kinds)
            killed.add_row(*kill(bench, kind, share))
            printing.note(f"{kind}: {time.monotonic() - began:.0f} s")
        printing.console().print(killed)
        other = Table(
            "fault", "times", "one clear message", "unnoticed", "same bytes", "it says", title="Other faults"
        )
        expected = result_of(bench.folder / "batchtopk-whole")
        for fault in faults_of(bench):
            other.add_row(*suffer(bench, fault, expected))
        printing.console().print(other)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    printing.note(
        f"{time.monotonic() - began:.0f} s in all, {used.ru_utime + used.ru_stime:.0f} s of processor time"
    )


if __name__ == "__main__":
    main()
