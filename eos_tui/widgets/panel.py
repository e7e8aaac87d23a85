"""One panel of the run's screen: a chart under a title that says where its number stands."""

from collections.abc import Mapping, Sequence
from typing import ClassVar, NamedTuple

from rich.cells import cell_len, set_cell_size
from textual.app import ComposeResult
from textual.containers import Vertical

from eos_tui.charts import Grid, Line, Mark, cells, sparkline
from eos_tui.decimate import Trace
from eos_tui.numerals import format_number
from eos_tui.series import Key
from eos_tui.snapshot import RunSnapshot, profiles, trace, value
from eos_tui.ticks import Scale
from eos_tui.view import View
from eos_tui.widgets.cells import CellGrid
from eos_tui.widgets.chart import Chart
from runners.records import Curve, EventRecord, Panel

SPARK_CELLS = 8
"""Cells of the ratio's sparkline."""
DROPPED_FIRST = ("cost", "notes", "remark", "spark", "error", "ratio", "scale", "at", "value")
"""What the title leaves out where there is no room, in this order; what fits once something longer is out comes back."""
MARKS = {
    "checkpoint": "c",
    "diverged": "!",
    "not_finite": "!",
    "warning": "!",
    "paused": "p",
    "resumed": "r",
    "batch_size": "b",
    "warm_start_over": "w",
    "lr_changed": "l",
    "edge_crossed": "x",
}
"""Letters of events along the lower edge; those of other events are an e."""
UNMARKED = frozenset({"unpaused", "overtaken"})
"""Events without a letter: the end of a pause, and what is no news of the run but of how well it was measured, and comes by the dozen."""
LEFT = ("remark", "scale", "cost")
"""What stands beside the name."""
WHOLE = View()
"""All of a run."""
Part = tuple[str, str]
"""Text and the role of its style."""


class Source(NamedTuple):
    """Where a panel's numbers come from."""

    snapshot: RunSnapshot
    traces: Mapping[Key, Trace] = {}
    """What was read anew of the steps in sight; it goes before what the snapshot has."""
    cursor: float | None = None
    """The step at which values are read; None for the last ones."""

    def trace(self, curve: Curve) -> Trace:
        """The curve's points."""
        return self.traces.get((curve.record, curve.field)) or trace(self.snapshot, curve)

    def value(self, curve: Curve | None) -> float | None:
        """The curve's value where it is read; None when there is none, or it is not finite."""
        if curve is None:
            return None
        if self.cursor is None:
            return value(self.snapshot, curve)
        found = self.trace(curve).at(self.cursor)
        return found[1] if found else None


def title_parts(panel: Panel, source: Source, *, scale: Scale, ascii_only: bool = False) -> dict[str, Part]:
    """What a panel's title says: name, remark, scale and cost, then the headline number, its error, its ratio, notes.

    The cost is the share of the run time that went into the measurements shown.

    Args:
        panel: What to say.
        source: Where the numbers come from; what it lacks is left out.
        scale: Of the chart's y axis.
        ascii_only: For terminals without Unicode.

    Returns:
        Text and role by the part's name, in the order of the title.
    """
    snapshot = source.snapshot
    parts: dict[str, Part] = {"name": (panel.title, "name")}
    if panel.remark:
        parts["remark"] = (f", {panel.remark}", "note")
    if scale == "log":
        parts["scale"] = (" (log)", "note")
    if (headline := _headline(panel, source)) is None:
        return parts
    parts["value"] = (headline, "value")
    if (seconds := snapshot.measured_seconds.get(panel.series[0].record)) and snapshot.time > 0:
        parts["cost"] = (f" ({100 * min(seconds / snapshot.time, 1.0):.0f} % of the time)", "note")
    if panel.error and (error := source.value(panel.error)) is not None:
        parts["error"] = (f" {'+-' if ascii_only else '±'} {format_number(error, digits=1)}", "note")
    if panel.ratio and (ratio := source.value(panel.ratio)) is not None:
        parts["ratio"] = (f" = {format_number(ratio)} {panel.ratio.label}", "ratio")
    if notes := [f"{note.label} {format_number(number)}" for note in panel.notes if (number := source.value(note)) is not None]:
        parts["notes"] = (", " + ", ".join(notes), "note")
    if source.cursor is not None and not panel.x:
        parts["at"] = (f" at step {round(source.cursor):,}", "note")
    if panel.ratio and source.cursor is None and (spark := _spark(trace(snapshot, panel.ratio), ascii_only=ascii_only)):
        parts["spark"] = (f" {spark}", "ratio")
    return parts


