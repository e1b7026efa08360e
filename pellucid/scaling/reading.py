"""Reading runs from files: CSV, JSON lines, and exports of Weights & Biases.

A file becomes rows of text cells; nested JSON is flattened with dots (`config.n_params`), and a `{"value":
…}` of Weights & Biases is its value. A chart exported from there, with a column for each run, becomes a row
for each run and step. Columns are then mapped to variables, by option or by the names people commonly give
them, and every cell that is used must be a number. A cell that is not is an error with file, row, column,
value and what was expected. Rows go only by a cut that the caller asked for, and every cut is noted with its
count.
"""

from __future__ import annotations

import csv
import io
import json
import math
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.core.errors import InputError, IntegrityError, UnknownNameError
from pellucid.core.numbers import parse_number
from pellucid.scaling.runs import Runs

COMMON = {
    "N": ("n", "params", "parameters", "num_params", "n_params", "model_size", "num_parameters", "size"),
    "D": (
        "d",
        "tokens",
        "num_tokens",
        "n_tokens",
        "training_tokens",
        "train_tokens",
        "tokens_seen",
        "seen_examples",
    ),
    "C": ("c", "flops", "flop", "compute", "training_flop", "training_flops", "train_flops", "budget"),
    "U": ("u", "unique_tokens"),
    "epochs": ("epochs", "num_epochs"),
    "width": ("width", "d_model", "hidden_size"),
    "depth": ("depth", "n_layers", "num_layers"),
    "year": ("year",),
    "x": ("x", "step", "steps", "global_step"),
}
"""For each variable the names of columns that are taken for it, without case and by their last part; `x`
only where nothing else is there."""
METRICS = (
    "loss",
    "val_loss",
    "validation_loss",
    "eval_loss",
    "smoothed_loss",
    "accuracy",
    "error",
    "error_rate",
    "bpb",
    "perplexity",
    "train_loss",
    "training_loss",
    "test_loss",
)
RUN_NAMES = ("run", "run_id", "run_name", "name")
_COMPARED = {
    "==": operator.eq, "!=": operator.ne, "<=": operator.le,
    ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_ENDS = ("__MIN", "__MAX")  # of columns beside that of a run, in a chart of Weights & Biases
_ENDINGS = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}


@dataclass(frozen=True)
class Table:
    """A file as rows of cells."""

    path: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    lines: tuple[int, ...]
    """The line, from 1, at which each row ends in the file."""
    notes: tuple[str, ...] = ()
    """What was done to it in reading."""

    def place(self, row: int) -> str:
        """What a row is called in messages."""
        return f"{self.path}:{self.lines[row]}"


def read_runs(
    path: Path | str,
    *,
    metric: str | None = None,
    columns: Mapping[str, str] | None = None,
    run: str | None = None,
    where: Sequence[str] = (),
    drop_highest: int = 0,
    x: str | None = None,
) -> Runs:
    """Read runs.

    Args:
        path: a .csv, .tsv, .jsonl, .ndjson or .json file.
        metric: the column of the metric, or `1 - ` and a column, such as `1 - accuracy`; where None, the one
            column whose name is that of a metric.
        columns: variable to column, such as `{"N": "Model Size"}`; variables that are not named are looked
            for under common names, and any other variable of the caller's is taken along.
        run: the column that names the training a row is a checkpoint of.
        where: conditions such as `N >= 1e8` or `state == finished`, on variables or columns; rows that do
            not meet all of them are cut.
        drop_highest: cut so many rows with the highest metric, after the conditions.
        x: the variable that forms of one variable are of.

    Raises:
        InputError: when the file is missing or empty, a column is missing or ambiguous, or a cell is not a
            number above zero.
        IntegrityError: when the file is not what its ending says.
    """
    table = read_table(Path(path))
    kept, notes = _cut(table, where, columns or {})
    target = metric or _metric_of(table, columns or {})
    mapped = _variables(table, columns or {}, target)
    notes = [*table.notes, *notes, *(f"{v} is column {c!r}." for v, c in mapped.items() if v != c)]
    numbers = {v: [_number(table, i, c, v) for i in kept] for v, c in mapped.items()}
    y = [_outcome(table, i, target) for i in kept]
    run = run or _single(table.columns, RUN_NAMES)
    if run is not None and run not in table.columns:
        raise UnknownNameError(f"column of {table.path}", run, table.columns)
    names = None if run is None else [table.rows[i][run] for i in kept]
    if names is not None:
        notes.append(f"Rows of one {run!r} are checkpoints of one training.")
    made = Runs.of(
        numbers, y, metric=target, run=names, labels=[table.place(i) for i in kept], notes=notes
    ).without_highest(drop_highest)
    return made if x is None else made.along(x)


