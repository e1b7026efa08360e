"""Resources beside the chat APIs: the dictionaries, their features, searches, and the features of a text."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, HTTPException, Query, Request
from pydantic import BaseModel, Field

from pellucid.atlas import values
from pellucid.atlas.pages import Example, Page, Snippet, snippets
from pellucid.atlas.statistics import Kind
from pellucid.core.errors import InputError
from pellucid.models import requests
from pellucid.models.generation import Sampling
from pellucid.models.requests import Read
from pellucid.serving.extension import Extension, Instruments, Strict, TokenSeen, Watch
from pellucid.serving.openai import MOST_TEXT, ChatMessage
from pellucid.serving.permission import owner
from pellucid.serving.searching import Answer, Searcher
from pellucid.serving.served import ServedDictionary

router = APIRouter(tags=["Features"])

MOST_FOUND = 100
MOST_EXAMPLES = 20
MOST_OF_BAND = 4
_MOST_QUERY = 1000
_MOST_WIDTH = 1 << 17
Name = Annotated[str | None, Field(max_length=200, description="May be left out where one alone is served.")]


class DictionaryTold(BaseModel):
    """A dictionary that is served."""

    name: str
    site: str
    features: int
    atlas: list[str] = Field(
        description="What its atlas knows: `features`, and what was added; empty where it has no atlas."
    )


class Named(BaseModel):
    """A feature, with what stands beside it."""

    feature: int
    label: str | None = Field(description="What switches it on, where there is a reliable label.")
    promotes: list[str] = Field(description="Tokens that it makes the model say when it is turned up.")


class LabelTold(BaseModel):
    """A label as it was tested."""

    text: str
    reliable: bool = Field(description="Whether its score surely beats the floor.")
    score: float | None = Field(
        description="How well it tells texts and tokens apart; 0.5 is chance, null where it was not tested."
    )
    floor: float | None = Field(description="The score of the same label for other features.")
    explainer: str
    effect: str = Field(description="What the feature does when it is turned up.")
    effect_reliable: bool


class SourceTold(BaseModel):
    """On how many tokens of a text source the feature is active."""

    spec: str
    tokens: int
    active: int


class TokenTold(BaseModel):
    """How often it is active on a token."""

    token: str
    active: int
    usual: float | None = Field(
        description="The share of the text's tokens that are this one, where it is known."
    )


class ExampleTold(BaseModel):
    """A text with the feature's activation on each token."""

    pieces: list[str]
    values: list[float]


class PageTold(BaseModel):
    """What the atlas read of a feature."""

    kind: Kind = Field(description="What sort of feature it is.")
    count: int = Field(description="Tokens of the atlas's text on which it is active.")
    frequency: float
    median_frequency: float = Field(description="Of the median feature.")
    maximum: float
    mean: float = Field(description="Of its activations, where it is active.")
    histogram: list[int] = Field(description="Activations in equally wide bins from 0 to the maximum.")
    quantiles: dict[str, float]
    sources: list[SourceTold]
    positions: list[int] = Field(description="Tokens on which it is active in each sixteenth of a row.")
    position_tokens: list[int] = Field(description="Tokens of the text there.")
    tokens: list[TokenTold]
    suppressed: list[str] = Field(description="Tokens it keeps the model from saying.")
    examples: list[ExampleTold] = Field(
        description="Where it is strongest; empty where the atlas's text is not at hand."
    )
    bands: list[list[ExampleTold]] = Field(
        description="Its activations, from weak to strong, in parts of equally many: examples of each part."
    )


class Similar(Named):
    """A feature that writes along nearly the same direction."""

    cosine: float


class Coactive(Named):
    """A feature that is active on the same tokens."""

    coactivity: float = Field(description="The cosine of being active on the same tokens.")
    together: int = Field(description="Tokens on which both are.")


class NeighboursTold(BaseModel):
    """The features like it, beside what chance gives."""

    cosine_floor: float = Field(
        description="The cosine with the nearest of as many random directions, on average."
    )
    similar: list[Similar]
    coactivity_floor: float | None = Field(description="The best it would have by chance.")
    coactive: list[Coactive] | None = Field(description="Null where the atlas was built without postings.")


class PlaceTold(BaseModel):
    """Where it lies on the map."""

    x: float
    y: float
    cluster: int
    name: str = Field(description="Of the cluster.")


class FeatureTold(Named):
    """What is known of a feature. What the atlas does not hold is null."""

    dictionary: str
    site: str
    frequency: float | None = Field(
        description="The share of tokens on which it is active, over the text the dictionary was measured on."
    )
    maximum: float | None = Field(
        description="Its largest activation there: the unit of strengths and shares."
    )
    labelled: LabelTold | None
    page: PageTold | None
    neighbours: NeighboursTold | None
    place: PlaceTold | None


