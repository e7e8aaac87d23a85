"""Rows of styled text. The run screen's header, sentences and events are pure functions that this widget draws."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeAlias, TypeVar

from rich.cells import cell_len, set_cell_size

from eos_tui import charts
from eos_tui.charts import Cell, Grid
from eos_tui.widgets.cells import CellGrid

Part: TypeAlias = tuple[str, str]
"""Text and its Rich style, such as `bold red`; the empty style is the widget's own."""
Row: TypeAlias = Sequence[Part]
Shown = TypeVar("Shown")
"""What the rows tell of, such as a snapshot."""
Draw: TypeAlias = Callable[[Shown, int, int], Sequence[Row]]
"""What to draw of it, at most so many cells wide and rows high."""
IN_ASCII = str.maketrans("━╸─…·±│╭╮╰╯", "=-.~-+|++++")
"""What rows are drawn with, for terminals without Unicode."""


class TextRows(CellGrid, Generic[Shown]):
    """Draws a function of what it is given, each row cut at the right edge with an ellipsis."""

    DEFAULT_CSS = "TextRows { height: 1; }"

    def __init__(self, draw: Draw[Shown], *, id: str, ascii_only: bool = False) -> None:
        """Draw nothing yet.

        Args:
            draw: Gives the rows.
            id: The widget's name in the style sheet.
            ascii_only: For terminals without Unicode.
        """
        super().__init__()
        self.id = id
        self._draw = draw
        self._ascii_only = ascii_only
        self._shown: Shown | None = None

    def show(self, shown: Shown) -> None:
        """Draw this state; what looks the same is not sent again."""
        self._shown = shown
        self.redraw()

    def grid(self, width: int, height: int) -> Grid:
        """The rows, cell by cell."""
        rows = self._draw(self._shown, width, height) if self._shown is not None else []
        grid = [cells(fitted(row, width), width) for row in rows[:height]]
        return [[(text.translate(IN_ASCII), style) for text, style in row] for row in grid] if self._ascii_only else grid


def row_length(row: Row) -> int:
    """Cells that the row takes."""
    return sum(cell_len(text) for text, _ in row)


def fitted(row: Row, width: int) -> Row:
    """The row, or its beginning and an ellipsis when it is longer than `width` cells."""
    if row_length(row) <= width:
        return row
    kept: list[Part] = []
    room = width - 1
    for text, style in row:
        if cell_len(text) > room:
            return [*kept, (set_cell_size(text, room).rstrip() + "…", style)] if width > 0 else []
        kept.append((text, style))
        room -= cell_len(text)
    return kept


def cells(row: Row, width: int) -> list[Cell]:
    """The row, one entry a cell, and blanks behind it."""
    found = [cell for text, style in row for cell in charts.cells(text, style)]
    return found + [(" ", "")] * (width - len(found))
