"""Power laws through points. scipy is imported where it fits."""

import math
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95


class Power(NamedTuple):
    """y = factor x^exponent."""

    exponent: float
    error: float | None
    """Half-width of its 95 % confidence interval, were the points' logarithms independent and equally far off; None for two points."""
    factor: float


def power(xs: Sequence[float], ys: Sequence[float]) -> Power | None:
    """The power law through points > 0 by least squares in their logarithms; None with fewer than two different x.

    Args:
        xs: At least as many as there are to fit.
        ys: As many; points that are not > 0 and finite are left out.

    Returns:
        The exponent, exact for points on a power law, with the interval of Student's t for a straight line.
    """
    points = [(math.log(x), math.log(y)) for x, y in zip(xs, ys, strict=True) if x > 0 and y > 0 and math.isfinite(x * y)]
    if len({x for x, _ in points}) < 2:
        return None
    from scipy import stats

    line = stats.linregress(*zip(*points, strict=True))
    free = len(points) - 2
    # A level line has none by some versions of scipy.
    deviation = 0.0 if math.isnan(line.stderr) else line.stderr
    error = float(stats.t.ppf((1 + CONFIDENCE) / 2, free) * deviation) if free else None
    return Power(float(line.slope), error, math.exp(float(line.intercept)))
