"""What a runner's process printed, and other text from outside, made fit for a terminal. Must not import anything that draws."""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from rich.cells import cell_len, set_cell_size

TAIL_BYTES = 16_384
"""How much of a file is looked at for its last lines."""
LONGEST = 2000
"""Characters of one text that are shown, at most: more than a wide terminal's row."""
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[\]P^_X][^\x07\x1b]*(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""Terminal control sequences, and control characters but for tab and newline."""
_LOOKALIKES = str.maketrans(
    {
        **dict.fromkeys("─╌┄┈╴╶", "-"),
        **dict.fromkeys("━═", "="),
        **dict.fromkeys("│┃║╎┆┊▏▎▍▌▐▕", "|"),
        **dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╯╰╔╗╚╝╠╣╦╩╬┏┓┗┛", "+"),
        **dict.fromkeys("▁▂▃▄", "_"),
        **dict.fromkeys("▅▆▇█▉▊▋▀▔■", "#"),
        **dict.fromkeys("░▒▓", ":"),
        **dict.fromkeys("╸╺·", "-"),
        **dict.fromkeys("•●◉⬤", "*"),
        **dict.fromkeys("↑▲△⌃", "^"),
        **dict.fromkeys("↓▼▽", "v"),
        **dict.fromkeys("←◀◁⏎⌫", "<"),
        **dict.fromkeys("→▶▷", ">"),
        **dict.fromkeys("‘’", "'"),
        **dict.fromkeys("“”", '"'),
        **dict.fromkeys("–—−", "-"),
        **dict.fromkeys("×✕✖✗", "x"),
        "…": "~",
        "±": "+",
        "µ": "u",
    }
)
"""What is drawn, by the ASCII character that looks most like it."""


def printable(text: str) -> str:
    """The text without what a terminal would act on; of a line that was drawn over, what remained.

    Characters without a width of their own go as well: terminals disagree on them, and some turn the direction of a whole row.
    """
    lines = (line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n"))
    return "\n".join(_visible(_CONTROL.sub("", line).expandtabs()).rstrip() for line in lines)


def one_row(text: str) -> str:
    """The text in one line, its blanks as they are, without what a terminal would act on, cut where no terminal is wide enough for it."""
    return " ".join(printable(text[:LONGEST]).split("\n"))


def one_line(text: str) -> str:
    """The same with one blank in place of several."""
    return " ".join(one_row(text).split())


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of text as lines, in columns as wide as their content."""
    lines = [[one_line(text) for text in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(set_cell_size(text, width) for text, width in zip(row, widths, strict=True)).rstrip() for row in lines]


def fitting(text: str, *, ascii_only: bool) -> str:
    """The text as wide as it was, of characters that any terminal shows as they are.

    Args:
        text: One line.
        ascii_only: Of ASCII characters, lookalikes where there are some.
    """
    if text.isprintable() and (text.isascii() or not ascii_only):
        return text
    if ascii_only:
        text = text.translate(_LOOKALIKES)
    return set_cell_size("".join(_fitting(character, ascii_only=ascii_only) for character in text), cell_len(text))


def _visible(text: str) -> str:
    if text.isascii():
        return text
    return "".join(character if character.isprintable() else "?" for character in unicodedata.normalize("NFC", text) if cell_len(character))


@lru_cache(maxsize=1024)
def _fitting(character: str, *, ascii_only: bool) -> str:
    width = cell_len(character)
    if character.isprintable() and (character.isascii() or not ascii_only):
        return character
    base = unicodedata.normalize("NFKD", character)[0]
    return base if width == 1 and base.isascii() and base.isprintable() else "?" * width


def is_utf8(encoding: str | None) -> bool:
    """Whether a stream of this encoding takes every character."""
    return (encoding or "").lower().replace("-", "").replace("_", "") == "utf8"


def last_lines(path: Path, *, count: int = 12) -> list[str]:
    """The last lines of a file that are not empty; none when there is no such file.

    Args:
        path: The file, such as a run's `output.txt`.
        count: How many lines at most.

    Returns:
        Printable lines.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in printable(text).split("\n") if line][-count:]
