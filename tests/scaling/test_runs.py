from __future__ import annotations

import numpy as np
import pytest

from pellucid.core.errors import InputError
from pellucid.scaling.runs import Runs


def test_what_follows_is_derived_and_told() -> None:
    runs = Runs.of({"N": [1e8, 1e9], "C": [6e17, 6e19]}, [3, 2])
    np.testing.assert_allclose(runs.values["D"], [1e9, 1e10])
    assert "D is derived: D = C/(6N)." in runs.notes
    np.testing.assert_allclose(Runs.of({"N": [2.0], "D": [3.0]}, [1]).values["C"], [36])
    np.testing.assert_allclose(Runs.of({"D": [8.0], "epochs": [4.0]}, [1]).values["U"], [2])
    assert Runs.of({"N": [2.0], "D": [3.0], "C": [40.0]}, [1]).values["C"][0] == 40


def test_copies_count_once_and_checkpoints_of_one_training_are_one_cluster() -> None:
    runs = Runs.of({"x": [1, 1, 2, 2, 2]}, [5, 5, 4, 4, 3])
    assert len(runs) == 3 == runs.trainings
    assert "2 of 5 rows are copies of others, and count once." in runs.notes
    named = Runs.of({"x": [1, 1, 2, 3]}, [5, 5, 4, 3], run=["a", "b", "b", "b"])
    assert len(named) == 4
    assert named.trainings == 2
    assert named.cluster.tolist() == [0, 1, 1, 1]


def test_cuts_are_told() -> None:
    runs = Runs.of({"x": [1, 2, 3, 4]}, [5, 9, 3, 8], run=list("abcd"))
    cut = runs.without_highest(2)
    assert cut.y.tolist() == [5, 3]
    assert cut.notes[-1] == "the 2 highest values of 'loss': 2 of 4 rows cut."
    assert cut.cluster.tolist() == [0, 1]
    assert cut.labels == ("row 1", "row 3")
    assert runs.without_highest(0) is runs
    with pytest.raises(InputError, match="0 or more; got -1"):
        runs.without_highest(-1)
    with pytest.raises(InputError, match="No run is left of 4"):
        runs.without_highest(4)


def test_the_order_is_that_of_compute_or_of_what_there_is() -> None:
    runs = Runs.of({"N": [1e8], "D": [1e9]}, [3])
    assert runs.ordered_by == "C"
    assert runs.order[0] == pytest.approx(np.log10(6e17))
    years = Runs.of({"year": [2020.5]}, [3])
    assert years.order.tolist() == [2020.5]
    assert years.along(None).values["x"].tolist() == [2020.5]
    assert Runs.of({"flavour": [100.0]}, [1]).order.tolist() == [2]
    losses = Runs.of({"loss": [3.0, 2.0]}, [0.3, 0.5]).along(None)
    assert losses.ordered_by == "loss"
    assert losses.order[1] > losses.order[0]  # the smaller the loss, the further along
    with pytest.raises(InputError, match="no variable 'D'"):
        years.along("D")


def test_an_x_of_ones_own_is_kept_and_another_is_only_a_name() -> None:
    both = Runs.of({"x": [5.0, 6.0], "N": [1e8, 2e8], "D": [1e9, 2e9]}, [3, 2])
    assert both.along(None).values["x"].tolist() == [5, 6]
    assert both.along(None).own.keys() == {"x", "N", "D", "C"}
    plain = Runs.of({"N": [1e8, 2e8], "D": [1e9, 2e9]}, [3, 2]).along("N")
    assert plain.own.keys() == {"N", "D", "C"}
    assert plain.along(None).values["x"].tolist() == [1e8, 2e8]


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf")])
def test_values_that_are_not_above_zero_are_named(wrong: float) -> None:
    with pytest.raises(InputError, match=r"file:7, 'D'.*above zero"):
        Runs.of({"D": [1.0, wrong]}, [1, 1], labels=["file:6", "file:7"])
    with pytest.raises(InputError, match="row 1, 'loss'"):
        Runs.of({"D": [1.0, 2.0]}, [wrong, 1])


def test_columns_must_fit() -> None:
    with pytest.raises(InputError, match="at least one run"):
        Runs.of({"D": []}, [])
    with pytest.raises(InputError, match="'D' has"):
        Runs.of({"D": [1.0]}, [1, 2])
    with pytest.raises(InputError, match="1 names of runs for 2 rows"):
        Runs.of({"D": [1.0, 2.0]}, [1, 2], run=["a"])
