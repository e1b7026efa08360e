from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.core import files
from pellucid.core.errors import InputError, IntegrityError


class Killed(BaseException):
    """Stands for whatever ends a block: not even an Exception."""


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r")))
def test_text_is_read_back_as_it_was_written(tmp_path: Path, text: str) -> None:
    files.write_text(tmp_path / "a" / "b.txt", text)
    assert (tmp_path / "a" / "b.txt").read_text(encoding="utf-8") == text
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.txt"]


def test_a_written_file_can_be_read_by_others(tmp_path: Path) -> None:
    files.write_text(tmp_path / "file", "text")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.write_text(tmp_path / "file", "old")

    def fail(_handle: int) -> None:
        raise Killed

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Killed):
        files.write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["file"]


def test_at_every_moment_of_a_write_the_file_is_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, seen = tmp_path / "file", []
    files.write_text(target, "old")
    sync, replace = os.fsync, Path.replace

    def watch_sync(handle: int) -> None:
        seen.append(target.read_text())
        sync(handle)

    def watch_replace(self: Path, other: Path) -> Path:
        seen.append(target.read_text())
        moved = replace(self, other)
        seen.append(target.read_text())
        return moved

    monkeypatch.setattr(os, "fsync", watch_sync)
    monkeypatch.setattr(Path, "replace", watch_replace)
    files.write_text(target, "new")
    assert seen == ["old", "old", "new", "new"], "the folder is synced after the file has its name"


def test_everything_in_a_new_folder_is_on_the_disk_before_the_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    sync, rename = os.fsync, Path.rename

    def watch_sync(handle: int) -> None:
        done.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        sync(handle)

    def watch_rename(self: Path, other: Path) -> Path:
        done.append("named")
        return rename(self, other)

    monkeypatch.setattr(os, "fsync", watch_sync)
    monkeypatch.setattr(Path, "rename", watch_rename)
    with files.new_folder(tmp_path / "made") as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "file").write_text("text")
        partial_name = partial.name
    assert set(done[: done.index("named")]) == {"file", "inner", partial_name}
    assert done[done.index("named") :] == ["named", tmp_path.name]


@pytest.mark.parametrize("value", [{"b": [1, 2.5, None], "a": "é"}, [], "text", 0, True])
def test_json_is_read_back_as_it_was_written(tmp_path: Path, value: Any) -> None:
    files.write_json(tmp_path / "v.json", value)
    assert files.read_json(tmp_path / "v.json") == value
    assert (tmp_path / "v.json").read_text().endswith("\n")


def test_nan_is_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    files.write_json(tmp_path / "v.json", 1)
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "v.json", float("nan"))
    assert files.read_json(tmp_path / "v.json") == 1


def test_a_missing_json_file_is_an_input_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file '.*absent\.json'"):
        files.read_json(tmp_path / "absent.json")


@pytest.mark.parametrize("raw", [b"", b'{"a": 1', b"\xff\xfe", b"not json"])
def test_a_damaged_json_file_is_an_integrity_error(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "v.json").write_bytes(raw)
    with pytest.raises(IntegrityError, match="not readable as JSON"):
        files.read_json(tmp_path / "v.json")


def test_a_new_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "folder"
    with files.new_folder(target) as partial:
        (partial / "sub").mkdir()
        (partial / "sub" / "file").write_text("text")
        assert not target.exists()
        assert partial.parent == target.parent, "a rename is atomic within one file system only"
    assert (target / "sub" / "file").read_text() == "text"
    assert [p.name for p in target.parent.iterdir()] == ["folder"]
    assert target.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("error", [Killed, RuntimeError, KeyboardInterrupt])
def test_a_crash_inside_the_block_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), files.new_folder(tmp_path / "folder") as partial:
        (partial / "file").write_text("half")
        raise error
    assert [p for p in tmp_path.iterdir() if p.name != "home"] == []


def test_an_existing_folder_is_refused_and_untouched(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "file").write_text(json.dumps("mine"))
    with pytest.raises(InputError, match="exists already"), files.new_folder(target):
        pytest.fail("the block must not be entered")
    assert (target / "file").read_text() == '"mine"'


def test_a_folder_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with pytest.raises(InputError, match="exists already"), files.new_folder(target) as partial:
        (partial / "file").write_text("late")
        target.mkdir()
        (target / "file").write_text("early")
    assert (target / "file").read_text() == "early"
    assert [p.name for p in tmp_path.iterdir() if p.name != "home"] == ["folder"]


def test_of_two_that_make_one_shared_folder_the_first_stands(tmp_path: Path) -> None:
    with files.new_folder(tmp_path / "cache", shared=True) as mine:
        (mine / "who").write_text("the second")
        with files.new_folder(tmp_path / "cache", shared=True) as theirs:
            (theirs / "who").write_text("the first")
    assert (tmp_path / "cache" / "who").read_text() == "the first"
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]
