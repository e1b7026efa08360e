"""The built pages of the studio: in a wheel they are there, in a checkout they are built when asked for.

Also what the wheel is built with (hatch_build.py), so it imports the standard library and errors alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pellucid.core.errors import InputError, UpstreamError

STATIC = Path(__file__).resolve().parent / "static"
"""Where the pages are, in a checkout and in a wheel."""
SOURCES = Path(__file__).resolve().parents[2] / "studio"
"""What they are built from; only a checkout has it."""
_STAMP = "built.json"
_MINUTES = 10


def pages() -> Path:
    """The folder of the built pages; in a checkout they are built first where their sources changed.

    Raises:
        InputError: when there are none and npm, which builds them, is not installed.
        UpstreamError: when npm could not fetch what they are built with, or the build failed.
    """
    built = (STATIC / "index.html").is_file()
    if not (SOURCES / "package.json").is_file():
        if built:
            return STATIC
        raise InputError(
            "This installation has no pages of the studio. Install a wheel that was built with npm."
        )
    wanted = _digest()
    if built and _stamp(STATIC / _STAMP) == wanted:
        return STATIC
    npm = shutil.which("npm")
    if npm is None:
        if built:
            return STATIC
        raise InputError(
            "The pages of the studio are not built, and npm, which builds them, is not installed. Install "
            "Node.js 20.19 or newer and run the same command again. Everything else works without."
        )
    packages(npm)
    # Built aside and then put in place, so that a build that is killed leaves no half of the pages.
    with _alone(), tempfile.TemporaryDirectory(dir=STATIC.parent, prefix=".static-") as aside:
        if _stamp(STATIC / _STAMP) == wanted:
            return STATIC
        out = Path(aside) / "static"
        _run(
            [
                npm,
                "run",
                "--silent",
                "build",
                "--",
                "--outDir",
                str(out),
                "--emptyOutDir",
                "--logLevel",
                "error",
            ]
        )
        (out / _STAMP).write_text(json.dumps({"sources": wanted}), encoding="utf-8")
        if STATIC.exists():
            STATIC.rename(Path(aside) / "old")
        out.rename(STATIC)
    return STATIC


def packages(npm: str) -> None:
    """Install what the pages are built with, as package-lock.json has it, unless it is there.

    Raises:
        UpstreamError: when npm could not fetch it.
    """
    lock = hashlib.sha256((SOURCES / "package-lock.json").read_bytes()).hexdigest()
    stamp = SOURCES / "node_modules" / ".pellucid.json"
    with _alone():
        if _stamp(stamp) == lock:
            return
        _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel", "error"])
        stamp.write_text(json.dumps({"sources": lock}), encoding="utf-8")


@contextmanager
def _alone() -> Iterator[None]:
    """One process at a time in this checkout; the others wait, and find it done."""
    with (SOURCES / "package.json").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _digest() -> str:
    """Of all that the pages are built from; tests are not."""
    found = hashlib.sha256()
    single = ("index.html", "package.json", "package-lock.json", "tsconfig.json", "vite.config.ts")
    files = [SOURCES / name for name in single]
    for folder in ("src", "public"):
        files += sorted(p for p in (SOURCES / folder).rglob("*") if p.is_file() and ".test." not in p.name)
    for path in files:
        found.update(str(path.relative_to(SOURCES)).encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


def _stamp(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["sources"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, cwd=SOURCES, capture_output=True, text=True, timeout=60 * _MINUTES, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UpstreamError(
            f"npm did not finish in {_MINUTES} minutes. Is the npm registry reachable?"
        ) from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-12:]
        raise UpstreamError(f"{' '.join(['npm', *command[1:3]])} failed:\n" + "\n".join(last))
