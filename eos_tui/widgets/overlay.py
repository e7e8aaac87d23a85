"""What the screen that compares runs draws: a panel with a line a run, their legend, a table of the differences of their specs."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from textual.app import ComposeResult
from textual.containers import Vertical

from eos_tui.charts import Cell, Grid, Overlaid, draw_runs
from eos_tui.comparison import SharedPanel, Thresholds, thresholds
from eos_tui.numerals import NOTHING, format_number
from eos_tui.strokes import RUN_TAGS, run_sample, run_stroke
from eos_tui.ticks import Scale
from eos_tui.view import View
from eos_tui.widgets.chart import Chart
from eos_tui.widgets.panel import PanelTitle, Part, Source
from eos_tui.widgets.text_rows import Row
from eos_tui.window import Window

SAMPLE_CELLS = 6
"""Of a line in the legend: enough to tell all dashes apart."""
ENTRY_CELLS = 39
"""Narrowest column of the legend, with a name of so many cells."""
NAME_CELLS = 8
LEGEND_SHARE = 8
"""The part of the rows that the runs take in the legend, where more columns can make them as few."""
STATUS_CELLS = 10
VALUE_CELLS = 9
EDGE = ("edge", 1.0)
"""What ratios are held against."""
KEY_CELLS = 30
"""Widest column of keys in the table."""
NO_DIFFERENCE = "The specs do not differ."


class Entry(NamedTuple):
    """A run among those that are compared, as it is drawn."""

    place: int
    """Decides how its line looks."""
    source: Source
    """Its numbers, with the cursor at its own step."""
    window: Window | None
    """Its steps in what is shown; None where they have no place on the axis."""


class OverlayView(Vertical, can_focus=True):
    """A chart in a frame, with one line of each run that has the panel."""

    DEFAULT_CSS = """
    OverlayView {
        height: 1fr;
        Chart { height: 1fr; }
        &:focus .title--name, &:focus .title--frame, &:focus .chart--frame { color: $text-primary; text-style: bold; }
    }
    """

    def __init__(self, panel: SharedPanel, *, ascii_only: bool = False) -> None:
        """Show the empty panel.

        Args:
            panel: What to show of the runs.
            ascii_only: For terminals without Unicode.
        """
        super().__init__()
        self.panel = panel
        self._scale: Scale | None = None
        self._is_ratio: bool | None = None
        self._title = PanelTitle(ascii_only=ascii_only)
        self._chart = Chart(framed=True, ascii_only=ascii_only)
        self._given: tuple[Mapping[str, Entry], View, Window] | None = None
        self._thresholds = Thresholds((), is_shared=True)
        self._shown: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        """Title above chart."""
        yield self._title
        yield self._chart

    @property
    def scale(self) -> Scale:
        """Of the y axis, as it is now: ratios are linear and numbers as their panel says, until the user wants it otherwise."""
        if self._scale is not None:
            return self._scale
        return "linear" if self.is_ratio else next(iter(self.panel.panels.values())).scale

    @property
    def is_ratio(self) -> bool:
        """Whether ratios to the thresholds are drawn: where these differ, until the user wants it otherwise."""
        if not self.panel.ratio_label:
            return False
        return not self._thresholds.is_shared if self._is_ratio is None else self._is_ratio

    def show(self, entries: Mapping[str, Entry], view: View, window: Window) -> None:
        """Draw these runs; costs nothing when nothing that the panel shows has changed.

        Args:
            entries: By run, in the order in which they are drawn.
            view: What of them is shown, and how.
            window: The same in the numbers of the axis.
        """
        self._given = (entries, view, window)
        self._thresholds = thresholds(self.panel, {run: entry.source.snapshot for run, entry in entries.items()})
        curves = self.panel.curves(ratio=self.is_ratio)
        lines = [
            Overlaid(RUN_TAGS[entry.place], entry.source.trace(curves[run]), entry.window, run_stroke(entry.place))
            for run, entry in entries.items()
            if run in curves and entry.window
        ]
        levels = (EDGE,) if self.is_ratio else tuple(self._thresholds.levels)
        seen = (self.scale, self.is_ratio, view, window.low, window.high, levels, self._thresholds.is_shared)
        shown = (*seen, *((line.trace, line.tag, line.window.low, line.window.high) for line in lines))
        if shown == self._shown:
            return
        self._shown = shown
        self._title.show(self._title_parts())
        drawn = partial(draw_runs, lines, levels, window=window, scale=self.scale, cursor=view.cursor, smoothing=view.smoothing)
        self._chart.show_drawn(drawn)

    def toggle_scale(self) -> None:
        """Switch between a linear and a log axis."""
        self._scale = "linear" if self.scale == "log" else "log"
        self._again()

    def toggle_ratio(self) -> None:
        """Switch between the numbers and their ratios to their thresholds, where there are any."""
        self._is_ratio = not self.is_ratio
        self._scale = None
        self._again()

    def reading(self, run: str, entry: Entry) -> str:
        """What the panel shows of the run at the cursor, else at its end."""
        curve, source = self.panel.curves(ratio=self.is_ratio).get(run), entry.source
        if curve is None or len(source.trace(curve)) == 0 or (source.cursor or 0) > source.snapshot.step:
            return NOTHING
        return format_number(source.value(curve))

    def _again(self) -> None:
        if self._given is not None:
            self.show(*self._given)

    def _title_parts(self) -> dict[str, Part]:
        parts: dict[str, Part] = {"name": (self.panel.title, "name")}
        if self.scale == "log":
            parts["scale"] = (" (log)", "note")
        if self.is_ratio:
            parts["ratio"] = (self.panel.ratio_label, "ratio")
        elif not self._thresholds.is_shared:
            parts["notes"] = ("thresholds differ", "note")
        return parts


class Named(NamedTuple):
    """A run in the legend."""

    place: int
    name: str
    status: str
    value: str
    is_left_out: bool


class Legend(Chart):
    """The runs' tags, lines, names, how they stand, and a value, in as many columns as there is room for."""

    DEFAULT_CSS = "Legend { height: 1; padding: 0 1; }"

    def __init__(self, *, id: str, ascii_only: bool = False) -> None:
        """Show no run yet.

        Args:
            id: The widget's name in the style sheet.
            ascii_only: For terminals without Unicode.
        """
        super().__init__(ascii_only=ascii_only)
        self.id = id

    def say(self, runs: Sequence[Named], *, title: str) -> None:
        """Name these runs.

        Args:
            runs: In their order.
            title: What the values are.
        """
        self.show_drawn(partial(legend, runs, title=title))


