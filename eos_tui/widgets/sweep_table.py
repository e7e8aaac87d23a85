"""What the screen of a sweep draws: its head, the table of its cells, the curves of its rows. Pure functions, and the table's widget."""

from collections.abc import Sequence
from functools import partial

from rich.cells import cell_len, set_cell_size
from rich.style import Style

from eos_tui import charts, strokes
from eos_tui.charts import Cell, Grid, Overlaid, draw_runs
from eos_tui.decimate import Trace
from eos_tui.output import one_line
from eos_tui.strokes import RUN_TAGS, run_sample, run_stroke
from eos_tui.sweep_grid import Row, SweepGrid, SweepStand, laid_out
from eos_tui.ticks import Scale
from eos_tui.widgets import text_rows
from eos_tui.widgets.chart import Chart
from eos_tui.widgets.run_header import STATUS_STYLES
from eos_tui.widgets.text_rows import Part, row_length
from eos_tui.widgets.words import duration
from eos_tui.window import Window
from runners.run_folder import stem

SAMPLE_CELLS = 3
"""Of a row's line, beside its tag."""
CELL_CELLS = (8, 10)
"""Of a cell's text: of one run, and of several with how many are done."""
MARK_CELLS = 2
"""Before a cell's text: whether the cursor is there, and whether it is its row's best."""
LABEL_SHARE = 3
"""The part of the width that the rows' labels take, at most."""
MOST_CURVES = len(strokes.RUN_STROKES)
"""Of which no two have the same dashes."""
MARGIN = 0.04
"""Share of the x axis left at both ends."""
STATE_STYLES = {"running": "bold green", "complete": "bold green", "stopped": "bold yellow"}


def head_rows(stand: SweepStand, width: int, height: int) -> Sequence[text_rows.Row]:
    """The sweep's name, how it stands, how its runs do, and how long it will take; in one row, or two where there are as many."""
    counts = ", ".join(f"{count:,} {word}" for word, count in stand.counts.items())
    told: list[Part] = [(f"{len(stand.runs):,} run{'' if len(stand.runs) == 1 else 's'}", "bold"), (f": {counts}", "")]
    is_timed = stand.seconds_left is not None and stand.state == "running"
    left: list[Part] = [(f"   about {duration(stand.seconds_left or 0.0)} left", "")] if is_timed else []
    long, short = (
        [("eos  ", "dim"), (f"{one_line(name)}  ", "bold"), (stand.state, STATE_STYLES[stand.state])]
        for name in (stand.name, stem(stand.name))
    )
    row = [*long, ("   ", ""), *told, *left]
    if height < 2 or row_length(row) <= width:
        return [row]
    return [[*(long if row_length([*long, *left]) <= width else short), *left], told]


