"""What of a run its panels show: which steps, on which axis, read where, smoothed how much. Pure values that keys change."""

from dataclasses import dataclass, replace

from eos_tui import clocks
from eos_tui.snapshot import RunSnapshot
from eos_tui.ticks import x_end
from eos_tui.window import Unit, Window

SMOOTHINGS = (0.0, 0.01, 0.03, 0.1)
"""Shares of the window that a moving average goes back: none, and three."""
ZOOM = 2.0
"""Factor of one zoom."""
PAN = 0.25
"""Share of the window that one pan goes."""
FEWEST_STEPS = 8.0
"""No window is narrower."""
AHEAD = 0.2
"""Share of a window that follows the run's end which is free when it moves: it moves in jumps, since each costs a whole repaint."""


@dataclass(frozen=True)
class View:
    """How all panels of a run are drawn."""

    unit: Unit = "steps"
    span: tuple[float, float] | None = None
    """The steps shown; None for all, up to those that the run is asked for."""
    follows: bool = True
    """Whether a span moves on with the run's end."""
    cursor: int | None = None
    """The step at which values are read; None for the last ones."""
    smoothing: float = 0.0
    """Share of the window."""

    def window(self, snapshot: RunSnapshot) -> Window:
        """The steps to show of this run, and their axis."""
        low, high = self.span or whole(snapshot)
        return Window(low, high, clocks.clock(snapshot, self.unit))

    def followed(self, snapshot: RunSnapshot) -> "View":
        """This view of a run that has gone on: moved to its end, if it follows and that is out of sight."""
        if not self.span or not self.follows or snapshot.step <= self.span[1]:
            return self
        width = self.span[1] - self.span[0]
        return replace(self, span=(snapshot.step - (1.0 - AHEAD) * width, snapshot.step + AHEAD * width))

    def zoomed(self, snapshot: RunSnapshot, factor: float) -> "View":
        """A window `factor` times as narrow around the cursor; without one around the run's end if it follows, else the middle."""
        low, high = self.span or whole(snapshot)
        end = min(high, float(snapshot.step)) if self.follows else (low + high) / 2
        centre = float(self.cursor) if self.cursor is not None and low <= self.cursor <= high else end
        width = max((high - low) / factor, FEWEST_STEPS)
        share = (centre - low) / (high - low)
        return self._shown(snapshot, centre - share * width, width)

    def panned(self, snapshot: RunSnapshot, share: float) -> "View":
        """The window moved by a share of its width; to the left it no longer follows the run's end, at the end it does again."""
        low, high = self.span or whole(snapshot)
        moved = self._shown(snapshot, low + share * (high - low), high - low)
        return replace(moved, follows=moved.span is None or moved.span[1] >= snapshot.step)

    def with_cursor(self, snapshot: RunSnapshot, *, columns: float, width: int) -> "View":
        """The cursor moved by so many of the window's `width` columns, at least a step; it begins at the last step in sight."""
        window = self.window(snapshot)
        if self.cursor is None:
            return replace(self, cursor=round(min(window.high, float(snapshot.step))))
        moved = round(window.step(window.share(self.cursor) + columns / max(width, 1)))
        if moved == self.cursor:
            moved += 1 if columns > 0 else -1
        view = replace(self, cursor=min(max(moved, 0), snapshot.step))
        if view.span is None or view.cursor is None or view.span[0] <= view.cursor <= view.span[1]:
            return view
        return replace(view.panned(snapshot, PAN if columns > 0 else -PAN), cursor=view.cursor)

    def _shown(self, snapshot: RunSnapshot, low: float, width: float) -> "View":
        """With a span of this width, within what there is; all of it where that is no wider."""
        least, most = whole(snapshot)
        if width >= most - least:
            return replace(self, span=None)
        low = min(max(low, least), most - width)
        return replace(self, span=(low, low + width))


def whole(snapshot: RunSnapshot) -> tuple[float, float]:
    """All steps that there are or will be."""
    last = max((found.last_x or 0.0 for found in snapshot.traces.values()), default=0.0)
    return 0.0, x_end(max(last, float(snapshot.step)), snapshot.steps or None)
