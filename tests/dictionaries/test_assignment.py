from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pytest

from pellucid.activations.reading import Reader
from pellucid.activations.text import TextSource
from pellucid.activations.tokens import TokenStore
from pellucid.core.errors import InputError
from pellucid.core.runs import RunFolder
from pellucid.core.sites import Site
from pellucid.dictionaries.assignment import Assignment
from pellucid.dictionaries.settings import TrainSettings
from pellucid.dictionaries.training import Job
from pellucid.dictionaries.workers import Workers
from pellucid.testing import WORDS, tiny_model


@dataclass
class Answers:
    """A crew whose third worker says something else."""

    other: Any

    def collect(self, value: Any) -> list[Any]:
        return [value, value, ("far", self.other)]


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Assignment:
    monkeypatch.chdir(tmp_path)
    for n in range(40):
        (tmp_path / f"{n}.txt").write_text(f"{n} " + " ".join(WORDS))
    model = tiny_model(layers=2, width=16)
    store = TokenStore.build(model, [TextSource.parse(".")], length=16, folder=Path("store"))
    reader = Reader(model, store, Site("resid_post", 1), 64, 16, seed=3, further=(Site("resid_post", 0),))
    Path("run").mkdir()
    jobs = [Job(TrainSettings(features=64, batch_tokens=64), RunFolder(Path("run")))]
    return Assignment.of(reader, jobs, position=(1, 2), workers=4, shards=2)


def test_an_assignment_says_the_same_from_anywhere(given: Assignment, tmp_path: Path) -> None:
    again: Assignment = pickle.loads(pickle.dumps(given))
    assert (again.store, again.jobs[0].run.path) == (tmp_path / "store", tmp_path / "run")
    assert again.sites == (Site("resid_post", 1), Site("resid_post", 0))
    assert (again.batch_tokens, again.block_rows, again.seed, again.position) == (64, 16, 3, (1, 2))
    assert (again.precision, again.shards) == ("fp32", 2)
    assert again.jobs[0].settings == given.jobs[0].settings


def test_a_machine_that_does_not_see_the_folders_is_named(given: Assignment) -> None:
    given._check(cast(Workers, Answers(None)))
    with pytest.raises(InputError, match="Worker 2 on far does not see '/elsewhere'"):
        given._check(cast(Workers, Answers("/elsewhere")))
    Path("run").rmdir()
    with pytest.raises(InputError, match=r"Worker 0 on .* does not see .*run"):
        given._check(cast(Workers, Answers(None)))


def test_a_machine_with_another_model_is_named(given: Assignment) -> None:
    mine = list(given.digests)
    given._compare(cast(Workers, Answers(mine)), mine)
    with pytest.raises(InputError, match="Worker 2 on far has models of digests"):
        given._compare(cast(Workers, Answers(["sha256:other"])), mine)


def test_what_cannot_be_shared_out_is_refused_when_it_is_given_out(given: Assignment) -> None:
    model = tiny_model(layers=2, width=16)
    reader = Reader(model, TokenStore.open(given.store), Site("resid_post", 1), 64, 16)
    odd = replace(given.jobs[0], settings=TrainSettings(features=63, batch_tokens=64))
    with pytest.raises(InputError, match="63 features"):
        Assignment.of(reader, [odd], position=(0, 0), workers=2, shards=2)
