from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.core.errors import InputError, IntegrityError
from pellucid.core.runs import RunFolder

IDENTITY: dict[str, Any] = {"settings": {"k": 32, "tokens": 1000}, "model": "sha256:abc"}


class Killed(BaseException):
    """Stands for the end of the process."""


def test_the_same_command_goes_on_in_the_same_folder(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", identity=IDENTITY, facts={"version": "1"}) as run:
        run.log({"step": 1})
    with RunFolder.open(tmp_path / "run", identity=IDENTITY, facts={"version": "2"}) as run:
        run.log({"step": 2})
        assert run.events() == [{"step": 1}, {"step": 2}]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["identity"] == IDENTITY
    assert record["facts"] == {"version": "1"}, "facts are those of the first sitting"


def test_a_tuple_in_the_identity_is_the_list_that_json_makes_of_it(tmp_path: Path) -> None:
    for shape in ((3, 4), [3, 4]):
        with RunFolder.open(tmp_path / "run", identity={"shape": shape}):
            pass


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({**IDENTITY, "settings": {"k": 64, "tokens": 1000}}, r"settings\.k was 32, now 64"),
        ({**IDENTITY, "model": "sha256:def"}, "model was 'sha256:abc', now 'sha256:def'"),
        ({"settings": IDENTITY["settings"]}, "model was 'sha256:abc', now None"),
        ({**IDENTITY, "seed": 1}, "seed was None, now 1"),
        ({**IDENTITY, "settings": 3}, "settings was {.*}, now 3"),
    ],
)
def test_other_settings_are_refused_and_each_difference_is_named(
    tmp_path: Path, other: dict[str, Any], named: str
) -> None:
    with RunFolder.open(tmp_path / "run", identity=IDENTITY):
        pass
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(InputError, match=named), RunFolder.open(tmp_path / "run", identity=other):
        pytest.fail("the block must not be entered")
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_a_folder_with_files_but_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with (
        pytest.raises(InputError, match="holds files but no run"),
        RunFolder.open(tmp_path, identity=IDENTITY),
    ):
        pytest.fail("the block must not be entered")
    assert (tmp_path / "thesis.tex").read_text() == "mine"


def test_a_run_killed_before_its_first_line_can_be_started_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".lock").touch()
    (folder / ".run.json.ab12").touch()
    with RunFolder.open(folder, identity=IDENTITY) as run:
        assert run.events() == []


HOLDER = """
import sys
from collections.abc import Callable
from pathlib import Path
from pellucid.core.runs import RunFolder
with RunFolder.open(Path(sys.argv[1]), identity={"a": 1}):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_folder_held_by_another_process_is_refused_until_that_process_ends(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "run")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(InputError, match="Another process is working"),
            RunFolder.open(tmp_path / "run", identity={"a": 1}),
        ):
            pytest.fail("the block must not be entered")
    finally:
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    with RunFolder.open(tmp_path / "run", identity={"a": 1}):
        pass


@given(st.integers(0, 200))
def test_a_line_torn_at_any_byte_costs_that_line_alone(tmp_path: Path, cut: int) -> None:
    run = RunFolder(tmp_path)
    path = tmp_path / "events.jsonl"
    path.unlink(missing_ok=True)
    written = [{"step": n, "note": "äö\u2028"} for n in range(4)]
    for event in written:
        run.log(event)
    raw = path.read_bytes()
    path.write_bytes(raw[: max(0, len(raw) - cut)])
    survivors = path.read_bytes().count(b"\n")
    whole = [json.loads(line) for line in raw.splitlines()[: survivors + 1]]
    assert run.events() in (written[:survivors], whole), "a line that lacks only its end may be read"
    before = run.events()
    run.log({"step": 99})
    assert run.events() == [*before, {"step": 99}], "what is logged after the tear is not lost with it"


def test_an_event_that_is_no_json_is_refused_and_leaves_no_torn_line(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.log({"loss": 1.0})
    with pytest.raises(ValueError, match="JSON compliant"):
        run.log({"loss": float("nan")})
    assert run.events() == [{"loss": 1.0}]


def _checkpoint(run: RunFolder, step: int, text: str) -> None:
    with run.checkpoint(step) as folder:
        (folder / "state").write_text(text)


def test_the_two_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert run.latest_checkpoint() is None
    for step in (9, 10, 100):
        _checkpoint(run, step, f"state {step}")
        found = run.latest_checkpoint()
        assert found is not None
        assert (found[0], (found[1] / "state").read_text()) == (step, f"state {step}")
    assert names(tmp_path / "checkpoints") == ["000000010", "000000100"]


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize("damage", [cut, change, Path.unlink])
@pytest.mark.parametrize("file", ["state", "digests.json"])
def test_from_a_damaged_checkpoint_the_run_falls_back_to_the_one_before(
    tmp_path: Path, damage: Callable[[Path], None], file: str
) -> None:
    run = RunFolder(tmp_path)
    for step in (9, 10, 100):
        _checkpoint(run, step, f"state {step}")
    folder = tmp_path / "checkpoints"
    damage(folder / "000000100" / file)
    assert run.latest_checkpoint() == (10, folder / "000000010")
    assert len(run.notes) == 1
    assert "000000100' is damaged. Going on from step 10." in run.notes[0]
    # What is damaged is put aside, and does not count as the one before the next.
    _checkpoint(run, 50, "state 50")
    assert names(folder) == ["000000010", "000000050"]
    assert run.latest_checkpoint() == (50, folder / "000000050")
    assert len(run.notes) == 1


def test_when_all_checkpoints_are_damaged_nothing_is_thrown_away(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in (1, 2):
        _checkpoint(run, step, f"state {step}")
        cut(tmp_path / "checkpoints" / f"00000000{step}" / "state")
    with pytest.raises(IntegrityError, match="remove the folder to begin this run anew"):
        run.latest_checkpoint()
    assert names(tmp_path / "checkpoints") == ["000000001", "000000002"]


def test_the_old_checkpoint_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    _checkpoint(run, 1, "one")
    with pytest.raises(Killed), run.checkpoint(2) as folder:
        (folder / "state").write_text("half")
        assert run.latest_checkpoint() == (1, tmp_path / "checkpoints" / "000000001")
        raise Killed
    assert run.latest_checkpoint() == (1, tmp_path / "checkpoints" / "000000001")


def test_a_checkpoint_of_the_same_step_is_replaced_only_when_the_new_one_is_whole(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    _checkpoint(run, 1, "old")
    with pytest.raises(Killed), run.checkpoint(1) as folder:
        (folder / "state").write_text("half")
        raise Killed
    found = run.latest_checkpoint()
    assert found is not None
    assert (found[1] / "state").read_text() == "old"
    _checkpoint(run, 1, "new")
    assert (found[1] / "state").read_text() == "new"


def test_what_a_kill_left_half_written_is_neither_read_nor_kept(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    _checkpoint(run, 3, "three")
    (tmp_path / "checkpoints" / ".000000004.x1").mkdir()
    assert run.latest_checkpoint() == (3, tmp_path / "checkpoints" / "000000003")
    _checkpoint(run, 5, "five")
    assert names(tmp_path / "checkpoints") == ["000000003", "000000005"]
