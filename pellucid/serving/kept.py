"""Recipes over HTTP: list, read, keep and remove them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Request, Response
from pydantic import Field

from pellucid.serving.extension import MOST_EDITS, EditOfFeature, Strict, kept_recipe
from pellucid.steering import recipes
from pellucid.steering.edits import FeatureEdit
from pellucid.steering.recipes import Recipe

router = APIRouter(tags=["Recipes"])
Name = Annotated[str, Path(max_length=64)]


class RecipeGiven(Strict):
    """A recipe to be kept."""

    dictionary: str | None = Field(
        default=None, description="Its name; may be left out where one alone is served."
    )
    edits: list[EditOfFeature] = Field(min_length=1, max_length=MOST_EDITS)
    note: str = Field("", max_length=2000)


@router.get("/v1/recipes")
async def names() -> list[str]:
    """The names of all recipes."""
    return await asyncio.to_thread(recipes.names)


@router.get("/v1/recipes/{name}")
async def recipe(name: Name) -> dict[str, Any]:
    """One recipe, as it can be saved to a file and sent to others."""
    return (await asyncio.to_thread(kept_recipe, name)).as_json()


_RECIPES: Any = {
    "one edit": {"value": {"edits": [{"feature": 7, "kind": "set", "strength": 0.8}], "note": "For later."}},
}


@router.put("/v1/recipes/{name}", status_code=204)
async def keep(
    request: Request, name: Name, body: Annotated[RecipeGiven, Body(openapi_examples=_RECIPES)]
) -> Response:
    """Keep a recipe; one of that name is replaced."""
    served = request.app.state.served.dictionary(body.dictionary)
    edits = [FeatureEdit(e.kind, e.feature, e.strength, e.scope) for e in body.edits]
    made = Recipe.of(name, served.dictionary, edits, body.note)
    await asyncio.to_thread(recipes.save, made, replace=True)
    return Response(status_code=204)


@router.delete("/v1/recipes/{name}", status_code=204)
async def remove(name: Name) -> Response:
    """Remove a recipe."""
    await asyncio.to_thread(recipes.remove, name)
    return Response(status_code=204)