def table(grid: SweepGrid, at: tuple[int, int], *, width: int, height: int, ascii_only: bool = False) -> Grid:
    """The cells around the cursor, below the values of the columns' key and beside what their rows have in common.

    Args:
        grid: The sweep.
        at: Row and column of the cursor.
        width: Cells across.
        height: Rows.
        ascii_only: Draw with ASCII characters.
    """
    if width <= 0 or height <= 0 or not grid.rows:
        return [[charts.BLANK] * max(width, 0) for _ in range(max(height, 0))]
    labels = [row.label or "all" for row in grid.rows]
    rows = _in_sight(len(grid.rows), at[0], max(height - 1, 0))
    above = _part("rows", rows, len(grid.rows))
    names = min(max(map(cell_len, [*labels, f"{above} {grid.name}"])), width // LABEL_SHARE)
    beside = 2 + SAMPLE_CELLS + 1 + names + 1
    room = CELL_CELLS[any(len(cell.runs) > 1 for row in grid.rows for cell in row.cells)]
    columns = _in_sight(len(grid.columns), at[1], max((width - beside) // (MARK_CELLS + room), 1))
    corner = " ".join(filter(None, (above, _part(grid.name, columns, len(grid.columns)) or grid.name)))
    head = charts.cells(_fitted(corner, beside), "dim")
    for column in columns:
        head += charts.cells(f"{'':{MARK_CELLS}}{_fitted(grid.titles[column], room)}", "bold")
    drawn = [head]
    for row in rows:
        place = row % len(RUN_TAGS)
        sample = run_sample(place, SAMPLE_CELLS, ascii_only=ascii_only)
        line = charts.cells(f"{RUN_TAGS[place]} {sample} ", run_stroke(place).role) + charts.cells(f"{_fitted(labels[row], names)} ", "")
        for column in columns:
            line += _cell(grid.rows[row], column, room, is_here=(row, column) == at)
        drawn.append(line)
    return [(line + [charts.BLANK] * width)[:width] for line in [*drawn, *([[]] * height)][:height]]


def curves(grid: SweepGrid, at: int, *, width: int, height: int, ascii_only: bool = False) -> Grid:
    """The rows' losses over the columns, each with its tag, its lowest one pointed out by its column's value.

    Args:
        grid: The sweep.
        at: Row of the cursor: where there are many rows, those about it are drawn.
        width: Cells across.
        height: Rows.
        ascii_only: Draw with ASCII characters.
    """
    low, high = min(grid.places, default=0.0), max(grid.places, default=0.0)
    margin = MARGIN * (high - low) or 1.0
    window = Window(low - margin, high + margin)
    lines = []
    for row in _in_sight(len(grid.rows), at, MOST_CURVES):
        xs, losses = grid.curve(grid.rows[row])
        place, best = row % len(RUN_TAGS), grid.rows[row].best
        mean = None if best is None else grid.rows[row].cells[best].loss
        star = None if best is None or mean is None else (grid.places[best], mean[0], grid.titles[best])
        lines.append(Overlaid(RUN_TAGS[place], Trace.empty().extended(xs, losses), window, run_stroke(place), star))
    words = list(zip(grid.places, grid.titles, strict=True))
    return draw_runs(lines, window=window, width=width, height=height, scale=scale(grid), words=words, ascii_only=ascii_only)


def scale(grid: SweepGrid) -> Scale:
    """Of the losses: logarithmic unless one is not above 0."""
    found = [loss for row in grid.rows for loss in grid.curve(row)[1] if loss is not None]
    return "log" if all(loss > 0 for loss in found) else "linear"


class SweepTable(Chart):
    """The table, with one cell under the cursor."""

    DEFAULT_CSS = "SweepTable { height: 2; padding: 0 1; }"

    def __init__(self, *, ascii_only: bool = False) -> None:
        """Show no cell yet.

        Args:
            ascii_only: For terminals without Unicode.
        """
        super().__init__(ascii_only=ascii_only)
        self._draw = partial(table, laid_out(()), (0, 0))

    def show_grid(self, grid: SweepGrid, at: tuple[int, int]) -> None:
        """Draw these cells.

        Args:
            grid: The sweep.
            at: Row and column of the cursor.
        """
        self.show_drawn(partial(table, grid, at))

    def _style(self, role: str) -> Style:
        return super()._style(role) if role.startswith("series-") else self.rich_style + Style.parse(role)


def _cell(row: Row, column: int, room: int, *, is_here: bool) -> list[Cell]:
    cell = row.cells[column]
    is_best = row.best == column
    style = STATUS_STYLES.get(cell.status, "bold red")
    if cell.status == "finished":
        style = "bold" if is_best else ""
    mark = (">" if is_here else " ") + ("*" if is_best else " ")
    return charts.cells(mark, "bold") + charts.cells(_fitted(cell.words, room), f"{style} reverse" if is_here else style)


def _in_sight(count: int, at: int, room: int) -> range:
    """As many of so many as there is room for, the one at the cursor in their middle."""
    begin = max(0, min(at - room // 2, count - room))
    return range(begin, min(begin + room, count))


def _part(name: str, shown: range, count: int) -> str:
    """Which of them are shown, where that is not all; counted from 1."""
    return "" if len(shown) == count else f"{name} {shown.start + 1}-{shown.stop}/{count}"


def _fitted(text: str, cells: int) -> str:
    return set_cell_size(text, cells) if cell_len(text) <= cells else set_cell_size(text, max(cells - 1, 0)) + "…" * (cells > 0)
