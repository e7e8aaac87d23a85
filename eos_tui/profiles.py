"""Curves over an x axis of their own, such as densities of eigenvalues: which part of them is drawn. Pure; used by `charts` and `plots`."""

import math
from collections.abc import Iterable, Sequence

from eos_tui.decimate import Trace
from eos_tui.series import Points
from eos_tui.ticks import HUGE, TINY

IN_SIGHT = 3.0
"""The x axis reaches to references up to so many times the points' range away."""
ROOM = 0.03
"""Share of the axis left beyond a reference at its end."""


def floor(values: Iterable[float | None], decades: int) -> float:
    """Where a log axis begins that reaches so many powers of ten below that of the largest value; 0 where nothing bounds it."""
    top = max((value for value in values if value is not None and math.isfinite(value)), default=0.0)
    return 10.0 ** max(math.floor(math.log10(top)) - decades, -300) if decades and top > 0.0 else 0.0


def clipped(points: Points, *, floor: float) -> Trace:
    """The points above the floor, with gaps between; a curve that crosses a floor above 0 ends on it."""
    pairs = [(min(max(x, -HUGE), HUGE), y) for x, y in zip(*points, strict=True) if x is not None and math.isfinite(x)]
    is_above = [y is not None and y > floor for _, y in pairs]
    at_floor = floor if floor > 0.0 else None
    values: list[float | None] = []
    for k, (_, y) in enumerate(pairs):
        crosses = y is not None and any(is_above[max(k - 1, 0) : k + 2])
        values.append(y if is_above[k] else at_floor if crosses else None)
    return Trace.empty().extended([x for x, _ in pairs], values)


def in_sight(low: float, high: float, marks: Sequence[float]) -> list[float]:
    """The marks that the axis of points from low to high reaches to."""
    reach = IN_SIGHT * (high - low)
    return [mark for mark in marks if low - reach <= mark <= high + reach]


def ends(low: float, high: float, marks: Sequence[float]) -> tuple[float, float]:
    """Both ends of the x axis: where there are points, and the marks in sight with a little room."""
    seen = in_sight(low, high, marks)
    room = ROOM * (max([high, *seen]) - min([low, *seen]))
    low, high = min([low, *(mark - room for mark in seen)]), max([high, *(mark + room for mark in seen)])
    largest = max(abs(low), abs(high))
    if high - low > max(1e-9 * largest, TINY):
        return low, high
    room = largest if largest > TINY else 1.0
    return low - room, high + room
