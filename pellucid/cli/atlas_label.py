"""`pellucid atlas label`: write labels, test them, and say how good they are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from pathlib import Path

    from pellucid.atlas.explainers import Explainer
    from pellucid.atlas.labelling import Summary
    from pellucid.atlas.labels import Label

_SHOWN = 12
"""Labels that are shown at the end."""


def label(
    *,
    dictionary: str = "smollm2",
    atlas: str | None = None,
    features: str | None = None,
    again: Annotated[bool, Parameter(negative="")] = False,
    local: str | None = None,
    endpoint: str | None = None,
    model: str | None = None,
    price_read: float | None = None,
    price_written: float | None = None,
    budget: float | None = None,
    at_once: int = 8,
    timeout: float = 60,
    held_out: int = 40,
    compact: str | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Label features, and test each label on texts it was not written from.

    Without further options labels are written from words alone: no model, no network. Killed at any moment,
    the same command goes on to the same table. What failed is tried again.

    Args:
        dictionary: the name of a shipped dictionary, or a folder.
        atlas: folder or URL of its atlas; by default the one in the dictionary's folder.
        features: label these alone, such as 3,7; others keep the labels they have.
        again: label anew what was labelled before.
        local: let this model write the labels: a reference, such as smollm2.
        endpoint: let a model behind this address write them: the whole address of a chat API of OpenAI's or
            Anthropic's kind, such as http://localhost:8000/v1/chat/completions. The key is read from
            OPENAI_API_KEY or ANTHROPIC_API_KEY.
        model: what the endpoint calls its model.
        price_read: dollars for a million tokens that the endpoint reads.
        price_written: dollars for a million tokens that it writes.
        budget: dollars that are never passed, over all sittings of this job; needs the prices.
        at_once: features that are in work at the endpoint at a time.
        timeout: seconds an answer may take.
        held_out: examples each label is tested on.
        compact: also write the labels in compact form to this folder.
        json: print JSON.
    """
    from pathlib import Path

    from pellucid.atlas import labelling, labels
    from pellucid.atlas.evidence import ENOUGH, EvidenceSettings
    from pellucid.atlas.pages import Atlas
    from pellucid.cli import printing
    from pellucid.cli.session import Session
    from pellucid.core import paths
    from pellucid.core.errors import InputError

    if held_out < ENOUGH:
        raise InputError(f"A label is tested on {ENOUGH} examples or more; got {held_out}.")
    wanted = None if features is None else _numbers(features)
    explainer = _explainer(
        local, endpoint, model, price_read, price_written, budget,
        at_once=at_once, timeout=timeout, again=again, home=paths.home() / "labels",
    )  # fmt: skip
    session = Session.open(dictionary, atlas=atlas)
    opened = session.needed_atlas()
    if session.store is None:
        raise InputError(
            "The text that the atlas points into is not at hand. Build the atlas with 'pellucid atlas "
            "build', which keeps it in the cache."
        )
    subject = labelling.Subject(opened, session.store, session.model, session.dictionary)
    with printing.progress(quiet=json) as progress:
        summary = labelling.run(
            subject,
            explainer,
            paths.home() / "labels",
            settings=EvidenceSettings(held_out=held_out),
            features=wanted,
            again=again,
            progress=progress,
        )
    written = Atlas.open(str(opened.place))
    table = written.table(labels.TABLE)
    assert table is not None
    if compact is not None:
        labels.compact(table, Path(compact) if "://" not in compact else compact)
    shown = wanted if wanted is not None else range(min(table.rows, 40 * _SHOWN))
    some = [found for found in labels.labels_of(written, list(shown)) if wanted or found.text][:_SHOWN]
    if json:
        return printing.as_json(_as_json(summary, some))
    _show(summary, some)
    return None


def _numbers(features: str) -> list[int]:
    from pellucid.core.errors import InputError

    try:
        return [int(f) for f in features.split(",")]
    except ValueError as error:
        raise InputError(f"Expected features such as 3,7; got {features!r}.") from error


