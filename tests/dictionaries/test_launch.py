from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from pellucid.core.errors import InputError
from pellucid.dictionaries.launch import _portable

CHILD = Path(__file__).with_name("launch_child.py")


def test_one_worker_that_fails_ends_the_others_and_all_die_with_who_started_them(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, str(CHILD), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout is not None
    try:
        said = [child.stdout.readline() for _ in range(3)]
        while len(pids := [int(p.stem) for p in tmp_path.glob("*.pid")]) < 2:
            assert child.poll() is None
            time.sleep(0.05)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert said[0].startswith("WorkerError: Worker 1 was ended by SIGKILL")
    assert "repeat the command" in said[0]
    assert said[1] == "train 1 2 {'fvu': 0.5}\n"
    assert said[2] == "InputError: worker 1 was given nonsense\n"
    until = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() and not _is_zombie(pid) for pid in pids):
        assert time.monotonic() < until, "workers outlive who started them"
        time.sleep(0.05)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_an_error_that_cannot_be_sent_is_sent_as_what_it_says() -> None:
    class OddError(InputError):
        def __init__(self, one: str, two: str) -> None:
            super().__init__(f"{one} and {two}")

    found = _portable(OddError("salt", "pepper"))
    assert type(found) is InputError
    assert str(found) == "salt and pepper"
    try:
        raise OSError(28, "No space left on device")
    except OSError as error:
        found = _portable(error)
    assert isinstance(found, OSError)
    assert found.errno == 28
    assert "test_launch.py" in found.__notes__[0]
