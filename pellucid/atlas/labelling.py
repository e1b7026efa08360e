"""The job that labels an atlas: evidence of each feature, a label, its score beside its floor, the table.

Features are taken in order. What is finished is kept by feature in a run folder; the table is written at the
end from what was kept, so that a job that was killed at any moment goes on to the same table. A feature that
failed is kept as a failure and tried again by the next command. Nothing in memory grows with the number of
features but a few bytes for each.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.atlas import labels, tables
from pellucid.atlas.evidence import ENOUGH, STANDARD, Evidence, EvidenceSettings
from pellucid.atlas.explainers import Explainer, Written
from pellucid.atlas.kept_labels import Kept
from pellucid.atlas.labels import Row
from pellucid.atlas.lexicon import FUNCTION_WORDS
from pellucid.atlas.outputs import Beside
from pellucid.atlas.pages import Atlas
from pellucid.atlas.scoring import Score, score
from pellucid.atlas.subjects import Subject
from pellucid.atlas.tables import Columns, Table
from pellucid.core import digests
from pellucid.core.errors import BudgetError, InputError, LabelError, UpstreamError
from pellucid.core.progress import Progress, silent
from pellucid.core.runs import RunFolder

VERSION = 2
"""Part of what names a job: raised when the same settings would give other evidence or scores."""
_OTHERS = 64
"""Features that floors are drawn from."""
_FAILED_IN_A_ROW = 25
"""So many failures one after another are the fault of the endpoint, not of the features."""
_NOT_YET = "not labelled"


@dataclass(frozen=True)
class Summary:
    """What became of the features that were to be labelled."""

    features: int
    """How many there were."""
    labelled: int
    """How many have a label, reliable or not."""
    reliable: int
    scarce: int
    """How many are active on too little text to be labelled and tested."""
    failed: int
    """How many labels could not be had; the next command tries again."""
    score: float
    """The mean over those that are labelled."""
    floor: float
    detection: tuple[float, float]
    """Mean and mean floor."""
    fuzzing: tuple[float, float]
    random_share: float
    """The share of silent texts they were tested on that are not near ones."""
    effects: int
    """How many do something that can be told, when turned up."""
    reliable_effects: int
    agreeing: int
    """How many say what their label names."""
    stopped: str = ""
    """Why not all were reached."""


def run(
    subject: Subject,
    explainer: Explainer,
    folder: Path,
    *,
    settings: EvidenceSettings = STANDARD,
    features: Sequence[int] | None = None,
    again: bool = False,
    progress: Progress = silent,
) -> Summary:
    """Label features of an atlas and write its table of labels.

    Args:
        subject: what is labelled.
        explainer: what writes and judges.
        folder: where runs of this atlas are kept; each is under the digest of what makes it.
        settings: how much evidence each label has.
        features: which features; none means all that are active on any token.
        again: label them anew, even if that was done before. Rows of others stay as they are.
        progress: told of features done, with the share that is reliable.

    Raises:
        InputError: when a feature does not exist, or the atlas cannot be labelled.
        UpstreamError: when the explainer's endpoint refuses, or fails time after time; what is done is kept.
    """
    counts = subject.counts
    for feature in features or ():
        subject.atlas.check_feature(feature)
    chosen = np.flatnonzero(counts) if features is None else np.unique(np.array(features, np.int64))
    identity = {
        "version": VERSION,
        "atlas": digests.of_json(subject.atlas.record),
        "neighbours": _digest_of(subject.atlas.table("neighbours")),
        "evidence": asdict(settings),
        **explainer.identity(),
    }
    with RunFolder.open(folder / digests.short(digests.of_json(identity)), identity=identity) as home:
        kept = Kept(home.path / "labels.sqlite")
        try:
            job = _Job(subject, explainer, kept, settings, chosen, again)
            stopped = job.work(progress)
            _write(subject.atlas, kept, chosen, whole=features is None, facts=identity)
            summary = _summary(kept, chosen, stopped)
            home.log({"features": len(chosen), **asdict(summary)})
        finally:
            kept.close()
    return summary


class _Job:
    """Features on their way to rows of the table."""

    def __init__(
        self,
        subject: Subject,
        explainer: Explainer,
        kept: Kept,
        settings: EvidenceSettings,
        chosen: np.ndarray,
        again: bool,
    ) -> None:
        self._subject, self._explainer, self._kept, self._settings = subject, explainer, kept, settings
        done = np.zeros(len(subject.counts), bool)
        if not again:
            done[[int(name) for name in kept.names()]] = True
        self._chosen = chosen
        self._open = chosen[~done[chosen]]
        # What failed is tried again.
        failed = [f for f in chosen[done[chosen]].tolist() if "failed" in (kept.get(str(f)) or {})]
        self._open = np.unique(np.concatenate([self._open, np.array(failed, np.int64)]))
        self._outputs = subject.outputs() if len(self._open) else None
        self._reliable = self._labelled = self._failed_in_a_row = 0

    def work(self, progress: Progress) -> str:
        """Do what is open; says why it stopped short, if it did."""
        if not len(self._open):
            return ""
        counts = self._subject.counts
        alive = self._open[counts[self._open] > 0]
        for feature in np.setdiff1d(self._open, alive).tolist():
            self._kept.put(str(feature), {"problem": "active on none of the text"})
        others = others_of(self._subject, self._settings)
        before, total = len(self._chosen) - len(alive), len(self._chosen)
        evidence = self._subject.evidence(alive.tolist(), self._settings)
        try:
            for number, _ in enumerate(self._rows(evidence, others), 1):
                share = self._reliable / max(1, self._labelled)
                progress("labels", before + number, total, reliable=share, **self._cost())
        except BudgetError as spent:
            return str(spent)
        return ""

    def _cost(self) -> dict[str, float]:
        budget = getattr(self._explainer, "budget", None)
        return {"dollars": budget.dollars} if budget is not None else {}

    def _rows(self, evidence: Iterator[Evidence], others: Sequence[Evidence]) -> Iterator[Row]:
        """Rows as they are finished; some features are in work at a time."""
        if self._explainer.at_once == 1:
            for one in evidence:
                yield self._finished(self._row(one, others))
            return
        with ThreadPoolExecutor(self._explainer.at_once) as threads:
            waiting: deque[Future[tuple[int, Row]]] = deque()
            try:
                for one in evidence:
                    waiting.append(threads.submit(self._row, one, others))
                    if len(waiting) >= 2 * self._explainer.at_once:
                        yield self._finished(waiting.popleft().result())
                while waiting:
                    yield self._finished(waiting.popleft().result())
            finally:
                for future in waiting:
                    future.cancel()

    def _finished(self, found: tuple[int, Row]) -> Row:
        feature, row = found
        self._kept.put(str(feature), row)
        self._labelled += "score" in row
        self._reliable += bool(row.get("reliable"))
        self._failed_in_a_row = self._failed_in_a_row + 1 if "failed" in row else 0
        if self._failed_in_a_row == _FAILED_IN_A_ROW:
            raise UpstreamError(
                f"{_FAILED_IN_A_ROW} features one after another could not be labelled, the last with: "
                f"{row['problem']}. What is done is kept. See to the explainer, and repeat the command."
            )
        return row

    def _row(self, evidence: Evidence, others: Sequence[Evidence]) -> tuple[int, Row]:
        """One feature's row."""
        row: Row = {}
        words: Sequence[str] = ()
        if not evidence.enough:
            row["problem"] = (
                f"too few examples: {len(evidence.writing)} and {len(evidence.held_out)} rows of text"
            )
        else:
            try:
                written = self._explainer.write(evidence)
                row |= _tested(evidence, written, score(self._explainer, written, evidence, others))
                row["explainer"] = self._explainer.name
                words = _words_of(written)
            except LabelError as failure:
                row |= {"problem": str(failure), "failed": True}
        effect = self._outputs.of(evidence.feature, words) if self._outputs is not None else None
        if effect is not None:
            row |= {"effect": effect.text, "effect_reliable": effect.score.counts}
            row |= _beside("effect", effect.score)
            if effect.agreement is not None:
                row |= _beside("agreement", effect.agreement)
        return evidence.feature, row


