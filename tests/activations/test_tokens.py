from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pellucid.activations.text import Document, TextSource
from pellucid.activations.tokens import TokenStore
from pellucid.core.errors import InputError, IntegrityError
from pellucid.models.model import Model
from pellucid.testing import WORDS, tiny_model


def documents(count: int, seed: int = 0, words: int = 30) -> list[str]:
    dice = np.random.default_rng(seed)
    return [f"{n} {' '.join(dice.choice(WORDS, dice.integers(1, words)))}." for n in range(count)]


def write(path: Path, texts: list[Any]) -> TextSource:
    lines = [json.dumps({"messages" if isinstance(t, list) else "text": t}) for t in texts]
    path.write_text("\n".join(lines) + "\n")
    return TextSource.parse(str(path))


def is_held_out(document: Document) -> bool:
    """The rule, worked out again: one document in 128, by a digest of its words."""
    return hashlib.blake2b(repr(document).encode(), digest_size=12).digest()[0] < 2


def packed_by_hand(model: Model, texts: list[str], length: int) -> tuple[list[list[int]], list[list[int]]]:
    """Training rows and held-out rows, token by token."""
    sides: tuple[list[int], list[int]] = ([], [])
    separator = model.tokenizer.convert_tokens_to_ids("<|endoftext|>")
    for text in dict.fromkeys(texts):
        side = sides[is_held_out(text)]
        side += [*model.tokenizer(text, add_special_tokens=False).input_ids, separator]
    opening = [] if model.bos_id is None else [model.bos_id]
    body = length - len(opening)
    cut = [[opening + side[at : at + body] for at in range(0, len(side) - body + 1, body)] for side in sides]
    if not cut[1] and len(cut[0]) >= 8:  # chance held out no document of a short text: its last rows are
        last = max(1, len(cut[0]) // 64)
        cut = [cut[0][:-last], cut[0][-last:]]
    return cut[0], cut[1]


@pytest.mark.parametrize("family", ["llama", "gemma"])
@pytest.mark.parametrize("length", [8, 33, 64])
def test_rows_are_the_text_packed_without_padding(tmp_path: Path, family: str, length: int) -> None:
    model = tiny_model(family)
    texts = documents(700)
    store = TokenStore.build(model, [write(tmp_path / "a.jsonl", texts)], length=length)
    training, held_out = packed_by_hand(model, texts, length)
    assert store.tokens.tolist() == training
    assert store.heldout.tolist() == held_out
    assert len(held_out) > 0
    assert store.length == length
    (told,) = store.record["sources"]
    assert told["tokens"] == store.tokens.size + store.heldout.size
    assert (told["documents"], told["repeated"]) == (700, 0)


@given(
    texts=st.lists(
        st.text(st.sampled_from("ab é🙂"), min_size=1, max_size=60).filter(str.strip), min_size=4, max_size=40
    )
)
@hypothesis_settings(max_examples=25)
def test_every_token_is_accounted_for(
    tiny: Model, texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("store")
    training, held_out = packed_by_hand(tiny, texts, 16)
    source = write(folder / "a.jsonl", texts)
    if not training:
        with pytest.raises(InputError, match="fills no row of 16 tokens"):
            TokenStore.build(tiny, [source], length=16, folder=folder / "store")
        return
    store = TokenStore.build(tiny, [source], length=16, folder=folder / "store")
    assert store.tokens.tolist() == training
    assert store.heldout.tolist() == held_out
    whole = sum(len(tiny.tokenizer(t).input_ids) + 1 for t in dict.fromkeys(texts))
    assert 0 <= whole - store.tokens.size - store.heldout.size < 2 * 16, (
        "only the last, short row of a side is dropped"
    )


def test_a_document_that_occurs_twice_is_kept_once_even_across_sources(tmp_path: Path, tiny: Model) -> None:
    texts = documents(40)
    first = write(tmp_path / "a.jsonl", texts + texts[:7])
    second = write(tmp_path / "b.jsonl", texts[5:20] + documents(60, seed=9))
    store = TokenStore.build(tiny, [first, second], length=16)
    told = store.record["sources"]
    assert [(s["documents"], s["repeated"]) for s in told] == [(40, 7), (60, 15)]
    text = tiny.decode(store.tokens.flatten().tolist()) + tiny.decode(store.heldout.flatten().tolist())
    kept = Counter(part for part in text.split("<|endoftext|>") if part in texts)
    assert set(kept.values()) == {1}


def test_rows_know_their_source(tmp_path: Path, tiny: Model) -> None:
    one = write(tmp_path / "a.jsonl", ["x" * 200])
    two = write(tmp_path / "b.jsonl", ["y" * 300])
    store = TokenStore.build(tiny, [one, two], length=16)
    for row, source in zip(store.tokens.tolist(), store.sources.tolist(), strict=True):
        assert set(tiny.decode(row)) - set("<|endoftext|>") <= {"xy"[source]}
    assert [s["spec"] for s in store.record["sources"]] == [one.spec, two.spec]


def test_no_held_out_document_is_in_a_training_row(tmp_path: Path, tiny: Model) -> None:
    texts = [f"{n:05d} {text}" for n, text in enumerate(documents(2000, words=6))]
    store = TokenStore.build(tiny, [write(tmp_path / "a.jsonl", texts)], length=16)
    training = tiny.decode(store.tokens.flatten().tolist())
    held = [text for text in texts if is_held_out(text)]
    assert 4 < len(held) < 40, "about one in 128"
    assert not any(text[:5] + " " in training for text in held)
    assert tiny.decode(store.heldout.flatten().tolist()).count("<|endoftext|>") >= len(held) - 1


def test_whether_a_document_is_held_out_depends_on_its_words_alone(tmp_path: Path, tiny: Model) -> None:
    texts = documents(2000, words=6)
    forward = TokenStore.build(tiny, [write(tmp_path / "a.jsonl", texts)], length=8)
    backward = TokenStore.build(tiny, [write(tmp_path / "b.jsonl", texts[::-1])], length=8)
    one, two = (
        set(tiny.decode(s.heldout.flatten().tolist()).split("<|endoftext|>")[1:-1])
        for s in (forward, backward)
    )
    assert len(one & two) >= len(one) - 2


def test_chats_go_through_the_template(tmp_path: Path, tiny: Model) -> None:
    chats = [
        [{"role": "user", "content": f"Hi {n}"}, {"role": "assistant", "content": "Ho"}] for n in range(30)
    ]
    store = TokenStore.build(tiny, [write(tmp_path / "a.jsonl", chats)], length=16)
    text = tiny.decode(store.tokens.flatten().tolist())
    assert text.startswith(
        "<|im_start|>user\nHi 0<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n<|endoftext|>"
    )


def test_chats_for_a_model_without_a_template_are_one_clear_error(tmp_path: Path, tiny: Model) -> None:
    tokenizer = tiny_model().tokenizer
    tokenizer.chat_template = None
    model = Model(tiny.network, tokenizer, tiny.digest, tiny.name)
    source = write(tmp_path / "a.jsonl", [[{"role": "user", "content": "Hi"}]])
    with pytest.raises(InputError, match="no chat template"):
        TokenStore.build(model, [source])


def test_a_tokenizer_that_ends_no_text_is_one_clear_error(tmp_path: Path, tiny: Model) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    model = Model(tiny.network, tokenizer, tiny.digest, tiny.name)
    with pytest.raises(InputError, match="no token that ends a text"):
        TokenStore.build(model, [write(tmp_path / "a.jsonl", ["a"])])


def test_a_long_book_is_cut_into_pieces_and_loses_no_letter(tmp_path: Path, tiny: Model) -> None:
    book = " ".join(str(n) for n in range(50_000))
    (tmp_path / "book.txt").write_text(book)
    store = TokenStore.build(tiny, [TextSource.parse(str(tmp_path / "book.txt"))], length=64)
    assert store.record["sources"][0]["documents"] == -(-len(book) // 100_000)
    pieces = [book[at : at + 100_000] for at in range(0, len(book), 100_000)]
    training, held_out = packed_by_hand(tiny, pieces, 64)
    assert (store.tokens.tolist(), store.heldout.tolist()) == (training, held_out)


def test_reading_stops_at_the_limit(tmp_path: Path, tiny: Model) -> None:
    texts = documents(3000)
    whole = TokenStore.build(tiny, [write(tmp_path / "a.jsonl", texts)], length=16)
    one_document = whole.tokens.size / 3000 * 5
    for options, limits in (("?tokens=5k", {}), ("", {"max_tokens": 5000})):
        source = TextSource.parse(f"{tmp_path / 'a.jsonl'}{options}")
        store = TokenStore.build(tiny, [source], length=16, **limits)
        taken = store.tokens.size + store.heldout.size
        # Two unfinished rows may be dropped; the last document may reach beyond.
        assert 5000 - 2 * 16 <= taken <= 5000 + one_document
        assert np.array_equal(store.tokens, whole.tokens[: len(store.tokens)])


def test_a_whole_batch_of_repeats_adds_nothing(tmp_path: Path, tiny: Model) -> None:
    once, again = documents(40), documents(40) * 20
    alone = TokenStore.build(tiny, [write(tmp_path / "a.jsonl", once)], length=16)
    both = TokenStore.build(tiny, [write(tmp_path / "b.jsonl", once + again)], length=16)
    assert np.array_equal(both.tokens, alone.tokens)
    assert both.record["sources"][0]["repeated"] == len(again)


def test_a_store_that_was_built_is_opened_and_not_built_again(
    tmp_path: Path, tiny: Model, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "a.jsonl", documents(50))
    store = TokenStore.build(tiny, [source], length=16)
    assert store.folder.parent == home / "tokens"
    monkeypatch.setattr(TextSource, "documents", lambda _self: pytest.fail("the text must not be read again"))
    again = TokenStore.build(tiny, [source], length=16)
    assert again.digest == store.digest
    assert again.folder == store.folder
    assert isinstance(again.tokens, np.memmap)


def test_a_build_that_was_killed_leaves_nothing_and_gives_the_same_store_later(
    tmp_path: Path, tiny: Model, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "a.jsonl", documents(50))
    with monkeypatch.context() as patch:

        def killed(*_args: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(np, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            TokenStore.build(tiny, [source], length=16)
    assert [p for p in home.rglob("*") if p.is_file()] == []
    elsewhere = TokenStore.build(tiny, [source], length=16, folder=tmp_path / "other")
    assert TokenStore.build(tiny, [source], length=16).digest == elsewhere.digest


def test_other_text_under_the_same_name_is_another_store(tmp_path: Path, tiny: Model) -> None:
    first = TokenStore.build(tiny, [write(tmp_path / "a.jsonl", documents(50))], length=16)
    second = TokenStore.build(tiny, [write(tmp_path / "a.jsonl", documents(50, seed=1))], length=16)
    assert first.digest != second.digest
    with pytest.raises(InputError, match="holds other text"):
        TokenStore.build(tiny, [write(tmp_path / "a.jsonl", documents(9))], length=16, folder=first.folder)
    assert TokenStore.open(first.folder).digest == first.digest


@pytest.mark.parametrize("name", ["tokens.npy", "heldout.npy", "sources.npy", "store.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "remove"])
def test_a_damaged_store_is_refused(tmp_path: Path, tiny: Model, name: str, damage: str) -> None:
    store = TokenStore.build(
        tiny, [write(tmp_path / "a.jsonl", documents(400))], length=16, folder=tmp_path / "s"
    )
    path = store.folder / name
    raw = bytearray(path.read_bytes())
    if damage == "flip":
        at = raw.rindex(b"sha256:") + 9 if name == "store.json" else len(raw) - 1
        raw[at] = ord("0") if raw[at] != ord("0") else ord("1")
    elif damage == "truncate":
        del raw[len(raw) // 2 :]
    elif damage == "empty":
        raw.clear()
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(raw)
    with pytest.raises(IntegrityError, match="Remove the folder and repeat") as caught:
        TokenStore.open(store.folder)
    assert str(store.folder) in str(caught.value)


def test_a_store_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no token store"):
        TokenStore.open(tmp_path / "nowhere")


def test_rows_cut_to_another_length_are_refused(tmp_path: Path, tiny: Model) -> None:
    store = TokenStore.build(
        tiny, [write(tmp_path / "a.jsonl", documents(400))], length=16, folder=tmp_path / "s"
    )
    np.save(store.folder / "tokens.npy", np.array(store.tokens).reshape(-1, 8))
    with pytest.raises(IntegrityError, match="has changed"):
        TokenStore.open(store.folder)


@pytest.mark.parametrize(
    ("length", "words"), [(7, "at least 8 tokens; got 7"), (100_000, "fills no row of 100000")]
)
def test_a_length_that_makes_no_rows_is_refused(tmp_path: Path, tiny: Model, length: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        TokenStore.build(tiny, [write(tmp_path / "a.jsonl", documents(5))], length=length)


def test_text_that_is_not_there_is_refused_before_anything_is_made(
    tmp_path: Path, tiny: Model, home: Path
) -> None:
    with pytest.raises(InputError, match="no file or folder"):
        TokenStore.build(tiny, [TextSource.parse(str(tmp_path / "absent.txt"))])
    assert not (home / "tokens").exists()


def test_progress_is_told_in_tokens(tmp_path: Path, tiny: Model) -> None:
    told: list[tuple[str, float]] = []
    TokenStore.build(
        tiny,
        [write(tmp_path / "a.jsonl", documents(600))],
        length=16,
        progress=lambda stage, done, _total, /, **_f: told.append((stage, done)),
    )
    assert {stage for stage, _ in told} == {"tokenise"}
    assert [done for _, done in told] == sorted(done for _, done in told)
    assert len(told) == 3
