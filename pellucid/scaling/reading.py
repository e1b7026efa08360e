"""Reading runs from files: CSV, JSON lines, and exports of Weights & Biases.

A file becomes rows of text cells; nested JSON is flattened with dots (`config.n_params`), and a `{"value":
…}` of Weights & Biases is its value. Columns are then mapped to variables, by option or by the names people
commonly give them, and every cell that is used must be a number. A cell that is not is an error with file,
row, column, value and what was expected. Rows go only by a cut that the caller asked for, and every cut is
noted with its count.
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
    "x": ("x",),
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
)
RUN_NAMES = ("run", "run_id", "run_name", "name")
_UNITS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
_COMPARED = {
    "==": operator.eq, "!=": operator.ne, "<=": operator.le,
    ">=": operator.ge, "<": operator.lt, ">": operator.gt,
}  # fmt: skip
_ENDINGS = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}


@dataclass(frozen=True)
class Table:
    """A file as rows of cells."""

    path: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    lines: tuple[int, ...]
    """The line, from 1, at which each row ends in the file."""

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
        metric: the column of the metric; where None, the one column whose name is that of a metric.
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
    mapped = _mapping(table, columns or {}, metric)
    notes += [f"{v} is column {c!r}." for v, c in mapped.items() if v not in (c, "y")]
    target = mapped.pop("y")
    numbers = {v: [_number(table, i, c, v) for i in kept] for v, c in mapped.items()}
    y = [_number(table, i, target, target) for i in kept]
    run = run or _single(table.columns, RUN_NAMES)
    if run is not None and run not in table.columns:
        raise UnknownNameError(f"column of {table.path}", run, table.columns)
    names = None if run is None else [table.rows[i][run] for i in kept]
    if names is not None:
        notes.append(f"Rows with one {run!r} are one training.")
    made = Runs.of(
        numbers, y, metric=target, run=names, labels=[table.place(i) for i in kept], notes=notes
    ).without_highest(drop_highest)
    return made if x is None else made.along(x)


def read_targets(path: Path | str, *, columns: Mapping[str, str] | None = None) -> dict[str, list[float]]:
    """Read the variables of targets, by the names or the mapping of their runs.

    Args:
        path: a file with a row per target; it needs no metric.
        columns: as for `read_runs`.

    Raises:
        InputError: as `read_runs`.
        IntegrityError: as `read_runs`.
    """
    table = read_table(Path(path))
    mapped = _variables(table, columns or {}, None)
    rows = range(len(table.rows))
    return {v: [_number(table, i, c, v) for i in rows] for v, c in mapped.items()}


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
    table = _csv(path, text) if kind == "csv" else _json_lines(path, text)
    if not table.rows:
        raise InputError(f"{str(path)!r} has no rows below its header. Give a file with runs in it.")
    return table


def _csv(path: Path, text: str) -> Table:
    if "\0" in text:
        raise IntegrityError(f"{str(path)!r} holds NUL bytes, so it is not CSV. Export it again.")
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter="\t" if path.suffix.lower() == ".tsv" else ","
    )
    header: list[str] | None = None
    rows, lines = [], []
    try:
        for cells in reader:
            if not any(c.strip() for c in cells):
                continue
            if header is None:
                header = [c.strip() for c in cells]
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


def _mapping(table: Table, asked: Mapping[str, str], metric: str | None) -> dict[str, str]:
    """Variable to column, with the metric under `y`."""
    if metric is not None and metric not in table.columns:
        raise UnknownNameError(f"column of {table.path}", metric, table.columns)
    target = metric
    if target is None:
        found = [c for c in table.columns if _plain(c) in METRICS and c not in asked.values()]
        if len(found) != 1:
            raise InputError(
                f"{table.path}: expected one column of a metric; there are {found or 'none'} among "
                f"{', '.join(map(repr, table.columns[:20]))}. Name it, with --metric or metric=…"
            )
        target = found[0]
    return {**_variables(table, asked, target), "y": target}


def _variables(table: Table, asked: Mapping[str, str], target: str | None) -> dict[str, str]:
    """Variable to column."""
    mapped = dict(asked)
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
            "such as "
            f"1.5e9 or 1.5B; got {cell!r}. Mend the cell, or cut the row with a condition (--where)."
        )
    return value


def parse_number(cell: str) -> float | None:
    """Read `1.5e9`, `1,500`, `1.5B`; None where the text is no number."""
    match = re.fullmatch(
        r"([+-]?(?:\d+|\d{1,3}(?:,\d{3})+)?(?:\.\d*)?(?:[eE][+-]?\d+)?)\s*([kKmMbBtT]?)", cell.strip()
    )
    if match is None or not any(c.isdigit() for c in match[1]):
        return None
    try:
        return float(match[1].replace(",", "")) * _UNITS.get(match[2].lower(), 1.0)
    except ValueError:
        return None


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