def _headline(panel: Panel, source: Source) -> str | None:
    """The number read; the step of what is drawn over another axis; None when nothing was measured."""
    curve = panel.series[0]
    if panel.x:
        return f"step {record.step:,}" if (record := source.snapshot.last.get(curve.record)) else None
    if len(source.trace(curve)) == 0:
        return None
    number = source.value(curve)
    if number is None:
        words = "not finite" if source.cursor is None else "none yet"
    else:
        words = " ".join([format_number(number), panel.unit]).rstrip()
    return f"{curve.label} {words}" if len(panel.series) > 1 else words


def title_row(parts: dict[str, Part], width: int, *, ascii_only: bool = False) -> list[Part]:
    """The title as the upper edge of a frame, exactly `width` cells, without what does not fit.

    Args:
        parts: From `title_parts`.
        width: Cells across.
        ascii_only: For terminals without Unicode.
    """
    left_corner, edge, right_corner = "+-+" if ascii_only else "╭─╮"
    if width < 2:
        return [(edge * width, "frame")]
    kept = _fitting(parts, width)
    name, role = kept.pop("name")
    name = set_cell_size(name, min(cell_len(name), max(0, width - 4)))
    left: list[Part] = [(name, role), *(kept.pop(part) for part in LEFT if part in kept)]
    right = list(kept.values())
    row: list[Part] = [(f"{left_corner} ", "frame"), *left, (" ", "frame")] if name else [(left_corner, "frame")]
    end: list[Part] = [(" ", "frame"), *right, (f" {right_corner}", "frame")] if right else [(right_corner, "frame")]
    room = width - sum(cell_len(text) for text, _ in [*row, *end])
    return [*row, (edge * room, "frame"), *end]


def _fitting(parts: dict[str, Part], width: int) -> dict[str, Part]:
    """The parts that there is room for. Where the long remark goes, the notes may fit after all."""
    kept = dict(parts)
    for name in DROPPED_FIRST:
        if _length(kept) <= width:
            break
        kept.pop(name, None)
    if kept.keys() | {"cost", "notes", "remark"} >= parts.keys():
        for name in ("notes", "cost"):
            wider = {part: text for part, text in parts.items() if part in kept or part == name}
            kept = wider if _length(wider) <= width else kept
    return kept


def _length(parts: dict[str, Part]) -> int:
    """Cells that a title with these parts takes: corners, blanks and at least one cell of the edge between its sides."""
    has_right = any(name != "name" and name not in LEFT for name in parts)
    return sum(cell_len(text) for text, _ in parts.values()) + 5 + 2 * has_right


def _spark(ratio: Trace, *, ascii_only: bool) -> str:
    """The ratio over the whole run so far; a full bar is the edge and beyond."""
    if ratio.first_x is None or ratio.last_x is None:
        return ""
    columns = ratio.columns(ratio.first_x, ratio.last_x, SPARK_CELLS)
    return sparkline([column.last for column in columns if column], SPARK_CELLS, low=0.0, high=1.0, ascii_only=ascii_only)


def _marks(events: Sequence[EventRecord]) -> list[Mark]:
    """The events' letters; checkpoints first, as of several in a cell the last is drawn."""
    seen = [event for event in events if event.event not in UNMARKED]
    return [Mark(event.step, MARKS.get(event.event, "e"), "mark") for event in sorted(seen, key=lambda event: event.event != "checkpoint")]


