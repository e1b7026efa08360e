"""Resources beside the chat APIs: the dictionaries, a feature, and the features of a text."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field

from pellucid.core.errors import InputError
from pellucid.models import batching
from pellucid.models.batching import Read
from pellucid.models.generation import Sampling
from pellucid.serving.extension import Extension, Instruments, TokenSeen, Watch
from pellucid.serving.openai import MOST_TEXT, ChatMessage

router = APIRouter(tags=["Features"])


class DictionaryTold(BaseModel):
    """A dictionary that is served."""

    name: str
    site: str
    features: int


class FeatureTold(BaseModel):
    """What is known of a feature."""

    dictionary: str
    feature: int
    site: str
    frequency: float | None = Field(
        description="The share of tokens on which it is active, over the measured text."
    )
    maximum: float | None = Field(
        description="Its largest activation there: the unit of strengths and shares."
    )
    label: str | None = Field(description="What switches it on, where there is a reliable label.")
    promotes: list[str] = Field(description="Tokens that it makes the model say when it is turned up.")


class InspectRequest(BaseModel):
    """A text or a chat to be read."""

    text: Annotated[str, Field(max_length=MOST_TEXT)] | None = None
    messages: list[ChatMessage] | None = None
    watch: list[Watch] = Field(default_factory=lambda: [Watch()], min_length=1, max_length=8)  # type: ignore[call-arg]


class Inspected(BaseModel):
    """The tokens of a text with the features that are active on them."""

    tokens: list[TokenSeen]


@router.get("/v1/dictionaries")
async def dictionaries(request: Request) -> list[DictionaryTold]:
    """The dictionaries that are served."""
    return [
        DictionaryTold(name=d.name, site=str(d.dictionary.ports), features=d.dictionary.num_features)
        for d in request.app.state.served.dictionaries.values()
    ]


@router.get("/v1/features/{feature}")
async def feature(request: Request, feature: int, dictionary: str | None = None) -> FeatureTold:
    """One feature."""
    found = request.app.state.served.dictionary(dictionary)
    try:
        found.dictionary.check_feature(feature)
    except InputError as error:
        raise HTTPException(404, str(error)) from error

    def entry(column: Any) -> float | None:
        return None if column is None else float(column[feature])

    return FeatureTold(
        dictionary=found.name,
        feature=feature,
        site=str(found.dictionary.ports),
        frequency=entry(found.dictionary.frequency),
        maximum=entry(found.dictionary.maximum),
        label=found.label(feature),
        promotes=found.promoted(feature, 12),
    )


@router.post("/v1/inspect")
async def inspect(request: Request, body: InspectRequest) -> Inspected:
    """The features of each token of a text."""
    state = request.app.state
    model = state.served.model
    if (body.text is None) == (body.messages is None):
        raise InputError("Give either text or messages.")
    if body.text is not None:
        ids = await asyncio.to_thread(model.encode_text, body.text)
    else:
        ids = await asyncio.to_thread(model.encode_chat, [m.plain() for m in body.messages or ()])
    instruments = Instruments(state.served, Extension(watch=body.watch))
    # Read as any prompt is, and left before anything is written.
    stream = await state.engine.submit(
        batching.Request(ids, Sampling(max_tokens=1), watch=instruments.watchers)
    )
    try:
        async for event in stream:
            if isinstance(event, Read):
                return Inspected(tokens=await instruments.prompt(ids, event.codes))
    finally:
        stream.cancel()
    raise AssertionError("a prompt is read before anything is written")
