"""The map of an atlas over HTTP: all points in one compact stream, and the names of its clusters.

Points go out as an Arrow IPC stream (arrow.apache.org/docs/format/Columnar.html), which libraries read in
every language: x f32, y f32, frequency f32, cluster i32, where row i is feature i. A feature that was never
active has NaN for its place and -1 for its cluster. A million features are 16 MB, sent block by block.

Whoever has the points of an atlas sends their ETag and is told that nothing changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from pellucid.atlas.pages import Atlas
from pellucid.atlas.tables import Table
from pellucid.core import digests
from pellucid.serving.served import ServedDictionary

router = APIRouter(tags=["Map"])

ARROW = "application/vnd.apache.arrow.stream"
_ROWS_AT_ONCE = 65_536
_SCHEMA = pa.schema(
    [("x", pa.float32()), ("y", pa.float32()), ("frequency", pa.float32()), ("cluster", pa.int32())]
)
Dictionary = Annotated[str | None, Query(max_length=200)]


class ClusterTold(BaseModel):
    """A region of the map."""

    name: str
    features: int
    x: float
    y: float
    share: float = Field(description="Of how many of its features the first word of its name is said.")
    background: float = Field(description="Of how many of all features.")


class QualityTold(BaseModel):
    """How true a layout is, over a sample of features."""

    kept: float = Field(description="The share of the nearest that are among the nearest on the map.")
    trustworthiness: float = Field(description="1 at best, 0.5 by chance.")


class MapTold(BaseModel):
    """What belongs to the points of a map."""

    dictionary: str
    features: int
    left_out: int = Field(description="Features that were never active, and have no place.")
    named_by: str
    quality: dict[str, QualityTold] = Field(
        description="Of the map, beside two principal components and random places."
    )
    clusters: list[ClusterTold]


@router.get("/v1/map")
async def about(request: Request, dictionary: Dictionary = None) -> MapTold:
    """The clusters of a map, and how far it can be trusted."""
    served: ServedDictionary = request.app.state.served.dictionary(dictionary)

    def told() -> MapTold:
        _, table, clusters = _map_of(served)
        facts = table.record["facts"]
        named = {name: values.tolist() for name, values in clusters.slice(0, clusters.rows).items()}
        return MapTold(
            dictionary=served.name,
            features=table.rows,
            left_out=facts["left_out"],
            named_by=facts["named_by"],
            quality=facts["quality"],
            clusters=[
                ClusterTold(**{name: values[i] for name, values in named.items()})
                for i in range(clusters.rows)
            ],
        )

    found: MapTold = await request.app.state.desk.ask(request, told)
    return found


@router.get(
    "/v1/map/points",
    response_class=Response,
    responses={
        200: {
            "description": "An Arrow IPC stream: x, y, frequency, cluster; row i is feature i.",
            "content": {ARROW: {"schema": {"type": "string", "format": "binary"}}},
            "headers": {"ETag": {"schema": {"type": "string"}}},
        },
        304: {"description": "Nothing has changed since the ETag that was sent."},
    },
)
async def points(request: Request, dictionary: Dictionary = None) -> Response:
    """All points of a map."""
    served: ServedDictionary = request.app.state.served.dictionary(dictionary)
    atlas, table, _ = await request.app.state.desk.ask(request, lambda: _map_of(served))
    # What changes either column changes the record of its table, which holds the digests of its files.
    tag = f'"{digests.short(digests.of_json([dict(table.record), dict(atlas.features.record)]))}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if {tag, "*"} & _tags(request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    return StreamingResponse(_stream(atlas, table), media_type=ARROW, headers=headers)


def _map_of(served: ServedDictionary) -> tuple[Atlas, Table, Table]:
    """The atlas, its map and the clusters; both tables are checked before anything is sent.

    Raises:
        HTTPException: 404 where there is no map.
    """
    atlas = served.atlas
    table, clusters = (atlas.table(name) if atlas is not None else None for name in ("map", "map_clusters"))
    if atlas is None or table is None or clusters is None or table.rows != atlas.num_features:
        raise HTTPException(404, f"There is no map of the dictionary {served.name!r}.")
    return atlas, table, clusters


def _tags(header: str) -> set[str]:
    """The entity tags of If-None-Match (RFC 9110, section 13.1.2), compared weakly."""
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


def _stream(atlas: Atlas, table: Table) -> Iterator[bytes]:
    """The parts of an Arrow stream; read in threads, a block at a time."""
    sink = _Parts()
    with pa.ipc.new_stream(sink, _SCHEMA) as writer:
        for start, block in table.blocks(["x", "y", "cluster"], _ROWS_AT_ONCE):
            counts = atlas.features.slice(start, start + len(block["x"]), ["count"])["count"]
            columns: dict[str, Any] = {
                "x": block["x"],
                "y": block["y"],
                "frequency": (counts / atlas.record["tokens"]).astype(np.float32),
                "cluster": block["cluster"],
            }
            writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))
            yield sink.taken()
    yield sink.taken()


class _Parts:
    """A file that gives away what was written to it."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, part: Any) -> int:
        self._parts.append(bytes(part))
        return len(self._parts[-1])

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is open."""

    def taken(self) -> bytes:
        """What was written since the last time."""
        found, self._parts = b"".join(self._parts), []
        return found
