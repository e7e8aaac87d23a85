"""The chart as a widget: `charts.draw` on Textual's Line API, repainted cell by cell."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

from textual.events import MouseDown, MouseEvent, MouseMove, MouseScrollDown, MouseScrollUp
from textual.message import Message

from eos_tui.charts import BLANK, Grid, Line, draw, draw_profiles
from eos_tui.series import Profile
from eos_tui.ticks import Scale
from eos_tui.widgets.cells import CellGrid


class Chart(CellGrid):
    """Lines held against references; see `charts.draw` for what is drawn how."""

    class Pointed(Message):
        """The mouse was pressed, or moved while it was."""

        def __init__(self, share: float) -> None:
            """Carry how far to the right it is, 0 to 1."""
            super().__init__()
            self.share = share

    class Zoomed(Message):
        """The wheel was turned."""

        def __init__(self, share: float, direction: int) -> None:
            """Carry how far to the right, 0 to 1, the mouse is, and whether towards fewer steps (1) or more (-1)."""
            super().__init__()
            self.share = share
            self.direction = direction

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
        self._has_steps = True

    def show(self, series: Sequence[Line], references: Sequence[Line] = (), **options: Any) -> None:
        """Draw these lines instead; cells that look the same are not sent again.

        Args:
            series: Labels and traces, up to four.
            references: The thresholds that they are held against.
            options: Of `charts.draw`.
        """
        self._draw = partial(draw, series, references, **options)
        self._has_steps = True
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
        self._has_steps = False
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

    def share_at(self, x: int) -> float | None:
        """How far to the right, 0 to 1, of the area inside the axes a column is; None left of it, and where the axis is not of steps."""
        row = self._grid[0] if self._grid and self._has_steps else []
        begin = next((k for k, (_, role) in enumerate(row) if role not in ("frame", "axis")), len(row))
        end = len(row) - self._framed
        return min((x - begin + 0.5) / (end - begin), 1.0) if begin <= x and begin < end else None

    def on_mouse_down(self, event: MouseDown) -> None:
        """Begin to point."""
        self.capture_mouse()
        self._point(event)

    def on_mouse_move(self, event: MouseMove) -> None:
        """Point on, as long as the button is held."""
        if event.button:
            self._point(event)

    def on_mouse_up(self) -> None:
        """Point no more."""
        self.release_mouse()

    def on_mouse_scroll_up(self, event: MouseScrollUp) -> None:
        """Ask for fewer steps around the column."""
        self._zoom(event, 1)

    def on_mouse_scroll_down(self, event: MouseScrollDown) -> None:
        """Ask for more steps."""
        self._zoom(event, -1)

    def _point(self, event: MouseEvent) -> None:
        if (share := self.share_at(event.x)) is not None:
            self.post_message(self.Pointed(share))

    def _zoom(self, event: MouseEvent, direction: int) -> None:
        event.stop()
        if (share := self.share_at(event.x)) is not None:
            self.post_message(self.Zoomed(share, direction))

    def _drawn(self, width: int, height: int) -> Grid:
        return self._draw(width=width, height=height, ascii_only=self._ascii_only)
