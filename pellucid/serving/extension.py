"""The one optional object in a request, and what it brings: features of each token, edits, receipts.

    "pellucid": {
      "watch": [{"dictionary": "smollm2-resid_post.13-16k", "top": 5, "features": [12058]}],
      "edits": [{"feature": 12058, "kind": "set", "strength": 1.0, "scope": "all"}]
    }

A client that does not send it sees the plain API.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from pellucid.core.errors import InputError, IntegrityError
from pellucid.core.sites import Site
from pellucid.dictionaries.codes import Codes
from pellucid.models.generation import Editor
from pellucid.models.requests import Effect, Seen
from pellucid.serving.served import Served, ServedDictionary
from pellucid.serving.strongest import Active
from pellucid.steering import receipts, recipes
from pellucid.steering.edits import EditPlan, FeatureEdit
from pellucid.steering.recipes import Recipe

MOST_EDITS = 32
MOST_TOPS = 64
MOST_STRENGTH = 100


class Strict(BaseModel):
    """A body in which nothing unknown may stand: a misspelt edit must not pass for none."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Watch(Strict):
    """A dictionary that reads along."""

    dictionary: str | None = Field(
        default=None, description="Its name; may be left out where one alone is served."
    )
    top: int = Field(5, ge=0, le=MOST_TOPS, description="So many of the strongest features of each token.")
    features: list[int] = Field(
        default_factory=list, max_length=MOST_TOPS, description="Features that are told on every token."
    )


class EditOfFeature(Strict):
    """A change to the activation of a feature."""

    dictionary: str | None = Field(
        default=None, description="Its name; may be left out where one alone is served."
    )
    feature: int = Field(ge=0)
    kind: Literal["set", "scale", "ablate", "cap", "add"] = "set"
    strength: float = Field(
        0.0,
        ge=-MOST_STRENGTH,
        le=MOST_STRENGTH,
        description="In multiples of the feature's maximum; for scale, of its activation.",
    )
    scope: Literal["prompt", "answer", "all"] = "all"


class Extension(Strict):
    """What Pellucid adds to a request."""

    watch: list[Watch] = Field(default_factory=list, max_length=8)
    edits: list[EditOfFeature] = Field(default_factory=list, max_length=MOST_EDITS)
    recipe: str | None = Field(
        default=None, max_length=64, description="A recipe of the server; its edits come before the others."
    )
    receipts: bool = Field(
        default=True,
        description="Whether the edits are proved at the end. For that the model reads prompt and answer "
        "again from the edited site on, which costs most where many answers are written at once.",
    )
    prompt: int | None = Field(
        default=None,
        ge=0,
        description="So many of the prompt's last tokens are told with their features, after the answer; all "
        "where it is left out. Of a long conversation they are many megabytes.",
    )


class FeatureOnToken(TypedDict):
    """A feature that is active on a token."""

    dictionary: str
    feature: int
    activation: float
    share: Annotated[float, Field(description="The activation as a share of the feature's maximum.")]
    label: Annotated[str | None, Field(description="What switches it on, where there is a reliable label.")]
    promotes: Annotated[
        list[str], Field(description="Tokens that it makes the model say when it is turned up.")
    ]


class TokenSeen(BaseModel):
    """A token with its features."""

    token: str
    features: list[FeatureOnToken]


_Active = tuple[ServedDictionary, int, float, float]
"""A feature on a token: its activation, and that as a share of its maximum."""


