from __future__ import annotations

from typing import Any

import anthropic
import httpx
import pytest

from pellucid.models import generation
from pellucid.models.generation import Generator, Sampling
from pellucid.serving.served import Served

CHAT: list[Any] = [{"role": "user", "content": "Tell me about the rain in the town."}]
COLD = {"temperature": 0}
"""The client knows no sampling; the API does."""


@pytest.fixture
def client(address: str) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=address, api_key="none", max_retries=0)


def wanted(served: Served, chat: list[Any]) -> str:
    (answer,) = generation.answers(Generator(served.model, [served.model.encode_chat(chat)], Sampling(12)))
    return "".join(served.model.pieces(answer.token_ids))


def test_a_message_is_answered_as_the_model_writes(client: anthropic.Anthropic, served: Served) -> None:
    given: Any = {"model": served.model.name, "max_tokens": 12, "messages": CHAT, "extra_body": COLD}
    text = wanted(served, CHAT)
    found = client.messages.create(**given)
    assert found.content[0].text == text
    assert found.stop_reason in ("max_tokens", "end_turn")
    assert found.usage.input_tokens == len(served.model.encode_chat(CHAT))
    with client.messages.stream(**given) as stream:
        assert "".join(stream.text_stream) == text
        last = stream.get_final_message()
    assert last.content[0].text == text
    assert (last.stop_reason, last.usage.output_tokens) == (found.stop_reason, found.usage.output_tokens)


def test_system_prompts_and_stop_sequences(client: anthropic.Anthropic, served: Served) -> None:
    chat = [{"role": "system", "content": "Be brief."}, *CHAT]
    text = wanted(served, chat)
    given: Any = {
        "model": served.model.name,
        "max_tokens": 12,
        "messages": CHAT,
        "system": "Be brief.",
        "extra_body": COLD,
    }
    assert client.messages.create(**given).content[0].text == text
    stop = text[4:7]
    found = client.messages.create(**given, stop_sequences=[stop])
    assert found.content[0].text == text[: text.index(stop)]
    assert (found.stop_reason, found.stop_sequence) == ("stop_sequence", stop)


def test_features_come_with_every_token(client: anthropic.Anthropic, served: Served) -> None:
    given: Any = {"model": served.model.name, "max_tokens": 6, "messages": CHAT}
    extension = {"watch": [{"top": 2}], "edits": [{"feature": 3, "strength": 1.0}]}
    whole: Any = client.messages.create(**given, extra_body={**COLD, "pellucid": extension})
    assert [len(t["features"]) for t in whole.pellucid["answer"]] == [2] * len(whole.pellucid["answer"])
    assert whole.pellucid["receipts"][0]["feature"] == 3
    events: list[Any] = list(
        client.messages.create(**given, stream=True, extra_body={**COLD, "pellucid": extension})
    )
    assert [e.type for e in events[:2]] == ["message_start", "content_block_start"]
    deltas = [e for e in events if e.type == "content_block_delta" and hasattr(e, "pellucid")]
    assert [e.pellucid["features"] for e in deltas] == [t["features"] for t in whole.pellucid["answer"]]
    assert events[-2].pellucid["receipts"] == whole.pellucid["receipts"]


@pytest.mark.parametrize(
    ("change", "status", "kind"),
    [
        ({"model": "other"}, 404, "not_found_error"),
        ({"max_tokens": None}, 400, "invalid_request_error"),
        ({"messages": [{"role": "assistant", "content": "Hm"}]}, 400, "invalid_request_error"),
        ({"temperature": 1.5}, 400, "invalid_request_error"),
        ({"tools": [{}]}, 400, "invalid_request_error"),
        ({"pellucid": {"edits": [{"feature": 99}]}}, 400, "invalid_request_error"),
    ],
)
def test_bad_input_is_an_error_of_the_api(
    address: str, served: Served, change: dict[str, Any], status: int, kind: str
) -> None:
    body = {"model": served.model.name, "max_tokens": 5, "messages": CHAT, **change}
    found = httpx.post(f"{address}/v1/messages", json=body)
    assert found.status_code == status
    assert found.json()["type"] == "error"
    assert found.json()["error"]["type"] == kind
