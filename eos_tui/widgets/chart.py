"""The chart as a widget: `charts.draw` on Textual's Line API, repainted cell by cell."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from eos_tui.charts import BLANK, Grid, Line, draw, draw_profiles
from eos_tui.series import Profile
from eos_tui.ticks import Scale
from eos_tui.widgets.cells import CellGrid


class Chart(CellGrid):
    """Lines held against references; see `charts.draw` for what is drawn how."""

    ROLES = "chart"
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "chart--series-1",
        "chart--series-2",
        "chart--series-3",
        "chart--series-4",
        "chart--series-5",
        "chart--series-6",
        "chart--series-7",
        "chart--series-8",
        "chart--faint",
        "chart--band",
        "chart--reference",
        "chart--cursor",
        "chart--mark",
        "chart--axis",
        "chart--label",
        "chart--frame",
    }
    DEFAULT_CSS = """
    Chart {
        & > .chart--series-1 { color: $text-secondary; }
        & > .chart--series-2 { color: $text-success; text-style: dim; }
        & > .chart--series-3 { color: $foreground; text-style: bold; }
        & > .chart--series-4 { color: $text-error; }
        & > .chart--series-5 { color: $text-primary; }
        & > .chart--series-6 { color: ansi_magenta; }
        & > .chart--series-7 { color: $text-warning; text-style: bold; }
        & > .chart--series-8 { color: $text-success; text-style: bold; }
        & > .chart--reference { color: $text-warning; }
        & > .chart--faint { color: $foreground; text-style: dim; }
        & > .chart--band { color: $foreground; text-style: dim; }
        & > .chart--cursor { color: $foreground; text-style: bold; }
        & > .chart--mark { color: $text-warning; text-style: bold; }
        & > .chart--axis { color: $foreground; text-style: dim; }
        & > .chart--label { color: $foreground; }
        & > .chart--frame { color: $foreground; text-style: dim; }
    }
    """

    def __init__(self, *, framed: bool = False, ascii_only: bool = False) -> None:
        """Show nothing yet.

        Args:
            framed: Leave a column at each side and the last row to a frame, whose upper edge is another widget's.
            ascii_only: For terminals without Unicode.
        """
        super().__init__()
        self._framed = framed
        self._ascii_only = ascii_only
        self._draw: Callable[..., Grid] = partial(draw, ())

    def show(self, series: Sequence[Line], references: Sequence[Line] = (), **options: Any) -> None:
        """Draw these lines instead; cells that look the same are not sent again.

        Args:
            series: Labels and traces, up to four.
            references: The thresholds that they are held against.
            options: Of `charts.draw`.
        """
        self._draw = partial(draw, series, references, **options)
        self.redraw()

    def show_profiles(
        self, profiles: Sequence[Profile], references: Sequence[Line] = (), *, scale: Scale, decades: int = 0, caption: str = ""
    ) -> None:
        """Draw these curves over an x axis of their own instead.

        Args:
            profiles: Labels and points, up to four.
            references: Values of x that they are held against.
            scale: Of the y axis.
            decades: Of a log axis, at most; 0 for no limit.
            caption: What the x axis is.
        """
        self._draw = partial(draw_profiles, profiles, references, scale=scale, decades=decades, caption=caption)
        self.redraw()

    def show_drawn(self, drawn: Callable[..., Grid]) -> None:
        """Draw what this function gives instead, called with `width`, `height` and `ascii_only`."""
        self._draw = drawn
        self.redraw()

    def grid(self, width: int, height: int) -> Grid:
        """The chart in so many cells."""
        if not self._framed or width < 2 or height < 1:
            return self._drawn(width, height)
        side, left, edge, right = "|+-+" if self._ascii_only else "│╰─╯"
        drawn = self._drawn(width - 2, height - 1)
        rows = [[(side, "frame"), *row, (side, "frame")] for row in drawn[: height - 1]]
        marks = drawn[height - 1] if len(drawn) == height else [BLANK] * (width - 2)
        return [*rows, [(left, "frame"), *((edge, "frame") if cell == BLANK else cell for cell in marks), (right, "frame")]]

    def _drawn(self, width: int, height: int) -> Grid:
        return self._draw(width=width, height=height, ascii_only=self._ascii_only)
