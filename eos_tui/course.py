"""How a run's ratios to its edges went, from a few places of its log: enough for a sparkline in a list, without reading it all."""

from pathlib import Path
from typing import NamedTuple

import msgspec

KERNEL_KINDS = ("ntk", "tails")
"""Records that have K; a run has one kind of them."""
PLACES = 8
"""Places of the log, evenly from its beginning to its end."""
PLACE_BYTES = 262_144
"""Of the log before each place that are searched at most: some 2,000 records."""


class Course(NamedTuple):
    """By place in the log; None where nothing was measured near it, or it was not finite."""

    ratio: tuple[float | None, ...] = ()
    """Of the sharpness to its threshold."""
    noise_kernel: tuple[float | None, ...] = ()


class _Numbers(msgspec.Struct):
    ratio: float | None = None
    noise_kernel: float | None = None


_NUMBERS = msgspec.json.Decoder(_Numbers)


def read(log: Path) -> Course:
    """The course of a run; empty where its log cannot be read.

    Args:
        log: The file.

    Cost: reads of 256 KB at most at each of 8 places: a millisecond, some ten for a log of 2 MB and more.
    """
    try:
        with log.open("rb") as stream:
            size = stream.seek(0, 2)
            found = []
            for place in range(1, PLACES + 1):
                begin, end = size * (place - 1) // PLACES, size * place // PLACES
                stream.seek(max(begin, end - PLACE_BYTES))
                lines = stream.read(end - stream.tell())
                kernels = (_last(kind, lines).noise_kernel for kind in KERNEL_KINDS)
                found.append((_last("sharpness", lines).ratio, next((kernel for kernel in kernels if kernel is not None), None)))
    except OSError:
        return Course()
    return Course(*zip(*found, strict=True))


def _last(kind: str, lines: bytes) -> _Numbers:
    """The last record of a kind that lies whole in these bytes; nothing where there is none, or it is no record."""
    end = lines.rfind(b"\n")
    begin = lines.rfind(b'\n{"kind":"%s"' % kind.encode(), 0, max(end, 0))
    if begin < 0:
        return _Numbers()
    try:
        return _NUMBERS.decode(lines[begin + 1 : lines.index(b"\n", begin + 1)])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _Numbers()
