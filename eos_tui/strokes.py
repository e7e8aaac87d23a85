"""How lines are told apart without colour, and with it: what they are drawn with, and the tags of runs in one chart. Pure."""

from typing import NamedTuple, TypeAlias

from eos_tui import dots
from eos_tui.dots import Dash

Role: TypeAlias = str
"""What a cell shows: series-1 to series-8, faint (a series behind its average), band, reference, cursor, mark, axis or label; the
empty role is background."""


class Ink(NamedTuple):
    """The characters that a chart is drawn with."""

    across: int
    """Dots in a cell."""
    up: int
    glyphs: str
    """By a cell's bits; empty when each stroke has its own."""
    axis: str
    tick: str
    above: str
    below: str
    before: str
    behind: str


class Stroke(NamedTuple):
    """How a line is drawn, so that lines differ with and without colour."""

    role: Role
    dash: Dash
    ascii_glyphs: str
    """By a cell's bits in ASCII: nothing, lower half, upper half, both."""


def _braille() -> str:
    """The 256 braille characters by our bits: left column from the bottom, then right column from the bottom."""
    weights = (0x40, 0x04, 0x02, 0x01, 0x80, 0x20, 0x10, 0x08)
    return " " + "".join(chr(0x2800 + sum(weight for k, weight in enumerate(weights) if bits >> k & 1)) for bits in range(1, 256))


BRAILLE = Ink(2, 4, _braille(), axis="│", tick="┤", above="↑", below="↓", before="←", behind="→")
ASCII = Ink(1, 2, "", axis="|", tick="+", above="^", below="v", before="<", behind=">")
STROKES = (
    Stroke("series-1", Dash(1, 1), " .':"),
    Stroke("series-2", Dash(4, 2), " +++"),
    Stroke("series-3", Dash(3, 1), " xxx"),
    Stroke("series-4", Dash(8, 6), " ooo"),
)
RUN_STROKES = (
    *STROKES,
    Stroke("series-5", Dash(12, 6, (8,)), " ***"),
    Stroke("series-6", Dash(8, 2), " ###"),
    Stroke("series-7", Dash(6, 1), " %%%"),
    Stroke("series-8", Dash(12, 4, (6, 10)), " @@@"),
)
"""Of the runs in one chart."""
RUN_TAGS = "123456789abcdefghijklmnopqrstuvwxyz"
"""A character for each of them, which stands at its line's end: no more are compared at once."""
REST = (Stroke("faint", Dash(1, 1), " .':"), Stroke("faint", Dash(4, 2), " ,,,"))
"""By turns the strokes behind the first one where there are more lines than `STROKES`: such lines are told apart by their order."""
REFERENCE = Stroke("reference", Dash(1, 1), " --|")
"""One dot column a cell: dotted in braille."""
CURSOR = Stroke("cursor", Dash(1, 1), " |||")
BAND = Stroke("band", Dash(2, 1), " ...")


def stroke_of(k: int, count: int) -> Stroke:
    """How the line k of so many is drawn."""
    return STROKES[k] if count <= len(STROKES) or not k else REST[(k - 1) % len(REST)]


def run_stroke(place: int) -> Stroke:
    """How the run at this place is drawn; no two of the first 64 have both dashes and role in common."""
    count = len(RUN_STROKES)
    return RUN_STROKES[place % count]._replace(role=RUN_STROKES[(place + place // count) % count].role)


def run_sample(place: int, cells: int, *, ascii_only: bool = False) -> str:
    """So many cells of that run's line, level."""
    ink = ASCII if ascii_only else BRAILLE
    return sample_of(run_stroke(place), cells, ink)


def sample_of(stroke: Stroke, cells: int, ink: Ink) -> str:
    """So many cells of a level line."""
    across, up = ink.across, ink.up
    bits = dots.bits([(up // 2, up // 2)] * (cells * across), stroke.dash, across=across, up=up)
    return "".join((ink.glyphs or stroke.ascii_glyphs)[bits.get((0, x), 0)] for x in range(cells))
