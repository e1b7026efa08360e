"""`pellucid atlas search`: from words, a meaning, a prompt, a direction or an effect to features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from pellucid.cli.atlas_find import dictionaries_of, named_sets
from pellucid.cli.atlas_near import by_chance

if TYPE_CHECKING:
    import numpy as np

    from pellucid.atlas.by_direction import DirectionIndex, Floor
    from pellucid.atlas.by_words import Hit
    from pellucid.cli.session import Session

By = Literal["words", "meaning", "prompt", "direction", "effect"]
_TRIED = 32
"""How many features a search by effect turns up on the model."""


def search(
    query: str,
    /,
    *,
    by: By = "words",
    dictionary: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    atlas: str | None = None,
    count: int = 10,
    chat: Annotated[bool, Parameter(negative="")] = False,
    embedder: str = "wordllama",
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Search for features by words, by meaning, by running a prompt, by direction, or by effect.

    Args:
        query: words (`word*` for a beginning); for a prompt the text; for a direction a .npy file, or the
            name of a family or concept; for an effect words, parted by commas or spaces.
        by: words said of features; meaning of their labels; features strongest on a prompt; decoder
            directions along a vector; features that make the model say the words.
        dictionary: the name of a shipped dictionary, or a folder; for a prompt several that share a model.
        atlas: folder or URL of its atlas; by default the one in the dictionary's folder.
        count: how many features to show.
        chat: read the prompt through the model's chat template.
        embedder: for meaning: the static embedding model, a folder or a reference.
        json: print JSON.
    """
    from pellucid.cli import printing
    from pellucid.cli.session import Session
    from pellucid.core.errors import InputError

    names = dictionary or ["smollm2"]
    if count < 1:
        raise InputError(f"count says how many features to show, 1 or more; got {count}.")
    if not query.strip():
        raise InputError("The query is empty. Give at least one word.")
    if len(names) > 1 and by != "prompt":
        raise InputError(f"Several dictionaries are searched by prompt alone; name one for --by {by}.")
    if chat and by != "prompt":
        raise InputError(f"--chat belongs to --by prompt; by {by} nothing is read as a chat.")
    session = Session.open(names[0], atlas=atlas)
    if by == "prompt":
        return _search_by_prompt(session, names, query, count, chat=chat, json=json)
    if by == "effect":
        return _search_by_effect(session, query, count, json=json)
    floor: Floor | None = None
    if by == "direction":
        index, vector = _direction(session, query)
        hits, scale, floor = index.search(vector, count), "cosine", index.floor
    else:
        hits, scale = _said(session, query, count, by, embedder), "score" if by == "words" else "cosine"
    rows: list[dict[str, Any]] = [
        {
            "feature": h.feature,
            scale: h.score,
            "label": session.reliable(h.feature),
            "promoted": session.promoted(h.feature),
        }
        for h in hits
    ]
    if json:
        return printing.as_json(rows)
    if not rows:
        return printing.note(f"no feature is found by {by} for {query!r}")
    printing.table(
        ["feature", scale, "label", "promotes"],
        [(r["feature"], f"{r[scale]:.2f}", r["label"] or "", " · ".join(r["promoted"])) for r in rows],
    )
    if floor is not None:
        printing.note(by_chance(floor))
    return None


def _said(session: Session, query: str, count: int, by: By, embedder: str) -> list[Hit]:
    """By what is said of features."""
    from pellucid.atlas import embedding
    from pellucid.atlas.sayings import Sayings

    sayings = Sayings(session.needed_atlas(), session.model, session.store)
    if by == "words":
        return sayings.words().search(query, count)
    return sayings.meanings(embedding.load(embedder)).search(query, count)


