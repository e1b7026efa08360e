from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pellucid.core.errors import InputError, IntegrityError, PellucidError, UnknownNameError
from pellucid.scaling.reading import read_runs, read_table, read_targets
from pellucid.scaling.runs import Runs

GOOD = "params,tokens,loss\n1e8,2B,3.1\n200M,4e9,2.9\n"


def written(folder: Path, text: str, name: str = "runs.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_csv_with_common_names(tmp_path: Path) -> None:
    runs = read_runs(written(tmp_path, GOOD))
    np.testing.assert_allclose(runs.values["N"], [1e8, 2e8])
    np.testing.assert_allclose(runs.values["D"], [2e9, 4e9])
    assert runs.metric == "loss"
    assert runs.labels == (f"{tmp_path}/runs.csv:2", f"{tmp_path}/runs.csv:3")
    assert "N is column 'params'." in runs.notes


def test_columns_by_option(tmp_path: Path) -> None:
    text = "size;x\tseen\tce\n1\t2\t3\n4\t5\t6\n"
    runs = read_runs(
        written(tmp_path, text, "runs.tsv"), metric="ce", columns={"N": "size;x", "flavour": "seen"}
    )
    assert runs.y.tolist() == [3, 6]
    assert runs.values["flavour"].tolist() == [2, 5]


def test_an_export_of_weights_and_biases(tmp_path: Path) -> None:
    table = (
        '"Name","State","config.n_params","config.tokens","eval/loss"\n'
        '"a","finished","100000000","2000000000","3.1"\n"a","finished","100000000","4000000000","3.0"\n'
        '"b","crashed","200000000","1000000000",""\n"c","finished","400000000","1000000000","2.8"\n'
    )
    path = written(tmp_path, table)
    with pytest.raises(InputError, match=r"runs.csv:4, column 'eval/loss': .*got ''"):
        read_runs(path, metric="eval/loss")
    runs = read_runs(path, metric="eval/loss", where=["State == finished"])
    assert runs.trainings == 2
    assert len(runs) == 3
    assert "Where State == finished: 1 of 4 rows cut." in runs.notes
    lines = [
        {"name": n, "config": {"n_params": {"value": p, "desc": None}, "tokens": 2e9}, "summary": {"loss": y}}
        for n, p, y in (("a", 1e8, 3.1), ("b", 2e8, 2.9))
    ]
    dumped = "\n\n".join(json.dumps(line) for line in lines)
    nested = read_runs(written(tmp_path, dumped, "runs.jsonl"))
    assert nested.values["N"].tolist() == [1e8, 2e8]
    assert nested.y.tolist() == [3.1, 2.9]
    listed = read_runs(written(tmp_path, json.dumps(lines), "runs.json"))
    assert listed.y.tolist() == nested.y.tolist()


CHART = (
    '"Step","a - train/loss","a - train/loss__MIN","a - train/loss__MAX","b - 2 - train/loss",'
    '"b - 2 - train/loss__MIN","b - 2 - train/loss__MAX"\n'
    '"100","3.5","3.4","3.6","","",""\n"200","3.1","3.1","3.1","2.9","2.9","2.9"\n"300","","","","2.7","2.7","2.7"\n'
)


def test_a_chart_of_weights_and_biases(tmp_path: Path) -> None:
    runs = read_runs(written(tmp_path, CHART))
    assert runs.y.tolist() == [3.5, 3.1, 2.9, 2.7]
    assert runs.values["x"].tolist() == [100, 200, 200, 300]
    assert runs.trainings == 2
    assert [label.rpartition(":")[2] for label in runs.labels] == ["2", "3", "3", "4"]
    assert runs.notes[0] == "A chart of 2 runs by 'Step': 4 rows, without its columns __MIN and __MAX."
    assert read_runs(tmp_path / "runs.csv", where=["run == b - 2"]).y.tolist() == [2.9, 2.7]
    # Without the columns of a group, with another metric beside; an empty cell of a used one is told.
    two = '"tokens","a - loss","a - lr","b - loss"\n"1e9","3.5","0.1","3.4"\n"2e9","","0.2","3.3"\n'
    found = read_table(written(tmp_path, two, "two.csv"))
    assert found.columns == ("tokens", "run", "loss", "lr")
    assert [row["run"] for row in found.rows] == ["a", "b", "a", "b"]
    with pytest.raises(InputError, match=r"two.csv:3, column 'loss': .*got ''"):
        read_runs(tmp_path / "two.csv")
    zero = CHART.replace('"100"', '"0"')
    with pytest.raises(InputError, match=r"zero.csv:2, column 'Step': .*got '0'"):
        read_runs(written(tmp_path, zero, "zero.csv"))
    assert len(read_runs(tmp_path / "zero.csv", where=["Step > 0"])) == 3


def test_a_table_with_a_dash_in_a_header_is_no_chart(tmp_path: Path) -> None:
    runs = read_runs(written(tmp_path, "params,tokens,test - loss\n1e8,2e9,3\n"), metric="test - loss")
    assert runs.y.tolist() == [3]


def test_what_a_metric_leaves_of_one(tmp_path: Path) -> None:
    path = written(tmp_path, "params,tokens,accuracy\n1e8,2e9,0\n2e8,4e9,0.75\n")
    runs = read_runs(path, metric="1 - accuracy")
    assert runs.y.tolist() == [1, 0.25]
    assert runs.metric == "1 - accuracy"
    assert read_targets(path, runs) == ({"N": [1e8, 2e8], "D": [2e9, 4e9]}, [1, 0.25])
    whole = written(tmp_path, "params,tokens,accuracy\n1e8,2e9,0.5\n2e8,4e9,1\n", "whole.csv")
    with pytest.raises(InputError, match=r"whole.csv:3, column 'accuracy': .* from 0 to below 1"):
        read_runs(whole, metric="1 - accuracy")
    with pytest.raises(UnknownNameError, match="'acc'"):
        read_runs(path, metric="1 - acc")


def test_targets_have_the_variables_of_their_runs_and_may_have_outcomes(tmp_path: Path) -> None:
    runs = Runs.of({"N": [1e8, 2e8], "D": [1e9, 2e9]}, [3, 2])
    path = written(tmp_path, "params,tokens,width,note\n1e9,2e10,64,a\n7B,140B,128,b\n")
    assert read_targets(path, runs) == ({"N": [1e9, 7e9], "D": [2e10, 1.4e11]}, None)
    assert read_targets(path, runs, columns={"N": "tokens"})[0]["N"] == [2e10, 1.4e11]
    with pytest.raises(InputError, match="got 'a'"):
        read_targets(path, Runs.of({"x": [1, 2]}, [2, 1]), columns={"x": "note"})


def test_conditions(tmp_path: Path) -> None:
    path = written(tmp_path, "N,D,loss,kind\n1,1,3,a b\n2,1,9,c\n3,1,2,c\n")
    assert read_runs(path, where=["N >= 2", "loss < 5"]).y.tolist() == [2]
    assert read_runs(path, where=["kind != 'c'"]).y.tolist() == [3]
    assert read_runs(path, columns={"N": "N"}, where=["N > 1"], drop_highest=1).y.tolist() == [2]
    for wrong, message in (
        ("N ~ 2", "A condition is"),
        ("M > 2", "no column"),
        ("kind > 2", "compares what are not numbers"),
        ("N > 9", "No row of"),
    ):
        with pytest.raises(InputError, match=message):
            read_runs(path, where=[wrong])


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "a.csv", "no rows"),
        ("N,D,loss\n", "a.csv", "no rows"),
        ("N,D,loss\n1,2\n", "a.csv", "a.csv:2: expected 3 cells.*got 2"),
        ("N,D,loss\n1,2,3,4\n", "a.csv", "a.csv:2: expected 3 cells.*got 4"),
        ("N,N,loss\n1,2,3\n", "a.csv", "two columns 'N'"),
        ("N,D,loss\n1,2,x\n", "a.csv", "a.csv:2, column 'loss': expected a finite number.*got 'x'"),
        ("N,D,loss\n1,2,3\n1,-2,3\n", "a.csv", "a.csv:3, column 'D': .*got '-2'"),
        ("N,D\n1,2\n", "a.csv", "one column of a metric; there are none"),
        ("N,D,loss,val_loss\n1,2,3,4\n", "a.csv", "one column of a metric"),
        ("N,params,D,tokens,loss\n1,1,2,2,3\n", "b.csv", ""),
        ("params,size,D,loss\n1,1,2,3\n", "a.csv", "could each be N"),
        ("name,loss\na,3\n", "a.csv", "no column says how large"),
        ("[1]\n", "a.jsonl", "a.jsonl:1: expected an object"),
        ("3", "a.json", "expected an object"),
        (GOOD, "a.parquet", "must end in one of"),
        (GOOD.replace(",", ";"), "a.csv", "no ',' but ';' in it"),
        (GOOD, "a.tsv", "one column of a metric"),
    ],
)
def test_each_mistake_has_its_message(tmp_path: Path, text: str, name: str, message: str) -> None:
    path = written(tmp_path, text, name)
    if not message:  # an exact name beats a common one
        assert read_runs(path).values["N"].tolist() == [1]
        return
    with pytest.raises(InputError, match=message):
        read_runs(path)