def legend_rows(num_runs: int, *, width: int, height: int) -> int:
    """Rows that the legend takes with its titles: so many that names have room, on a screen of this size."""
    columns = 1
    while (columns + 1) * ENTRY_CELLS <= width and -(-num_runs // columns) > height // LEGEND_SHARE:
        columns += 1
    return 1 + -(-num_runs // columns)


def legend(runs: Sequence[Named], *, width: int, height: int, title: str = "", ascii_only: bool = False) -> Grid:
    """The legend in so many cells: a row of titles, then the runs, column by column.

    Args:
        runs: In their order.
        width: Cells across.
        height: Rows, which decide the number of columns.
        title: What the values are.
        ascii_only: Draw with ASCII characters.
    """
    columns = max(1, min(-(-len(runs) // max(height - 1, 1)), width // ENTRY_CELLS))
    rows = -(-len(runs) // columns)
    needed = ENTRY_CELLS - NAME_CELLS + max((cell_len(run.name) for run in runs), default=0)
    widths = [min(width // columns, max(needed, ENTRY_CELLS))] * columns
    rest = [(" ", "")] * (width - sum(widths))
    cut = "~" if ascii_only else "…"
    grid = [_joined([*(_fitted([], _head(title), room, cut=cut) for room in widths), rest])]
    for row in range(rows):
        found = [runs[k] if (k := row + column * rows) < len(runs) else None for column in range(columns)]
        grid.append(_joined([*(_entry(run, room, ascii_only=ascii_only) for run, room in zip(found, widths, strict=True)), rest]))
    return (grid + [[(" ", "")] * width] * height)[:height]


def _head(title: str) -> list[Part]:
    return [(f"{'status':<{STATUS_CELLS}} {set_cell_size(title, VALUE_CELLS)}", "axis")]


def _entry(run: Named | None, width: int, *, ascii_only: bool) -> list[Cell]:
    if run is None:
        return [(" ", "")] * width
    role = "faint" if run.is_left_out else "label"
    cut = "~" if ascii_only else "…"
    sample = " " * SAMPLE_CELLS if run.is_left_out else run_sample(run.place, SAMPLE_CELLS, ascii_only=ascii_only)
    status = "left out" if run.is_left_out else run.status
    left = [(f"{RUN_TAGS[run.place]} {sample}", run_stroke(run.place).role), (f" {run.name}", role)]
    return _fitted(left, [(f"{set_cell_size(status, STATUS_CELLS)} {set_cell_size(run.value, VALUE_CELLS)}", role)], width, cut=cut)


def _fitted(left: Sequence[Part], right: Sequence[Part], width: int, *, cut: str) -> list[Cell]:
    """Both sides in exactly so many cells, the right one and a blank behind it whole as long as that leaves room for a name."""
    room = width - sum(cell_len(text) for text, _ in right) - 2
    if room < SAMPLE_CELLS + 6:
        right, room = (), width - 1
    cells = _cells(left)
    if len(cells) > room:
        cells = [*cells[: max(room - 1, 0)], (cut, "label")] if room > 0 else []
    cells += [(" ", "")] * (room - len(cells))
    return ([*cells, (" ", ""), *_cells(right), (" ", "")] if right else [*cells, (" ", "")])[:width]


def _cells(parts: Sequence[Part]) -> list[Cell]:
    """One entry a cell; a wide character fills the cell after it with the empty string."""
    return [cell for text, role in parts for character in text for cell in [(character, role), ("", role)][: cell_len(character)]]


def _joined(parts: Sequence[Sequence[Cell]]) -> list[Cell]:
    return [cell for part in parts for cell in part]


class Table(NamedTuple):
    """What is not the same in the runs' specs, as text."""

    titles: Sequence[str]
    """The runs' tags."""
    rows: Sequence[tuple[str, Sequence[str]]]
    """Keys and, by run, values."""


def table_width(table: Table) -> int:
    """Cells that the table takes where nothing is cut but long keys."""
    return _key_cells(table) + sum(2 + cells for cells in _wanted(table)) if table.rows else 0


def _key_cells(table: Table) -> int:
    return min(max(cell_len(key) for key, _ in table.rows), KEY_CELLS)


def _wanted(table: Table) -> list[int]:
    columns = zip(*(values for _, values in table.rows), strict=True)
    return [max(map(cell_len, (title, *column))) for title, column in zip(table.titles, columns, strict=True)]


def table_rows(table: Table, width: int, height: int) -> Sequence[Row]:  # noqa: ARG001 - as many rows as there are
    """The table with columns as wide as what stands in them, as far as there is room.

    Args:
        table: What to say.
        width: Cells across.
        height: Rows there are.
    """
    if not table.rows:
        return [[(NO_DIFFERENCE, "dim")]]
    key_cells = _key_cells(table) if table_width(table) <= width else min(_key_cells(table), max(width // 3, 1))
    cells = _shared_out(_wanted(table), width - key_cells - 2 * len(table.titles))
    head: Row = [(f"{'spec':<{key_cells}}", "dim"), *(_cell(title, room, "bold") for title, room in zip(table.titles, cells, strict=True))]
    return [head, *([_key(key, key_cells), *(_cell(*pair) for pair in zip(values, cells, strict=True))] for key, values in table.rows)]


def _shared_out(wanted: Sequence[int], room: int) -> list[int]:
    """Cells for each column: what it wants, or where there is too little the same for all that want more."""
    most = max(wanted)
    while most > 1 and sum(min(cells, most) for cells in wanted) > room:
        most -= 1
    return [min(cells, most) for cells in wanted]


def _key(key: str, cells: int) -> Part:
    return set_cell_size(key if cell_len(key) <= cells else f"…{key[1 - cells :]}", cells), ""


def _cell(text: str, cells: int, style: str = "") -> Part:
    return "  " + set_cell_size(text if cell_len(text) <= cells else f"{set_cell_size(text, cells - 1)}…", cells), style
