"""OpenAI's API: models, chat completions and completions.

Source: the API reference at platform.openai.com/docs/api-reference, and what the official Python client
reads. Parameters that the model cannot honour are refused by name, so that nobody believes they did
something; fields that are unknown are ignored, as clients send new ones every month.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from pellucid.core import digests
from pellucid.core.errors import InputError, UnknownNameError
from pellucid.models.generation import Sampling
from pellucid.models.pieces import bytes_of
from pellucid.serving.errors import Told
from pellucid.serving.extension import Extension
from pellucid.serving.permission import owner, permit
from pellucid.serving.streams import STREAMED, begun, gathered, merged, room_for, sent
from pellucid.serving.writing import Asked, Finish, Piece, write

router = APIRouter(tags=["OpenAI"])

MOST_TEXT = 1_000_000
MOST_ANSWERS = 16
_Stop = Annotated[str, Field(min_length=1, max_length=1000)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class TextPart(_Body):
    """A part of a message."""

    type: Literal["text"]
    text: str = Field(max_length=MOST_TEXT)


class ChatMessage(_Body):
    """A message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str, Field(max_length=MOST_TEXT)] | list[TextPart]

    def plain(self) -> dict[str, str]:
        """As the chat template takes it."""
        role = "system" if self.role == "developer" else self.role
        text = self.content if isinstance(self.content, str) else "".join(p.text for p in self.content)
        return {"role": role, "content": text}


class StreamOptions(_Body):
    """How to stream."""

    include_usage: bool = False


class _Common(_Body):
    model: str | None = Field(
        default=None, description="The model; this server has one, and answers for it alone."
    )
    temperature: float | None = Field(1.0, ge=0, le=2)
    top_p: float | None = Field(1.0, gt=0, le=1)
    n: int | None = Field(1, ge=1, le=MOST_ANSWERS)
    stop: _Stop | Annotated[list[_Stop], Field(max_length=4)] | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    frequency_penalty: float | None = 0
    presence_penalty: float | None = 0
    logit_bias: dict[str, float] | None = None
    pellucid: Extension | None = None

    def refused(self) -> str | None:
        """The first parameter that is asked for and cannot be honoured."""
        for name in ("frequency_penalty", "presence_penalty", "logit_bias"):
            if getattr(self, name):
                return name
        return None

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())

    def samplings(self, most: int) -> list[Sampling]:
        """One for each answer asked for."""
        seed = secrets.randbits(48) if self.seed is None else self.seed % 2**62
        temperature = 1.0 if self.temperature is None else self.temperature
        top_p = 1.0 if self.top_p is None else self.top_p
        return [Sampling(most, temperature, top_p, seed + number) for number in range(self.n or 1)]


