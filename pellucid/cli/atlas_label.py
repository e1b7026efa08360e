"""`pellucid atlas label`: write labels, test them, and say how good they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

if TYPE_CHECKING:
    from pathlib import Path

    from pellucid.atlas.explainers import Explainer
    from pellucid.atlas.labelling import Summary
    from pellucid.atlas.labels import Label

_SHOWN = 12
"""Labels that are shown at the end."""


@Parameter(name="*")
@dataclass(frozen=True)
class Author:
    """Who writes the labels, and at what price; without any of it, words alone."""

    local: str | None = None
    """let this model write the labels: a reference, such as smollm2."""
    endpoint: str | None = None
    """let a model behind this address write them, such as http://localhost:8000/v1/chat/completions."""
    model: str | None = None
    """what the endpoint calls its model."""
    price_read: float | None = None
    """dollars for a million tokens that the endpoint reads."""
    price_written: float | None = None
    """dollars for a million tokens that it writes."""
    budget: float | None = None
    """dollars that are never passed, over all sittings of this job; needs the prices."""
    at_once: int = 8
    """features that are in work at the endpoint at a time."""
    timeout: float = 60
    """seconds an answer may take."""

    def explainer(self, home: Path, *, again: bool) -> Explainer:
        """The explainer that was asked for, once the options are found to fit together.

        Args:
            home: the folder where an endpoint's answers are kept.
            again: ask for answers anew that are kept there.

        Raises:
            InputError: when the options do not fit together.
        """
        from pellucid.core.errors import InputError

        if self.local is not None and self.endpoint is not None:
            raise InputError("Labels are written by a local model or by an endpoint: give one of both.")
        if self.endpoint is not None:
            return self._behind(self.endpoint, home, again=again)
        given = {
            "--model": self.model,
            "--price-read": self.price_read,
            "--price-written": self.price_written,
            "--budget": self.budget,
        }
        if useless := [name for name, value in given.items() if value is not None]:
            raise InputError(f"{', '.join(useless)} without --endpoint has no effect. Name an endpoint.")
        if self.local is not None:
            from pellucid.atlas.explainer_local import LocalExplainer
            from pellucid.models.model import load

            return LocalExplainer(load(self.local))
        from pellucid.atlas.explainer_words import WordsExplainer

        return WordsExplainer()

    def _behind(self, endpoint: str, home: Path, *, again: bool) -> Explainer:
        from pellucid.atlas.endpoint import Endpoint
        from pellucid.atlas.explainer_endpoint import EndpointExplainer
        from pellucid.atlas.kept_labels import Kept
        from pellucid.atlas.spending import Budget, Prices
        from pellucid.core import digests
        from pellucid.core.errors import InputError

        if self.model is None:
            raise InputError("An endpoint needs --model, the name it knows its model by.")
        if self.budget is not None and (self.price_read is None or self.price_written is None):
            raise InputError("A budget needs --price-read and --price-written, dollars for a million tokens.")
        if self.at_once < 1 or self.timeout <= 0:
            raise InputError(
                "Expected --at-once of 1 or more and a --timeout above 0; got "
                f"{self.at_once} and {self.timeout}."
            )
        answers = Kept(home / f"answers-{digests.short(digests.of_json([endpoint, self.model]))}.sqlite")
        prices = Prices(self.price_read or 0, self.price_written or 0)
        return EndpointExplainer(
            Endpoint(endpoint, self.model, prices, timeout_s=self.timeout),
            answers,
            Budget(answers, self.budget),
            at_once=self.at_once,
            again=again,
        )


_BY_WORDS = Author()


def label(
    *,
    dictionary: str = "smollm2",
    atlas: str | None = None,
    features: str | None = None,
    again: Annotated[bool, Parameter(negative="")] = False,
    author: Author = _BY_WORDS,
    held_out: int = 40,
    compact: str | None = None,
    json: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Label features, and test each label on texts it was not written from.

    Without further options labels are written from words alone: no model, no network. An endpoint is the
    whole address of a chat API of OpenAI's or Anthropic's kind; its key is read from OPENAI_API_KEY or
    ANTHROPIC_API_KEY. Killed at any moment, the same command goes on to the same table. What failed is tried
    again.

    Args:
        dictionary: the name of a shipped dictionary, or a folder.
        atlas: folder or URL of its atlas; by default the one in the dictionary's folder.
        features: label these alone, such as 3,7; others keep the labels they have.
        again: label anew what was labelled before.
        author: who writes the labels.
        held_out: examples each label is tested on.
        compact: also write the labels in compact form to this folder.
        json: print JSON.
    """
    from pathlib import Path

    from pellucid.atlas import labelling, labels
    from pellucid.atlas.evidence import ENOUGH, EvidenceSettings
    from pellucid.atlas.pages import Atlas
    from pellucid.atlas.subjects import Subject
    from pellucid.cli import printing
    from pellucid.cli.session import Session
    from pellucid.core import paths
    from pellucid.core.errors import InputError

    if held_out < ENOUGH:
        raise InputError(f"A label is tested on {ENOUGH} examples or more; got {held_out}.")
    wanted = None if features is None else _numbers(features)
    explainer = author.explainer(paths.home() / "labels", again=again)
    session = Session.open(dictionary, atlas=atlas)
    opened = session.needed_atlas()
    if session.store is None:
        raise InputError(
            "The text that the atlas points into is not at hand. Build the atlas with 'pellucid atlas "
            "build', which keeps it in the cache."
        )
    subject = Subject(opened, session.store, session.model, session.dictionary)
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

    from pellucid.atlas import values

    labelled = [{"feature": found.feature, **values.label(found)} for found in some]
    return {**asdict(summary), "labels": labelled}
