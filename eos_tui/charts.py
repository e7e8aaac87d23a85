"""Charts of traces as text: (series, references, size) -> a grid of cells, each a character and the role of its style.

Pure: reads no clock and knows nothing of a terminal or of colours; the widgets map roles to styles. Also the sparklines of lists and
titles. How a line is drawn is in `strokes`.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

from rich.cells import cell_len

from eos_tui import dots
from eos_tui.decimate import Column, Extent, Trace
from eos_tui.numerals import format_number
from eos_tui.profiles import clipped, ends, floor
from eos_tui.series import Profile
from eos_tui.strokes import ASCII, BAND, BRAILLE, CURSOR, REFERENCE, STROKES, Ink, Role, Stroke, sample_of, stroke_of
from eos_tui.ticks import Axis, Scale, x_end, x_labels, x_words, y_axis
from eos_tui.window import Window

Cell: TypeAlias = tuple[str, Role]
Grid: TypeAlias = list[list[Cell]]
"""Rows from the top, each of as many cells as the chart is wide."""
Line: TypeAlias = tuple[str, Trace]
"""A label and its points."""

BLANK: Cell = (" ", "")
IN_SIGHT = 20.0
"""A reference up to so many times the largest value is part of a linear axis; a farther one is named at the edge."""
IN_SIGHT_LOG = 1000.0
"""The same on a log axis."""
GUTTER_FROM = 24
"""Cells across from which a chart has numbers at its left."""
LABELS_FROM = 4
"""Rows from which a chart over steps has numbers below: it can do without, as others have the same."""
LABELS_FROM_ACROSS = 3
"""Rows from which a chart over another axis has numbers below."""
ROOMY = 30
"""Cells across from which a reference's label says its value."""
SAMPLE_CELLS = (3, 2)
"""Cells of a line shown beside its label; the shorter ones where there is less room."""
LETTER = 8
"""Cells of lines that a text would rather hide than one of another text."""
BLOCKS = " ▁▂▃▄▅▆▇█"
ASCII_BLOCKS = " .:-=+*#@"
BAND_DOTS = 2
"""A band that is no higher is that of the line itself."""


class Mark(NamedTuple):
    """An event on the axis."""

    step: float
    character: str
    role: Role


class Overlaid(NamedTuple):
    """A run's line among those of other runs."""

    tag: str
    """The character at its end."""
    trace: Trace
    window: Window
    """Its own steps on the axis that all share."""
    stroke: Stroke
    star: tuple[float, float, str] | None = None
    """A point that is pointed out, with what it is called."""