def read_targets(
    path: Path | str, runs: Runs, *, columns: Mapping[str, str] | None = None
) -> tuple[dict[str, list[float]], list[float] | None]:
    """Read targets: the variables that the runs have too, and the outcomes where the file has their metric.

    Args:
        path: a file with a row per target.
        runs: the runs from which they are forecast.
        columns: as for `read_runs`.

    Raises:
        InputError: as `read_runs`.
        IntegrityError: as `read_runs`.
    """
    table = read_table(Path(path))
    mapped = _variables(table, columns or {}, runs.metric)
    rows = range(len(table.rows))
    values = {v: [_number(table, i, c, v) for i in rows] for v, c in mapped.items() if v in runs.own}
    known = _column_of(runs.metric, table) in table.columns
    return values, [_outcome(table, i, runs.metric) for i in rows] if known else None


def read_table(path: Path) -> Table:
    """Read a file as rows of cells.

    Raises:
        InputError: when it is missing, empty, or of an ending that is not known.
        IntegrityError: when it is not what its ending says.
    """
    if not path.is_file():
        raise InputError(f"There is no file {str(path)!r}.")
    kind = _ENDINGS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{str(path)!r} must end in one of {', '.join(_ENDINGS)}.")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise IntegrityError(
            f"{str(path)!r} is not UTF-8 text ({error}). Export it again as UTF-8."
        ) from error
    table = _of_chart(_csv(path, text)) if kind == "csv" else _json_lines(path, text)
    if not table.rows:
        raise InputError(f"{str(path)!r} has no rows below its header. Give a file with runs in it.")
    return table


def _csv(path: Path, text: str) -> Table:
    if "\0" in text:
        raise IntegrityError(f"{str(path)!r} holds NUL bytes, so it is not CSV. Export it again.")
    comma = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=comma, strict=True)
    header: list[str] | None = None
    rows, lines = [], []
    try:
        for cells in reader:
            if not any(c.strip() for c in cells):
                continue
            if header is None:
                header = [c.strip() for c in cells]
                other = next((c for c in ";\t|" if len(header) == 1 and c in header[0]), None)
                if other is not None:
                    raise InputError(
                        f"{path}: the header has no {comma!r} but {other!r} in it. Export it again with "
                        "cells separated by commas (.csv) or tabs (.tsv), and with decimal points."
                    )
                doubled = sorted({c for c in header if header.count(c) > 1})
                if doubled:
                    raise InputError(f"{path}: the header has two columns {doubled[0]!r}. Rename one.")
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"{path}:{reader.line_num}: expected {len(header)} cells, as in the header; got "
                    f"{len(cells)}."
                )
            rows.append(dict(zip(header, (c.strip() for c in cells), strict=True)))
            lines.append(reader.line_num)
    except csv.Error as error:
        raise IntegrityError(
            f"{path}:{reader.line_num}: not readable as CSV ({error}). Export it again."
        ) from error
    return Table(str(path), tuple(header or ()), tuple(rows), tuple(lines))


