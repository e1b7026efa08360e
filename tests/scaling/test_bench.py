from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pellucid.core.errors import InputError, UnknownNameError
from pellucid.scaling.backtest import Member
from pellucid.scaling.bench import curves_of, held_out, score
from pellucid.scaling.reading import read_runs


@pytest.fixture
def path(tmp_path: Path) -> Path:
    lines = ["task,x,loss,fit"]
    for task, constant in (("a", 1.0), ("b", 2.0)):
        for i, x in enumerate(np.geomspace(1e3, 1e7, 16)):
            lines.append(f"{task},{x},{constant + 9 * x**-0.3},{int(i < 12)}")
    file = tmp_path / "curves.csv"
    file.write_text("\n".join(lines))
    return file


def test_curves_by_group_and_split(path: Path) -> None:
    found = curves_of(path, lambda where: read_runs(path, where=where).along("x"), ["task"], "fit")
    assert [c.name for c in found] == ["a", "b"]
    assert [(len(c.train), len(c.test)) for c in found] == [(12, 4), (12, 4)]
    scores = score(found, [Member("power"), Member("power_constant")])
    rows = {r.member: r for r in scores.rows}
    assert set(rows) == {"power", "power_constant", "last", "ensemble"}
    assert rows["power_constant"].error < 1e-6 < rows["ensemble"].error + 1e-6
    assert rows["power"].error > 0.01
    assert rows["ensemble"].curves == 2
    assert rows["ensemble"].covered is not None
    by_hand = np.mean([np.sqrt(np.mean((np.log(c.train.y[-1]) - np.log(c.test.y)) ** 2)) for c in found])
    assert rows["last"].error == pytest.approx(by_hand)
    assert scores.as_json()["curves"] == ("a", "b")


def test_the_largest_are_held_out(path: Path) -> None:
    runs = read_runs(path, where=["task == a"]).along("x")
    train, test = held_out(runs, 0.25)
    assert (len(train), len(test)) == (12, 4)
    assert train.order.max() < test.order.min()
    for share in (0.0, 1.0):
        with pytest.raises(InputError, match="hold out"):
            held_out(runs, share)
    with pytest.raises(UnknownNameError, match="task"):
        curves_of(path, lambda where: read_runs(path, where=where), ["tusk"])
