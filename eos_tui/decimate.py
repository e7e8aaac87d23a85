"""Series of any length in bounded memory: what a chart needs of them, no point that would show is lost.

The snapshot extends a trace with each batch of records, the charts ask for one column a dot. Knows nothing of records
or of drawing.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate, chain, islice
from operator import lt
from typing import NamedTuple

BUCKETS = 2048
"""Buckets that a trace holds at most: eight times the dot columns of a 120-column terminal, 115 KB a trace."""


class Column(NamedTuple):
    """What falls into one column of a chart; every number is finite."""

    minimum: float
    maximum: float
    first: float
    last: float
    gap: bool
    """A missing value lies in the column, or between it and the column before: no line joins the two."""


class Extent(NamedTuple):
    """What points lie between."""

    low: float
    high: float
    smallest_positive: float | None
    """Where a log scale begins; None when no value is above zero."""


class Trace:
    """One series of (x, value) points, x never decreasing, in at most `BUCKETS` buckets. Immutable from outside.

    A bucket keeps the smallest, largest, first and last value of its points, so that spikes survive, and their sum and number. Up to
    `BUCKETS` points each has its own; then buckets span equal widths of x, which double each time that they get too many.
    """

    __slots__ = (
        "_count",
        "_counts",
        "_first_x",
        "_firsts",
        "_gap",
        "_gaps",
        "_high",
        "_last",
        "_lasts",
        "_low",
        "_maxima",
        "_minima",
        "_not_positive",
        "_smallest_positive",
        "_starts",
        "_sums",
        "_width",
    )

    def __init__(self) -> None:
        self._starts = array("d")
        self._minima = array("d")
        self._maxima = array("d")
        self._firsts = array("d")
        self._lasts = array("d")
        self._sums = array("d")
        self._counts = array("d")
        self._gaps = bytearray()
        self._width = 0.0
        self._gap = False
        self._count = 0
        self._not_positive = 0
        self._first_x: float | None = None
        self._last: tuple[float, float | None] | None = None
        self._low = math.inf
        self._high = -math.inf
        self._smallest_positive = math.inf

    @staticmethod
    def empty() -> "Trace":
        """The trace of no points."""
        return _EMPTY

    def __len__(self) -> int:
        """Points ever appended, the missing ones included."""
        return self._count

    @property
    def first_x(self) -> float | None:
        """The first point's x."""
        return self._first_x

    @property
    def last_x(self) -> float | None:
        """The last point's x."""
        return None if self._last is None else self._last[0]

    @property
    def last(self) -> tuple[float, float | None] | None:
        """The last point; its value is None when it is missing or not finite."""
        return self._last

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Smallest and largest finite value of all."""
        return None if self._low > self._high else (self._low, self._high)

    @property
    def extent(self) -> "Extent | None":
        """What all finite values lie between; None when there are none."""
        return None if self._low > self._high else Extent(self._low, self._high, self.smallest_positive)

    @property
    def smallest_positive(self) -> float | None:
        """Smallest finite value above zero: where a log scale begins."""
        return None if math.isinf(self._smallest_positive) else self._smallest_positive

    @property
    def not_positive(self) -> int:
        """Finite values that are zero or less, which a log scale cannot show."""
        return self._not_positive

    def extended(self, xs: Sequence[float], values: Sequence[float | None]) -> "Trace":
        """This trace with more points behind; itself unchanged.

        Args:
            xs: Where the points lie; one that lies before its predecessor counts as lying at it.
            values: As many numbers; None, NaN and infinities are gaps.

        Returns:
            The longer trace.

        Raises:
            ValueError: If `xs` and `values` differ in length.

        Cost: a copy of 115 KB at most and 50 ns a point.
        """
        if len(xs) != len(values):
            raise ValueError(f"{len(xs)} xs for {len(values)} values: expected as many of each.")
        if not xs:
            return self
        trace = self._copy()
        trace._append(trace._sorted(xs), values)
        return trace

    def columns(self, low: float, high: float, count: int) -> list[Column | None]:
        """The points with low <= x <= high, in `count` columns of equal width.

        Args:
            low: Left edge of the first column.
            high: Right edge of the last column, which it belongs to.
            count: Number of columns.

        Returns:
            A column each, None where no finite value falls. A bucket counts wholly to the column of its first point.
        """
        return self.columns_between([low, *(low + (high - low) * ((k + 1) / count) for k in range(count - 1)), high] if count else [])

    def columns_between(self, edges: Sequence[float]) -> list[Column | None]:
        """The points between each two neighbouring edges; a point on an edge belongs to the column at its right, at the last to the last.

        Args:
            edges: Never decreasing.

        Returns:
            A column less than there are edges; see `columns`.
        """
        if len(edges) < 2:
            return []
        starts, minima, maxima, gaps = self._starts, self._minima, self._maxima, self._gaps
        columns: list[Column | None] = [None] * (len(edges) - 1)
        begin, behind = bisect_left(starts, edges[0]), bisect_right(starts, edges[-1])
        for k in range(len(columns)):
            if begin == behind:
                break
            end = bisect_left(starts, edges[k + 1], begin, behind) if k + 1 < len(columns) else behind
            if end == begin + 1:
                columns[k] = Column(minima[begin], maxima[begin], self._firsts[begin], self._lasts[begin], bool(gaps[begin]))
            elif end > begin:
                smallest, largest = min(minima[begin:end]), max(maxima[begin:end])
                columns[k] = Column(smallest, largest, self._firsts[begin], self._lasts[end - 1], gaps.find(1, begin, end) >= 0)
            begin = end
        return columns

    def within(self, low: float, high: float) -> "Extent | None":
        """What the finite points with low <= x <= high lie between; None when there are none. As exact as the buckets."""
        begin, behind = bisect_left(self._starts, low), bisect_right(self._starts, high)
        if begin == behind:
            return None
        minima = self._minima[begin:behind]
        smallest, largest = min(minima), max(self._maxima[begin:behind])
        if smallest > 0.0:
            return Extent(smallest, largest, smallest)
        positive = min(
            (value for value in chain(minima, self._firsts[begin:behind], self._lasts[begin:behind]) if value > 0.0), default=None
        )
        return Extent(smallest, largest, largest if positive is None and largest > 0.0 else positive)

    def is_coarse(self, low: float, high: float) -> bool:
        """Whether the points between two places would show more if they had the buckets of the whole."""
        return self._width > 0.0 and (high - low) / self._width < BUCKETS / 2

    def at(self, x: float) -> tuple[float, float] | None:
        """The last finite point known at or before x, as exact as the buckets: where its bucket begins, and its value."""
        index = bisect_right(self._starts, x) - 1
        return None if index < 0 else (self._starts[index], self._lasts[index])

    def smoothed(self, span: float, *, log: bool = False) -> "Trace":
        """The moving average of the points, in which one `span` steps back counts 1/e as much.

        With the weights w_i = exp(-(x - x_i) / span) of all points up to x it is sum_i w_i v_i / sum_i w_i, so that it does not begin
        at zero; a bucket's points count at its beginning.

        Args:
            span: In steps, above 0.
            log: Average logarithms, of the values above zero.
        """
        places, averages = [], []
        total = weight = 0.0
        before = None
        for x, number, count in zip(self._starts, self._sums, self._counts, strict=True):
            mean = number / count
            if log:
                if mean <= 0.0:
                    continue
                mean = math.log(mean)
            fade = 1.0 if before is None else math.exp((before - x) / span)
            total, weight, before = fade * total + mean * count, fade * weight + count, x
            places.append(x)
            averages.append(math.exp(total / weight) if log else total / weight)
        return _EMPTY.extended(places, averages)

    def knots(self) -> tuple[Sequence[float], Sequence[float]]:
        """Where the buckets begin, and their first values."""
        return self._starts, self._firsts

    def means(self) -> tuple[Sequence[float], Sequence[float]]:
        """Where the buckets begin, and the means of their points."""
        return self._starts, [total / count for total, count in zip(self._sums, self._counts, strict=True)]

    def _copy(self) -> "Trace":
        trace = Trace()
        for name in self.__slots__:
            value = getattr(self, name)
            setattr(trace, name, value[:] if isinstance(value, array | bytearray) else value)
        return trace

    def _sorted(self, xs: Sequence[float]) -> Sequence[float]:
        floor = xs[0] if self._last is None else self._last[0]
        # Of what is in order already this takes 12 ns a point, comparing neighbours 30.
        if floor <= xs[0] and (ordered := list(xs)) == sorted(ordered):
            return xs
        return list(islice(accumulate(chain([floor], xs), max), 1, None))

    def _append(self, xs: Sequence[float], values: Sequence[float | None]) -> None:
        if self._have_buckets_each(xs) and (finite := _finite(values)[0]) is values:
            self._note_extremes(min(finite), max(finite), finite)
            self._open_buckets(xs, finite)
        else:
            self._fill_buckets(xs, values)
        self._count += len(xs)
        self._first_x = xs[0] if self._first_x is None else self._first_x
        value = values[-1]
        self._last = (xs[-1], value if value is not None and math.isfinite(value) else None)

    def _note_extremes(self, low: float, high: float, finite: Sequence[float]) -> None:
        """Take the smallest and the largest of some finite values, and the values, into account."""
        self._low, self._high = min(self._low, low), max(self._high, high)
        self._not_positive += sum(v <= 0.0 for v in finite) if low <= 0.0 else 0
        self._smallest_positive = min(self._smallest_positive, low if low > 0.0 else min((v for v in finite if v > 0.0), default=math.inf))

    def _have_buckets_each(self, xs: Sequence[float]) -> bool:
        """Whether buckets still hold a point each, also with these."""
        if self._width or len(self._starts) + len(xs) > BUCKETS or (self._starts and xs[0] <= self._starts[-1]):
            return False
        return all(map(lt, xs, islice(xs, 1, None)))

    def _open_buckets(self, xs: Sequence[float], values: Sequence[float]) -> None:
        """A bucket for each of the values, 20 times as fast as one by one."""
        self._starts.extend(xs)
        for numbers in (self._minima, self._maxima, self._firsts, self._lasts, self._sums):
            numbers.extend(values)
        self._counts.extend([1.0] * len(values))
        self._gaps.extend(bytes([self._gap]) + bytes(len(xs) - 1))
        self._gap = False

    def _fill_buckets(self, xs: Sequence[float], values: Sequence[float | None]) -> None:
        begin = 0
        while begin < len(xs):
            end = self._bucket_end(xs, begin)
            self._add(xs[begin], values[begin:end])
            begin = end
            if len(self._starts) > BUCKETS:
                self._coarsen()

    def _bucket_end(self, xs: Sequence[float], begin: int) -> int:
        """Index behind the last of the points from `begin` on that share its bucket."""
        x = xs[begin]
        if self._width == 0.0:
            return bisect_right(xs, x, begin)
        return max(begin + 1, bisect_left(xs, (x // self._width + 1.0) * self._width, begin))

    def _add(self, x: float, values: Sequence[float | None]) -> None:
        """Put values that share a bucket, the first of them at x, into it."""
        finite, total = _finite(values)
        if finite:
            column = Column(min(finite), max(finite), finite[0], finite[-1], self._gap or len(finite) < len(values))
            self._note_extremes(column.minimum, column.maximum, finite)
            self._put(x, column, total, len(finite))
        self._gap = not finite or (len(finite) < len(values) and finite[-1] is not values[-1])

    def _put(self, x: float, new: Column, total: float, count: float) -> None:
        """Merge into the last bucket when x belongs to it, else open another."""
        if self._starts and (x // self._width == self._starts[-1] // self._width if self._width else x == self._starts[-1]):
            self._minima[-1] = min(self._minima[-1], new.minimum)
            self._maxima[-1] = max(self._maxima[-1], new.maximum)
            self._lasts[-1] = new.last
            self._sums[-1] += total
            self._counts[-1] += count
            self._gaps[-1] |= new.gap
            return
        self._starts.append(x)
        self._minima.append(new.minimum)
        self._maxima.append(new.maximum)
        self._firsts.append(new.first)
        self._lasts.append(new.last)
        self._sums.append(total)
        self._counts.append(count)
        self._gaps.append(new.gap)

    def _coarsen(self) -> None:
        """Double the buckets' width until a quarter of them is free again; a first width makes for half of them."""
        while len(self._starts) > BUCKETS * 3 // 4:
            span = self._starts[-1] - self._starts[0]
            # Powers of two from x = 0 on: two neighbours always fill one bucket of twice the width.
            self._width = 2.0 * self._width or math.ldexp(1.0, math.frexp(span / BUCKETS)[1] + 1)
            numbers = (self._starts, self._minima, self._maxima, self._firsts, self._lasts, self._sums, self._counts, self._gaps)
            buckets = zip(*numbers, strict=True)
            self._starts, self._minima, self._maxima, self._firsts = (array("d") for _ in range(4))
            self._lasts, self._sums, self._counts, self._gaps = array("d"), array("d"), array("d"), bytearray()
            for x, low, high, first, last, total, count, gap in buckets:
                self._put(x, Column(low, high, first, last, bool(gap)), total, count)


_EMPTY = Trace()


def _finite(values: Sequence[float | None]) -> tuple[Sequence[float], float]:
    """The finite ones among the values, the same object when all are, which a finite sum proves fast; and their sum."""
    try:
        total = sum(values)  # type: ignore[arg-type]
        if math.isfinite(total):
            return values, total  # type: ignore[return-value]
    except TypeError:
        pass
    finite = [value for value in values if value is not None and math.isfinite(value)]
    return finite, sum(finite)
