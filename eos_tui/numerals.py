"""How numbers look in titles, tables and messages, anywhere in the viewer and in what commands print."""

import math

NOTHING = "-"
"""Stands in a table for what is not known."""


def format_number(value: float | None, *, digits: int = 3) -> str:
    """A number as titles and tables show it; integers, and what has more digits before the point, with all of these.

    Examples: 1.23e-05, 0.0412, 2.53, 12,400, from a million on 1.23e+06; "n/a" for None, which stands for a number that is not finite.

    Args:
        value: The number.
        digits: Significant ones.
    """
    if value is None:
        return "n/a"
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value) or value == 0.0:
        return "0" if value == 0.0 else str(value)
    if 10**digits - 0.5 <= abs(value) < 1e6:
        return f"{value:,.0f}"
    return f"{value:#.{digits}g}".rstrip(".").replace(".e", "e")


def or_nothing(value: float | None) -> str:
    """The same in a table, where what is not known, or not finite, is nothing."""
    return NOTHING if value is None else format_number(value)
