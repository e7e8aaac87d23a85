"""Axes with round numbers: where they begin and end, what is written along them. Pure arithmetic; drawn by `charts`."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

from rich.cells import cell_len

Scale: TypeAlias = Literal["linear", "log"]

HUGE = 1e300
"""Larger magnitudes are drawn as this one, so that no difference of two overflows."""
TINY = 1e-300
"""Smaller magnitudes count as zero on a linear axis, and as this one on a log axis."""
LABEL_CELLS = 7
"""Longest label of the y axis."""
ROWS_APART = 2
"""Rows from one label of the y axis to the next, at least."""
CELLS_APART = 10
"""Cells from one label of the x axis to the next, at least."""
INTERVALS = (4, 5, 6, 8, 10)
"""Steps that a linear y axis may have: numbers with divisors, so that labels can be thinned out evenly."""
FEWEST_STEPS = 16
"""The x axis is not shorter than about so many steps."""


@dataclass(frozen=True, slots=True)
class Axis:
    """A vertical axis: its range and the numbers beside it."""

    low: float
    high: float
    scale: Scale
    labels: tuple[tuple[float, str], ...]
    """Values from the top down, with their text."""

    def placer(self, count: int) -> Callable[[float], int]:
        """Which of `count` places along the axis a value takes, from 0 at the low end; values beyond the ends take the end."""
        transform = math.log10 if self.scale == "log" else float
        low = transform(self.low)
        factor, top = (count - 1) / (transform(self.high) - low), count - 1
        smallest, largest = self.low, self.high

        def place(value: float) -> int:
            if value <= smallest:
                return 0
            return top if value >= largest else int((transform(value) - low) * factor + 0.5)

        return place


@lru_cache(maxsize=64)
def y_axis(low: float, high: float, *, scale: Scale, rows: int, from_zero: bool = False) -> Axis:
    """The axis that covers low to high and ends at round numbers.

    A linear axis begins at zero when asked, and else when the values vary by more than half of the largest, or by so
    little that labels could not tell them apart. As it only depends on the extremes of the run so far, and these only
    grow apart, it moves rarely: at each 20 % or so of growth.

    Args:
        low: Smallest value; above 0 on a log scale.
        high: Largest value.
        scale: linear or log.
        rows: Rows of text along it: bounds the number of labels.
        from_zero: Let a linear axis include zero in any case.

    Returns:
        The axis; for less than two rows without labels. Kept, as most panels keep their range for long.
    """
    low, high = _clamped(low, scale), _clamped(high, scale)
    axis = _log_axis(low, high, rows) if scale == "log" else _linear_axis(low, high, rows, from_zero=from_zero)
    return axis if rows >= 2 else Axis(axis.low, axis.high, scale, ())


def x_end(last: float, asked: float | None) -> float:
    """Right end of the x axis: the steps asked for, halved as often as leaves the last point on it.

    Args:
        last: The last point's x.
        asked: The steps that the run is asked for; None or 0 when not known, and then a power of two is taken.

    Returns:
        The end; more than asked, by a power of two, when the run went further.
    """
    base = asked or float(FEWEST_STEPS)
    return float(base * 2.0 ** math.ceil(math.log2(max(last, min(base, FEWEST_STEPS)) / base)))


def x_labels(x: tuple[float, float], width: int, *, least: float = 0.0, caption: str = "") -> str:
    """The row under a chart whose x axis has these ends in `width` cells: numbers centred below their place.

    Args:
        x: Left and right end, the right one the larger.
        width: Cells in the row.
        least: Smallest distance of two numbers.
        caption: What the numbers are, at the right where there is room.
    """
    begin, end = x
    caption = caption if 2 * cell_len(caption) <= width else ""
    size = cell_len(caption)
    wider = size - len(caption)
    apart = max(CELLS_APART, size + 5)
    step = max(least, _round_step((end - begin) * apart / max(width, 1)))
    row, before = "", ""
    for k in range(math.ceil(begin / step - 1e-9), math.floor(end / step + 1e-9) + 1):
        label = short_number(k * step)
        start = max(0, min(int((k * step - begin) / (end - begin) * width) - len(label) // 2, width - len(label)))
        if start < len(row) + bool(row) * 2 or start + len(label) > width:
            continue
        row, before = row.ljust(start) + label, row
    if len(row) + 2 + size <= width:
        return row.ljust(width - size) + caption
    if not row:
        return " " * width
    gap = len(row) - len(row.rsplit(maxsplit=1)[-1]) - len(before)
    if gap >= size + 4:
        row = before + caption.center(gap - wider) + row[len(before) + gap :]
        return row.ljust(width - wider)
    return row.ljust(width)


def x_words(words: Sequence[tuple[float, str]], width: int) -> str:
    """The row under a chart with words below some places, without those for which the ones before leave no room.

    Args:
        words: How far to the right each place is, 0 to 1, from the left, and what is written below it.
        width: Cells in the row.
    """
    row = ""
    for share, text in words:
        start = max(0, min(int(share * width) - len(text) // 2, width - len(text)))
        if len(row) + 2 * bool(row) <= start <= width - len(text) and cell_len(text) == len(text):
            row = row.ljust(start) + text
    return row.ljust(width)


def short_number(value: float) -> str:
    """A round number in few characters: 250, 1.5k, 300k, 2M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size <= abs(value) < 1e12:
            return f"{value / size:.6g}{suffix}"
    return f"{value:.6g}"


