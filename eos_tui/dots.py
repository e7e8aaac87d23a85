"""Which dots of a chart a line sets: columns of a trace -> spans of dots -> bits of the cells. Pure; used by `charts`."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

from eos_tui.decimate import Column

Span: TypeAlias = tuple[int, int]
"""Lowest and highest dot that is set in a column, counted from the bottom."""
Place: TypeAlias = Callable[[float], int]
"""From a value to its dot."""
Bits: TypeAlias = dict[tuple[int, int], int]
"""By row and column of the cell, both from the bottom left: the dots that are set, column after column, from the bottom up."""


class Dash(NamedTuple):
    """How a line is broken, so that lines differ without colour: the first `drawn` dot columns of each `period`, and further ones."""

    period: int
    drawn: int
    further: tuple[int, ...] = ()


def line(columns: Sequence[Column | None], place: Place) -> list[Span | None]:
    """The spans of a curve: each column's from its smallest to its largest value, and on towards its neighbours.

    Columns without a value lie on the straight line between those around them, unless a gap separates these.
    """
    spans: list[Span | None] = [None] * len(columns)
    before: tuple[int, int] | None = None
    for i, column in enumerate(columns):
        if column is None:
            continue
        first = place(column.first)
        spans[i] = (first, first) if column.minimum == column.maximum else (place(column.minimum), place(column.maximum))
        if before is not None and not column.gap and (i - before[0] > 1 or abs(first - before[1]) > 1):
            _join(spans, before, (i, first))
        before = (i, place(column.last))
    return spans


def level(columns: Sequence[Column | None], place: Place, *, low: float, high: float, until: int) -> list[Span | None]:
    """The spans of a threshold: each column's last value, kept until the next one, with an upright where it jumps.

    Args:
        columns: Of the threshold's trace.
        place: From a value to its dot.
        low: Smaller values are not drawn.
        high: Larger values are not drawn.
        until: The column behind the last to draw.
    """
    spans: list[Span | None] = [None] * len(columns)
    dot: int | None = None
    value: float | None = None
    for i, column in enumerate(columns[:until]):
        before = dot
        if column is not None and column.last != value:
            value = column.last
            dot = place(value) if low <= value <= high else None
        if dot is not None:
            spans[i] = (dot, dot) if before is None else (min(dot, before), max(dot, before))
    return spans


def positive(column: Column | None) -> Column | None:
    """What a log scale can show of a column."""
    if column is None or column.minimum > 0.0:
        return column
    values = [value for value in (column.first, column.maximum, column.last) if value > 0.0]
    return Column(min(values), column.maximum, values[0], values[-1], column.gap) if values else None


def bits(spans: Sequence[Span | None], dash: Dash, *, across: int, up: int) -> Bits:
    """The spans as cells of `across` times `up` dots."""
    cells: Bits = {}
    for i, (low, high) in _dashed(spans, dash):
        column, shift = i // across, i % across * up
        bottom, top = low // up, high // up
        for row in range(bottom, top + 1):
            first = low % up if row == bottom else 0
            last = high % up if row == top else up - 1
            key = (row, column)
            cells[key] = cells.get(key, 0) | ((2 << last) - (1 << first)) << shift
    return cells


def is_thin(cell: int, *, across: int, up: int) -> bool:
    """Whether a cell's dots are those of a flat line: at most one in each column."""
    return all((cell >> i * up & (1 << up) - 1).bit_count() <= 1 for i in range(across))


def _join(spans: list[Span | None], start: tuple[int, int], end: tuple[int, int]) -> None:
    """Set the dots from (column, dot) to (column, dot), so that no two neighbours are more than a dot apart."""
    before = start[1]
    for i in range(start[0] + 1, end[0] + 1):
        dot = start[1] + math.floor((end[1] - start[1]) * (i - start[0]) / (end[0] - start[0]) + 0.5)
        middle = (before + dot) // 2
        if dot > before:
            _widen(spans, i - 1, before, middle)
            _widen(spans, i, middle + 1, dot)
        else:
            _widen(spans, i - 1, min(middle + 1, before), before)
            _widen(spans, i, dot, middle)
        before = dot


def _widen(spans: list[Span | None], i: int, low: int, high: int) -> None:
    span = spans[i]
    spans[i] = (low, high) if span is None else (min(low, span[0]), max(high, span[1]))


def _dashed(spans: Sequence[Span | None], dash: Dash) -> Iterator[tuple[int, Span]]:
    """The columns to draw; dashes leave out only what is flat and has neighbours, never a spike or a single point."""
    drawn = {k for k in range(dash.period) if k < dash.drawn or k in dash.further}
    for i, span in enumerate(spans):
        if span is not None and (i % dash.period in drawn or span[1] - span[0] > 2 or _is_lonely(spans, i)):
            yield i, span


def _is_lonely(spans: Sequence[Span | None], i: int) -> bool:
    return (i == 0 or spans[i - 1] is None) and (i + 1 == len(spans) or spans[i + 1] is None)
