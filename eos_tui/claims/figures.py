"""A claim's charts as one figure file. matplotlib is an optional package and imported where it draws."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eos_tui.claims.statements import Chart
from eos_tui.plots import COLOURS, GREY, REFERENCE_DASH, STYLE, check_ending, save
from eos_tui.replacing import replacing
from runners.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WIDTH, CHART_HEIGHT = 5.0, 2.2
"""Of a figure, the lines' names beside the charts, and of each chart in it; in inches."""
FEW_POINTS = 40
"""Up to so many points of a line each is marked."""


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
        axes.plot(xs, ys, color=COLOURS[index % len(COLOURS)], label=line.label, linewidth=1.0, marker=marker, markersize=2)
    for value, label in chart.references:
        axes.axhline(value, color=GREY, linestyle=REFERENCE_DASH, linewidth=0.9, label=label)
    axes.set_xlabel(chart.x)
    axes.set_ylabel(chart.y)
    if chart.log_x:
        axes.set_xscale("log")
    if chart.log_y:
        axes.set_yscale("log")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
