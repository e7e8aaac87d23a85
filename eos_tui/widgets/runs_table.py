"""A table of runs: each in a row, its ratios to the edges as bars. Draws only the rows in sight, and sends only what changed."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from eos_tui import charts
from eos_tui.charts import Cell, Grid, sparkline
from eos_tui.course import PLACES, Course
from eos_tui.numerals import NOTHING, format_number, or_nothing
from eos_tui.output import one_line
from eos_tui.runs import Listed
from eos_tui.summary import seconds_since
from eos_tui.widgets.cells import CellGrid
from eos_tui.widgets.run_header import STATUS_STYLES
from eos_tui.widgets.words import AT_EDGE
from runners.run_folder import stem

BAR = 5
"""Cells of a bar; a full one is the edge and beyond."""
NAME_CELLS = (12, 48)
"""Narrowest and widest column of names."""
AGES = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"))


class Column(NamedTuple):
    """A column, how wide it is, and what it says of a run at a time in seconds since 1970."""

    key: str
    title: str
    width: int
    text: Callable[[Listed, float], str]
    order: Callable[[Listed], tuple[bool, float | str]]
    """What the rows are sorted by: what is not known comes last."""
    style: Callable[[Listed], str] = lambda _: ""


def _number(value: float | None) -> tuple[bool, float | str]:
    return (value is None, 0.0 if value is None else value)


def _ratio(value: float | None, *, ascii_only: bool) -> str:
    if value is None:
        return NOTHING
    full, half = divmod(round(2 * BAR * min(max(value, 0.0), 1.0)), 2)
    bar = ("=" if ascii_only else "━") * full + ("-" if ascii_only else "╸") * half
    return f"{bar:<{BAR}} {format_number(value)}"


def _ratio_style(value: float | None) -> str:
    if value is None or value < AT_EDGE[0]:
        return ""
    return "bold red" if value > AT_EDGE[1] else "bold yellow"


def age(created: str | None, now: float) -> str:
    """How long ago, in one unit, so that it rarely changes: 5 d, 3 h, 12 min; now below a minute."""
    seconds = None if created is None else seconds_since(created, now)
    if seconds is None:
        return NOTHING
    return next((f"{int(seconds // size)} {unit}" for size, unit in AGES if seconds >= size), "now")


def columns(*, ascii_only: bool = False) -> tuple[Column, ...]:
    """All columns in their order."""
    return (
        Column("name", "name", 0, lambda run, _: one_line(stem(run.row.run)), lambda run: (False, run.row.run)),
        Column(
            "status",
            "status",
            10,
            lambda run, _: run.row.status,
            lambda run: (False, run.row.status),
            lambda run: STATUS_STYLES.get(run.row.status, "bold red"),
        ),
        Column("step", "step", 9, lambda run, _: f"{run.row.step:,}", lambda run: (False, float(run.row.step))),
        Column("done", "done", 5, lambda run, _: f"{_share(run):.0%}" if run.row.steps else NOTHING, lambda run: (False, _share(run))),
        Column("loss", "loss", 9, lambda run, _: or_nothing(run.row.loss), lambda run: _number(run.row.loss)),
        Column(
            "ratio",
            "sharpness/edge",
            BAR + 7,
            lambda run, _: _ratio(run.row.ratio, ascii_only=ascii_only),
            lambda run: _number(run.row.ratio),
            lambda run: _ratio_style(run.row.ratio),
        ),
        _course("ratio-course", lambda course: course.ratio, ascii_only=ascii_only),
        Column(
            "K",
            "K",
            BAR + 7,
            lambda run, _: _ratio(run.row.noise_kernel, ascii_only=ascii_only),
            lambda run: _number(run.row.noise_kernel),
            lambda run: _ratio_style(run.row.noise_kernel),
        ),
        _course("K-course", lambda course: course.noise_kernel, ascii_only=ascii_only),
        Column("age", "age", 6, lambda run, now: age(run.row.created, now), _since),
        Column("host", "host", 12, lambda run, _: one_line(run.host) or NOTHING, lambda run: (not run.host, run.host)),
    )


def _course(key: str, values: Callable[[Course], Sequence[float | None]], *, ascii_only: bool) -> Column:
    """A column of sparklines, without a title: it belongs to the one at its left."""

    def drawn(run: Listed, _: float) -> str:
        return sparkline(values(run.course), PLACES, low=0.0, high=1.0, ascii_only=ascii_only) if run.course else ""

    def order(run: Listed) -> tuple[bool, float | str]:
        return (run.course is None or all(value is None for value in values(run.course)), 0.0)

    return Column(key, "", PLACES, drawn, order)


DROPPED_FIRST = ("K-course", "ratio-course", "host", "done", "step", "age", "loss", "K", "ratio")
"""Columns that are left out where there is no room, in this order."""


class RunsTable(CellGrid):
    """The table, with one row under the cursor."""

    DEFAULT_CSS = "RunsTable { height: 1fr; }"

    def __init__(self, *, ascii_only: bool = False) -> None:
        """Show no run yet.

        Args:
            ascii_only: For terminals without Unicode.
        """
        super().__init__()
        self._columns = columns(ascii_only=ascii_only)
        self._ascii_only = ascii_only
        self._runs: Sequence[Listed] = ()
        self._selected: frozenset[str] = frozenset()
        self._cursor = 0
        self._top = 0
        self._now = 0.0
        self._sorted_by = ("age", True)

    def show(self, runs: Sequence[Listed], *, cursor: int, selected: frozenset[str], sorted_by: tuple[str, bool], now: float) -> None:
        """Draw these runs.

        Args:
            runs: In their order.
            cursor: The row that is marked.
            selected: Names of the runs that are chosen for something.
            sorted_by: A column's key, and whether its order is reversed.
            now: Seconds since 1970.
        """
        self._runs, self._cursor, self._selected, self._sorted_by, self._now = runs, cursor, selected, sorted_by, now
        self.redraw()

    @property
    def in_sight(self) -> Sequence[Listed]:
        """The runs that are drawn."""
        return self._runs[self._top : self._top + max(0, self.content_size.height - 1)]

    def grid(self, width: int, height: int) -> Grid:
        """Titles, and the rows around the cursor."""
        if width <= 0 or height <= 0:
            return []
        shown, widths = _fitted(self._columns, self._runs, width - 2)
        rows = height - 1
        self._top = min(max(self._top, self._cursor - rows + 1), max(self._cursor, 0))
        self._top = max(0, min(self._top, len(self._runs) - rows))
        titles = [self._title(column) for column in shown]
        grid = [_row("  ", titles, ["dim"] * len(shown), widths, width)]
        for index, run in enumerate(self._runs[self._top : self._top + rows], self._top):
            is_here, is_chosen = index == self._cursor, run.row.run in self._selected
            mark = (">" if is_here else " ") + (("*" if self._ascii_only else "•") if is_chosen else " ")
            styles = [column.style(run) + (" reverse" if is_here else "") for column in shown]
            grid.append(_row(mark, [column.text(run, self._now) for column in shown], styles, widths, width))
        return grid + [[(" ", "")] * width for _ in range(height - len(grid))]

    def _title(self, column: Column) -> str:
        key, is_reversed = self._sorted_by
        arrows = ("^", "v") if self._ascii_only else ("↑", "↓")
        return f"{column.title} {arrows[is_reversed]}" if column.key == key else column.title


def _share(run: Listed) -> float:
    return run.row.step / run.row.steps if run.row.steps else 0.0


def _since(run: Listed) -> tuple[bool, float | str]:
    return (run.row.created is None, run.row.created or "")


def _fitted(shown: Sequence[Column], runs: Sequence[Listed], width: int) -> tuple[list[Column], list[int]]:
    """The columns for which there is room, and their widths; where names are cut those go that say nothing of any run."""
    longest = min(max(cell_len(stem(run.row.run)) for run in runs), NAME_CELLS[1]) if runs else 0
    wanted = max(longest, NAME_CELLS[0])
    kept = list(shown)
    for key in DROPPED_FIRST:
        room = width - _taken(kept)
        if room >= wanted:
            break
        if room < NAME_CELLS[0] or all(column.order(run)[0] for column in kept if column.key == key for run in runs):
            kept = [column for column in kept if column.key != key]
    return kept, [max(min(wanted, width - _taken(kept)), NAME_CELLS[0]), *(_width(column) for column in kept[1:])]


def _taken(kept: Sequence[Column]) -> int:
    """Cells beside the names."""
    return sum(_width(column) + 2 for column in kept[1:])


def _width(column: Column) -> int:
    return max(column.width, len(column.title) + 2 * bool(column.title))


def _row(mark: str, texts: Sequence[str], styles: Sequence[str], widths: Sequence[int], width: int) -> list[Cell]:
    cells: list[Cell] = [(character, "bold") for character in mark]
    for text, style, room in zip(texts, styles, widths, strict=True):
        fitted = set_cell_size(text, room) if cell_len(text) <= room else set_cell_size(text, room - 1) + "…"
        cells += charts.cells(fitted, style)
        cells += [(" ", ""), (" ", "")]
    return (cells + [(" ", "")] * width)[:width]
