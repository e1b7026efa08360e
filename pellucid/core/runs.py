"""Run folders: the resumable home of every long job.

    run.json                 resolved settings, digests, versions: what the run is
    events.jsonl             one line per report
    checkpoints/000000123/   the state after step 123, whole or absent, with the digests of its files; the
                             one before it is kept, in case the disk does not keep this one
    result/                  what the job was for, whole or absent

The same command on the same folder goes on from the newest checkpoint; a command with other settings is
refused. Two processes cannot work in one folder at a time. The module knows nothing of what is in a
checkpoint.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pellucid.core import digests, files
from pellucid.core.errors import InputError, IntegrityError

_DIGESTS = "digests.json"


class RunFolder:
    """One run folder, held by one process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.result = path / "result"
        self.notes: list[str] = []
        """What whoever runs the job should be told."""

    @classmethod
    @contextmanager
    def open(
        cls, path: Path, *, identity: dict[str, Any], facts: dict[str, Any] | None = None
    ) -> Iterator[RunFolder]:
        """Create the folder, or go on in it.

        Args:
            path: the folder.
            identity: what makes two runs the same run (resolved settings and digests); JSON values.
            facts: what may differ between two sittings of one run (versions, machine); kept from the first.

        Raises:
            InputError: when the folder holds a run of another identity, another process works in it, or it
                holds files but no run.
        """
        identity = json.loads(json.dumps(identity))
        record = path / "run.json"
        # What a process that was killed in its first moment leaves is no file of anybody's.
        ours = (".lock", ".run.json.")
        if path.exists() and not record.exists() and any(not p.name.startswith(ours) for p in path.iterdir()):
            raise InputError(f"{str(path)!r} holds files but no run. Choose an empty or a new folder.")
        path.mkdir(parents=True, exist_ok=True)
        with (path / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise InputError(
                    f"Another process is working in {str(path)!r}. Wait for it, or stop it."
                ) from error
            if record.exists():
                changed = list(_differences(files.read_json(record)["identity"], identity))
                if changed:
                    raise InputError(
                        f"{str(path)!r} holds a run with other settings: {'; '.join(changed[:6])}. "
                        "Repeat the command with those, or choose another folder."
                    )
            else:
                started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
                files.write_json(record, {"identity": identity, "facts": facts or {}, "started": started})
            yield cls(path)

    def log(self, event: dict[str, Any]) -> None:
        """Append one event.

        A line torn by a crash is dropped by `events`, and ended here so that it takes no other along.
        """
        line = json.dumps(event, allow_nan=False).encode() + b"\n"
        with (self.path / "events.jsonl").open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else b"\n" + line
            file.write(line)

    def events(self) -> list[dict[str, Any]]:
        """All whole events, oldest first."""
        path = self.path / "events.jsonl"
        found = []
        for line in path.read_bytes().splitlines() if path.exists() else []:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    @contextmanager
    def checkpoint(self, step: int) -> Iterator[Path]:
        """Yield an empty folder that becomes the checkpoint of `step` once whole.

        The one before it is kept, others are then removed.
        """
        folder = self.path / "checkpoints"
        target = folder / f"{step:09d}"
        whole, replaced = folder / f".{target.name}.whole", folder / f".{target.name}.replaced"
        for left in (whole, replaced):
            shutil.rmtree(left, ignore_errors=True)
        with files.new_folder(whole) as partial:
            yield partial
            files.write_json(partial / _DIGESTS, _digests_of(partial))
        if target.exists():
            target.rename(replaced)
        whole.rename(target)
        files.sync_folder(folder)
        before = [p for p in self._checkpoints() if p.name < target.name]
        for old in folder.iterdir():
            if old != target and old not in before[-1:]:
                shutil.rmtree(old, ignore_errors=True)

    def latest_checkpoint(self) -> tuple[int, Path] | None:
        """The newest checkpoint whose files are those that were written, with its step, if there is one.

        About 1 s per GB. One that is damaged is put aside, and noted.

        Raises:
            IntegrityError: when there are checkpoints, and all are damaged.
        """
        found = self._checkpoints()
        damaged: list[Path] = []
        for newest in reversed(found):
            if _digests_of(newest) == _told(newest):
                for folder in damaged:
                    folder.rename(folder.with_name(f".{folder.name}.damaged"))
                    self.notes.append(
                        f"The checkpoint {str(folder)!r} is damaged. Going on from step {int(newest.name)}."
                    )
                return int(newest.name), newest
            damaged.append(newest)
        if damaged:
            raise IntegrityError(
                f"No checkpoint in {str(self.path / 'checkpoints')!r} is what was written: the disk may be "
                "failing. Put its files back from a copy, or remove the folder to begin this run anew."
            )
        return None

    def _checkpoints(self) -> list[Path]:
        """All that have their name, oldest first."""
        folder = self.path / "checkpoints"
        return sorted(p for p in folder.iterdir() if p.name.isdecimal()) if folder.is_dir() else []


def _digests_of(folder: Path) -> dict[str, str]:
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != _DIGESTS)
    return {str(p.relative_to(folder)): digests.of_file(p) for p in paths}


def _told(checkpoint: Path) -> Any:
    """The digests that were written with a checkpoint; none if they are damaged themselves."""
    try:
        return files.read_json(checkpoint / _DIGESTS)
    except (InputError, IntegrityError):
        return None


def _differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Name each leaf in which two JSON values differ, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    elif old != new:
        yield f"{where} was {old!r}, now {new!r}"