class PanelTitle(CellGrid):
    """The upper edge of a panel's frame."""

    ROLES = "title"
    COMPONENT_CLASSES: ClassVar[set[str]] = {"title--frame", "title--name", "title--value", "title--ratio", "title--note"}
    DEFAULT_CSS = """
    PanelTitle {
        height: 1;
        & > .title--frame { color: $foreground; text-style: dim; }
        & > .title--name { color: $foreground; text-style: bold; }
        & > .title--value { color: $text-secondary; text-style: bold; }
        & > .title--ratio { color: $text-warning; }
        & > .title--note { color: $foreground; }
    }
    """

    def __init__(self, *, ascii_only: bool = False) -> None:
        """Show nothing yet.

        Args:
            ascii_only: For terminals without Unicode.
        """
        super().__init__()
        self._ascii_only = ascii_only
        self._parts: dict[str, Part] = {"name": ("", "name")}

    def show(self, parts: dict[str, Part]) -> None:
        """Say this instead."""
        self._parts = parts
        self.redraw()

    def grid(self, width: int, height: int) -> Grid:
        """The title in so many cells."""
        row = title_row(self._parts, width, ascii_only=self._ascii_only)
        return [[cell for text, role in row for cell in cells(text, role)]][:height]


class PanelView(Vertical, can_focus=True):
    """A chart in a frame, for one of the panels that a run's header asks for."""

    DEFAULT_CSS = """
    PanelView {
        height: 1fr;
        Chart { height: 1fr; }
        &:focus .title--name, &:focus .title--frame, &:focus .chart--frame { color: $text-primary; text-style: bold; }
    }
    """

    def __init__(self, panel: Panel, *, scale: Scale | None = None, ascii_only: bool = False) -> None:
        """Show the empty panel.

        Args:
            panel: What to show of a run.
            scale: Of the y axis; the panel's own where None.
            ascii_only: For terminals without Unicode.
        """
        super().__init__()
        self.panel = panel
        self._scale: Scale = scale or panel.scale
        self._ascii_only = ascii_only
        self._title = PanelTitle(ascii_only=ascii_only)
        self._chart = Chart(framed=True, ascii_only=ascii_only)
        self._given: tuple[RunSnapshot, View, Mapping[Key, Trace] | None] | None = None
        self._shown: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        """Title above chart."""
        yield self._title
        yield self._chart

    @property
    def scale(self) -> Scale:
        """Of the y axis, as it is now."""
        return self._scale

    def show(self, snapshot: RunSnapshot, view: View = WHOLE, traces: Mapping[Key, Trace] | None = None) -> None:
        """Draw this state of the run; costs nothing when nothing that the panel shows has changed.

        Args:
            snapshot: The run.
            view: Which of it, and how.
            traces: What was read anew of the steps in sight.
        """
        panel, source = self.panel, Source(snapshot, traces or {}, view.cursor)
        self._given = (snapshot, view, traces)
        window = view.window(snapshot)
        references = self._lines(source, panel.references)
        curves = profiles(snapshot, panel) if panel.x else []
        series = [] if panel.x else self._lines(source, panel.series)
        extras = [source.trace(curve) for curve in (panel.error, panel.ratio, *panel.notes) if curve]
        seen = (self._scale, view, window.low, window.high, snapshot.events, *extras)
        shown = (*seen, *(found for _, found in (*series, *curves, *references)))
        if shown == self._shown:
            return
        self._shown = shown
        self._title.show(title_parts(panel, source, scale=self._scale, ascii_only=self._ascii_only))
        if panel.x:
            self._chart.show_profiles(curves, references, scale=self._scale, decades=panel.decades, caption=panel.x.label)
            return
        self._chart.show(
            series,
            references,
            scale=self._scale,
            window=window,
            cursor=view.cursor,
            marks=_marks(snapshot.events),
            bands=[source.trace(panel.error)] if panel.error else [],
            smoothing=view.smoothing,
        )

    def toggle_scale(self) -> None:
        """Switch between a linear and a log axis."""
        self._scale = "linear" if self._scale == "log" else "log"
        if self._given is not None:
            self.show(*self._given)

    @staticmethod
    def _lines(source: Source, curves: Sequence[Curve]) -> list[Line]:
        return [(curve.label, source.trace(curve)) for curve in curves]
