"""A widget made of a grid of cells that sends to the terminal only the part of each row that changed."""

from collections.abc import Iterator

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from eos_tui.charts import Cell, Grid
from eos_tui.pacing import PacedApp


class CellGrid(Widget):
    """Base of charts, tables and rows: a subclass gives the grid."""

    ALLOW_SELECT = False
    ROLES = ""
    """Prefix of the component classes: the role `axis` has the style of the class `{ROLES}--axis`. Without one roles are Rich styles."""

    def __init__(self) -> None:
        super().__init__()
        self._grid: Grid = []
        self._styles_by_role: dict[str, Style] = {}

    def grid(self, width: int, height: int) -> Grid:
        """What to show in so many cells; called for each new state and size."""
        raise NotImplementedError

    def redraw(self) -> None:
        """Compute the grid again and repaint what differs; nothing is sent when nothing does, nor computed before it can be sent."""
        if self.is_mounted and isinstance(self.app, PacedApp) and self.app.postpones(self.redraw):
            return
        before, self._grid = self._grid, self.grid(*self.content_size)
        if [len(row) for row in before] != [len(row) for row in self._grid]:
            self.refresh()
            return
        if regions := list(changes(before, self._grid)):
            self.refresh(*regions)

    def on_resize(self) -> None:
        """Draw for the new size."""
        self.redraw()

    def render_line(self, y: int) -> Strip:
        """One row: a segment for each run of cells of the same style, blanks counted to the run before them."""
        if y >= len(self._grid):
            return Strip.blank(self.content_size.width, self._style(""))
        return Strip([Segment(text, self._style(role)) for text, role in runs(self._grid[y])], len(self._grid[y]))

    def notify_style_update(self) -> None:
        """Forget the styles: the theme changed."""
        self._styles_by_role.clear()
        super().notify_style_update()

    def _style(self, role: str) -> Style:
        """The role's style; kept, as working one out takes as long as drawing a row."""
        if role not in self._styles_by_role:
            component = f"{self.ROLES}--{role}" if self.ROLES and role else ""
            self._styles_by_role[role] = self.get_component_rich_style(component) if component else self.rich_style + Style.parse(role)
        return self._styles_by_role[role]


def changes(before: Grid, after: Grid) -> Iterator[Region]:
    """What differs of two grids of the same shape: one region a row, from its first to its last changed cell.

    One, because the compositor sends a row from the widget's left edge up to each region's end.
    """
    for y, (old, new) in enumerate(zip(before, after, strict=True)):
        if old != new:
            changed = [x for x, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
            yield Region(changed[0], y, changed[-1] + 1 - changed[0], 1)


def runs(row: list[Cell]) -> Iterator[tuple[str, str]]:
    """The row as (text, role), blanks joined to what they stand beside: each change of style costs bytes."""
    text, role = "", ""
    for character, wanted in row:
        if character != " " and wanted != role:
            if text.strip():
                yield text, role
                text = ""
            role = wanted
        text += character
    if text:
        yield text, role
