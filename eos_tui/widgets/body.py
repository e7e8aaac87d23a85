"""The scrolled parts of a run's screen: rows that do not fit, and panels of which whole ones are seen."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll

MIN_PANEL_ROWS = 5
"""Rows of a panel below which its chart says nothing; the panels are scrolled instead."""


class Scrolled(VerticalScroll, inherit_bindings=False):
    """Scrolled up and down; left and right are for the cursor in panels."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_up", show=False, tooltip="The panels, a row up.", id="run.scroll_up"),
        Binding("down", "scroll_down", show=False, tooltip="The panels, a row down.", id="run.scroll_down"),
        Binding("pageup", "page_up", show=False, tooltip="The panels, a screen up.", id="run.page_up"),
        Binding("pagedown", "page_down", show=False, tooltip="The panels, a screen down.", id="run.page_down"),
        Binding("home", "scroll_home", show=False, tooltip="The first panel.", id="run.scroll_home"),
        Binding("end", "scroll_end", show=False, tooltip="The last panel.", id="run.scroll_end"),
    ]


class Body(Scrolled):
    """The panels."""

    def __init__(self, panels: Container) -> None:
        """Show these panels."""
        super().__init__(panels, id="body")
        self._panels = panels
        self._rows = 1

    def fit(self, rows: int) -> None:
        """Give the panels, in so many rows, all the room, or where that is too little as much as lets whole ones fill it."""
        self._rows = rows
        seen = max(1, self.size.height // MIN_PANEL_ROWS)
        self._panels.styles.height = "1fr" if rows <= seen else rows * self._row

    def on_resize(self) -> None:
        """Fit the panels to what notice and drawer leave."""
        self.fit(self._rows)

    def action_scroll_up(self) -> None:
        """A row of panels up."""
        self.scroll_relative(y=-self._row)

    def action_scroll_down(self) -> None:
        """A row of panels down."""
        self.scroll_relative(y=self._row)

    @property
    def _row(self) -> int:
        """Rows of the screen for each row of panels."""
        height = max(1, self.size.height)
        return height // max(1, height // MIN_PANEL_ROWS)