def _direction(session: Session, query: str) -> tuple[DirectionIndex, np.ndarray]:
    """All directions, and the one that a query names."""
    import numpy as np

    from pellucid.atlas import peaks
    from pellucid.atlas.by_direction import DirectionIndex, mean_difference
    from pellucid.atlas.directions import Directions
    from pellucid.core.errors import InputError

    dictionary = session.dictionary
    if query.isdigit():
        raise InputError(f"What lies near feature {query} is shown by 'pellucid atlas similar {query}'.")
    if query.endswith(".npy"):
        try:
            vector = np.load(Path(query).expanduser(), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{query!r} is not a vector that can be read: {error}.") from error
        if vector.dtype.kind not in "fiu":
            raise InputError(f"{query!r} is not a vector of numbers, but of {vector.dtype}.")
    else:
        concept, neutral = (peaks.read(session.model, [dictionary], texts) for texts in named_sets(query))
        vector = mean_difference(dictionary.ports, concept, neutral)
    return DirectionIndex.opened(Directions.of(dictionary), session.atlas), vector


def _search_by_prompt(
    session: Session, names: Sequence[str], query: str, count: int, *, chat: bool, json: bool
) -> None:
    from dataclasses import asdict

    from pellucid.atlas import by_prompt
    from pellucid.cli import printing

    dictionaries = dictionaries_of(session, names)
    ids, found = by_prompt.strongest(session.model, dictionaries, query, count=count, chat=chat)
    pieces = session.model.pieces(ids)
    rows = [
        {
            **asdict(f),
            "piece": pieces[f.position],
            "label": session.reliable(f.feature) if f.dictionary == names[0] else None,
        }
        for f in found
    ]
    if json:
        return printing.as_json(rows)
    if not rows:
        return printing.note("no feature is active on the text")
    several = len(names) > 1
    printing.table(
        [*(["dictionary"] if several else []), "feature", "score", "share", "on", "active on", "label"],
        [
            (
                *([f.dictionary] if several else []),
                f.feature,
                f"{f.score:.2f}",
                f"{f.share:.2f}",
                pieces[f.position].strip(),
                f"{f.frequency:.3%}",
                r["label"] or "",
            )
            for f, r in zip(found, rows, strict=True)
        ],
    )
    printing.note(
        "share: the peak by the feature's maximum. score: the share, damped by how often the feature is "
        "active: not at all up to 1 % of tokens, by half at 10 %"
    )
    return None


def _search_by_effect(session: Session, query: str, count: int, *, json: bool) -> None:
    from dataclasses import asdict

    from pellucid.atlas import by_effect
    from pellucid.cli import printing
    from pellucid.core.errors import InputError

    effects = session.needed_atlas().table("effects")
    if effects is None:
        raise InputError(
            "The atlas holds no effects: it was built with --promoted 0. Build it again without that."
        )
    tokens = by_effect.tokens_of(session.model, query.replace(",", " ").split())
    hits = by_effect.EffectIndex.opened(effects).search(tokens, max(count, _TRIED))
    found = by_effect.confirm(session.model, session.dictionary, hits, tokens)
    median, high = found.chance
    rows = [
        {**asdict(f), "label": session.reliable(f.feature), "promoted": session.promoted(f.feature)}
        for f in found.features[:count]
    ]
    words = session.words(tokens)
    if json:
        return printing.as_json(
            {
                "tokens": words,
                "tried": len(hits),
                "chance": {"median": median, "95 %": high},
                "features": rows,
            }
        )
    if not rows:
        return printing.note(f"no feature promotes a token that begins {query!r}")
    printing.table(
        ["feature", "rise", "score", "label", "promotes"],
        [
            (
                r["feature"],
                f"{r['rise']:+.2f}",
                f"{r['score']:.2f}",
                r["label"] or "",
                " · ".join(r["promoted"]),
            )
            for r in rows
        ],
    )
    printing.note(
        f"rise: nats by which the joint probability of {', '.join(words)} rose on other openings, features "
        f"turned up to their maximum; features drawn at random: median {median:+.2f}, 95 % below "
        f"{high:+.2f}. score: by the atlas. {len(hits)} tried"
    )
    return None