def _of_chart(table: Table) -> Table:
    """A chart of Weights & Biases as a row for each run and step; any other table as it is.

    The first column of such a chart is its x axis, mostly `Step`; then come, for each run, `run - metric`,
    `run - metric__MIN` and `run - metric__MAX`, the same for each further metric. A run that has no value at
    a step has an empty cell there.
    """
    first, *rest = table.columns or ("",)
    if not rest or not all(" - " in column for column in rest):
        return table
    series: dict[str, dict[str, str]] = {}
    for column in rest:
        name, _, metric = column.rpartition(" - ")
        if not metric.endswith(_ENDS):
            series.setdefault(name, {})[metric] = column
    metrics = dict.fromkeys(metric for each in series.values() for metric in each)
    if not metrics or {first, "run"} & {*metrics} or first == "run":
        return table
    rows, lines = [], []
    for row, line in zip(table.rows, table.lines, strict=True):
        for name, columns in series.items():
            cells = {metric: row[columns[metric]] if metric in columns else "" for metric in metrics}
            if any(cells.values()):
                rows.append({first: row[first], "run": name, **cells})
                lines.append(line)
    note = (
        f"A chart of {len(series)} runs by {first!r}: {len(rows)} rows, without its columns __MIN and __MAX."
    )
    return Table(table.path, (first, "run", *metrics), tuple(rows), tuple(lines), (note,))


def _json_lines(path: Path, text: str) -> Table:
    rows: list[dict[str, str]] = []
    lines: list[int] = []
    if path.suffix.lower() == ".json":
        entries = [(1, text)] if text.strip() else []
    else:
        entries = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
    for number, line in entries:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise IntegrityError(
                f"{path}:{number}: not readable as JSON ({error}). Mend the line."
            ) from error
        for item in value if isinstance(value, list) and path.suffix.lower() == ".json" else [value]:
            if not isinstance(item, dict):
                raise InputError(
                    f"{path}:{number}: expected an object with a run's columns; got {str(item)[:60]!r}."
                )
            rows.append(dict(_flat(item)))
            lines.append(number)
    columns = list(dict.fromkeys(c for row in rows for c in row))
    return Table(
        str(path), tuple(columns), tuple({c: r.get(c, "") for c in columns} for r in rows), tuple(lines)
    )


def _flat(item: Mapping[str, Any], before: str = "") -> list[tuple[str, str]]:
    """Cells of a nested object; what Weights & Biases wraps in `value` is unwrapped, lists stay text."""
    found: list[tuple[str, str]] = []
    pending = [(before + str(k), v) for k, v in item.items()]
    while pending:
        name, value = pending.pop(0)
        if isinstance(value, dict) and "value" in value and set(value) <= {"value", "desc"}:
            value = value["value"]
        if isinstance(value, dict):
            pending = [(f"{name}.{k}", v) for k, v in value.items()] + pending
        else:
            found.append((name, "" if value is None else str(value)))
    return found


def _plain(column: str) -> str:
    """A column's name as it is compared with common ones."""
    return re.sub(r"[\s\-/]+", "_", column.rpartition(".")[2].strip()).lower()


