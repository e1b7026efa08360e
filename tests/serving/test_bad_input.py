"""What a stranger may send: each a 4xx in the words of the API that was asked, and the others go on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from pellucid.models.model import Model
from pellucid.serving.served import Served, ServedDictionary
from tests.serving.conftest import dictionary_of, running

CHAT: list[Any] = [{"role": "user", "content": "Tell me about the rain in the town."}]
PATHS = ("/v1/chat/completions", "/v1/messages")
JSON = {"content-type": "application/json"}


def body_of(served: Served, **more: Any) -> dict[str, Any]:
    return {"model": served.model.name, "max_tokens": 6, "messages": CHAT, **more}


def message_of(path: str, answer: httpx.Response) -> str:
    """The message of an error, which must be one of the API that was asked."""
    body = answer.json()
    assert set(body) == ({"error"} if path == PATHS[0] else {"type", "error"}), body
    told = str(body["error"]["message"])
    assert "Traceback" not in told
    assert str(Path.home()) not in told
    return told


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("extension", "status", "words"),
    [
        ({"edits": [{"feature": 48}]}, 400, "Feature 48 does not exist"),
        ({"edits": [{"feature": -1}]}, 400, "feature"),
        ({"edits": [{"feature": 10**400}]}, 400, ""),
        ({"edits": [{"feature": 1, "strength": 100.5}]}, 400, "strength"),
        ({"edits": [{"feature": 1, "strength": -101}]}, 400, "strength"),
        ({"edits": [{"feature": 1, "strength": 1e308}]}, 400, "strength"),
        ({"edits": [{"feature": 1}] * 33}, 400, "edits"),
        ({"edits": [{"feature": 1, "dictionary": "other"}]}, 404, "no dictionary"),
        ({"edits": [{"feature": 1, "kind": "smash"}]}, 400, "kind"),
        ({"watch": [{"features": [48]}]}, 400, "Feature 48 does not exist"),
        ({"watch": [{"dictionary": "../tiny-features"}]}, 404, "no dictionary"),
        ({"recipe": "../keys"}, 404, "no recipe"),
        ({"recipe": "/etc/passwd"}, 404, "no recipe"),
        ({"recipe": "a\x00b"}, 404, "no recipe"),
        ({"recipe": "none"}, 404, "no recipe"),
        ({"\ud800": 1}, 400, "pellucid"),
    ],
)
def test_extensions_that_mean_nothing(
    address: str, served: Served, path: str, stream: bool, extension: Any, status: int, words: str
) -> None:
    body = json.dumps(body_of(served, stream=stream, pellucid=extension))
    answer = httpx.post(address + path, content=body, headers=JSON)
    assert answer.status_code == status, answer.text
    assert words in message_of(path, answer)


@pytest.mark.parametrize("path", PATHS)
def test_a_prompt_of_ten_megabytes_is_refused_however_it_is_sent(
    address: str, served: Served, path: str
) -> None:
    body = json.dumps(body_of(served, messages=[{"role": "user", "content": "x" * 10_000_000}]))

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(body), 1 << 20):
            yield body[at : at + (1 << 20)].encode()

    for content in (body.encode(), pieces()):  # with its length told, and without
        answer = httpx.post(address + path, content=content, headers=JSON)
        assert answer.status_code == 413
        assert "4 MB" in message_of(path, answer)
        assert answer.headers["x-content-type-options"] == "nosniff"
    # What is small enough to be read, and too long for the model.
    body = json.dumps(body_of(served, messages=[{"role": "user", "content": "rain " * 20_000}]))
    answer = httpx.post(address + path, content=body, headers=JSON)
    assert answer.status_code == 400
    assert "room" in message_of(path, answer)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xfe\x00",
        b'{"messages": "\xc3\x28"}',
        b'{"model": "\\ud800", "max_tokens": 3, "messages": []}',
        b'{"max_tokens": 3, "messages": [{"role": "user", "content": "\\udcff\\ud800"}]}',
        b"[" * 100_000,
        b'{"max_tokens": ' + b"9" * 5000 + b"}",
        b'{"temperature": NaN}',
        b"",
        b"null",
    ],
)
def test_bytes_that_are_no_text(address: str, path: str, content: bytes) -> None:
    answer = httpx.post(address + path, content=content, headers=JSON)
    assert 400 <= answer.status_code < 500, answer.text
    assert message_of(path, answer)


def test_names_that_are_paths(address: str) -> None:
    for path in (
        "/v1/models/..%2F..%2Fetc%2Fpasswd",
        "/v1/features/7?dictionary=..%2F..%2Fetc",
        "/v1/features/..%2F..%2Fkeys",
        "/v1/map?dictionary=%2Fetc%2Fpasswd",
        "/v1/recipes/..%2Fkeys.json",
        "/v1/recipes/%2e%2e%2fkeys",
        "/v1/recipes/%ED%A0%80",
    ):
        answer = httpx.get(address + path)
        assert answer.status_code in (400, 404), path
        assert "root:" not in answer.text


def crafted(served: Served) -> dict[str, bytes]:
    """Recipes by a stranger."""
    found = served.dictionary(None)
    good: dict[str, Any] = {
        "format": 1,
        "name": "evil",
        "dictionary": found.digest,
        "model": served.model.digest,
        "edits": [{"kind": "set", "feature": 3, "strength": 1.0, "scope": "all"}],
        "note": "",
    }

    def edited(**changes: Any) -> bytes:
        return json.dumps({**good, "edits": [{**good["edits"][0], **changes}]}).encode()

    return {
        "bytes": b"\x80\x04\x95",
        "deep": b"[" * 200_000,
        "null": b"null",
        "list": b"[1, 2]",
        "digits": b'{"format": ' + b"1" * 5000 + b"}",
        "nan": edited(strength=float("nan")),
        "infinite": edited(strength=float("inf")),
        "beyond": edited(strength=1e6),
        "huge": edited(strength=10**400),
        "text": edited(strength="1"),
        "missing": edited(feature=10**9),
        "negative": edited(feature=-1),
        "unknown": edited(run="rm -rf"),
        "many": json.dumps({**good, "edits": good["edits"] * 300}).encode(),
        "twice": json.dumps({**good, "edits": good["edits"] * 2}).encode(),
        "other": json.dumps({**good, "dictionary": "sha256:00"}).encode(),
        "note": json.dumps({**good, "note": "\ud800"}).encode(),
        "path": json.dumps({**good, "name": "../../keys"}).encode(),
    }


def test_recipes_crafted_by_a_stranger(
    address: str, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PELLUCID_HOME", str(tmp_path))
    kept = tmp_path / "recipes"
    kept.mkdir()
    for name, content in crafted(served).items():
        (kept / f"{name}.json").write_bytes(content)
    (kept / "link.json").symlink_to("/etc/passwd")
    before = sorted((p.name, p.stat().st_size) for p in kept.iterdir())
    for name in (*crafted(served), "link"):
        for path in PATHS:
            answer = httpx.post(address + path, json=body_of(served, pellucid={"recipe": name}))
            assert answer.status_code in (400, 404), (name, answer.text)
            assert str(tmp_path) not in message_of(path, answer)
        answer = httpx.get(f"{address}/v1/recipes/{name}")
        assert answer.status_code in (200, 400), (name, answer.text)
        assert str(tmp_path) not in answer.text
        assert "root:" not in answer.text
    refused = {"edits": [{"feature": 3, "strength": 101}]}
    assert httpx.put(f"{address}/v1/recipes/fine", json=refused).status_code == 400
    assert httpx.put(f"{address}/v1/recipes/bytes", json={"edits": [{"feature": 48}]}).status_code == 400
    assert sorted((p.name, p.stat().st_size) for p in kept.iterdir()) == before


@pytest.fixture(scope="module")
def wild(tiny: Model) -> Iterator[str]:
    """A server with a dictionary of which one feature is so large that the model overflows."""
    tame = dictionary_of(tiny)
    assert tame.maximum is not None
    maximum, decoder = tame.maximum.clone(), tame.decoder.clone()
    maximum[9], decoder[9] = 3e36, 10 * decoder[9]  # a hundred times the maximum along it is no float
    huge = dataclasses.replace(tame, maximum=maximum, decoder=decoder)
    with running(Served(tiny, {"wild": ServedDictionary("wild", Path("nowhere"), huge, tiny)})) as address:
        yield address


def overflowing(scope: str) -> dict[str, Any]:
    return {"edits": [{"feature": 9, "kind": "set", "strength": 100, "scope": scope}]}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
def test_logits_that_are_no_numbers_are_an_error_and_the_others_go_on(
    wild: str, served: Served, path: str, stream: bool
) -> None:
    plain = body_of(served, temperature=0)
    post = partial(httpx.post, wild + path, timeout=60)  # an edit may have to be compiled first
    alone = post(json=plain).json()

    def ask(number: int) -> httpx.Response:
        if number % 2 == 0:
            return post(json=plain)
        bad = {**plain, "stream": stream, "pellucid": overflowing("all")}
        return post(json=bad)

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(8)))
    for answer in answers[::2]:
        assert answer.status_code == 200
        for part in {"choices", "content"} & set(alone):
            assert answer.json()[part] == alone[part]
    for answer in answers[1::2]:
        assert answer.status_code == 400
        assert "no finite numbers" in message_of(path, answer)


def test_an_error_in_the_middle_of_a_stream_reaches_both_clients(wild: str, served: Served) -> None:
    given: Any = {"model": served.model.name, "max_tokens": 6, "messages": CHAT, "stream": True}
    extension = {"pellucid": overflowing("answer")}
    one = openai.OpenAI(base_url=f"{wild}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.APIError, match="no finite numbers"):
        list(one.chat.completions.create(**given, extra_body=extension))
    other = anthropic.Anthropic(base_url=wild, api_key="none", max_retries=0)
    kinds = []
    with pytest.raises(anthropic.APIStatusError, match="no finite numbers"):
        for event in other.messages.create(**given, extra_body=extension):
            kinds.append(event.type)
    assert kinds[:2] == ["message_start", "content_block_start"]
    ready = httpx.get(f"{wild}/readyz").json()
    assert (ready["running"], ready["waiting"]) == (0, 0)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("stream", [False, True])
def test_what_a_defect_says_is_for_the_log_alone(
    served: Served, path: str, stream: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """In the engine's loop, and in what is made of a token after the answer has begun."""
    body = body_of(served, stream=stream, pellucid={"watch": [{"top": 1}]})
    inside = "a defect at /srv/models/secret"

    def broken(*_: Any, **_options: Any) -> Any:
        raise ZeroDivisionError(inside)

    def told(address: str) -> str:
        answer = httpx.post(address + path, json=body)
        assert answer.status_code in ((200, 500) if stream else (500,))
        assert "Traceback" not in answer.text
        assert "secret" not in answer.text
        assert "ZeroDivisionError" not in answer.text
        return answer.text

    with running(served) as address:
        with monkeypatch.context() as patch:
            patch.setattr("pellucid.models.batching.Batch.step", broken)
            assert "its log says which" in told(address)
        with monkeypatch.context() as patch:
            patch.setattr("pellucid.serving.extension.Instruments.features", broken)
            assert "its log says which" in told(address)
        assert inside in caplog.text
        assert httpx.post(address + path, json=body_of(served)).status_code == 200
        ready = httpx.get(f"{address}/readyz").json()
        assert (ready["running"], ready["waiting"]) == (0, 0)
