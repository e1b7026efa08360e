"""`pellucid atlas neighbours`, `similar`, `compare`, `map`: what lies near a feature, what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

if TYPE_CHECKING:
    from pellucid.atlas.by_direction import Floor
    from pellucid.atlas.directions import Directions
    from pellucid.atlas.pages import Atlas
    from pellucid.atlas.succession import Side
    from pellucid.models.model import Model

Flag = Annotated[bool, Parameter(negative="")]


@dataclass(frozen=True)
class Near:
    """An atlas and the directions of its dictionary, without the rest of the dictionary or its model."""

    folder: Path
    atlas: Atlas
    directions: Directions

    @classmethod
    def open(cls, dictionary: str, atlas: str | None) -> Near:
        """Open a dictionary's atlas: at an address, or in the dictionary's folder."""
        from pellucid.atlas import neighbours
        from pellucid.atlas.directions import Directions
        from pellucid.atlas.pages import Atlas
        from pellucid.dictionaries import shipped

        folder = shipped.resolve(dictionary)
        found = cls(folder, Atlas.open(atlas or folder / "atlas"), Directions.open(folder))
        neighbours.check(found.atlas, found.directions)
        return found

    @cached_property
    def _model(self) -> Model:
        from pellucid.core import files
        from pellucid.models.model import load

        return load(files.read_json(self.folder / "card.json")["model_reference"], device="cpu")

    @cached_property
    def _pieces(self) -> dict[int, str]:
        return {}

    def piece(self, token: int) -> str:
        """The text of a token."""
        if token not in self._pieces:
            self._pieces[token] = str(self._model.decode([token]))
        return self._pieces[token]

    def said(self, features: Sequence[int], count: int = 6) -> list[str]:
        """What is known of features in a few words: a label, or what it promotes, or is active on."""
        labels, effects = self.atlas.table("labels"), self.atlas.table("effects")
        if labels is not None:
            rows = labels.take(features, ["text", "reliable"])
            pairs = zip(rows["text"], rows["reliable"], strict=True)
            return [str(text) if reliable else "no reliable label" for text, reliable in pairs]
        if effects is not None:
            rows = effects.take(features, ["promoted", "promoted_scores"])
            ids, held = rows["promoted"], rows["promoted_scores"] > 0
        else:
            rows = self.atlas.features.take(features, ["token_ids", "token_counts"])
            ids, held = rows["token_ids"], rows["token_counts"] > 0
        texts = (
            [self.piece(t).strip() for t in i[h][: 2 * count].tolist()]
            for i, h in zip(ids, held, strict=True)
        )
        return [" · ".join([t for t in dict.fromkeys(some) if t][:count]) for some in texts]


def neighbours(
    *,
    dictionary: str = "smollm2",
    atlas: str | None = None,
    json: Flag = False,
) -> None:
    """Find the neighbours of every feature, by direction and by firing, and write them into the atlas.

    Killed at any moment, the same command goes on to the same tables.

    Args:
        dictionary: the name of a shipped dictionary, or a folder.
        atlas: folder or URL of its atlas; by default the one in the dictionary's folder.
        json: print how they were found as JSON.
    """
    from pellucid.atlas import neighbours as finding
    from pellucid.cli import printing

    near = Near.open(dictionary, atlas)
    with printing.progress(quiet=json) as progress:
        table = finding.build(near.atlas, near.directions, progress=progress)
    facts = dict(table.record["facts"])
    if json:
        return printing.as_json(facts)
    printing.note(
        f"neighbours of {table.rows:,} features by direction ({facts['method']}, "
        f"recall {facts['recall']:.3f})"
        + (
            f" and by firing over {facts['tokens']:,} tokens"
            if "tokens" in facts
            else "; no postings: none by firing"
        )
    )
    return None


def similar(
    feature: int,
    /,
    *,
    by: Literal["direction", "firing"] = "direction",
    dictionary: str = "smollm2",
    atlas: str | None = None,
    count: int = 10,
    json: Flag = False,
) -> None:
    """Show the features nearest to one; those nearest to a vector are found by `search --by direction`.

    Args:
        feature: the feature's number.
        by: direction: cosine of the decoder directions; firing: how often both are active on one token.
        dictionary: the name of a shipped dictionary, or a folder.
        atlas: folder or URL of its atlas; by default the one in the dictionary's folder.
        count: how many features to show.
        json: print JSON.
    """
    from pellucid.core.errors import InputError

    if count < 1:
        raise InputError(f"Expected a count of 1 or more; got {count}.")
    near = Near.open(dictionary, atlas)
    near.atlas.check_feature(feature)
    show = _show_firing if by == "firing" else _show_direction
    show(near, feature, count, json)


def _show_direction(near: Near, feature: int, count: int, json: bool) -> None:
    from pellucid.atlas import by_direction
    from pellucid.atlas import neighbours as finding
    from pellucid.cli import printing

    if near.atlas.table("neighbours") is not None and count <= finding.COUNT:
        row = finding.of(near.atlas).row(feature, ["similar", "cosine"])
        pairs = zip(row["similar"][:count], row["cosine"][:count], strict=True)
        found = [(int(i), float(c)) for i, c in pairs if i >= 0]
    else:
        index = by_direction.DirectionIndex.opened(near.directions, near.atlas)
        found = [(hit.feature, hit.score) for hit in index.near(feature, count)]
    floor = by_direction.floor_of(near.atlas)
    if json:
        return printing.as_json(
            {
                "feature": feature,
                "by": "direction",
                "cosine_floor": None if floor is None else floor.usual,
                "similar": [{"feature": i, "cosine": c} for i, c in found],
            }
        )
    printing.table(
        ["feature", "cosine", "what is known of it"],
        [(i, f"{c:.3f}", t) for (i, c), t in zip(found, near.said([i for i, _ in found]), strict=True)],
    )
    if floor is not None:
        printing.note(by_chance(floor))
    return None


def by_chance(floor: Floor) -> str:
    """What stands under a table of cosines."""
    return f"by chance: the nearest of as many random directions has a cosine of {floor.usual:.3f}"


def _show_firing(near: Near, feature: int, count: int, json: bool) -> None:
    from pellucid.atlas import neighbours as finding
    from pellucid.cli import printing
    from pellucid.core.errors import InputError

    table = finding.of(near.atlas)
    if "coactive" not in table.columns:
        raise InputError(
            "The atlas was built without postings: which features fire together is not known. Build it whole "
            "with 'pellucid atlas build', and find the neighbours again."
        )
    row = table.row(feature, ["coactive", "coactivity", "together", "coactivity_floor"])
    floor = float(row["coactivity_floor"])
    found = [
        (int(i), float(c), int(n))
        for i, c, n in zip(row["coactive"], row["coactivity"], row["together"], strict=True)
        if i >= 0
    ][:count]
    if json:
        return printing.as_json(
            {
                "feature": feature,
                "by": "firing",
                "coactivity_floor": floor,
                "similar": [{"feature": i, "coactivity": c, "together": n} for i, c, n in found],
            }
        )
    printing.table(
        ["feature", "firing", "tokens", "", "what is known of it"],
        [
            (i, f"{c:.3f}", f"{n:,}", "" if c > floor else "as by chance", t)
            for (i, c, n), t in zip(found, near.said([i for i, _, _ in found]), strict=True)
        ],
    )
    printing.note(
        "firing: cosine of being active on the same tokens. By chance, over "
        f"{table.record['facts']['tokens']:,} tokens, its best is {floor:.3f}"
    )
    return None


def compare(
    before: str,
    after: str,
    /,
    *,
    feature: int | None = None,
    atlas: str | None = None,
    other_atlas: str | None = None,
    json: Flag = False,
) -> None:
    """Say which feature of one dictionary became which of another, by direction and by firing.

    Works for two dictionaries of one model, of two layers, or of two versions of a model, whose atlases were
    built over the same text. The tables are written into the first atlas.

    Args:
        before: the name of a shipped dictionary, or a folder.
        after: the other.
        feature: show what became of this feature alone.
        atlas: folder or URL of the first atlas; by default the one in the dictionary's folder.
        other_atlas: the same for the other.
        json: print JSON.
    """
    from pellucid.atlas import succession
    from pellucid.cli import printing

    one, two = Near.open(before, atlas), Near.open(after, other_atlas)
    if feature is not None:
        one.atlas.check_feature(feature)
    with printing.progress(quiet=json) as progress:
        found = succession.compare(_side(one), _side(two), progress=progress)
    if feature is not None:
        row = {name: value.item() for name, value in found.became.row(feature).items()}
        row["fate"] = succession.FATES[row["fate"]]
        if json:
            return printing.as_json({"feature": feature, **row})
        return printing.table(["", ""], _told(one, two, feature, row))
    counts = found.counts()
    if json:
        return printing.as_json({"fates": counts, **found.facts})
    fates = [f for f in succession.FATES if f != "lost"]
    rows = [(f, f"{counts['became'][f]:,}", f"{counts['origins'][f]:,}") for f in fates]
    rows.append(("lost, or born", f"{counts['became']['lost']:,}", f"{counts['origins']['born']:,}"))
    printing.table(["", "of the first", "of the other"], rows)
    _evidence(found.facts)
    return None


def _side(near: Near) -> Side:
    from pellucid.atlas.succession import Side

    return Side(near.atlas, near.directions)


def _evidence(facts: dict[str, Any]) -> None:
    from pellucid.cli import printing

    firing, direction = facts.get("firing"), facts.get("direction")
    if firing:
        printing.note(
            f"by firing over {firing['tokens']:,} tokens: the median feature's best has a cosine of "
            f"{firing['became']['median']:.3f}, by chance {firing['became']['median_floor']:.3f}; "
            f"0.7 is reached by {firing['became']['high']:.1%}, "
            f"by chance {firing['became']['high_floor']:.1%}"
        )
    else:
        printing.note("not by firing: the atlases are not of the same text, or have no postings")
    if direction:
        told = direction["became"]
        printing.note(
            f"by direction: the median feature's nearest has a cosine of {told['median']:.3f}, of random "
            f"directions {told['cosine_floor']:.3f}"
        )
    else:
        printing.note("not by direction: the two write vectors of different lengths")


def _told(one: Near, two: Near, feature: int, row: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [("feature", f"{feature}: {one.said([feature])[0]}"), ("fate", str(row["fate"]))]
    if row.get("firing", -1) >= 0:
        lines.append(
            (
                "fires with",
                f"{row['firing']} ({row['cofiring']:.3f}, by chance {row['cofiring_floor']:.3f}; "
                f"{row['inside']:.0%} of its tokens): {two.said([row['firing']])[0]}",
            )
        )
    if row.get("direction", -1) >= 0:
        lines.append(
            (
                "points with",
                f"{row['direction']} (cosine {row['cosine']:.3f}): {two.said([row['direction']])[0]}",
            )
        )
    return lines


def map_(
    *,
    dictionary: str = "smollm2",
    atlas: str | None = None,
    plot: Path | None = None,
    clusters: int | None = None,
    seed: int = 0,
    json: Flag = False,
) -> None:
    """Lay all features out in two dimensions, in named clusters, and write the map into the atlas.

    Needs the neighbours. A map that is there with the same settings is not made again; killed at any moment,
    the same command goes on to the same map.

    Args:
        dictionary: the name of a shipped dictionary, or a folder.
        atlas: folder or URL of its atlas; by default the one in the dictionary's folder.
        plot: also write the map as one HTML page that asks the network for nothing.
        clusters: how many; by default a quarter of the square root of the number of features.
        seed: of the clusters, and of which features stand for others.
        json: print how good the map is as JSON.
    """
    from pellucid.atlas import map as mapping
    from pellucid.cli import map_page, printing
    from pellucid.core import files
    from pellucid.core.errors import InputError

    if clusters is not None and clusters < 1:
        raise InputError(f"Expected 1 cluster or more; got {clusters}.")
    near = Near.open(dictionary, atlas)
    settings = mapping.MapSettings(seed, clusters)
    with printing.progress(quiet=json) as progress:
        table = mapping.build(near.atlas, near.directions, near.piece, settings=settings, progress=progress)
    facts = dict(table.record["facts"])
    if plot is not None:
        files.write_text(plot, map_page.render(near.atlas, near.said))
    if json:
        return printing.as_json(facts)
    rows = [
        (
            {"map": "map", "pca": "two principal components", "random": "random places"}[name],
            f"{q['kept']:.1%}",
            f"{q['trustworthiness']:.3f}",
        )
        for name, q in facts["quality"].items()
    ]
    printing.table(["", "neighbours kept", "trustworthiness"], rows)
    printing.note(
        f"{table.rows - facts['left_out']:,} features; {facts['left_out']:,} that were never active are left "
        f"out; clusters named by their {facts['named_by']}" + (f"; {plot}" if plot is not None else "")
    )
    return None
