"""The pages' own unit tests and their types, which need no browser."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.studio.conftest import STUDIO


@pytest.mark.parametrize("command", [["vitest", "run"], ["tsc", "--noEmit"]], ids=["vitest", "tsc"])
def test_they_pass(pages: Path, command: list[str]) -> None:
    done = subprocess.run(
        [STUDIO / "node_modules/.bin" / command[0], *command[1:]],
        cwd=STUDIO,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