def others_of(subject: Subject, settings: EvidenceSettings) -> list[Evidence]:
    """Evidence of some features, drawn by lot, that floors are drawn from.

    Raises:
        InputError: when hardly any feature has enough.
    """
    random = np.random.default_rng(settings.seed)
    able = random.permutation(np.flatnonzero(subject.counts >= 4 * ENOUGH))[: 4 * _OTHERS]
    found: list[Evidence] = []
    for feature in able.tolist():
        (one,) = subject.evidence([feature], settings)
        if one.enough:
            found.append(one)
        if len(found) == _OTHERS:
            return found
    if len(found) < 2:
        raise InputError(
            "The atlas is of too little text: hardly any feature is active often enough to be labelled and "
            "tested. Build it over more text."
        )
    return found


def _words_of(written: Written) -> list[str]:
    """The words of a label that mean something by themselves."""
    if written.rule is not None:
        told = [w for c in written.rule.conditions if c.kind in ("here", "so far") for w in c.words[:8]]
    else:
        told = ["".join(c for c in w if c.isalpha()).lower() for w in written.text.split()]
    return [w for w in dict.fromkeys(told) if w.isalpha() and len(w) > 1 and w not in FUNCTION_WORDS]


def _tested(evidence: Evidence, written: Written, found: Score) -> Row:
    own, floor = found.own, found.floor
    row: Row = {
        "text": written.text,
        "reliable": found.reliable,
        "detection": own.detection,
        "detection_floor": floor.detection,
        "fuzzing": own.fuzzing,
        "fuzzing_floor": floor.fuzzing,
        "held_out": len(evidence.held_out),
        "silent": len(evidence.silent),
        "random_share": evidence.random_share,
    }
    for name, tests in (("score", own), ("floor", floor)):
        row |= {name: tests.score.value, f"{name}_low": tests.score.low, f"{name}_high": tests.score.high}
    if written.rule is not None:
        row["rule"] = json.dumps(written.rule.state(), ensure_ascii=False)
    return row