class Instruments:
    """What watches and edits one request."""

    def __init__(self, served: Served, extension: Extension | None) -> None:
        """Look up what a request names.

        Raises:
            InputError: when a dictionary or a feature does not exist, or two edits undo each other.
        """
        wanted = extension or Extension()
        self._watched = [(served.dictionary(w.dictionary), w) for w in wanted.watch]
        for dictionary, watch in self._watched:
            if len(dictionary.dictionary.ports.reads) != 1:
                raise InputError(
                    f"The dictionary {dictionary.name!r} reads several sites: it cannot be watched."
                )
            for feature in watch.features:
                dictionary.dictionary.check_feature(feature)
        edits: list[tuple[ServedDictionary, FeatureEdit]] = []
        if wanted.recipe is not None:
            recipe = kept_recipe(wanted.recipe)
            edits += [(served.by_digest(recipe), edit) for edit in recipe.edits]
        for e in wanted.edits:
            edits.append(
                (served.dictionary(e.dictionary), FeatureEdit(e.kind, e.feature, e.strength, e.scope))
            )
        by_dictionary: dict[str, tuple[ServedDictionary, list[FeatureEdit]]] = {}
        for dictionary, edit in edits:
            by_dictionary.setdefault(dictionary.name, (dictionary, []))[1].append(edit)
        self._plans = {
            name: EditPlan.same(d.dictionary, edits, 1) for name, (d, edits) in by_dictionary.items()
        }
        self._model = served.model
        self._told = wanted.prompt
        self.proves = wanted.receipts and bool(self._plans)
        """Whether the edits are proved at the end."""

    @property
    def watchers(self) -> list[Any]:
        """What a request of the batch takes."""
        return [d.dictionary for d, _ in self._watched]

    @property
    def editors(self) -> list[tuple[Site, Editor]]:
        """What a request of the batch takes."""
        return [editor for plan in self._plans.values() for editor in plan.editors]

    @property
    def edited_at(self) -> Site | None:
        """What a request of the batch takes to prove its edits: their one site, if that is read too."""
        if not self.proves:
            return None
        plans = list(self._plans.values())
        alone = (
            len(plans) == 1 and plans[0].dictionary.ports.same and len(plans[0].dictionary.ports.reads) == 1
        )
        return plans[0].dictionary.site if alone else None

    async def features(self, seen: Sequence[Seen[Codes]]) -> list[FeatureOnToken]:
        """The features of one token, by what each watcher saw."""
        active = self._active(seen, 0)
        if all(d.at_hand(feature) for d, feature, _, _ in active):
            return _told(active)
        return await asyncio.to_thread(_told, active)

    async def prompt(self, ids: Sequence[int], pieces: Sequence[Sequence[Seen[Codes]]]) -> list[TokenSeen]:
        """The prompt's tokens with their features, as many of them as the request asks for."""
        return await asyncio.to_thread(self._prompt, ids, pieces)

    def _active(self, seen: Sequence[Seen[Codes]], row: int) -> list[_Active]:
        """What is told of a token; `row` counts from where the tokens of `seen` begin."""
        found: list[_Active] = []
        for (dictionary, watch), part in zip(self._watched, seen, strict=True):
            best = dictionary.strongest.of(part.codes, watch.top)[part.start + row]
            if watch.features:
                found += [(dictionary, *one) for one in self._asked(dictionary, watch, part, row)]
                best = [one for one in best if one.feature not in watch.features]
            found += [(dictionary, *one) for one in best]
        return found

    @staticmethod
    def _asked(dictionary: ServedDictionary, watch: Watch, part: Seen[Codes], row: int) -> list[Active]:
        """The features that are told whether they are active or not."""
        offsets, features, values = part.codes.arrays
        span = slice(*offsets[part.start + row : part.start + row + 2])
        active = dict(zip(features[span].tolist(), values[span].tolist(), strict=True))
        told = []
        for feature in dict.fromkeys(watch.features):
            activation = active.get(feature, 0.0)
            told.append(Active(feature, activation, activation / float(dictionary.units[feature])))
        return told

    def _prompt(self, ids: Sequence[int], pieces: Sequence[Sequence[Seen[Codes]]]) -> list[TokenSeen]:
        texts = self._model.pieces(ids)
        first = 0 if self._told is None else max(0, len(ids) - self._told)
        found: list[list[FeatureOnToken]] = [[] for _ in ids]
        at = 0
        for number in range(len(pieces[0]) if pieces else 0):
            parts = [watcher[number] for watcher in pieces]
            for row in range(parts[0].stop - parts[0].start):
                if at >= first:
                    found[at] = _told(self._active(parts, row))
                at += 1
        return [
            TokenSeen.model_construct(token=t, features=f)
            for t, f in zip(texts[first:], found[first:], strict=True)
        ]

    def receipts(
        self, prompt: Sequence[int], answer: Sequence[int], effect: Effect | None
    ) -> list[dict[str, Any]]:
        """The proof that the edits took effect.

        Where that was not measured while the answer was written, prompt and answer are read twice for each
        dictionary, whose edits are measured without those of others. An edit that changed nothing is told as
        `error` instead.
        """
        told: list[dict[str, Any]] = []
        for name, plan in self._plans.items():
            try:
                with torch.inference_mode():
                    if effect is not None:
                        found = receipts.of_written(plan, effect.before, len(prompt), effect.divergence)
                    else:
                        (found,) = receipts.prove(self._model, plan, [prompt], [answer])
                for receipt in map(asdict, found):
                    if not all(math.isfinite(v) for v in receipt.values() if isinstance(v, float)):
                        raise InputError(
                            f"The effect of {receipt['edit']} is no finite number. Make it weaker."
                        )
                    told.append({"dictionary": name, **receipt})
            except InputError as error:
                told.append({"dictionary": name, "error": str(error)})
        return told


def kept_recipe(name: str) -> Recipe:
    """A recipe of the server's folder, held to the bounds of a request: a stranger may have put it there.

    Raises:
        UnknownNameError: when there is none of that name.
        InputError: when the file holds none, or asks for more than a request may.
    """
    try:
        recipe = recipes.load(name)
    except IntegrityError as error:
        raise InputError(f"What is kept as the recipe {name!r} is no recipe. Keep it again.") from error
    strongest = max(abs(edit.strength) for edit in recipe.edits)
    if len(recipe.edits) > MOST_EDITS or not strongest <= MOST_STRENGTH:
        raise InputError(
            f"The recipe {name!r} has {len(recipe.edits)} edits, the strongest of {strongest:g}. A request "
            f"may have {MOST_EDITS}, of strengths from -{MOST_STRENGTH} to {MOST_STRENGTH}."
        )
    return recipe


def _told(active: Sequence[_Active]) -> list[FeatureOnToken]:
    """Features with what stands beside them, which may have to be read."""
    found: list[FeatureOnToken] = []
    for dictionary, feature, activation, share in active:
        label, promotes = dictionary.described(feature)
        found.append(
            {
                "dictionary": dictionary.name,
                "feature": feature,
                "activation": activation,
                "share": share,
                "label": label,
                "promotes": promotes,
            }
        )
    return found