def tick_label(value: float, step: float) -> str:
    """A number on the y axis, in at most seven characters.

    Args:
        value: The number.
        step: A number that it is a multiple of: as many decimals are written as this one has.
    """
    if value == 0.0:
        return "0"
    decimals = next((d for d in range(6) if abs(step * 10**d - round(step * 10**d)) < 1e-6 * step * 10**d), None)
    if 1e4 <= abs(value) < 1e12:
        texts = [short_number(value)]
    else:
        texts = [] if decimals is None or abs(value) > 1e4 else [f"{value:.{decimals}f}"]
    texts += [_exponential(value, digits) for digits in (3, 2, 1, 0)]
    return next(text for text in texts if len(text) <= LABEL_CELLS)


def _exponential(value: float, digits: int) -> str:
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.') if digits else mantissa}e{int(exponent)}"


def _clamped(value: float, scale: Scale) -> float:
    if scale == "log":
        return min(max(value, TINY), HUGE)
    return 0.0 if abs(value) < TINY else min(max(value, -HUGE), HUGE)


def _power(exponent: int) -> float:
    """The double nearest to 10^exponent, which the operator ** misses for some."""
    return float(f"1e{exponent}")


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `least`, nor where doubles lose their digits."""
    least = max(least, TINY)
    power = _power(math.floor(math.log10(least)))
    return next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= least * (1 - 1e-9))


def _linear_axis(low: float, high: float, rows: int, *, from_zero: bool) -> Axis:
    largest = max(abs(low), abs(high))
    if from_zero or not 0.01 * largest < high - low < 0.5 * largest:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        high = 1.0
    # The tightest range; of equal ones the one that can hold more labels.
    options = [(count * step / (high - low), _stride(count, rows), first, count, step) for first, count, step in _divisions(low, high)]
    _, stride, first, count, step = min(options, key=lambda option: (round(option[0], 6), option[1] / option[3]))
    unit = step * math.gcd(first, stride)
    labels = [(k * step, tick_label(k * step, unit)) for k in range(first + count, first - 1, -stride)]
    return Axis(first * step, (first + count) * step, "linear", tuple(labels))


def _stride(count: int, rows: int) -> int:
    """Every how many steps a label fits, of numbers that divide all the steps."""
    return next(d for d in range(1, count + 1) if count % d == 0 and (d == count or (rows - 1) * d >= ROWS_APART * count))


def _divisions(low: float, high: float) -> Iterable[tuple[int, int, float]]:
    """Ranges that cover low to high: the lower end in steps, the number of steps, the step."""
    for wanted in INTERVALS:
        step = _round_step((high - low) / wanted)
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        spare = min((n for n in INTERVALS if n >= last - first), default=last - first) - (last - first)
        yield (first - spare if high <= 0.0 else first, last - first + spare, step)


def _log_axis(low: float, high: float, rows: int) -> Axis:
    low, high = _round_down(low), _round_up(high)
    if low == high:
        low, high = _round_down(low * 0.9), _round_up(high * 1.1)
    bare = Axis(low, high, "log", ())
    place = bare.placer(max(rows, 2) * 4)
    taken = {high: place(high) // 4, low: place(low) // 4}
    for value in _log_candidates(low, high, rows):
        row = place(value) // 4
        if all(abs(row - other) >= ROWS_APART for other in taken.values()):
            taken[value] = row
    return Axis(low, high, "log", tuple((value, tick_label(value, value)) for value in sorted(taken, reverse=True)))


def _log_candidates(low: float, high: float, rows: int) -> Iterable[float]:
    """Numbers to write along a log axis, the ones to write first first: decades evenly apart, then 2s and 5s."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    decades = math.log10(high) - math.log10(low)
    stride = next(n for n in (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000) if n * (rows - 1) >= ROWS_APART * decades or n == 1000)
    yield from (_power(k) for k in range(last - last % stride, first - 1, -stride))
    if decades <= 2.0:
        yield from (m * _power(k) for m in (2.0, 5.0) for k in range(last, first - 2, -1) if low < m * _power(k) < high)


def _round_down(value: float) -> float:
    power = _power(math.floor(math.log10(value)))
    return max((m * power for m in (1.0, 2.0, 5.0) if m * power <= value * (1 + 1e-9)), default=power)


def _round_up(value: float) -> float:
    power = _power(math.floor(math.log10(value)))
    return next((m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= value * (1 - 1e-9)), 10.0 * power)
