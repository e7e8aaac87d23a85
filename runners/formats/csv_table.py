"""Comma-separated files: rows of equal length, and which columns are targets. Standard library only."""

import csv
import difflib
import math
from dataclasses import dataclass
from pathlib import Path

from runners.errors import DataError
from runners.formats.files import reading


@dataclass(frozen=True)
class CsvTable:
    """The cells of a file, as text."""

    path: Path
    columns: tuple[str, ...] | None
    """Names; None where the file has no header."""
    rows: list[list[str]]
    lines: list[int]
    """The line in the file that each row ends on, from 1."""

    @property
    def num_columns(self) -> int:
        """Cells in each row."""
        return len(self.rows[0])

    def place(self, row: int, column: int) -> str:
        """Where a cell is, in words."""
        name = f"column {self.columns[column]!r}" if self.columns else f"column {column}"
        return f"{self.path}, line {self.lines[row]}, {name}"


def number(cell: str) -> float | None:
    """The number that a cell holds; None when it holds something else. `nan` and `inf` are numbers here."""
    try:
        return None if "_" in cell else float(cell)
    except ValueError:
        return None


def read(path: Path) -> CsvTable:
    """The table in a file. Its first line is a header where it has text over numbers, or nothing but text.

    Raises:
        DataError: If the file is empty, is not UTF-8 text, or rows have different lengths.
    """
    try:
        with reading(path), path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, skipinitialspace=True)
            numbered = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a comma-separated text file in UTF-8 ({error}).") from error
    if not numbered:
        raise DataError(f"{path}: the file is empty. Expected one example a row, features and targets in columns.")
    _check_lengths(path, numbered)
    lines, rows = [line for line, _ in numbered], [row for _, row in numbered]
    has_header = _is_header(rows[0], rows[1] if len(rows) > 1 else None)
    if has_header and len(rows) == 1:
        raise DataError(f"{path}: there is a header but no row below it.")
    columns = tuple(rows[0]) if has_header else None
    if columns and len(set(columns)) < len(columns):
        twice = next(name for name in columns if columns.count(name) > 1)
        raise DataError(f"{path}: the column name {twice!r} stands in the header more than once.")
    return CsvTable(path=path, columns=columns, rows=rows[has_header:], lines=lines[has_header:])


def target_columns(table: CsvTable, target: str | tuple[str, ...] | None) -> tuple[int, ...]:
    """The numbers of the target columns; the last one when none is named.

    Raises:
        DataError: If a column is not there, is named twice, or no column is left for the features.
    """
    if target is None:
        columns: tuple[int, ...] = (table.num_columns - 1,)
    else:
        columns = tuple(column(table, name, key="data.target") for name in ([target] if isinstance(target, str) else target))
    if not columns or len(set(columns)) < len(columns):
        raise DataError(f"data.target = {target!r}: expected one or more different columns.")
    if len(columns) >= table.num_columns:
        hint = " Its cells seem to be separated by ';'; write commas." if ";" in table.rows[0][0] else ""
        raise DataError(
            f"{table.path}: {table.num_columns} column(s), all of them targets; expected at least one more with a feature.{hint}"
        )
    return columns


def column(table: CsvTable, name: str, *, key: str) -> int:
    """The number of a column that is named, or numbered from 0 where there is no header.

    Args:
        table: The file's.
        name: Of the column.
        key: Where it was given, for the message.

    Raises:
        DataError: If it is not there.
    """
    names = table.columns or tuple(str(index) for index in range(table.num_columns))
    if name in names:
        return names.index(name)
    close = difflib.get_close_matches(name, names, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    what = "columns" if table.columns else "columns (the file has no header)"
    raise DataError(f"{key} = {name!r}: {table.path} has the {what} {shown}.{hint}")


def features(table: CsvTable, columns: tuple[int, ...]) -> list[list[float]]:
    """The numbers in `columns`, row by row.

    Raises:
        DataError: If a cell is empty, holds text, or is not finite.
    """
    return [[_finite(table, row, column) for column in columns] for row in range(len(table.rows))]


def _finite(table: CsvTable, row: int, column: int) -> float:
    cell = table.rows[row][column]
    value = number(cell)
    if value is None or not math.isfinite(value):
        found = repr(cell) if cell else "nothing"
        raise DataError(f"{table.place(row, column)}: found {found}, expected a finite number.")
    return value


def _check_lengths(path: Path, numbered: list[tuple[int, list[str]]]) -> None:
    expected = len(numbered[0][1])
    for line, row in numbered:
        if len(row) != expected:
            raise DataError(f"{path}, line {line}: {len(row)} cells, expected {expected} as in the first line.")


def _is_header(first: list[str], second: list[str] | None) -> bool:
    texts = [number(cell) is None for cell in first]
    over_numbers = second is not None and any(text and number(cell) is not None for text, cell in zip(texts, second, strict=True))
    return all(texts) or over_numbers
