from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.activations.text import Document, TextSource
from pellucid.core.errors import InputError, IntegrityError, PellucidError

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1, max_size=30)


def read(where: Path, options: str = "") -> list[Document]:
    return list(TextSource.parse(f"{where}{options}").documents())


def zstd(raw: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(raw)
    return bytes(sink.getvalue())


def table(**columns: list[object]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Line one.\n\nLine two, é日🙂.\n", encoding="utf-8")
    assert read(tmp_path / "a.txt") == ["Line one.\n\nLine two, é日🙂.\n"]


def test_a_file_without_an_ending_is_text(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").write_text("words")
    assert read(tmp_path / "LICENSE") == ["words"]


def test_text_that_is_not_utf_8_is_read_as_latin_1(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("café".encode("latin-1"))
    assert read(tmp_path / "a.txt") == ["café"]


def test_a_folder_gives_its_readable_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    folder = tmp_path / "books"
    (folder / "sub").mkdir(parents=True)
    for name, raw in {
        "b.txt": b"b",
        "a.md": b"a",
        "sub/c.py": b"c",
        "sub/d.jsonl": b'{"text": "d1"}\n{"text": "d2"}\n',
        ".hidden.txt": b"no",
        "picture.png": b"no",
        "weights.safetensors": b"no",
        "binary.dat": b"no\0no",
        "blank.txt": b" \n\t\n",
        "empty.txt": b"",
    }.items():
        (folder / name).write_bytes(raw)
    assert read(folder) == ["a", "b", "c", "d1", "d2"]


@given(st.lists(WORDS, min_size=1, max_size=5))
def test_a_line_of_jsonl_is_a_document(tmp_path: Path, texts: list[str]) -> None:
    lines = [json.dumps({"id": n, "text": text}, ensure_ascii=n % 2 == 0) for n, text in enumerate(texts)]
    (tmp_path / "a.jsonl").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    expected = [text for text in texts if text.strip()]
    if expected:
        assert read(tmp_path / "a.jsonl") == expected


def test_messages_are_a_chat_and_keep_role_and_content_alone(tmp_path: Path) -> None:
    rich = [{**message, "weight": 1} for message in CHAT]
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": rich}) + "\n" + json.dumps({"text": "plain"}))
    assert read(tmp_path / "a.jsonl") == [CHAT, "plain"]


def test_messages_in_parquet_are_a_chat(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(table(messages=[CHAT, CHAT[:1]]))
    assert read(tmp_path / "a.parquet") == [CHAT, CHAT[:1]]


@given(st.lists(WORDS | st.none() | st.just(""), min_size=1, max_size=8))
def test_a_row_of_parquet_is_a_document_and_empty_ones_are_left_out(
    tmp_path: Path, texts: list[str | None]
) -> None:
    (tmp_path / "a.parquet").write_bytes(table(n=list(range(len(texts))), text=[*texts]))
    expected = [text for text in texts if text and text.strip()]
    if expected:
        assert read(tmp_path / "a.parquet") == expected


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t")])
@given(texts=st.lists(WORDS, min_size=1, max_size=6))
def test_a_row_of_a_table_of_text_is_a_document(
    tmp_path: Path, suffix: str, delimiter: str, texts: list[str]
) -> None:
    path = tmp_path / f"a.{suffix}"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([["id", "prompt"], *([n, text] for n, text in enumerate(texts))])
    expected = [text for text in texts if text.strip()]
    if expected:
        assert read(path) == expected


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path, name: str) -> None:
    body = "text,n\nhello,1\n" if name == "a.csv" else '{"text": "hello"}\n'
    (tmp_path / name).write_text(body, encoding="utf-8-sig")
    assert read(tmp_path / name) == ["hello"]


def test_a_cell_of_any_length_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\n" + "word " * 50_000 + "\n")
    assert [len(document) for document in read(tmp_path / "a.csv")] == [250_000]


def test_a_short_row_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,text\n1,one\n2\n3,three\n")
    assert read(tmp_path / "a.csv") == ["one", "three"]


def test_a_path_leads_through_json_objects_and_lists(tmp_path: Path) -> None:
    value = [
        {"name": "x", "examples": [{"input": "one", "output": "1"}, {"input": "two"}]},
        {"name": "y", "examples": {"input": ["three", "four"]}},
    ]
    (tmp_path / "a.json").write_text(json.dumps(value))
    assert read(tmp_path / "a.json", "?field=examples.input") == ["one", "two", "three", "four"]
    assert read(tmp_path / "a.json", "?field=name") == ["x", "y"]


def test_a_list_of_strings_in_json_is_a_list_of_documents(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(["one", "", "two"]))
    assert read(tmp_path / "a.json") == ["one", "two"]


def test_a_field_may_be_named_in_every_table(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,note\nno,yes\n")
    (tmp_path / "b.parquet").write_bytes(table(text=["no"], note=["yes"]))
    (tmp_path / "c.jsonl").write_text('{"text": "no", "note": "yes"}')
    assert [read(tmp_path / name, "?field=note") for name in ("a.csv", "b.parquet", "c.jsonl")] == [
        ["yes"]
    ] * 3


@pytest.mark.parametrize("name", ["a.csv", "b.parquet", "c.jsonl", "d.json"])
def test_a_missing_column_is_refused_with_those_there_are(tmp_path: Path, name: str) -> None:
    raw = {
        "a.csv": b"one,two\n1,2\n",
        "b.parquet": table(one=["1"], two=["2"]),
        "c.jsonl": b'{"one": "1", "two": "2"}',
        "d.json": b'{"one": "1", "two": "2"}',
    }[name]
    (tmp_path / name).write_bytes(raw)
    for options, wanted in (("", "text"), ("?field=three", "three")):
        with pytest.raises(
            InputError, match=rf"no column '{wanted}'; it has one, two\. Name one with \?field="
        ) as caught:
            read(tmp_path / name, options)
        assert name in str(caught.value)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize(
    ("name", "raw", "documents"),
    [
        ("a.txt", b"words", ["words"]),
        ("a.csv", b"text\none\ntwo\n", ["one", "two"]),
        ("a.jsonl", b'{"text": "one"}\n', ["one"]),
        ("a.json", b'["one"]', ["one"]),
        ("a.parquet", table(text=["one"]), ["one"]),
        ("a.html", b"<p>one</p>", ["one"]),
    ],
)
def test_a_compressed_file_is_read_as_what_it_holds(
    tmp_path: Path, suffix: str, name: str, raw: bytes, documents: list[str]
) -> None:
    path = tmp_path / f"{name}{suffix}"
    path.write_bytes(PACKERS[suffix](raw))
    assert read(path) == documents


def test_html_loses_tags_scripts_and_entities(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        "<html><head><title>no</title></head><body><script>if (a < b) no()</script>"
        "<style>p { no: 1 }</style><h1>One</h1>\n\n\n<p class='x'>2 &lt; 3 &amp; caf&eacute;</p></html>"
    )
    (document,) = read(tmp_path / "a.html")
    assert isinstance(document, str)
    assert document.split("\n\n") == [" One", "2 < 3 & café"] or document.split() == [
        "One",
        "2",
        "<",
        "3",
        "&",
        "café",
    ]
    assert "no" not in document


def test_a_manual_page_loses_its_requests(tmp_path: Path) -> None:
    (tmp_path / "tool.1").write_text(".TH TOOL 1\n.SH NAME\ntool \\- does \\fBthings\\fR\n")
    (document,) = read(tmp_path / "tool.1")
    assert "".join(document).split() == ["tool", "-", "does", "things"]


def test_patterns_leave_files_out(tmp_path: Path) -> None:
    folder = tmp_path / "code"
    for name in ("tests/a.py", "src/b.py", "src/c.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    assert read(folder, "?skip=*/tests/*") == ["src/b.py", "src/c.md"]
    assert read(folder, "?skip=*/tests/*|*.md") == ["src/b.py"]


def test_options_are_read_together() -> None:
    source = TextSource.parse("data.csv?field=a.b&tokens=2M&skip=x|y")
    assert (source.field, source.max_tokens, source.skip) == ("a.b", 2_000_000, ("x", "y"))
    assert source.where.name == "data.csv"
    assert source.spec == "data.csv?field=a.b&tokens=2M&skip=x|y"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("a.txt?limit=3", r"options field=, tokens=, skip=; got \['limit'\]"),
        ("a.txt?tokens=lots", "Expected a count"),
        ("a.txt?", "options field=, tokens=, skip="),
        ("npm:three", "npm:package@version"),
    ],
)
def test_a_malformed_source_is_refused(spec: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        TextSource.parse(spec)


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file or folder"):
        read(tmp_path / "absent.txt")


@pytest.mark.parametrize("raw", [b"", b"  \n", b"\0\1\2"])
def test_a_source_that_holds_no_text_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(raw)
    with pytest.raises(InputError, match="holds no text"):
        read(tmp_path / "a.txt")


def test_everything_left_out_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    with pytest.raises(InputError, match="holds no text"):
        read(tmp_path / "a.txt", "?skip=*")


SAMPLE = "".join(f"{n} words and words\n" for n in range(800)).encode()


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("a.jsonl", b'{"text": "one"}\n{"text": '),
        ("a.jsonl", b'{"text": "\xff"}\n'),
        ("a.json", b"[1, 2"),
        ("a.parquet", table(text=["one"])[:-7]),
        *((f"a.txt{suffix}", pack(SAMPLE)[:-20]) for suffix, pack in PACKERS.items()),
    ],
)
def test_a_damaged_file_is_an_integrity_error_that_names_it(tmp_path: Path, name: str, raw: bytes) -> None:
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(IntegrityError, match="cannot be read") as caught:
        read(tmp_path / name)
    assert name in str(caught.value)


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_flipped_bit_in_a_compressed_file_is_one_of_our_errors_or_other_text(
    tmp_path: Path, suffix: str
) -> None:
    raw, path = PACKERS[suffix](SAMPLE), tmp_path / f"a.txt{suffix}"
    for at in range(0, len(raw), max(1, len(raw) // 50)):
        damaged = bytearray(raw)
        damaged[at] ^= 0x5A
        path.write_bytes(damaged)
        try:
            read(path)
        except PellucidError as error:
            assert path.name in str(error)


def make_wheel(shelf: Path) -> None:
    shelf.mkdir()
    with zipfile.ZipFile(shelf / "words-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("words/data/b.txt", "bee")
        wheel.writestr("words/data/a.csv.gz", gzip.compress(b"text\nay\n"))
        wheel.writestr("words/code.py", "print()")
        wheel.writestr("words-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: words\nVersion: 1.0\n")
        wheel.writestr(
            "words-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("words-1.0.dist-info/RECORD", "")


def test_text_comes_out_of_a_package_by_pattern(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_wheel(tmp_path / "shelf")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "shelf"))
    found = list(TextSource.parse("pypi:words==1.0#words/data/*").documents())
    assert found == ["ay", "bee"]
    with pytest.raises(InputError, match="holds no text"):
        list(TextSource.parse("pypi:words==1.0#words/none/*").documents())
