"""Charts as data, and several of them as one figure file. matplotlib is an optional package and imported where it draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from eos_tui.numerals import format_number
from eos_tui.plots import COLOURS, GREY, REFERENCE_DASH, STYLE, check_ending, save
from eos_tui.replacing import replacing
from runners.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, CHART_HEIGHT = 5.0, 2.2
"""Of a figure, the lines' names beside the charts, and of each chart in it; in inches."""
FEW_POINTS = 40
"""Up to so many points of a line each is marked."""
FEW_TICKS = 10
"""Up to so many places on a logarithmic axis each has its number."""


class Line(NamedTuple):
    """A line of a figure."""

    label: str
    points: Sequence[tuple[float, float]]
    errors: Sequence[float] = ()
    """Half-widths of a band about the points; none where empty."""
    stars: Sequence[tuple[float, float]] = ()
    """Points that are pointed out."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure's part, as data."""

    x: str
    y: str
    lines: tuple[Line, ...]
    references: tuple[tuple[float, str], ...] = ()
    """Values of y to hold the lines against, and what each is."""
    log_x: bool = False
    log_y: bool = False


def check() -> None:
    """Find out, before anything runs, whether figures can be drawn.

    Raises:
        OutputError: If matplotlib is missing.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise OutputError("Figures need the package matplotlib, which is not here. Install it: pip install 'eos-tui[plot]'") from None


def draw(charts: Sequence[Chart], output: Path) -> None:
    """Draw charts below each other.

    Args:
        charts: At least one.
        output: A .png, .svg or .pdf file, replaced if it exists.

    Raises:
        OutputError: If the ending is another one, or the file cannot be written.
    """
    check_ending(output)
    from matplotlib import style
    from matplotlib.figure import Figure

    with style.context(["default", STYLE]), replacing(output) as path:
        figure = Figure(figsize=(WIDTH, CHART_HEIGHT * len(charts)), layout="constrained")
        for axes, chart in zip(figure.subplots(len(charts), 1, squeeze=False)[:, 0], charts, strict=True):
            _draw(axes, chart)
        save(figure, path, output.suffix.lower()[1:])


def _draw(axes: "Axes", chart: Chart) -> None:
    for index, line in enumerate(chart.lines):
        xs, ys = zip(*line.points, strict=True) if line.points else ((), ())
        marker = "o" if len(xs) <= FEW_POINTS else ""
        colour = COLOURS[index % len(COLOURS)]
        axes.plot(xs, ys, color=colour, label=line.label, linewidth=1.0, marker=marker, markersize=2)
        if line.errors:
            low, high = ([y + sign * error for y, error in zip(ys, line.errors, strict=True)] for sign in (-1, 1))
            axes.fill_between(xs, low, high, color=colour, alpha=0.2, linewidth=0)
        for x, y in line.stars:
            axes.plot(x, y, color=colour, marker="*", markersize=7)
    for value, label in chart.references:
        axes.axhline(value, color=GREY, linestyle=REFERENCE_DASH, linewidth=0.9, label=label)
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    if chart.log_x:
        axes.set_xscale("log")
        places = sorted({x for line in chart.lines for x, _ in line.points})
        if len(places) <= FEW_TICKS:
            axes.set_xticks(places, [format_number(x) for x in places])
            axes.set_xticks([], minor=True)
    if chart.log_y:
        axes.set_yscale("log")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
