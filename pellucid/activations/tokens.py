"""The token store: text as packed rows of token ids, on disk, mapped into memory.

Rows have one length, no padding, and are read by the model as independent sequences. A row opens with the
model's opening token where it has one, and holds documents of one source, each followed by a separator.
Documents that occur twice are kept once. Whole documents are set aside as held-out text by a digest of their
words, so that no document is on both sides; of a text so short that chance picks none, the last rows are.

    tokens.npy     [rows, length] of training text
    heldout.npy    [rows, length] of held-out text
    sources.npy    [rows] which source a training row comes from
    store.json     how it was made, counts per source, digests

A pointer (row, position) names a token for as long as the store's digest is the same; the atlas keeps
pointers, not text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.activations.text import Document, TextSource
from pellucid.core import digests, files, paths
from pellucid.core.errors import InputError, IntegrityError
from pellucid.core.progress import Progress, silent
from pellucid.models.model import Model

_HELD_OUT_MARKS = 2
"""A document is held out when the first byte of its digest is below this: one in 128."""
_FEW_ROWS = 8
_DOCUMENTS_AT_ONCE = 256
_PIECE_CHARS = 100_000
_VERSION = 1


@dataclass(frozen=True)
class TokenStore:
    """Packed token rows of some text."""

    folder: Path
    tokens: np.ndarray
    """[rows, length] training rows, memory-mapped."""
    heldout: np.ndarray
    """[rows, length] held-out rows."""
    sources: np.ndarray
    """[rows] index into `record["sources"]` of each training row."""
    record: dict[str, Any]

    @property
    def digest(self) -> str:
        """Names the rows."""
        return str(self.record["digest"])

    @property
    def length(self) -> int:
        """Tokens per row."""
        return int(self.tokens.shape[1])

    @property
    def separator(self) -> int:
        """The token between documents."""
        return int(self.record["separator"])

    @classmethod
    def open(cls, folder: Path) -> TokenStore:
        """Open a store.

        Raises:
            InputError: when there is none.
            IntegrityError: when its files are not those it was made with.
        """
        if not folder.is_dir():
            raise InputError(f"There is no token store {str(folder)!r}.")
        try:
            record = files.read_json(folder / "store.json")
            tokens, heldout, sources = (
                np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("tokens", "heldout", "sources")
            )
            shape = (len(sources), record["request"]["length"])
            if _digest([tokens, heldout, sources]) != record["digest"] or tokens.shape != shape:
                raise IntegrityError("it has changed since it was made")
        except (IntegrityError, OSError, ValueError, EOFError, KeyError, TypeError) as error:
            raise IntegrityError(
                f"The token store {str(folder)!r} is damaged ({error}). Remove the folder and repeat."
            ) from error
        return cls(folder, tokens, heldout, sources, record)

    @classmethod
    def build(
        cls,
        model: Model,
        sources: Sequence[TextSource],
        *,
        length: int = 256,
        max_tokens: int | None = None,
        folder: Path | None = None,
        progress: Progress = silent,
    ) -> TokenStore:
        """Read, tokenise and pack text; a store that was built before is opened instead.

        Args:
            model: whose tokenizer to use.
            sources: where documents come from; each is read until its own limit.
            length: tokens per row.
            max_tokens: stop after so many in all.
            folder: where to keep it; by default the cache, under the digest of the request.
            progress: told of tokens per source.

        Raises:
            InputError: when the text fills no row.
        """
        request = {
            "version": _VERSION,
            "model": model.digest,
            "sources": [_state_of(s) for s in sources],
            "length": length,
            "max_tokens": max_tokens,
        }
        target = folder or paths.home() / "tokens" / digests.short(digests.of_json(request))
        if target.exists():
            store = cls.open(target)
            if store.record["request"] != request:
                raise InputError(f"{str(target)!r} holds other text. Choose another folder, or remove it.")
            return store
        packer = _Packer(model, length, max_tokens)
        for number, source in enumerate(sources):
            packer.add(number, source, progress)
        rows = packer.finish()
        if not len(rows["tokens"]):
            raise InputError(
                f"The text fills no row of {length} tokens: it has {packer.total}. "
                "Give more text, or a smaller length."
            )
        with files.new_folder(target, shared=folder is None) as partial:
            for name, array in rows.items():
                np.save(partial / f"{name}.npy", array)
            record = {
                "request": request,
                "separator": packer.separator,
                "sources": packer.counts,
                "digest": _digest(list(rows.values())),
            }
            files.write_json(partial / "store.json", record)
        return cls.open(target)


def separator_of(model: Model) -> int:
    """The token that parts documents, and opens those that are read by themselves.

    Raises:
        InputError: when the tokenizer has none that ends a text.
    """
    ends = [
        model.bos_id,
        model.tokenizer.get_vocab().get("<|endoftext|>"),
        model.tokenizer.eos_token_id,
    ]
    found = next((i for i in ends if i is not None), None)
    if found is None:
        raise InputError(
            "The model's tokenizer has no token that ends a text, so that documents cannot be parted."
        )
    return int(found)


def _state_of(source: TextSource) -> dict[str, Any]:
    """What tells two states of a source apart: for local files their names and digests as well."""
    state: dict[str, Any] = {"spec": source.spec}
    if source.where.scheme == "path":
        path = Path(source.where.name).expanduser()
        if not path.exists():
            raise InputError(f"There is no file or folder {str(path)!r} to read text from.")
        found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        state["files"] = digests.of_json([[str(p), digests.of_file(p)] for p in found])
    return state


def _digest(arrays: Sequence[np.ndarray]) -> str:
    return digests.of_bytes(*(memoryview(np.ascontiguousarray(a).data).cast("B") for a in arrays if a.size))


class _Packer:
    """Documents in, rows out."""

    def __init__(self, model: Model, length: int, max_tokens: int | None) -> None:
        if length < 8:
            raise InputError(f"A row needs at least 8 tokens; got {length}.")
        self.model, self.length, self.max_tokens = model, length, max_tokens
        self.separator = separator_of(model)
        self.dtype = np.uint16 if len(model.tokenizer.get_vocab()) <= 2**16 else np.int32
        self.rows: list[np.ndarray] = []
        self.held: list[np.ndarray] = []
        self.row_sources: list[np.ndarray] = []
        self.counts: list[dict[str, Any]] = []
        self.seen: set[bytes] = set()
        self.total = 0

    def add(self, number: int, source: TextSource, progress: Progress) -> None:
        """Pack one source."""
        before = self.total
        kept: list[int] = []
        held: list[int] = []
        documents = repeated = 0
        for batch in _batches(source.documents()):
            fresh = []
            for document in batch:
                key = hashlib.blake2b(repr(document).encode(), digest_size=12).digest()
                if key in self.seen:
                    repeated += 1
                else:
                    self.seen.add(key)
                    fresh.append((key[0], document))
            if not fresh:
                continue
            for (mark, _), ids in zip(fresh, self._tokenise([d for _, d in fresh]), strict=True):
                side = held if mark < _HELD_OUT_MARKS else kept
                side.extend([*ids, self.separator])
                documents += 1
                if self._full(before, source, len(kept) + len(held)):
                    break
            self.total += self._cut(kept, self.rows) + self._cut(held, self.held)
            progress("tokenise", self.total, self.max_tokens or self.total, source=number)
            if self._full(before, source, len(kept) + len(held)):
                break
        made = sum(map(len, self.rows)) - sum(map(len, self.row_sources))
        self.row_sources.append(np.full(made, number, np.uint16))
        self.counts.append(
            {"spec": source.spec, "documents": documents, "repeated": repeated, "tokens": self.total - before}
        )

    def _full(self, before: int, source: TextSource, uncut: int) -> bool:
        """Whether a source, begun at `before`, has reached its own limit, or all have reached theirs."""
        total = self.total + uncut
        own = source.max_tokens is not None and total - before >= source.max_tokens
        return own or (self.max_tokens is not None and total >= self.max_tokens)

    def _tokenise(self, documents: list[Document]) -> list[list[int]]:
        tokenizer = self.model.tokenizer
        if tokenizer.chat_template is None and any(not isinstance(d, str) for d in documents):
            raise InputError(
                "The text holds chats, and the model's tokenizer has no chat template. "
                "Name a field of text with ?field=."
            )
        texts = [
            d if isinstance(d, str) else tokenizer.apply_chat_template(d, tokenize=False) for d in documents
        ]
        ids = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False).input_ids
        return [list(i) for i in ids]

    def _cut(self, tail: list[int], rows: list[np.ndarray]) -> int:
        """Move whole rows out of a tail; returns how many tokens they hold."""
        body = self.length - (self.model.bos_id is not None)
        whole = len(tail) // body
        if not whole:
            return 0
        block = np.asarray(tail[: whole * body], dtype=self.dtype).reshape(whole, body)
        if self.model.bos_id is not None:
            block = np.concatenate([np.full((whole, 1), self.model.bos_id, self.dtype), block], axis=1)
        rows.append(block)
        del tail[: whole * body]
        return int(block.size)

    def finish(self) -> dict[str, np.ndarray]:
        """All rows."""
        empty = np.zeros((0, self.length), self.dtype)
        tokens, held = np.concatenate([empty, *self.rows]), np.concatenate([empty, *self.held])
        sources = np.concatenate([np.zeros(0, np.uint16), *self.row_sources])
        if not len(held) and len(tokens) >= _FEW_ROWS:
            # Too few documents for chance to have picked one: the last rows are held out instead.
            kept = len(tokens) - max(1, len(tokens) // 64)
            tokens, held, sources = tokens[:kept], tokens[kept:], sources[:kept]
        return {"tokens": tokens, "heldout": held, "sources": sources}


def _batches(documents: Iterator[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    size = 0
    for document in _split(documents):
        batch.append(document)
        size += len(document) if isinstance(document, str) else 1000
        if len(batch) == _DOCUMENTS_AT_ONCE or size > 1_000_000:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _split(documents: Iterator[Document]) -> Iterator[Document]:
    """Books in pieces that a tokenizer takes in one go, and of which some can be held out."""
    for document in documents:
        if isinstance(document, str) and len(document) > _PIECE_CHARS:
            yield from (document[at : at + _PIECE_CHARS] for at in range(0, len(document), _PIECE_CHARS))
        else:
            yield document