def test_files_that_are_not_what_they_say(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"N,D,loss\n\xff\xfe,1,2\n")
    with pytest.raises(IntegrityError, match="UTF-8"):
        read_runs(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_bytes(b"N,D,loss\n\0,1,2\n")
    with pytest.raises(IntegrityError, match="NUL"):
        read_runs(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text(GOOD, encoding="utf-16")
    with pytest.raises(IntegrityError, match="Export it again as UTF-8"):
        read_runs(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text(GOOD, encoding="utf-8-sig")
    assert len(read_runs(tmp_path / "a.csv")) == 2
    # A quote that is never closed would swallow the rest of the file.
    with pytest.raises(IntegrityError, match=r"a.csv:4: not readable as CSV"):
        read_runs(written(tmp_path, 'N,D,loss,note\n1,2,3,"x\n1,3,2,y\n2,3,1,z\n', "a.csv"))
    with pytest.raises(IntegrityError, match=r"b.jsonl:2: not readable as JSON"):
        read_runs(written(tmp_path, '{"N": 1}\n{"N": \n', "b.jsonl"))
    with pytest.raises(InputError, match="no file"):
        read_runs(tmp_path / "none.csv")
    with pytest.raises(UnknownNameError, match="'params'"):
        read_runs(written(tmp_path, GOOD), columns={"N": "parms"})
    with pytest.raises(UnknownNameError):
        read_runs(written(tmp_path, GOOD), run="id")


def held(path: Path) -> None:
    """Whatever a file holds: runs whose every value is a number above zero, or an error of ours."""
    try:
        runs = read_runs(path)
    except PellucidError as error:
        assert str(error)
        return
    assert isinstance(runs, Runs)
    for column in (*runs.values.values(), runs.y):
        assert len(column) == len(runs) > 0
        assert np.isfinite(column).all()


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(content=st.binary(max_size=300), ending=st.sampled_from([".csv", ".tsv", ".jsonl", ".json"]))
def test_any_bytes(tmp_path: Path, content: bytes, ending: str) -> None:
    path = tmp_path / f"fuzz{ending}"
    path.write_bytes(content)
    held(path)


@FUZZ
@given(data=st.data())
def test_good_files_with_a_few_characters_changed(tmp_path: Path, data: st.DataObject) -> None:
    ending = data.draw(st.sampled_from([".csv", ".jsonl", ".json"]))
    rows = [{"N": 1e8, "D": "2e9", "loss": 3.1, "config": {"width": 512}}, {"N": 2e8, "D": 4e9, "loss": 2.9}]
    good = {".csv": GOOD, ".jsonl": "\n".join(map(json.dumps, rows)), ".json": json.dumps(rows)}[ending]
    text = list(good)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at] = data.draw(
            st.sampled_from(['"', ",", "\n", "\r", "-", "e", "{", "]", "\t", "é", "\ufeff", "0", ""])
        )
    held(written(tmp_path, "".join(text), f"fuzz{ending}"))


@FUZZ
@given(
    cells=st.lists(st.lists(st.text(max_size=6), min_size=3, max_size=3), max_size=4),
    header=st.permutations(["N", "D", "loss"]),
)
def test_any_cells(tmp_path: Path, cells: list[list[str]], header: list[str]) -> None:
    try:
        path = written(tmp_path, "\n".join(",".join(row) for row in [header, *cells]), "cells.csv")
    except UnicodeEncodeError:
        return
    held(path)


def test_deep_json_is_an_error_or_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, "[" * 100_000, "deep.json")
    with pytest.raises(PellucidError):
        read_table(path)
