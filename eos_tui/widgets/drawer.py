"""A frame of paragraphs that scroll: what the run screen shows beside its panels. Sends changed cells only, as the charts do."""

import re
from collections.abc import Iterable, Sequence
from typing import ClassVar

from rich.cells import cell_len, chop_cells
from textual.binding import Binding, BindingType

from eos_tui.charts import Grid
from eos_tui.details import Paragraph
from eos_tui.widgets.cells import CellGrid
from eos_tui.widgets.text_rows import IN_ASCII, Part, Row, cells, fitted, row_length

WIDE_TITLES = 40
"""Cells across from which titles stand beside their texts, not above them."""
WHEEL_ROWS = 3
"""Rows that one notch of the mouse wheel goes."""
FRAME_FROM = 4
"""Rows from which there is a frame."""


def rows(paragraphs: Iterable[Paragraph], width: int) -> list[Row]:
    """The paragraphs in rows of at most `width` cells, broken between words; titles at the left, where there are any.

    Args:
        paragraphs: Printable text.
        width: Cells across.
    """
    paragraphs = list(paragraphs)
    longest = max((cell_len(title) for title, _ in paragraphs), default=0)
    indent = longest + 2 if longest and width >= WIDE_TITLES else 0
    found: list[Row] = []
    for title, text in paragraphs:
        if title and not indent:
            found.append([(title, "bold")])
        lines = wrapped(text, width - indent)
        heads = [title, *[""] * (len(lines) - 1)] if indent else [""] * len(lines)
        found += [[(head + " " * (indent - cell_len(head)), "bold"), (line, "")] for head, line in zip(heads, lines, strict=True)]
    return found


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` cells, broken between words where these fit; at least one line."""
    lines = [""]
    for word in re.findall(r"\S+\s*|\s+", text.expandtabs()):
        if lines[-1] and cell_len(lines[-1] + word.rstrip()) > width:
            lines.append("")
        if cell_len(word.rstrip()) > width:
            lines[-1:] = chop_cells(word.rstrip(), max(width, 1))
            lines[-1] += word[len(word.rstrip()) :]
        else:
            lines[-1] += word
    return [line.rstrip() for line in lines]


class Drawer(CellGrid, can_focus=True):
    """Paragraphs in a frame; arrow and page keys scroll."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll(-1)", show=False, id="drawer.up", tooltip="A row up."),
        Binding("down", "scroll(1)", show=False, id="drawer.down", tooltip="A row down."),
        Binding("pageup", "page(-1)", show=False, id="drawer.page_up", tooltip="A page up."),
        Binding("pagedown", "page(1)", show=False, id="drawer.page_down", tooltip="A page down."),
        Binding("home", "scroll(-1000000)", show=False, id="drawer.first", tooltip="The first row."),
        Binding("end", "scroll(1000000)", show=False, id="drawer.last", tooltip="The last row."),
    ]

    def __init__(self, *, id: str, ascii_only: bool = False) -> None:
        """Show nothing yet.

        Args:
            id: The widget's name in the style sheet.
            ascii_only: For terminals without Unicode.
        """
        super().__init__()
        self.id = id
        self._ascii_only = ascii_only
        self._title = ""
        self._paragraphs: Sequence[Paragraph] = ()
        self._top: int | None = 0
        """The first row in sight; None for the last page, also when more comes."""

    def open(self, title: str, *, at_end: bool = False) -> None:
        """Begin with other content, of which nothing is known yet.

        Args:
            title: What it is.
            at_end: Show its end, and stay there as it grows; else its beginning.
        """
        self._title, self._paragraphs, self._top = title, (("", "Reading ..."),), None if at_end else 0
        self.redraw()

    def show(self, paragraphs: Sequence[Paragraph]) -> None:
        """Show these; the place that was scrolled to stays."""
        self._paragraphs = paragraphs
        self.redraw()

    def action_scroll(self, rows: int) -> None:
        """Scroll by so many rows."""
        width, height = self.content_size
        last = max(0, len(self._rows(width)) - self._page(height))
        top = min(max((last if self._top is None else min(self._top, last)) + rows, 0), last)
        self._top = None if top == last and rows > 0 else top
        self.redraw()

    def on_mouse_scroll_up(self) -> None:
        """Scroll up."""
        self.action_scroll(-WHEEL_ROWS)

    def on_mouse_scroll_down(self) -> None:
        """Scroll down."""
        self.action_scroll(WHEEL_ROWS)

    def action_page(self, pages: int) -> None:
        """Scroll by so many pages."""
        self.action_scroll(pages * max(1, self._page(self.content_size.height) - 1))

    def grid(self, width: int, height: int) -> Grid:
        """The rows in sight, in their frame."""
        found, page = self._rows(width), self._page(height)
        last = max(0, len(found) - page)
        top = last if self._top is None else min(self._top, last)
        shown = [*found[top : top + page], *[[]] * (top + page - len(found))]
        if page < height:
            place = f" {top + 1}-{min(top + page, len(found))} of {len(found)} " if len(found) > page else ""
            inner = width - 4
            sides = [[("│ ", "dim"), *_filled(row, inner), (" │", "dim")] for row in shown]
            shown = [_edge(f" {self._title} ", width, "╭╮", "bold"), *sides, _edge(place, width, "╰╯", "")]
        grid = [cells(fitted(row, width), width) for row in shown[:height]]
        return [[(text.translate(IN_ASCII), style) for text, style in row] for row in grid] if self._ascii_only else grid

    def _rows(self, width: int) -> list[Row]:
        return rows(self._paragraphs, max(1, width - 4))

    @staticmethod
    def _page(height: int) -> int:
        """Rows of text in sight."""
        return height - 2 if height >= FRAME_FROM else max(height, 0)


def _edge(words: str, width: int, corners: str, style: str) -> Row:
    room = max(0, width - 3 - cell_len(words))
    return [(f"{corners[0]}─", "dim"), (words, style), ("─" * room + corners[1], "dim")]


def _filled(row: Row, width: int) -> list[Part]:
    row = fitted(row, width)
    return [*row, (" " * (width - row_length(row)), "")]