def draw(
    series: Sequence[Line],
    references: Sequence[Line] = (),
    *,
    width: int,
    height: int,
    scale: Scale = "linear",
    x_max: float | None = None,
    window: Window | None = None,
    cursor: float | None = None,
    marks: Sequence[Mark] | None = None,
    bands: Sequence[Trace | None] = (),
    smoothing: float = 0.0,
    ascii_only: bool = False,
) -> Grid:
    """A chart of the series, held against the references.

    The y axis covers all finite values of the series in the window and each reference's last value there, unless that is out of
    sight (`IN_SIGHT`): then an arrow with its value stands at the edge. On a log scale values that are not above zero are left out
    and counted.

    Args:
        series: Up to four, told apart by dashes as well as by role. Of more, which should not cross, the first stands out.
        references: Thresholds, drawn as dashed lines that follow their record; the last value is carried to the right.
        width: Cells across.
        height: Rows.
        scale: Of the y axis.
        x_max: The steps that the run is asked for, up to which the axis runs where no window is given.
        window: The steps to show, and their axis; all of them when None.
        cursor: A step with an upright line through it.
        marks: Events, for a row more below the chart; None for no such row.
        bands: Errors of the series, drawn faintly around them; None where there is none.
        smoothing: Share of the window's steps that a moving average goes back, over faint raw series; 0 for none.
        ascii_only: Draw with ASCII characters; braille and box characters otherwise.

    Returns:
        `height` rows of `width` cells, and one of the marks if there are any to draw.
    """
    ink = ASCII if ascii_only else BRAILLE
    below = [[BLANK] * max(width, 0)] * (marks is not None)
    if width <= 0 or height <= 0:
        return [[] for _ in range(max(height, 0))] + below
    whole = window is None
    window = window or Window(0.0, x_end(max((trace.last_x or 0.0 for _, trace in series), default=0.0), x_max))
    bounds = _bounds(series, scale, None if whole else window)
    if bounds is None:
        words = _nothing_to_draw(series) if whole or _bounds(series, scale) is None else "nothing in these steps"
        return _message(words, width, height) + below
    rows = height - (height >= LABELS_FROM)
    standing = [(label, _standing(trace, window)) for label, trace in references]
    axis = _axis(bounds, [value for _, value in standing if value is not None], scale=scale, rows=rows, held=bool(references))
    plot = _Plot(width, rows, window=window, axis=axis, ink=ink)
    for (label, trace), (_, value) in zip(references, standing, strict=True):
        plot.add_reference(label, trace, value)
    plot.add_bands(series, bands)
    span = smoothing * (window.high - window.low)
    plot.add_series(series, faint=bool(span))
    if span:
        plot.add_series([(label, trace.smoothed(span, log=scale == "log")) for label, trace in series])
    plot.add_cursor(cursor)
    plot.add_labels()
    plot.add_legend([label for label, _ in series], skipped=_skipped(series, scale))
    ends, caption = window.axis()
    least = 1.0 if window.clock is None else 0.0
    numbers = x_labels(ends, plot.width, least=least, caption=caption if plot.width >= ROOMY else "")
    grid = plot.framed(numbers if rows < height else None)
    return grid if marks is None else [*grid, plot.marked(marks)]


def draw_runs(
    lines: Sequence[Overlaid],
    levels: Sequence[tuple[str, float]] = (),
    *,
    window: Window,
    width: int,
    height: int,
    scale: Scale = "linear",
    cursor: float | None = None,
    smoothing: float = 0.0,
    words: Sequence[tuple[float, str]] | None = None,
    ascii_only: bool = False,
) -> Grid:
    """A chart of one series of several runs, each with its tag at its end; what the tags stand for is said elsewhere.

    Args:
        lines: The runs in the order in which they are drawn, the last one on top.
        levels: Labels and values of thresholds that hold for all of them.
        window: The axis that the lines' windows share, in its own numbers.
        width: Cells across.
        height: Rows.
        scale: Of the y axis.
        cursor: A place on the axis with an upright line through it.
        smoothing: Share of a line's window that a moving average goes back, over faint raw lines; 0 for none.
        words: Where the lines have their points, and what is written below these places, from the left: then the tags stand at the points.
            None for round numbers, and the tags at the lines' ends.
        ascii_only: Draw with ASCII characters; braille and box characters otherwise.

    Returns:
        `height` rows of `width` cells.
    """
    if width <= 0 or height <= 0:
        return [[] for _ in range(max(height, 0))]
    found = [line.trace.within(line.window.low, line.window.high) for line in lines]
    if (bounds := _range(found, scale)) is None:
        series = [(line.tag, line.trace) for line in lines]
        return _message(_nothing_to_draw(series) if _bounds(series, scale) is None else "nothing in sight here", width, height)
    rows = height - (height >= LABELS_FROM)
    axis = _axis(bounds, [value for _, value in levels], scale=scale, rows=rows, held=bool(levels))
    plot = _Plot(width, rows, window=window, axis=axis, ink=ASCII if ascii_only else BRAILLE)
    for label, value in levels:
        plot.add_reference(label, Trace.empty().extended([window.low], [value]), value)
    for line in lines if smoothing else ():
        plot.add_line(line.trace, line.window, line.stroke._replace(role="faint"))
    ends = [(line, plot.add_line(_averaged(line, smoothing, scale), line.window, line.stroke)) for line in lines]
    plot.add_cursor(cursor)
    plot.add_labels()
    for line, spans in ends:
        plot.add_tag(line.tag, spans, line.stroke.role) if words is None else plot.add_points(line)
    for line in lines:
        plot.add_star(line)
    if words is not None:
        numbers = x_words([(window.share(place), text) for place, text in words], plot.width)
    else:
        ends_of_axis, caption = window.axis()
        least = 1.0 if window.clock is None else 0.0
        numbers = x_labels(ends_of_axis, plot.width, least=least, caption=caption if plot.width >= ROOMY else "")
    return plot.framed(numbers if rows < height else None)


