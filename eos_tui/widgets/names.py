"""A column of names with a cursor, in as few bytes as a list can do with."""

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from eos_tui.charts import Cell, Grid
from eos_tui.widgets.cells import CellGrid


class Names(CellGrid):
    """The names around the cursor, some of them marked."""

    def __init__(self, *, id: str, ascii_only: bool = False) -> None:
        """Show none yet.

        Args:
            id: The widget's name in the style sheet.
            ascii_only: For terminals without Unicode.
        """
        super().__init__()
        self.id = id
        self._mark = "*" if ascii_only else "•"
        self._names: Sequence[str] = ()
        self._marked: frozenset[str] = frozenset()
        self._cursor = 0
        self._top = 0

    def show(self, names: Sequence[str], *, cursor: int, marked: frozenset[str]) -> None:
        """Draw these names.

        Args:
            names: In their order.
            cursor: The one that is chosen.
            marked: Those with a dot before them.
        """
        self._names, self._cursor, self._marked = names, cursor, marked
        self.redraw()

    def grid(self, width: int, height: int) -> Grid:
        """A row for each name."""
        self._top = max(0, min(min(max(self._top, self._cursor - height + 1), self._cursor), len(self._names) - height))
        rows: Grid = []
        for index, name in enumerate(self._names[self._top : self._top + height], self._top):
            is_here = index == self._cursor
            text = f"{'>' if is_here else ' '}{self._mark if name in self._marked else ' '}{name}"
            fitted = set_cell_size(text, width) if cell_len(text) <= width else set_cell_size(text, width - 1) + "…"
            cells: list[Cell] = []
            for character in fitted:
                cells += [(character, "reverse" if is_here else ""), ("", "")][: cell_len(character)]
            rows.append((cells + [(" ", "")] * width)[:width])
        return rows + [[(" ", "")] * width for _ in range(height - len(rows))]
