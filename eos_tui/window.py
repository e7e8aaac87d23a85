"""Which steps a chart shows, and on which axis: steps themselves, seconds, examples seen, lr x steps. Pure; used by whatever draws.

Steps are what places everything: another axis only moves them apart or together, by a `Clock`.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

Unit: TypeAlias = Literal["steps", "time", "examples", "lr x steps"]
UNITS: tuple[Unit, ...] = ("steps", "time", "examples", "lr x steps")
RESOLUTION = 1e-9
"""Share of its numbers' size that an axis is long at least, or they could not be told apart."""
FARTHEST = 1e300
"""Places farther away count as this one, so that no difference of two overflows."""
DURATIONS = ((172_800.0, 86_400.0, "days"), (7200.0, 3600.0, "hours"), (120.0, 60.0, "minutes"))
"""Seconds from which on an axis counts in larger units, their length, their name."""


class Clock:
    """Where each step lies on another axis, which never runs backwards; on a straight line between the steps that are known."""

    def __init__(self, unit: Unit, steps: Sequence[float], places: Sequence[float]) -> None:
        """Keep what is known.

        Args:
            unit: What the axis counts.
            steps: Increasing, at least one.
            places: As many numbers; one below its predecessor counts as equal to it.
        """
        self.unit = unit
        self._steps = list(steps)
        self._places = [_bounded(place) for place in places]
        for index in range(1, len(self._places)):
            self._places[index] = max(self._places[index], self._places[index - 1])

    def place(self, step: float) -> float:
        """Where the step lies; beyond the last known one at the pace of the whole."""
        return _bounded(_between(self._steps, self._places, step))

    def step(self, place: float) -> float:
        """The step that lies there; of several the last."""
        return _bounded(_between(self._places, self._steps, place))


@dataclass(frozen=True)
class Window:
    """The steps that a chart shows."""

    low: float
    high: float
    """Above `low`."""
    clock: Clock | None = None
    """The axis's; None where it counts steps."""
    places: tuple[float, float] | None = None
    """Where the axis begins and ends, where several runs share it; None where it does at the first and the last step."""

    def edges(self, count: int) -> Sequence[float]:
        """The steps that bound `count` columns of equal width, never decreasing, the ends exactly."""
        return _edges(self, count)

    def share(self, step: float) -> float:
        """How far to the right a step lies: 0 at the left end, 1 at the right one."""
        low, high = self.ends
        place = step if self.clock is None else self.clock.place(step)
        return (place - low) / (high - low)

    def step(self, share: float) -> float:
        """The step that lies so far to the right."""
        low, high = self.ends
        place = low + (high - low) * share
        return place if self.clock is None else self.clock.step(place)

    def axis(self) -> tuple[tuple[float, float], str]:
        """The numbers at the two ends, and what they count."""
        low, high = self.ends
        if self.clock is None:
            return (low, high), "steps"
        if self.clock.unit != "time":
            return (low, high), self.clock.unit
        size, name = next(((size, name) for least, size, name in DURATIONS if high - low >= least), (1.0, "seconds"))
        return (low / size, high / size), name

    @property
    def ends(self) -> tuple[float, float]:
        """Where the axis begins and ends; never at the same place."""
        if self.places is not None:
            return self.places
        if self.clock is None:
            return self.low, self.high
        low, high = self.clock.place(self.low), self.clock.place(self.high)
        apart = max(abs(low), abs(high)) * RESOLUTION
        return low, high if high - low > apart else low + max(1.0, apart)


@lru_cache(maxsize=64)
def _edges(window: Window, count: int) -> Sequence[float]:
    """Kept, as all panels of a run, and all series of a panel, have the same."""
    axis, clock = window.ends, window.clock
    places = [axis[0] + (axis[1] - axis[0]) * (k / count) for k in range(1, count)]
    if clock is not None:
        places = [min(max(clock.step(place), window.low), window.high) for place in places]
    return (window.low, *places, window.high)


def _bounded(value: float) -> float:
    return min(max(value, -FARTHEST), FARTHEST)


def _between(xs: Sequence[float], ys: Sequence[float], x: float) -> float:
    """Linear interpolation, and beyond the ends the straight line through both of them."""
    index = bisect_right(xs, x)
    if 0 < index < len(xs):
        return ys[index - 1] + (ys[index] - ys[index - 1]) * (x - xs[index - 1]) / (xs[index] - xs[index - 1])
    anchor = index - 1 if index else 0
    span = xs[-1] - xs[0]
    slope = _bounded((ys[-1] - ys[0]) / span) if span > 0.0 else 1.0
    return ys[anchor] + (x - xs[anchor]) * slope
