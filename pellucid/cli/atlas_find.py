"""`pellucid atlas find` and `families`: from two sets of texts to the features that tell them apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from pellucid.atlas.by_contrast import Contrast, Told
    from pellucid.cli.session import Session
    from pellucid.dictionaries.base import Dictionary


def find(
    *,
    with_: Annotated[list[str], Parameter(name="--with", consume_multiple=True, negative="")],
    without: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    dictionary: str = "smollm2",
    atlas: str | None = None,
    count: int = 10,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Find features by contrast: texts with something, against texts without it.

    Args:
        with_: texts with the concept, @FILE with one a line, or the name of a family or a built-in concept
            such as music.
        without: texts without it; by default those of the family, or a dozen neutral ones.
        dictionary: the name of a shipped dictionary, or a folder.
        atlas: folder or URL of its atlas; by default the one in the dictionary's folder.
        count: how many features to show.
        json: print JSON.
    """
    from dataclasses import asdict

    from pellucid.atlas import by_contrast, peaks
    from pellucid.atlas.families import families as known
    from pellucid.cli import printing
    from pellucid.cli.session import Session
    from pellucid.core.errors import InputError
    from pellucid.steering import finding
    from pellucid.steering.concepts import CONCEPTS, NEUTRAL_SENTENCES

    if count < 1:
        raise InputError(f"count says how many features to show, 1 or more; got {count}.")
    named = with_[0] if len(with_) == 1 and (with_[0] in known() or with_[0].lower() in CONCEPTS) else None
    concept, neutral = named_sets(named) if named else (_texts(with_), NEUTRAL_SENTENCES)
    neutral = _texts(without) if without else neutral
    session = Session.open(dictionary, atlas=atlas)
    reads = [peaks.read(session.model, [session.dictionary], texts) for texts in (concept, neutral)]
    found = by_contrast.contrast(session.dictionary, *reads, count=count)
    numbers = [f.feature for f in found.features]
    words = CONCEPTS[named.lower()].words if named and named.lower() in CONCEPTS else ()
    written = finding.output_scores(
        session.model, *session.promotions, words or finding.distinctive_words(concept, neutral)
    )[numbers].tolist()
    labels = [session.reliable(number) for number in numbers]
    if json:
        rows = [
            {
                **asdict(f),
                "output": output,
                "label": label,
                "promoted": session.promoted(f.feature),
            }
            for f, output, label in zip(found.features, written, labels, strict=True)
        ]
        return printing.as_json({**_summary(found), "features": rows})
    if not numbers:
        return printing.note("no feature fires more with the concept than without it")
    printing.table(
        ["feature", "AUC", "corrected p", "held out", "fires with", "without", "writes it", "promotes"],
        [
            (
                f.feature,
                f"{f.told.auc:.2f}",
                f"{f.q:.1g}",
                _interval(f.held_out),
                f"{f.with_it:.2f}",
                f"{f.without:.2f}",
                f"{output:.1f}",
                " · ".join(session.promoted(f.feature)),
            )
            for f, output in zip(found.features, written, strict=True)
        ],
    )
    _tell(found, len(concept), len(neutral))
    return None