class _Search(Strict):
    dictionary: Name = None
    count: int = Field(10, ge=1, le=MOST_FOUND, description="So many features at most.")


class ByWords(_Search):
    """Words that are said of features; `word*` stands for all that begin so."""

    by: Literal["words"]
    query: str = Field(min_length=1, max_length=_MOST_QUERY)


class ByMeaning(_Search):
    """A few words; labels that mean nearly the same are found."""

    by: Literal["meaning"]
    query: str = Field(min_length=1, max_length=_MOST_QUERY)


class ByPrompt(_Search):
    """A text; the features strongest on it are found."""

    by: Literal["prompt"]
    text: str = Field(min_length=1, max_length=MOST_TEXT)
    chat: bool = Field(False, description="Read it through the model's chat template.")


class ByEffect(_Search):
    """Words; the features that make the model say them are found, and tried."""

    by: Literal["effect"]
    words: list[Annotated[str, Field(min_length=1, max_length=100)]] = Field(min_length=1, max_length=16)


class ByDirection(_Search):
    """A vector, or a feature whose direction is taken; features that write along it are found."""

    by: Literal["direction"]
    vector: Annotated[list[float], Field(min_length=1, max_length=_MOST_WIDTH)] | None = None
    feature: int | None = Field(default=None, ge=0)


Search = ByWords | ByMeaning | ByPrompt | ByEffect | ByDirection


class FoundTold(Named):
    """A feature that was found."""

    score: float
    share: float | None = Field(None, description="By prompt: its peak as a share of its maximum.")
    activation: float | None = Field(None, description="By prompt: its peak.")
    frequency: float | None = Field(None, description="By prompt: the share of tokens it is active on.")
    token: int | None = Field(None, description="By prompt: the token of its peak.")
    atlas_score: float | None = Field(None, description="By effect: nats, as the atlas measured them.")


class ChanceTold(BaseModel):
    """What features or directions drawn at random give."""

    usual: float
    high: float = Field(description="What 95 % (by effect) or 99 % (by direction) of them stay below.")


class SearchTold(BaseModel):
    """What was found, best first."""

    dictionary: str
    scale: str = Field(
        description="What the score is. By words it ranks and means nothing else; by effect it is the rise "
        "of the words' joint probability in nats, on openings the atlas was not measured on."
    )
    features: list[FoundTold]
    chance: ChanceTold | None = Field(description="Beside what scores stand, where that is known.")
    tokens: list[str] | None = Field(description="By prompt: its own. By effect: those words begin with.")


class InspectRequest(BaseModel):
    """A text or a chat to be read."""

    text: Annotated[str, Field(max_length=MOST_TEXT)] | None = None
    messages: Annotated[list[ChatMessage], Field(max_length=10_000)] | None = None
    watch: list[Watch] = Field(default_factory=lambda: [Watch()], min_length=1, max_length=8)  # type: ignore[call-arg]


class Inspected(BaseModel):
    """The tokens of a text with the features that are active on them."""

    tokens: list[TokenSeen]


@router.get("/v1/dictionaries")
async def dictionaries(request: Request) -> list[DictionaryTold]:
    """The dictionaries that are served."""

    def told() -> list[DictionaryTold]:
        return [
            DictionaryTold(
                name=d.name,
                site=str(d.dictionary.ports),
                features=d.dictionary.num_features,
                atlas=[n for n in _TABLES if d.atlas is not None and d.atlas.table(n) is not None],
            )
            for d in request.app.state.served.dictionaries.values()
        ]

    found: list[DictionaryTold] = await request.app.state.desk.ask(request, told)
    return found


_TABLES = ("features", "effects", "labels", "neighbours", "map")

_SEARCHES: Any = {
    "words": {"value": {"by": "words", "query": "rain snow*", "count": 5}},
    "meaning": {"value": {"by": "meaning", "query": "bad weather"}},
    "prompt": {"value": {"by": "prompt", "text": "The orchestra played by the sea."}},
    "effect": {"value": {"by": "effect", "words": ["music", "song"]}},
    "direction": {"value": {"by": "direction", "feature": 7}},
}