def _averaged(line: Overlaid, smoothing: float, scale: Scale) -> Trace:
    span = smoothing * (line.window.high - line.window.low)
    return line.trace.smoothed(span, log=scale == "log") if span > 0.0 else line.trace


def draw_profiles(
    profiles: Sequence[Profile],
    references: Sequence[Line] = (),
    *,
    width: int,
    height: int,
    scale: Scale = "linear",
    decades: int = 0,
    caption: str = "",
    ascii_only: bool = False,
) -> Grid:
    """A chart of curves over an x axis of their own, such as densities of eigenvalues.

    The x axis covers all points, and each reference unless that is out of sight (`profiles.IN_SIGHT`): then an arrow with its
    value stands at the edge. A linear y axis includes zero. On a log one curves end at its lower end, `decades` below the power of
    ten that the largest value exceeds.

    Args:
        profiles: Up to four, the one that matters most first; points without a finite position are left out.
        references: Values of x, drawn upright at their last value.
        width: Cells across.
        height: Rows.
        scale: Of the y axis.
        decades: Of a log axis, at most; 0 for no limit.
        caption: What the x axis is.
        ascii_only: Draw with ASCII characters; braille and box characters otherwise.

    Returns:
        `height` rows of `width` cells.
    """
    if width <= 0 or height <= 0:
        return [[] for _ in range(max(height, 0))]
    whole = [(label, clipped(points, floor=-math.inf)) for label, points in profiles]
    least = floor((value for _, (_, values) in profiles for value in values), decades)
    series = whole if scale == "linear" else [(label, clipped(points, floor=least)) for label, points in profiles]
    bounds = _bounds(series, scale)
    if bounds is None:
        return _message(_nothing_to_draw(whole), width, height)
    rows = height - (height >= LABELS_FROM_ACROSS)
    axis = y_axis(*bounds, scale=scale, rows=rows, from_zero=True)
    marks = [(label, value) for label, trace in references if (value := _last(trace)) is not None]
    places = [x for _, trace in series for x in (trace.first_x, trace.last_x) if x is not None]
    x = ends(min(places), max(places), [value for _, value in marks])
    plot = _Plot(width, rows, window=Window(*x), axis=axis, ink=ASCII if ascii_only else BRAILLE)
    for label, value in marks:
        plot.add_upright(label, value)
    plot.add_series(series)
    plot.add_legend([label for label, _ in series])
    plot.add_labels()
    numbers = x_labels(x, plot.width, caption=caption if plot.width >= ROOMY else "")
    return plot.framed(numbers if rows < height else None)


def cells(words: str, role: Role) -> list[Cell]:
    """One entry a cell; a wide character fills the cell after it with the empty string, a character without width is left out."""
    if words.isascii():
        return [(character, role) for character in words]
    return [cell for character in words for cell in [(character, role), ("", role)][: cell_len(character)]]


def text(grid: Grid) -> str:
    """The grid's characters, a line a row, without the blanks at the right."""
    return "\n".join("".join(character for character, _ in row).rstrip() for row in grid)