def _texts(given: Sequence[str]) -> list[str]:
    """Texts as they are, or the lines of files written @FILE.

    Raises:
        InputError: when there is no such file, or a text is empty.
    """
    from pellucid.core.errors import InputError

    found: list[str] = []
    for text in given:
        if not text.startswith("@"):
            found.append(text)
            continue
        path = Path(text[1:]).expanduser()
        try:
            found += [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{str(path)!r} is not a text file that can be read: {error}.") from error
    if not found or not all(text.strip() for text in found):
        raise InputError("A set of texts is empty, or holds an empty text. Give at least one word in each.")
    return found


def _tell(found: Contrast, concept: int, neutral: int) -> None:
    """What stands under the table of a contrast."""
    from pellucid.cli import printing

    printing.note(
        f"AUC: the chance that a text with the concept fires it more, over {concept} texts with it and "
        f"{neutral} without. corrected p: exact permutation test, corrected for all {found.tested:,} "
        f"features; {found.significant} are at 0.05 or below"
    )
    if not found.baselines:
        return printing.note("too few texts to hold some out: with 4 of each kind or more, half are")
    beside = ", ".join(f"{name} {_interval(told)}" for name, told in found.baselines.items())
    printing.note(f"held out: on the half of the texts it was not chosen on [95 %]. beside it: {beside}")
    return None


def families(
    *dictionaries: str,
    only: Annotated[list[str] | None, Parameter(consume_multiple=True, negative="")] = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Look for curated families of concepts: the best feature of each, beside its baselines.

    The feature is chosen on one half of a family's texts, and judged on the other.

    Args:
        dictionaries: names of shipped dictionaries, or folders; they share a model. By default smollm2.
        only: the families to look for; by default all.
        json: print JSON.
    """
    from dataclasses import asdict

    from pellucid.atlas import by_contrast
    from pellucid.atlas.families import families as known
    from pellucid.cli import printing
    from pellucid.cli.session import Session
    from pellucid.core.errors import UnknownNameError

    names = list(dictionaries) or ["smollm2"]
    for name in only or ():
        if name not in known():
            raise UnknownNameError("family", name, known())
    wanted = [known()[name] for name in only] if only else list(known().values())
    session = Session.open(names[0])
    opened = dictionaries_of(session, names)
    with printing.progress(quiet=json) as progress:
        found = by_contrast.survey(session.model, opened, wanted, progress=progress)
    if json:
        return printing.as_json(
            {
                name: {
                    family: {**_summary(c), "feature": asdict(c.features[0]) if c.features else None}
                    for family, c in of_one.items()
                }
                for name, of_one in found.items()
            }
        )
    for name, of_one in found.items():
        heads = ("family", "feature", "corrected p", "held out", *next(iter(of_one.values())).baselines)
        rows = [(family, *_family_row(contrast)) for family, contrast in of_one.items()]
        printing.table((*heads, "verdict"), rows, title=name if len(found) > 1 else None)
    printing.note(
        "held out and beside it: AUC on texts that nothing was chosen or fitted on [95 %]. corrected p: "
        "exact, for all features of the dictionary. reliable: significant, and on the held-out texts surely "
        "ahead of the best raw neuron and random direction; no better: significant, not surely ahead"
    )
    return None


def _family_row(found: Contrast) -> tuple[str, ...]:
    verdict = {"none": "none reliable", "untested": "not tested"}.get(found.verdict, found.verdict)
    best = found.features[0] if found.features else None
    beside = (f"{told.auc:.2f}" for told in found.baselines.values())
    if best is None:
        return ("", "", "", *beside, verdict)
    return (str(best.feature), f"{best.q:.1g}", _interval(best.held_out), *beside, verdict)


def named_sets(name: str) -> tuple[Sequence[str], Sequence[str]]:
    """The texts of a family or a built-in concept, and those to hold against them.

    Raises:
        UnknownNameError: when there is none of that name.
    """
    from pellucid.atlas.families import families
    from pellucid.core.errors import UnknownNameError
    from pellucid.steering.concepts import CONCEPTS, NEUTRAL_SENTENCES

    if name in (known := families()):
        return known[name].concept, known[name].neutral
    if name.lower() in CONCEPTS:
        return CONCEPTS[name.lower()].sentences, NEUTRAL_SENTENCES
    raise UnknownNameError("family or concept", name, [*known, *CONCEPTS])


def dictionaries_of(session: Session, names: Sequence[str]) -> dict[str, Dictionary]:
    """Dictionaries by their names, the session's first; all of its model.

    Raises:
        InputError: when one is named twice, or is of another model.
    """
    from pellucid.core.errors import InputError
    from pellucid.dictionaries import files, shipped

    found = {names[0]: session.dictionary}
    for name in names[1:]:
        dictionary, card = files.load(shipped.resolve(name))
        files.check_model(card, session.model.digest)
        found[name] = dictionary
    if len(found) < len(names):
        raise InputError("A dictionary is named twice. Name each once.")
    return found


def _interval(told: Told | None) -> str:
    return "" if told is None else f"{told.auc:.2f} [{told.low:.2f}, {told.high:.2f}]"


def _summary(found: Contrast) -> dict[str, Any]:
    """What a contrast says beside its features, as JSON values."""
    from dataclasses import asdict

    ahead = None if found.ahead is None else dict(zip(("auc", "low", "high"), found.ahead, strict=True))
    return {
        "tested": found.tested,
        "significant": found.significant,
        "verdict": found.verdict,
        "ahead": ahead,
        "baselines": {name: asdict(told) for name, told in found.baselines.items()},
    }
