"""Anthropic's API: messages, whole or as a stream of typed events.

Source: the API reference at docs.anthropic.com/en/api/messages, and what the official Python client reads.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from pellucid.core.errors import InputError, UnknownNameError
from pellucid.models.generation import Sampling
from pellucid.serving.errors import Told
from pellucid.serving.extension import Extension
from pellucid.serving.openai import MOST_TEXT, TextPart
from pellucid.serving.permission import owner, permit
from pellucid.serving.streams import STREAMED, begun, gathered, merged, sent
from pellucid.serving.writing import Asked, Finish, Piece, write

router = APIRouter(tags=["Anthropic"])

Text = Annotated[str, Field(max_length=MOST_TEXT)] | list[TextPart]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Message(_Body):
    """A message of a chat."""

    role: Literal["user", "assistant"]
    content: Text


class MessagesRequest(_Body):
    """A chat to be answered."""

    model: str
    max_tokens: int = Field(ge=1)
    messages: list[Message] = Field(min_length=1, max_length=10_000)
    system: Text | None = None
    stop_sequences: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=1000)]], Field(max_length=16)
    ] = []
    temperature: float = Field(1.0, ge=0, le=1)
    top_p: float = Field(1.0, gt=0, le=1)
    stream: bool = False
    top_k: int | None = None
    tools: list[Any] | None = None
    pellucid: Extension | None = None


_MESSAGES: Any = {
    "plain": {
        "value": {
            "model": "smollm2",
            "max_tokens": 20,
            "system": "Be brief.",
            "messages": [{"role": "user", "content": "Tell me about yourself."}],
        }
    },
    "features in every token": {
        "value": {
            "model": "smollm2",
            "max_tokens": 20,
            "messages": [{"role": "user", "content": "Tell me about yourself."}],
            "pellucid": {"watch": [{"top": 3}]},
        }
    },
}


@router.post("/v1/messages", responses=STREAMED)
async def messages(
    request: Request, body: Annotated[MessagesRequest, Body(openapi_examples=_MESSAGES)]
) -> Any:
    """Answer a chat."""
    state = request.app.state
    model = state.served.model
    permit(request, body.pellucid)
    if body.model != model.name:
        raise UnknownNameError("model", body.model, [model.name])
    for name in ("tools", "top_k"):
        if getattr(body, name):
            raise InputError(f"{name!r} is not supported by this server. Leave it out.")
    if body.messages[-1].role != "user":
        raise InputError("The last message must be the user's: this server does not go on with an answer.")
    chat = [{"role": "system", "content": _plain(body.system)}] if body.system else []
    chat += [{"role": m.role, "content": _plain(m.content)} for m in body.messages]
    sampling = Sampling(body.max_tokens, body.temperature, body.top_p, secrets.randbits(48))
    prompt = await asyncio.to_thread(model.encode_chat, chat)
    asked = Asked(prompt, sampling, body.stop_sequences, 0, body.pellucid, owner(request))
    writing = write(state.engine, state.served, asked)
    head = {"id": f"msg_{secrets.token_hex(12)}", "type": "message", "role": "assistant", "model": model.name}
    if not body.stream:
        ((pieces, finish),) = await gathered(request, [writing])
        extra: dict[str, Any] = {}
        if body.pellucid is not None:
            answer = [{"token": p.token_text, "features": p.features} for p in pieces]
            extra = {"pellucid": {**_proof(finish), "answer": answer}}
        return {
            **head,
            "content": [{"type": "text", "text": "".join(p.text for p in pieces) + finish.text}],
            **_end(finish),
            "usage": {"input_tokens": finish.prompt_tokens, "output_tokens": finish.answer_tokens},
            **extra,
        }
    events = await begun(merged(request, [writing]))

    async def typed() -> AsyncIterator[bytes]:
        usage = {"input_tokens": len(asked.prompt), "output_tokens": 0}
        opened = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        yield _event("message_start", message=opened)
        yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        yield _event("ping")
        try:
            async for _, event in events:
                extra: dict[str, Any] = {}
                if isinstance(event, Piece):
                    if body.pellucid is not None:
                        extra = {"pellucid": {"token": event.token_text, "features": event.features}}
                    yield _delta(event.text, extra)
                    continue
                if event.text:
                    yield _delta(event.text, {})
                yield _event("content_block_stop", index=0)
                if body.pellucid is not None:
                    extra = {"pellucid": _proof(event)}
                yield _event(
                    "message_delta", delta=_end(event), usage={"output_tokens": event.answer_tokens}, **extra
                )
                yield _event("message_stop")
        except Exception as error:  # the status is sent: what is wrong can be told as an event alone
            yield sent(Told.of(error).anthropic(), "error")

    return StreamingResponse(typed(), media_type="text/event-stream")


def _plain(text: Text) -> str:
    return text if isinstance(text, str) else "".join(p.text for p in text)


def _event(kind: str, **fields: Any) -> bytes:
    return sent({"type": kind, **fields}, kind)


def _delta(text: str, extra: dict[str, Any]) -> bytes:
    return _event("content_block_delta", index=0, delta={"type": "text_delta", "text": text}, **extra)


def _end(finish: Finish) -> dict[str, Any]:
    reasons = {"stop": "end_turn", "length": "max_tokens", "sequence": "stop_sequence"}
    return {"stop_reason": reasons[finish.reason], "stop_sequence": finish.sequence}


def _proof(finish: Finish) -> dict[str, Any]:
    return {"prompt": finish.prompt, "receipts": finish.receipts}
