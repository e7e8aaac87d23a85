"""What of a run, or of several, the panels show: which part of the axis, read where, smoothed how much. Pure values that keys change."""

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
class Extents:
    """How far what can be shown goes, in the numbers in which a view counts: a run's steps, or what several runs share."""

    end: float
    """Where the run is; of several the one that is furthest."""
    most: float
    """The right end of all that there is or will be."""
    fewest: float = FEWEST_STEPS
    """No window is narrower."""
    is_whole: bool = True
    """Whether a cursor stands at whole numbers, as steps are."""

    def nearest(self, place: float) -> float:
        """Where a cursor can stand that is asked for here."""
        return round(place) if self.is_whole else place


@dataclass(frozen=True)
class View:
    """How all panels are drawn."""

    unit: Unit = "steps"
    span: tuple[float, float] | None = None
    """What is shown, in steps of the run, or in numbers of the axis that several share; None for all that there is or will be."""
    follows: bool = True
    """Whether a span moves on with the run's end."""
    cursor: float | None = None
    """Where values are read; None for the last ones."""
    smoothing: float = 0.0
    """Share of the window."""

    def window(self, snapshot: RunSnapshot) -> Window:
        """The steps to show of this run, of which alone the view is, and their axis."""
        low, high = self.span or (0.0, extents(snapshot).most)
        return Window(low, high, clocks.clock(snapshot, self.unit))

    def followed(self, extents: Extents) -> "View":
        """This view of a run that has gone on: moved to its end, if it follows and that is out of sight."""
        if not self.span or not self.follows or extents.end <= self.span[1]:
            return self
        width = self.span[1] - self.span[0]
        return replace(self, span=(extents.end - (1.0 - AHEAD) * width, extents.end + AHEAD * width))

    def zoomed(self, extents: Extents, factor: float, *, around: float | None = None) -> "View":
        """A window `factor` times as narrow around a place.

        Args:
            extents: How far there is something to show.
            factor: Below 1 for a wider one.
            around: What stays where it is; None for the cursor, else the run's end if the window follows it, else the middle.
        """
        low, high = self.span or (0.0, extents.most)
        end = min(high, extents.end) if self.follows else (low + high) / 2
        centre = float(self.cursor) if self.cursor is not None and low <= self.cursor <= high else end
        centre = centre if around is None else around
        width = max((high - low) / factor, extents.fewest)
        share = (centre - low) / (high - low)
        return self._shown(extents, centre - share * width, width)

    def panned(self, extents: Extents, share: float) -> "View":
        """The window moved by a share of its width; to the left it no longer follows the run's end, at the end it does again."""
        low, high = self.span or (0.0, extents.most)
        moved = self._shown(extents, low + share * (high - low), high - low)
        return replace(moved, follows=moved.span is None or moved.span[1] >= extents.end)

    def with_cursor(self, extents: Extents, window: Window, *, columns: float, width: int) -> "View":
        """The cursor moved along the axis, by at least one where it stands at whole numbers; it begins at the last place in sight.

        Args:
            extents: How far there is something to read.
            window: What is shown.
            columns: How far to the right.
            width: Columns of the whole window.
        """
        if self.cursor is None:
            return replace(self, cursor=extents.nearest(min(window.high, extents.end)))
        moved = extents.nearest(window.step(window.share(self.cursor) + columns / max(width, 1)))
        if moved == self.cursor:
            moved += 1 if columns > 0 else -1
        view = replace(self, cursor=extents.nearest(min(max(moved, 0.0), extents.end)))
        if view.span is None or view.cursor is None or view.span[0] <= view.cursor <= view.span[1]:
            return view
        return replace(view.panned(extents, PAN if columns > 0 else -PAN), cursor=view.cursor)

    def pointed(self, extents: Extents, window: Window, share: float) -> "View":
        """The cursor so far to the right in what is shown, or at the run's end."""
        return replace(self, cursor=extents.nearest(min(max(window.step(share), 0.0), extents.end)))

    def _shown(self, extents: Extents, low: float, width: float) -> "View":
        """With a span of this width, within what there is; all of it where that is no wider."""
        if width >= extents.most:
            return replace(self, span=None)
        low = min(max(low, 0.0), extents.most - width)
        return replace(self, span=(low, low + width))


def extents(snapshot: RunSnapshot) -> Extents:
    """The run's, in steps: where it is, and all steps that there are or will be."""
    last = max((found.last_x or 0.0 for found in snapshot.traces.values()), default=0.0)
    return Extents(float(snapshot.step), x_end(max(last, float(snapshot.step)), snapshot.steps or None))