def _explainer(
    local: str | None,
    endpoint: str | None,
    model: str | None,
    price_read: float | None,
    price_written: float | None,
    budget: float | None,
    *,
    at_once: int,
    timeout: float,
    again: bool,
    home: Path,
) -> Explainer:
    """The explainer that was asked for, once the options are found to fit together."""
    from pellucid.core.errors import InputError

    if local is not None and endpoint is not None:
        raise InputError("Labels are written by a local model or by an endpoint: give one of both.")
    if endpoint is None:
        given = {
            "--model": model,
            "--price-read": price_read,
            "--price-written": price_written,
            "--budget": budget,
        }
        if useless := [name for name, value in given.items() if value is not None]:
            raise InputError(f"{', '.join(useless)} without --endpoint has no effect. Name an endpoint.")
    if endpoint is not None:
        return _behind(endpoint, model, price_read, price_written, budget, at_once, timeout, again, home)
    if local is not None:
        from pellucid.atlas.explainer_local import LocalExplainer
        from pellucid.models.model import load

        return LocalExplainer(load(local))
    from pellucid.atlas.explainer_words import WordsExplainer

    return WordsExplainer()


def _behind(
    endpoint: str,
    model: str | None,
    price_read: float | None,
    price_written: float | None,
    budget: float | None,
    at_once: int,
    timeout: float,
    again: bool,
    home: Path,
) -> Explainer:
    from pellucid.atlas.endpoint import Endpoint
    from pellucid.atlas.explainer_endpoint import EndpointExplainer
    from pellucid.atlas.kept_labels import Kept
    from pellucid.atlas.spending import Budget, Prices
    from pellucid.core import digests
    from pellucid.core.errors import InputError

    if model is None:
        raise InputError("An endpoint needs --model, the name it knows its model by.")
    if budget is not None and (price_read is None or price_written is None):
        raise InputError("A budget needs --price-read and --price-written, dollars for a million tokens.")
    if at_once < 1 or timeout <= 0:
        raise InputError(
            f"Expected --at-once of 1 or more and a --timeout above 0; got {at_once} and {timeout}."
        )
    answers = Kept(home / f"answers-{digests.short(digests.of_json([endpoint, model]))}.sqlite")
    prices = Prices(price_read or 0, price_written or 0)
    return EndpointExplainer(
        Endpoint(endpoint, model, prices, timeout_s=timeout),
        answers,
        Budget(answers, budget),
        at_once=at_once,
        again=again,
    )


def _show(summary: Summary, some: list[Label]) -> None:
    from pellucid.cli import printing

    printing.table(
        ["feature", "what switches it on", "score", "floor", "what it does"],
        [
            (
                found.feature,
                found.text
                if found.reliable
                else f"no reliable label ({found.text or found.more['problem']})",
                _figure(found.score),
                _figure(found.floor),
                found.effect if found.effect_reliable else "",
            )
            for found in some
        ],
    )
    printing.table(
        ["", "", "floor"],
        [
            ("features", f"{summary.features:,}", ""),
            ("labelled and tested", f"{summary.labelled:,}", ""),
            ("reliable", f"{summary.reliable:,}", ""),
            ("too few examples", f"{summary.scarce:,}", ""),
            ("failed", f"{summary.failed:,}", ""),
            ("mean score", f"{summary.score:.3f}", f"{summary.floor:.3f}"),
            ("  detection", f"{summary.detection[0]:.3f}", f"{summary.detection[1]:.3f}"),
            ("  fuzzing", f"{summary.fuzzing[0]:.3f}", f"{summary.fuzzing[1]:.3f}"),
            ("promoted tokens hold together", f"{summary.reliable_effects:,} of {summary.effects:,}", "2.5%"),
            ("and agree with the label", f"{summary.agreeing:,}", ""),
        ],
    )
    printing.note(
        "score: the mean of detection and fuzzing on held-out texts, 0.5 is chance; of the silent texts "
        f"{1 - summary.random_share:.0%} are near ones, the rest random. "
        "floor: the same labels for other features"
    )
    if summary.stopped:
        printing.note(summary.stopped)


def _figure(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.2f}"


def _as_json(summary: Summary, some: list[Label]) -> dict[str, object]:
    from dataclasses import asdict

    def finite(value: object) -> object:
        return None if isinstance(value, float) and math.isnan(value) else value

    return {
        **asdict(summary),
        "labels": [
            {
                "feature": found.feature,
                "text": found.text,
                "reliable": found.reliable,
                "score": finite(found.score),
                "floor": finite(found.floor),
                "explainer": found.explainer,
                "effect": found.effect,
                "effect_reliable": found.effect_reliable,
            }
            for found in some
        ],
    }