def sparkline(values: Sequence[float | None], width: int, *, low: float, high: float, ascii_only: bool = False) -> str:
    """The values as a row of small bars, the largest of each group where there are more values than cells.

    Args:
        values: None and NaN leave a blank.
        width: Cells at most.
        low: Value of the lowest bar.
        high: Value of the full bar; larger values are cut.
        ascii_only: Use punctuation instead of block characters.
    """
    blocks = ASCII_BLOCKS if ascii_only else BLOCKS
    count = min(len(values), max(width, 0))
    bars = ""
    for k in range(count):
        group = [v for v in values[k * len(values) // count : (k + 1) * len(values) // count] if v is not None and not math.isnan(v)]
        bars += _bar(max(group), low, high, blocks) if group else " "
    return bars


def _bar(value: float, low: float, high: float, blocks: str) -> str:
    share = (min(max(value, low), high) - low) / (high - low) if high > low else 0.5
    return blocks[1 + min(len(blocks) - 2, int(share * (len(blocks) - 1)))]


def _message(words: str, width: int, height: int) -> Grid:
    """The words in the middle of an empty chart."""
    line = words[:width].center(width)
    return [[(character, "label") for character in line] if y == (height - 1) // 2 else [BLANK] * width for y in range(height)]


def _nothing_to_draw(series: Sequence[Line]) -> str:
    points = max((len(trace) for _, trace in series), default=0)
    if points == 0:
        return "no data yet"
    if all(trace.bounds is None for _, trace in series):
        return "no finite value yet"
    return "no value above 0: nothing to draw on a log scale"


def _skipped(series: Sequence[Line], scale: Scale) -> str:
    count = sum(trace.not_positive for _, trace in series) if scale == "log" else 0
    return f"{count:,} value{'s' if count > 1 else ''} <= 0 not drawn" if count else ""


def _bounds(series: Sequence[Line], scale: Scale, window: Window | None = None) -> tuple[float, float] | None:
    """Smallest and largest value that the scale can show, of those in the window where there is one."""
    return _range((trace.extent if window is None else trace.within(window.low, window.high) for _, trace in series), scale)


def _range(extents: Iterable[Extent | None], scale: Scale) -> tuple[float, float] | None:
    """Smallest and largest value that the scale can show of all that there is; None where there is nothing."""
    found = [extent for extent in extents if extent is not None]
    if scale == "linear":
        return (min(extent.low for extent in found), max(extent.high for extent in found)) if found else None
    lows = [extent.smallest_positive for extent in found if extent.smallest_positive is not None]
    return (min(lows), max(extent.high for extent in found)) if lows else None


def _standing(trace: Trace, window: Window) -> float | None:
    """A reference's value at the window's right end, or its last one; None when that is not known."""
    if trace.last_x is None or trace.last_x <= window.high:
        return _last(trace)
    found = trace.at(window.high)
    return found[1] if found else None


def _axis(bounds: tuple[float, float], references: Sequence[float], *, scale: Scale, rows: int, held: bool) -> Axis:
    """The y axis: what the series and the references in sight need; from zero where something is held against them."""
    low, high = bounds
    values = [value for value in references if scale == "linear" or value > 0.0]
    if scale == "linear":
        largest = max(abs(low), abs(high)) or 1.0
        values = [value for value in values if abs(value) <= IN_SIGHT * largest]
    else:
        values = [value for value in values if low / IN_SIGHT_LOG <= value <= high * IN_SIGHT_LOG]
    return y_axis(min([low, *values]), max([high, *values]), scale=scale, rows=rows, from_zero=held)


def _last(trace: Trace) -> float | None:
    return None if trace.last is None else trace.last[1]


def _gutter(axis: Axis, ink: Ink, rows: int) -> Grid:
    """The numbers at the left and the axis beside them."""
    place = axis.placer(rows * ink.up)
    texts = {rows - 1 - place(value) // ink.up: label for value, label in axis.labels}
    width = max((len(label) for label in texts.values()), default=0)
    lines = [f"{texts.get(y, ''):>{width}} {ink.tick if y in texts else ink.axis}" for y in range(rows)]
    return [[(character, "axis") for character in line] for line in lines]


class _Plot:
    """The area inside the axes, filled in the order: references, series, labels."""

    def __init__(self, width: int, rows: int, *, window: Window, axis: Axis, ink: Ink) -> None:
        self._rows = rows
        self._gutter = _gutter(axis, ink, rows) if width >= GUTTER_FROM else [[] for _ in range(rows)]
        self.width = width - len(self._gutter[0])
        """Cells across inside the axes."""
        self._cells: Grid = [[BLANK] * self.width for _ in range(rows)]
        self._window = window
        self._axis = axis
        self._ink = ink
        self._place = axis.placer(rows * ink.up)
        self._bits: dots.Bits = {}
        self._labels: list[tuple[str, Sequence[tuple[int, int]]]] = []
        """References' labels and the places to try for each."""
        self._written: set[tuple[int, int]] = set()
        """Row and cell of what texts stand on."""

    def framed(self, numbers: str | None) -> Grid:
        """The chart with its axes; the numbers are a row below, as wide as the area."""
        grid = [[*left, *right] for left, right in zip(self._gutter, self._cells, strict=True)]
        return grid if numbers is None else [*grid, [BLANK] * len(self._gutter[0]) + cells(numbers, "axis")]

    def add_reference(self, label: str, trace: Trace, value: float | None) -> None:
        """A dotted line along the trace, up to the right edge as long as its value there is known."""
        axis = self._axis
        columns = trace.columns_between(self._window.edges(self.width))
        if columns and columns[0] is None and (before := trace.at(self._window.low)):
            columns[0] = Column(before[1], before[1], before[1], before[1], gap=False)
        until = len(columns) if value is not None else int(self._window.share(trace.last_x or 0.0) * len(columns))
        spans = dots.level(columns, self._place, low=axis.low, high=axis.high, until=until)
        self._paint(dots.bits(spans, REFERENCE.dash, across=1, up=self._ink.up), REFERENCE)
        if value is None:
            return
        words = f"{label} = {format_number(value)}"
        if value > axis.high:
            self._label(f"{words} {self._ink.above}", [0])
        elif value < axis.low:
            self._label(f"{words} {self._ink.below}", [self._rows - 1])
        else:
            row = self._rows - 1 - self._place(value) // self._ink.up
            self._label(words if self.width >= ROOMY else label, [y for y in (row - 1, row + 1, row) if 0 <= y < self._rows])

    def add_upright(self, label: str, value: float) -> None:
        """A dotted line from the bottom to the top; only its label, with an arrow, where the value is out of sight."""
        words = f"{label} = {format_number(value)}"
        share = self._window.share(value)
        if share < 0.0:
            self._labels.append((f"{self._ink.before} {words}", [(y, 0) for y in range(self._rows)]))
        elif share > 1.0:
            self._label(f"{words} {self._ink.behind}", range(self._rows))
        else:
            cell = self._upright(share, REFERENCE)
            words = words if self.width >= ROOMY else label
            is_right = cell + len(words) + 3 <= self.width
            self._labels.append((words, [(y, cell + 1 if is_right else max(0, cell - len(words) - 2)) for y in range(self._rows)]))

    def _upright(self, share: float, stroke: Stroke) -> int:
        """A dotted line from the bottom to the top; the cell that it is in."""
        across, up = self._ink.across, self._ink.up
        dot = min(int(share * self.width * across), self.width * across - 1)
        bits = sum(1 << k for k in range(0, up, up // 2)) << dot % across * up
        self._paint({(row, dot // across): bits for row in range(self._rows)}, stroke)
        return dot // across

    def add_cursor(self, step: float | None) -> None:
        """An upright line through the step; none where it is out of the window."""
        if step is not None and 0.0 <= (share := self._window.share(step)) <= 1.0:
            self._upright(share, CURSOR)

    def marked(self, marks: Sequence[Mark]) -> list[Cell]:
        """A row with a character below each event; of several in a cell the last."""
        row = [BLANK] * self.width
        for mark in marks:
            if self.width and 0.0 <= (share := self._window.share(mark.step)) <= 1.0:
                row[min(int(share * self.width), self.width - 1)] = (mark.character, mark.role)
        return [BLANK] * len(self._gutter[0]) + row

    def add_bands(self, series: Sequence[Line], bands: Sequence[Trace | None]) -> None:
        """What lies within an error of each series, faintly."""
        edges = self._window.edges(self.width * self._ink.across)
        for (_, trace), errors in zip(series, bands, strict=False):
            if errors is None or not self._is_seen(errors):
                continue
            columns = zip(trace.columns_between(edges), errors.columns_between(edges), strict=True)
            spans = [
                None if value is None or error is None else self._span(value.minimum - error.maximum, value.maximum + error.maximum)
                for value, error in columns
            ]
            self._paint(dots.bits(spans, BAND.dash, across=self._ink.across, up=self._ink.up), BAND)

    def _is_seen(self, errors: Trace) -> bool:
        """Whether the largest error is more than the line's own dots, as far as a linear axis tells without looking at each."""
        axis, extent = self._axis, errors.extent
        dots_each = self._rows * self._ink.up / (axis.high - axis.low)
        return extent is not None and (axis.scale == "log" or 2 * extent.high * dots_each > BAND_DOTS - 1)

    def _span(self, low: float, high: float) -> dots.Span | None:
        """The dots between two values; None where they are no more than the line's own."""
        axis = self._axis
        span = (self._place(low), self._place(high))
        return span if high >= axis.low and low <= axis.high and span[1] - span[0] > BAND_DOTS else None

    def _label(self, words: str, rows: Iterable[int]) -> None:
        """Have the words written at the right, in the middle or at the left of one of the rows."""
        self._labels.append((words, [(y, x) for x in (self.width, self.width // 2, 0) for y in rows]))

    def add_series(self, series: Sequence[Line], *, faint: bool = False) -> None:
        """The series' dots: those of fewer points over those of more, which would hide them; the first over its equals."""
        for k in sorted(range(len(series)), key=lambda k: (-len(series[k][1]), -k)):
            stroke = stroke_of(k, len(series))
            self.add_line(series[k][1], self._window, stroke._replace(role="faint") if faint else stroke)

    def add_line(self, trace: Trace, window: Window, stroke: Stroke) -> Sequence[dots.Span | None]:
        """A curve in a window that may be its own, on the same axis; the dots that it takes in each column."""
        columns = trace.columns_between(window.edges(self.width * self._ink.across))
        if self._axis.scale == "log":
            columns = [dots.positive(column) for column in columns]
        spans = dots.line(columns, self._place)
        self._paint(dots.bits(spans, stroke.dash, across=self._ink.across, up=self._ink.up), stroke)
        return spans

    def add_tag(self, tag: str, spans: Sequence[dots.Span | None], role: Role) -> None:
        """A character behind the end of a curve, or on the curve where that is taken or outside; nowhere when all of it is."""
        across, up = self._ink.across, self._ink.up
        known = [(i, span) for i, span in enumerate(spans) if span is not None]
        if not known:
            return
        behind = (known[-1][0] // across + 1, known[-1][1])
        for x, (low, high) in (behind, *((i // across, span) for i, span in reversed(known))):
            y = self._rows - 1 - (low + high) // 2 // up
            if x < self.width and (y, x) not in self._written and not {(y, x - 1), (y, x + 1)} & self._written:
                self._cells[y][x] = (tag, role)
                self._written.add((y, x))
                return

    def add_points(self, line: Overlaid) -> None:
        """The line's tag at each of its points; of several that coincide the first one's."""
        for x, value in zip(*line.trace.knots(), strict=True):
            if self._cell_of(line, x, value) not in self._written:
                self._point(line, x, value, line.tag)

    def add_star(self, line: Overlaid) -> None:
        """A star at the line's point that is pointed out, and its name above, below or beside it; where several coincide, of the last."""
        if line.star is None:
            return
        x, value, name = line.star
        row, cell = self._point(line, x, value, "*")
        most = self.width - len(name)
        starts = [(row + 1, cell - len(name) // 2), (row - 1, cell - len(name) // 2), (row, cell + 1), (row, cell - len(name))]
        beside = [(y, max(0, min(x, most))) for y, x in starts if 0 <= y < self._rows]
        free = [(y, x) for y, x in beside if not {(y, x + k) for k in range(len(name))} & self._written]
        self._write([(name, line.stroke.role)], free)

    def _point(self, line: Overlaid, x: float, value: float, character: str) -> tuple[int, int]:
        """A character at a point; its row and cell."""
        row, cell = self._cell_of(line, x, value)
        self._cells[row][cell] = (character, line.stroke.role)
        self._written.add((row, cell))
        return row, cell

    def _cell_of(self, line: Overlaid, x: float, value: float) -> tuple[int, int]:
        return self._rows - 1 - self._place(value) // self._ink.up, min(int(line.window.share(x) * self.width), self.width - 1)

    def add_labels(self) -> None:
        """The references' labels, where they hide the least."""
        for words, places in self._labels:
            self._write([(f" {words} ", REFERENCE.role)], places)

    def add_legend(self, labels: Sequence[str], *, skipped: str = "") -> None:
        """The series' labels where there are several, and how many values are not drawn, in the corners where they hide the least."""
        corners = [(y, x) for y in (0, self._rows - 1) for x in (self.width, 0)]
        samples = (self._legend(labels, sample=length) for length in SAMPLE_CELLS)
        if len(labels) > 1:
            self._write(next((parts for parts in samples if sum(cell_len(words) for words, _ in parts) <= self.width), []), corners)
        if skipped:
            self._write([(f" {skipped} ", "label")], corners[::-1])

    def _paint(self, lines: dots.Bits, stroke: Stroke) -> None:
        """Set a line's dots. A thin line below shines through; a band of noise gives way, or nothing over it were seen."""
        across, up = self._ink.across, self._ink.up
        glyphs, role, below, cells = self._ink.glyphs or stroke.ascii_glyphs, stroke.role, self._bits, self._cells[::-1]
        for place, bits in lines.items():
            if place in below and dots.is_thin(below[place], across=across, up=up):
                bits |= below[place]
            below[place] = bits
            cells[place[0]][place[1]] = (glyphs[bits], role)

    def _legend(self, labels: Sequence[str], *, sample: int) -> list[tuple[str, Role]]:
        """Each label behind so many cells of its line."""
        parts: list[tuple[str, Role]] = []
        shown = labels if len(labels) <= len(STROKES) else (labels[0], f"{labels[1]} to {labels[-1]}")
        for k, label in enumerate(shown):
            stroke = stroke_of(k, len(labels))
            parts.append((f" {sample_of(stroke, sample, self._ink)}", stroke.role))
            parts.append((f" {label}" + " " * (k + 1 == len(shown) or sample == SAMPLE_CELLS[0]), "label"))
        return parts

    def _write(self, parts: Sequence[tuple[str, Role]], places: Sequence[tuple[int, int]]) -> None:
        """Write the parts where they hide the fewest dots and labels; nowhere when they do not fit into the row.

        Args:
            parts: Text with its role.
            places: Row and first cell, in order of preference; moved to the left as far as the text needs.
        """
        written = [cell for words, role in parts for cell in cells(words, role)]
        if not written or len(written) > self.width:
            return
        starts = [(y, min(x, self.width - len(written))) for y, x in places]
        if not starts:
            return
        y, x = min(starts, key=lambda start: self._num_hidden(start, len(written)))
        row = self._cells[y]
        if x and row[x][0] == "":
            row[x - 1] = BLANK
        row[x : x + len(written)] = written
        if x + len(written) < self.width and row[x + len(written)][0] == "":
            row[x + len(written)] = BLANK
        self._written |= {(y, k) for k in range(x, x + len(written))}

    def _num_hidden(self, start: tuple[int, int], count: int) -> int:
        """Cells that a text there would hide, those of another text many times; lines of references go on behind it, as one sees."""
        y, x = start
        cells = enumerate(self._cells[y][x : x + count], x)
        return sum(LETTER if (y, k) in self._written else character != " " and role != REFERENCE.role for k, (character, role) in cells)