@router.post("/v1/features/search")
async def search(
    request: Request, body: Annotated[Search, Body(discriminator="by", openapi_examples=_SEARCHES)]
) -> SearchTold:
    """Find features by words, by meaning, by a prompt, by what they make the model say, or by direction."""
    state = request.app.state
    served: ServedDictionary = state.served.dictionary(body.dictionary)
    searcher: Searcher = state.searchers[served.name]

    def found() -> SearchTold:
        match body:
            case ByWords():
                answer = searcher.words(body.query, body.count)
            case ByMeaning():
                answer = searcher.meaning(body.query, body.count)
            case ByPrompt():
                room = state.engine.room
                answer = searcher.prompt(body.text, body.count, chat=body.chat, room=room)
            case ByEffect():
                answer = searcher.effect(body.words, body.count)
            case ByDirection():
                if (body.vector is None) == (body.feature is None):
                    raise InputError("Give either vector or feature.")
                answer = searcher.direction(body.vector, body.feature, body.count)
        return _search_told(served, answer)

    told: SearchTold = await state.desk.ask(request, found)
    return told


def _search_told(served: ServedDictionary, answer: Answer) -> SearchTold:
    return SearchTold(
        dictionary=served.name,
        scale=answer.scale,
        features=[FoundTold(**_named(served, f.feature), score=f.score, **f.more) for f in answer.features],
        chance=None if answer.chance is None else ChanceTold(**vars(answer.chance)),
        tokens=answer.tokens,
    )


@router.get("/v1/features/{feature}")
async def feature(
    request: Request,
    feature: int,
    dictionary: Annotated[str | None, Query(max_length=200)] = None,
    examples: Annotated[int, Query(ge=0, le=MOST_EXAMPLES, description="So many examples at most.")] = 5,
    bands: Annotated[
        int, Query(ge=0, le=MOST_OF_BAND, description="So many examples of each band at most.")
    ] = 0,
) -> FeatureTold:
    """One feature, with all that its dictionary and its atlas know of it."""
    state = request.app.state
    served: ServedDictionary = state.served.dictionary(dictionary)
    try:
        served.dictionary.check_feature(feature)
    except InputError as error:
        raise HTTPException(404, str(error)) from error
    told: FeatureTold = await state.desk.ask(request, lambda: _feature_told(served, feature, examples, bands))
    return told


def _feature_told(served: ServedDictionary, feature: int, examples: int, bands: int) -> FeatureTold:
    def entry(column: Any) -> float | None:
        return None if column is None else float(column[feature])

    known: dict[str, Any] = dict.fromkeys(("labelled", "page", "neighbours", "place"))
    atlas, captions = served.atlas, served.captions
    if atlas is not None and captions is not None:
        page = atlas.page(feature)
        told = values.page(page, captions, (), _shown(served, page, page.examples[:examples]))
        told["bands"] = [
            [{"pieces": s.pieces, "values": s.values} for s in _shown(served, page, band[:bands])]
            for band in page.bands
        ]
        near = values.neighbours(atlas, feature)
        for kind in ("similar", "coactive"):
            for other in (near and near[kind]) or ():
                other.update(_named(served, other["feature"]))
        known = {
            "labelled": told["label"],
            "page": told,
            "neighbours": near,
            "place": values.place(atlas, feature),
        }
    return FeatureTold(
        **_named(served, feature, 12),
        dictionary=served.name,
        site=str(served.dictionary.ports),
        frequency=entry(served.dictionary.frequency),
        maximum=entry(served.dictionary.maximum),
        **known,
    )


def _shown(served: ServedDictionary, page: Page, examples: Sequence[Example]) -> list[Snippet]:
    """Examples as text, where that is at hand."""
    if served.text is None:
        return []
    return snippets(
        page, served.text, served.model, served.dictionary, examples=examples, count=len(examples)
    )


def _named(served: ServedDictionary, feature: int, count: int = 6) -> dict[str, Any]:
    return {
        "feature": feature,
        "label": served.label(feature),
        "promotes": served.promoted(feature, count),
    }


_INSPECTIONS: Any = {
    "text": {"value": {"text": "The orchestra played by the sea.", "watch": [{"top": 5}]}},
    "chat": {
        "value": {
            "messages": [{"role": "user", "content": "Tell me about the sea."}],
            "watch": [{"top": 0, "features": [7]}],
        }
    },
}


@router.post("/v1/inspect")
async def inspect(
    request: Request, body: Annotated[InspectRequest, Body(openapi_examples=_INSPECTIONS)]
) -> Inspected:
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
        requests.Request(
            ids, Sampling(max_tokens=1), watch=instruments.watchers, owner=owner(request, "watch")
        )
    )
    try:
        async for event in stream:
            if isinstance(event, Read):
                return Inspected(tokens=await instruments.prompt(ids, event.codes))
    finally:
        stream.cancel()
    raise AssertionError("a prompt is read before anything is written")
