from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.atlas import tables
from pellucid.atlas.tables import Columns, Table
from pellucid.core.errors import InputError, IntegrityError

ROWS = 300


def rows_of(count: int) -> Columns:
    rng = np.random.default_rng(0)
    return {
        "count": np.arange(count, dtype=np.int64),
        "values": rng.random((count, 5), dtype=np.float32),
        "scores": rng.random((count, 2)).astype(np.float16),
        "label": np.array([f"number {i}" if i % 3 else "" for i in range(count)], dtype=object),
    }


def in_blocks(columns: Columns, size: int) -> Iterator[Columns]:
    for at in range(0, len(columns["count"]), size):
        yield {name: values[at : at + size] for name, values in columns.items()}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("tables") / "table"
    return tables.write(folder, in_blocks(rows_of(ROWS), 77), rows_per_file=128, rows_per_group=16)


def equal(found: Columns, wanted: Columns) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


@given(start=st.integers(0, ROWS), length=st.integers(0, ROWS))
def test_a_slice_is_the_rows_that_were_written(table: Table, start: int, length: int) -> None:
    stop = min(ROWS, start + length)
    equal(table.slice(start, stop), {n: v[start:stop] for n, v in rows_of(ROWS).items()})


@given(rows=st.lists(st.integers(0, ROWS - 1), max_size=20))
def test_rows_are_taken_in_the_order_asked_for(table: Table, rows: list[int]) -> None:
    wanted = {n: v[np.array(rows, dtype=np.int64)] for n, v in rows_of(ROWS).items()}
    equal(table.take(rows), wanted)


def test_a_row_a_column_and_blocks(table: Table) -> None:
    wanted = rows_of(ROWS)
    assert table.rows == ROWS
    assert table.columns == list(wanted)
    row = table.row(200)
    assert row["count"] == 200
    np.testing.assert_array_equal(row["values"], wanted["values"][200])
    np.testing.assert_array_equal(table.column("scores"), wanted["scores"])
    parts = list(table.blocks(["count"], rows=70))
    assert [start for start, _ in parts] == [0, 70, 140, 210, 280]
    np.testing.assert_array_equal(np.concatenate([c["count"] for _, c in parts]), wanted["count"])


def test_the_files_are_the_same_however_the_rows_came(table: Table, tmp_path: Path) -> None:
    again = tables.write(tmp_path / "t", in_blocks(rows_of(ROWS), 13), rows_per_file=128, rows_per_group=16)
    assert again.record == table.record


def test_a_table_is_read_without_us(table: Table) -> None:
    first = Path(str(table.place)) / table.record["files"][0]["name"]
    assert pq.read_table(first).column("count").to_pylist() == list(range(128))


def test_a_new_table_takes_the_place_of_an_old_one_and_leaves_nothing(tmp_path: Path) -> None:
    tables.write(tmp_path, [rows_of(50)])
    tables.write(tmp_path, [rows_of(20)])
    assert Table.open(tmp_path).rows == 20
    assert len(list(tmp_path.iterdir())) == 2


def test_an_interrupted_table_leaves_the_old_one(tmp_path: Path) -> None:
    def failing() -> Iterator[Columns]:
        yield rows_of(20)
        raise RuntimeError("stopped")

    tables.write(tmp_path, [rows_of(50)], rows_per_file=16, rows_per_group=16)
    with pytest.raises(RuntimeError):
        tables.write(tmp_path, failing(), rows_per_file=16, rows_per_group=16)
    equal(Table.open(tmp_path).slice(0, 50), rows_of(50))


def test_an_object_store_holds_the_same_table(table: Table) -> None:
    address = "memory://bucket/some/table"
    assert not Table.exists(address)
    there = tables.write(address, in_blocks(rows_of(ROWS), 77), rows_per_file=128, rows_per_group=16)
    assert there.record == table.record
    equal(Table.open(address).slice(100, 150), {n: v[100:150] for n, v in rows_of(ROWS).items()})
    tables.write(address, [rows_of(5)])
    assert len(there.place.names()) == 2


@pytest.mark.parametrize("harm", ["cut", "gone", "changed", "record"])
def test_damage_is_one_clear_error(tmp_path: Path, harm: str) -> None:
    written = tables.write(tmp_path, [rows_of(500)])
    file = tmp_path / written.record["files"][0]["name"]
    if harm == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif harm == "gone":
        file.unlink()
    elif harm == "changed":
        contents = bytearray(file.read_bytes())
        contents[len(contents) // 3] ^= 0xFF
        file.write_bytes(contents)
    else:
        (tmp_path / "table.json").write_text("[]")
    with pytest.raises(IntegrityError, match="again"):
        Table.open(tmp_path).slice(0, 500)


def test_what_is_not_there_is_an_error(table: Table, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no file"):
        Table.open(tmp_path)
    with pytest.raises(InputError, match="300 rows"):
        table.row(300)
    with pytest.raises(InputError, match="no column 'colour'"):
        table.column("colour")
    with pytest.raises(InputError, match="no rows"):
        tables.write(tmp_path, [])
    with pytest.raises(InputError, match="nosuch"):
        Table.open("nosuch://bucket/table")


def test_a_writer_that_was_killed_goes_on_behind_the_files_that_were_whole(
    table: Table, tmp_path: Path
) -> None:
    def writer() -> tables.Writer:
        journal = tmp_path / "journal.jsonl"
        return tables.Writer(tmp_path / "t", rows_per_file=128, rows_per_group=16, journal=journal)

    rows = rows_of(ROWS)
    first = writer()
    first.append({name: values[:200] for name, values in rows.items()})
    with (tmp_path / "journal.jsonl").open("a") as journal:
        journal.write('{"file": {"na')
    (tmp_path / "t" / ".left.by.a.kill").touch()
    again = writer()
    assert again.rows == 128
    again.append({name: values[128:] for name, values in rows.items()})
    assert again.finish().record == table.record
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == sorted(
        ["table.json", *(f["name"] for f in table.record["files"])]
    )

    lost = Path(str(again.place)) / table.record["files"][1]["name"]
    lost.unlink()
    assert writer().rows == 128


def test_columns_are_encoded_as_they_are_told_to_be(tmp_path: Path) -> None:
    numbers = np.arange(40_000, dtype=np.int64)
    columns = {"number": numbers, "pair": np.stack([numbers, numbers], 1)}
    delta = dict.fromkeys(columns, "DELTA_BINARY_PACKED")
    told = tables.write(
        tmp_path / "told", [columns], encodings=delta, rows_per_group=1 << 14, rows_per_file=1 << 16
    )
    equal(told.slice(0, told.rows), columns)
    file = pq.ParquetFile(tmp_path / "told" / told.record["files"][0]["name"])
    for column in (0, 1):
        assert "DELTA_BINARY_PACKED" in file.metadata.row_group(0).column(column).encodings
