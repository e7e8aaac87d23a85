"""The values of a key that a sweep goes through: lists and ranges, from the command line or a `[sweep]` table.

`0.1,0.3,1` is three values, `lo:hi:xF` is lo, lo F, lo F^2, ... up to hi, `lo:hi:+D` is lo, lo + D, ... up to hi, and both can be
mixed. What is between brackets or quotes belongs together. Values stay text, which `overrides` reads by the key's type.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from runners.errors import SpecError
from runners.overrides import Override, parse_override

MOST_IN_RANGE = 100_000
"""Values; a range of more is a slip of the pen."""
SLACK = Decimal("0.001")
"""Share of a step by which a range may miss its end, and then goes there in as many steps: 1:10:x3.1623 is 1, 3.16227766017, 10."""
DIGITS = 12
"""Significant digits of a range's values."""

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER}):({_NUMBER}):([x+])({_NUMBER})")
_OPEN, _CLOSE = "[{(", "]})"


@dataclass(frozen=True)
class Axis:
    """A key and the values that it takes."""

    values: tuple[Override, ...]

    @property
    def key(self) -> str:
        """The key as it was typed."""
        return self.values[0].key


def parse_axis(argument: str) -> Axis:
    """The axis that `--grid key.path=values` asks for.

    Raises:
        SpecError: If there is no key, no value, a value twice, or a range that is none.
    """
    given = parse_override(argument, option="--grid", example="optimizer.lr=0.1,0.2 or optimizer.lr=0.1:3.2:x2")
    return _axis(given, list(_items(given)))


def table_axis(key: str, values: Any) -> Axis:
    """The axis of a key in `[sweep]`'s table `grid`.

    Args:
        key: Its path, with dots.
        values: A list of values, or a text as `--grid` takes it.

    Raises:
        SpecError: As `parse_axis`; also if it is neither list nor text.
    """
    option = "[sweep] grid:"
    example = '"optimizer.lr" = [0.1, 0.2] or "optimizer.lr" = "0.1:3.2:x2"'
    if isinstance(values, str):
        given = parse_override(f"{key}={values}", option=option, example=example)
        return _axis(given, list(_items(given)))
    given = parse_override(f"{key}=", option=option, example=example)
    if not isinstance(values, list):
        raise SpecError(f"{option} {key} = {values}: expected a list of values, or a text such as 0.1:3.2:x2.")
    return _axis(given, [value if isinstance(value, str) else as_toml(value) for value in values])


def seeds_axis(first: int, count: int) -> Axis:
    """The seeds first, first + 1, ..., so many of them."""
    return Axis(tuple(Override(path=("run", "seed"), text=str(seed), option="--seeds") for seed in range(first, first + count)))


def as_toml(value: Any) -> str:
    """A value as TOML has it in a line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {as_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return json.dumps(value) if isinstance(value, str | bool) else str(value)


def _axis(given: Override, texts: Sequence[str]) -> Axis:
    shown = f"{given.option} {given.key}={given.text}"
    if not texts or not all(texts):
        raise SpecError(f"{shown}: expected values between the commas, such as 0.1,0.2.")
    twice = next((text for index, text in enumerate(texts) if text in texts[:index]), None)
    if twice is not None:
        raise SpecError(f"{shown}: {twice} stands there twice.")
    return Axis(tuple(Override(path=given.path, text=text, option=given.option) for text in texts))


def _items(given: Override) -> Iterator[str]:
    for item in _split(given.text):
        found = _RANGE.fullmatch(item)
        if found:
            yield from _range(found, shown=f"{given.option} {given.key}={item}")
        else:
            yield item


def _split(text: str) -> list[str]:
    """The parts between commas that are in no brackets and no quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        else:
            depth += (character in _OPEN) - (character in _CLOSE)
        if character == "," and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def _range(found: re.Match[str], *, shown: str) -> Iterator[str]:
    """The range's values, in decimal arithmetic: 0.1:1:+0.1 has 0.3 and not 0.30000000000000004."""
    low, high, by = (Decimal(found[group]) for group in (1, 2, 4))
    is_product = found[3] == "x"
    if is_product and not (0 < low <= high and by > 1):
        raise SpecError(f"{shown}: expected 0 < first value <= last value and a factor > 1, such as 0.1:3.2:x2.")
    if not is_product and not (low <= high and by > 0):
        raise SpecError(f"{shown}: expected first value <= last value and a step > 0, such as 0:1:+0.1.")
    steps = (high / low).ln() / by.ln() if is_product else (high - low) / by
    if steps > MOST_IN_RANGE:
        raise SpecError(f"{shown}: more than {MOST_IN_RANGE:,} values. Take larger steps.")
    nearest = steps.to_integral_value()
    ends = abs(steps - nearest) <= SLACK
    if ends and nearest > 0:
        by = (high / low) ** (1 / nearest) if is_product else (high - low) / nearest
    is_whole = not any(mark in found[group] for group in (1, 2, 4) for mark in ".eE")
    for index in range(int(nearest if ends else steps) + 1):
        value = low * by**index if is_product else low + by * index
        yield str(round(value)) if is_whole else repr(float(f"{value:.{DIGITS}g}"))