def _single(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The one column that has one of some names, or None where there is none or more than one."""
    found = [c for c in columns if _plain(c) in names]
    return found[0] if len(found) == 1 else None


def _metric_of(table: Table, asked: Mapping[str, str]) -> str:
    """The one column that is called like a metric."""
    found = [c for c in table.columns if _plain(c) in METRICS and c not in asked.values()]
    if len(found) != 1:
        raise InputError(
            f"{table.path}: expected one column of a metric; there are {found or 'none'} among "
            f"{', '.join(map(repr, table.columns[:20]))}. Name it, with --metric or metric=…"
        )
    return found[0]


def _column_of(metric: str, table: Table) -> str:
    """The column a metric is read from: itself, or what is taken from 1."""
    return metric if metric in table.columns else re.sub(r"^1\s*-\s*", "", metric)


def _variables(table: Table, asked: Mapping[str, str], metric: str) -> dict[str, str]:
    """Variable to column; the metric's is none of them."""
    mapped, target = dict(asked), _column_of(metric, table)
    for column in mapped.values():
        if column not in table.columns:
            raise UnknownNameError(f"column of {table.path}", column, table.columns)
    for variable, names in COMMON.items():
        if variable in mapped or (variable == "x" and mapped):
            continue
        found = [c for c in table.columns if _plain(c) in names and c != target and c not in asked.values()]
        exact = [c for c in found if c == variable]
        if len(found) > 1 and len(exact) != 1:
            raise InputError(
                f"{table.path}: the columns {', '.join(map(repr, found))} could each be {variable}. "
                f"Say which, with --column {variable}=… or columns=…"
            )
        if found:
            mapped[variable] = (exact or found)[0]
    if not mapped:
        raise InputError(
            f"{table.path}: no column says how large a run was; there are "
            f"{', '.join(map(repr, table.columns[:20]))}. "
            "Say which is N, D, C or x, with --column N=… or columns=…"
        )
    return mapped


def _outcome(table: Table, row: int, metric: str) -> float:
    """The metric of a row, as it stands there or taken from 1.

    Raises:
        UnknownNameError: when the table has no such column.
        InputError: when it is not finite and above zero.
    """
    column = _column_of(metric, table)
    if column not in table.columns:
        raise UnknownNameError(f"column of {table.path}", column, table.columns)
    if column == metric:
        return _number(table, row, column, metric)
    value = parse_number(table.rows[row][column])
    if value is None or not 0 <= value < 1:
        raise InputError(
            f"{table.place(row)}, column {column!r}: expected a number from 0 to below 1 for {metric!r}; got "
            f"{table.rows[row][column]!r}. Mend the cell, or cut the row with a condition (--where)."
        )
    return 1 - value


def _number(table: Table, row: int, column: str, variable: str) -> float:
    """The number in a cell: plain, or with k, M, B or T.

    Raises:
        InputError: when it is not finite and above zero.
    """
    cell = table.rows[row][column]
    value = parse_number(cell)
    if value is None or not math.isfinite(value) or (value <= 0 and variable != "year"):
        raise InputError(
            f"{table.place(row)}, column {column!r}: expected a finite number above zero for {variable}, "
            f"such as 1.5e9 or 1.5B; got {cell!r}. Mend the cell, or cut the row with a condition (--where)."
        )
    return value


def _cut(table: Table, where: Sequence[str], asked: Mapping[str, str]) -> tuple[list[int], list[str]]:
    """The rows that meet all conditions, and a note for each condition."""
    kept, notes = list(range(len(table.rows))), []
    for condition in where:
        match = re.fullmatch(r"\s*(.+?)\s*(==|!=|<=|>=|<|>)\s*(.*?)\s*", condition)
        if match is None:
            raise InputError(
                f"A condition is a column, one of {' '.join(_COMPARED)}, and a value, such as 'N >= 1e8'; "
                f"got {condition!r}."
            )
        name, sign, wanted = match[1], match[2], match[3].strip("'\"")
        column = asked.get(name, name)
        if column not in table.columns:
            found = [c for c in table.columns if _plain(c) in COMMON.get(name, ())]
            if len(found) != 1:
                raise UnknownNameError(f"column of {table.path}", name, table.columns)
            column = found[0]
        before = len(kept)
        kept = [i for i in kept if _meets(table, i, column, sign, wanted)]
        notes.append(f"Where {condition.strip()}: {before - len(kept)} of {before} rows cut.")
        if not kept:
            raise InputError(f"No row of {table.path} is left after {condition!r}. Loosen the condition.")
    return kept, notes


def _meets(table: Table, row: int, column: str, sign: str, wanted: str) -> bool:
    cell = table.rows[row][column]
    left, right = parse_number(cell), parse_number(wanted)
    if left is not None and right is not None:
        return bool(_COMPARED[sign](left, right))
    if sign in ("==", "!="):
        return bool(_COMPARED[sign](cell, wanted))
    raise InputError(
        f"{table.place(row)}, column {column!r}: {cell!r} {sign} {wanted!r} compares what are not numbers. "
        "Use == or !=, or cut such rows by a condition before this one."
    )