def _beside(name: str, found: Beside) -> Row:
    value = f"{name}_score" if name == "effect" else name
    return {value: found.value, f"{name}_floor": found.floor, f"{name}_bar": found.bar}


def _digest_of(table: Table | None) -> str:
    return digests.of_json(table.record) if table is not None else ""


def _write(atlas: Atlas, kept: Kept, chosen: np.ndarray, *, whole: bool, facts: Mapping[str, Any]) -> None:
    """The table, from what was kept; of a few features only, their rows in the table that is there."""
    total = atlas.num_features
    mine = np.zeros(total, bool)
    mine[chosen] = True
    place = atlas.place / labels.TABLE
    before = Table.open(place) if not whole and Table.exists(place) else None

    def blocks() -> Iterator[Columns]:
        for first in range(0, total, tables.ROWS_PER_FILE):
            last = min(total, first + tables.ROWS_PER_FILE)
            rows = [_row_of(kept, f) if mine[f] else {"problem": _NOT_YET} for f in range(first, last)]
            columns = labels.columns_of(rows)
            if before is not None:
                old = before.slice(first, last)
                own = mine[first:last]
                columns = {
                    name: np.where(own if values.ndim == 1 else own[:, None], values, old[name]).astype(
                        values.dtype
                    )
                    for name, values in columns.items()
                }
            yield columns

    tables.write(place, blocks(), facts=facts)


def _row_of(kept: Kept, feature: int) -> Row:
    return kept.get(str(feature)) or {"problem": _NOT_YET}


def _summary(kept: Kept, chosen: np.ndarray, stopped: str) -> Summary:
    sums: dict[str, float] = {}
    tested = 0
    tally = dict.fromkeys(("reliable", "scarce", "failed", "effects", "reliable_effects", "agreeing"), 0)
    names = ("score", "floor", "detection", "detection_floor", "fuzzing", "fuzzing_floor", "random_share")
    for feature in chosen.tolist():
        row = _row_of(kept, feature)
        tested += "score" in row
        tally["reliable"] += bool(row.get("reliable"))
        tally["failed"] += "failed" in row
        tally["scarce"] += "score" not in row and "failed" not in row and row.get("problem") != _NOT_YET
        tally["effects"] += "effect" in row
        tally["reliable_effects"] += bool(row.get("effect_reliable"))
        tally["agreeing"] += "agreement" in row and row["agreement"] > row["agreement_bar"]
        for name in names:
            sums[name] = sums.get(name, 0.0) + row.get(name, 0.0)
    mean = {name: sums.get(name, 0.0) / max(1, tested) for name in names}
    return Summary(
        features=len(chosen),
        labelled=tested,
        score=mean["score"],
        floor=mean["floor"],
        detection=(mean["detection"], mean["detection_floor"]),
        fuzzing=(mean["fuzzing"], mean["fuzzing_floor"]),
        random_share=mean["random_share"],
        stopped=stopped,
        **tally,
    )