class ChatRequest(_Common):
    """A chat to be answered."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=10_000)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = False
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: list[Any] | None = None
    response_format: dict[str, Any] | None = None

    def refused(self) -> str | None:
        """See `_Common`."""
        if self.tools:
            return "tools"
        if self.response_format and self.response_format.get("type") != "text":
            return "response_format"
        return super().refused()


class CompletionRequest(_Common):
    """A text to be continued."""

    prompt: str | list[str] | list[StrictInt] | list[list[StrictInt]]
    max_tokens: int | None = Field(16, ge=1)
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool | None = False
    suffix: str | None = None
    best_of: int | None = None

    def refused(self) -> str | None:
        """See `_Common`."""
        if self.echo:
            return "echo"
        if self.suffix:
            return "suffix"
        if self.best_of is not None and self.best_of != (self.n or 1):
            return "best_of"
        return super().refused()


@router.get("/v1/models")
async def models(request: Request) -> dict[str, Any]:
    """The model that is served."""
    return {"object": "list", "data": [_model(request)]}


@router.get("/v1/models/{name:path}")
async def model(request: Request, name: str) -> Any:
    """The model, by its name."""
    served = request.app.state.served
    return _model(request) if name == served.model.name else _no_model(request, name)


def _model(request: Request) -> dict[str, Any]:
    served = request.app.state.served
    return {
        "id": served.model.name,
        "object": "model",
        "created": int(request.app.state.started),
        "owned_by": "pellucid",
        "pellucid": {
            "digest": served.model.digest,
            "dictionaries": list(served.dictionaries),
            "room": request.app.state.engine.room,
        },
    }


_CHATS: Any = {
    "plain": {
        "value": {
            "messages": [{"role": "user", "content": "Tell me about yourself."}],
            "max_tokens": 20,
            "temperature": 0,
        }
    },
    "features in every token, and an edit": {
        "value": {
            "messages": [{"role": "user", "content": "Tell me about yourself."}],
            "max_tokens": 20,
            "pellucid": {
                "watch": [{"top": 3}],
                "edits": [{"feature": 7, "kind": "set", "strength": 0.8, "scope": "answer"}],
            },
        }
    },
}


@router.post("/v1/chat/completions", responses=STREAMED)
async def chat(request: Request, body: Annotated[ChatRequest, Body(openapi_examples=_CHATS)]) -> Any:
    """Answer a chat."""
    served = request.app.state.served
    permit(request, body.pellucid)
    if (refused := _refusal(request, body)) is not None:
        return refused
    prompt = await asyncio.to_thread(served.model.encode_chat, [m.plain() for m in body.messages])
    most = body.max_completion_tokens or body.max_tokens
    alternatives = (body.top_logprobs or 0) if body.logprobs else 0
    asked = [
        Asked(prompt, sampling, body.stops, alternatives, body.pellucid, owner(request))
        for sampling in body.samplings(most or room_for(request, prompt))
    ]
    shape = _Chat(served.model, bool(body.logprobs))
    return await _answer(request, body, asked, shape)


_CONTINUED: Any = {
    "plain": {"value": {"prompt": "The orchestra played", "max_tokens": 20, "logprobs": 2}},
}


@router.post("/v1/completions", responses=STREAMED)
async def completions(
    request: Request, body: Annotated[CompletionRequest, Body(openapi_examples=_CONTINUED)]
) -> Any:
    """Continue a text."""
    served = request.app.state.served
    permit(request, body.pellucid)
    if (refused := _refusal(request, body)) is not None:
        return refused
    prompts = [await asyncio.to_thread(_ids, served.model, p) for p in _prompts(body.prompt)]
    asked = [
        Asked(prompt, sampling, body.stops, body.logprobs or 0, body.pellucid, owner(request))
        for prompt in prompts
        for sampling in body.samplings(body.max_tokens or room_for(request, prompt))
    ]
    return await _answer(request, body, asked, _Text(served.model, body.logprobs is not None))


def _prompts(prompt: Any) -> list[Any]:
    if isinstance(prompt, str) or (prompt and isinstance(prompt[0], int)):
        return [prompt]
    if not prompt or len(prompt) > MOST_ANSWERS:
        raise InputError(f"Give between 1 and {MOST_ANSWERS} prompts.")
    return list(prompt)


def _ids(model: Any, prompt: str | list[int]) -> list[int]:
    if isinstance(prompt, str):
        if len(prompt) > MOST_TEXT:
            raise InputError(f"A prompt of {len(prompt):,} characters is longer than {MOST_TEXT:,}.")
        return list(model.encode_text(prompt))
    size = int(model.config.vocab_size)
    if not all(0 <= i < size for i in prompt):
        raise InputError(f"Token ids are from 0 to {size - 1}.")
    return prompt


def _refusal(request: Request, body: _Common) -> JSONResponse | None:
    served = request.app.state.served
    if body.model is not None and body.model != served.model.name:
        return _no_model(request, body.model)
    name = body.refused()
    if name is None:
        return None
    told = Told.of(InputError(f"{name!r} is not supported by this server. Leave it out."))
    return JSONResponse(told.openai(name), told.status)


def _no_model(request: Request, name: str) -> JSONResponse:
    told = Told.of(UnknownNameError("model", name, [request.app.state.served.model.name]))
    return JSONResponse(told.openai("model"), 404)


class _Chat:
    """How a chat completion is laid out."""

    kind, chunk, prefix = "chat.completion", "chat.completion.chunk", "chatcmpl-"

    def __init__(self, model: Any, logprobs: bool) -> None:
        self.model, self.logprobs = model, logprobs

    def opening(self, index: int) -> dict[str, Any] | None:
        return {
            "index": index,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }

    def piece(self, index: int, text: str, piece: Piece | None) -> dict[str, Any]:
        logprobs = {"content": [self._token(piece)], "refusal": None} if self.logprobs and piece else None
        return {"index": index, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": None}

    def closing(self, index: int, reason: str) -> dict[str, Any]:
        return {"index": index, "delta": {}, "logprobs": None, "finish_reason": reason}

    def whole(self, index: int, text: str, pieces: Sequence[Piece], reason: str) -> dict[str, Any]:
        logprobs = {"content": [self._token(p) for p in pieces], "refusal": None} if self.logprobs else None
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": reason}

    def _token(self, piece: Piece) -> dict[str, Any]:
        others = [self._named(i, v) for i, v in piece.alternatives]
        return {**self._named(piece.token, piece.logprob), "top_logprobs": others}

    def _named(self, token: int, logprob: float) -> dict[str, Any]:
        told = list(bytes_of(self.model.tokenizer, token))
        return {"token": self.model.decode([token]), "logprob": logprob, "bytes": told}


class _Text:
    """How a completion is laid out."""

    kind, chunk, prefix = "text_completion", "text_completion", "cmpl-"

    def __init__(self, model: Any, logprobs: bool) -> None:
        self.model, self.logprobs = model, logprobs

    def opening(self, _index: int) -> dict[str, Any] | None:
        return None

    def piece(self, index: int, text: str, piece: Piece | None) -> dict[str, Any]:
        return {
            "index": index,
            "text": text,
            "logprobs": self._told([piece] if piece else []),
            "finish_reason": None,
        }

    def closing(self, index: int, reason: str) -> dict[str, Any]:
        return {"index": index, "text": "", "logprobs": None, "finish_reason": reason}

    def whole(self, index: int, text: str, pieces: Sequence[Piece], reason: str) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": self._told(pieces), "finish_reason": reason}

    def _told(self, pieces: Sequence[Piece]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        offsets, at = [], 0
        for piece in pieces:
            offsets.append(at)
            at += len(piece.token_text)
        return {
            "tokens": [p.token_text for p in pieces],
            "token_logprobs": [p.logprob for p in pieces],
            "top_logprobs": [{self.model.decode([i]): v for i, v in p.alternatives} for p in pieces],
            "text_offset": offsets,
        }


def _reason(finish: Finish) -> str:
    return "length" if finish.reason == "length" else "stop"


def _usage(told: Sequence[tuple[Asked, Finish]]) -> dict[str, Any]:
    """Tokens; those of a prompt are counted once however many answers it has."""
    prompts: dict[int, tuple[int, int]] = {}
    for asked, finish in told:
        _, held = prompts.get(id(asked.prompt), (0, finish.held_tokens))
        prompts[id(asked.prompt)] = len(asked.prompt), min(held, finish.held_tokens)
    read, held = (sum(counts) for counts in zip(*prompts.values(), strict=True))
    written = sum(finish.answer_tokens for _, finish in told)
    return {
        "prompt_tokens": read,
        "prompt_tokens_details": {"cached_tokens": held},
        "completion_tokens": written,
        "total_tokens": read + written,
    }


async def _answer(request: Request, body: _Common, asked: list[Asked], shape: _Chat | _Text) -> Any:
    state = request.app.state
    head = {
        "id": shape.prefix + secrets.token_hex(12),
        "created": int(time.time()),
        "model": state.served.model.name,
        "system_fingerprint": digests.short(state.served.model.digest),
    }
    writings = [write(state.engine, state.served, a) for a in asked]
    if not body.stream:
        found = await gathered(request, writings)
        choices, proofs = [], []
        for index, (pieces, finish) in enumerate(found):
            text = "".join(p.text for p in pieces) + finish.text
            choices.append(shape.whole(index, text, pieces, _reason(finish)))
            if body.pellucid is not None:
                proofs.append(
                    {
                        "index": index,
                        "prompt": [t.model_dump() for t in finish.prompt],
                        "answer": [{"token": p.token_text, "features": p.features} for p in pieces],
                        "receipts": finish.receipts,
                    }
                )
        usage = _usage([(a, finish) for a, (_, finish) in zip(asked, found, strict=True)])
        extra = {"pellucid": proofs} if body.pellucid is not None else {}
        return JSONResponse({**head, "object": shape.kind, "choices": choices, "usage": usage, **extra})

    events = await begun(merged(request, writings))

    async def chunks() -> AsyncIterator[bytes]:
        finishes: list[tuple[Asked, Finish]] = []
        for index in range(len(asked)):
            if (opening := shape.opening(index)) is not None:
                yield sent({**head, "object": shape.chunk, "choices": [opening]})
        try:
            async for index, event in events:
                extra: dict[str, Any] = {}
                if isinstance(event, Piece):
                    choice = shape.piece(index, event.text, event)
                    if body.pellucid is not None:
                        extra = {"pellucid": {"token": event.token_text, "features": event.features}}
                else:
                    finishes.append((asked[index], event))
                    if event.text:
                        yield sent(
                            {**head, "object": shape.chunk, "choices": [shape.piece(index, event.text, None)]}
                        )
                    choice = shape.closing(index, _reason(event))
                    if body.pellucid is not None:
                        extra = {"pellucid": {"prompt": event.prompt, "receipts": event.receipts}}
                yield sent({**head, "object": shape.chunk, "choices": [choice], **extra})
            if body.stream_options is not None and body.stream_options.include_usage:
                yield sent(
                    {
                        **head,
                        "object": shape.chunk,
                        "choices": [],
                        "usage": _usage(finishes),
                    }
                )
        except Exception as error:  # the status is sent: what is wrong can be told as an event alone
            yield sent(Told.of(error).openai())
        yield b"data: [DONE]\n\n"

    return StreamingResponse(chunks(), media_type="text/event-stream")
