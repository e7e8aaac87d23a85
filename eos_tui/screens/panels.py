"""A list of the run's panels, to choose which are shown and in which order."""

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.widgets import Static

from eos_tui import keys
from eos_tui.arrangement import Choice
from eos_tui.output import printable
from eos_tui.screens.help import HelpScreen
from eos_tui.widgets.frugal import FrugalModal


class PanelsScreen(FrugalModal[tuple[Choice, ...] | None]):
    """Gives the panels as chosen; None when all is to stay as it was."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space,x", "choose", "show", tooltip="Show or hide the panel. One always stays.", id="panels.toggle"),
        Binding("up,k", "cursor(-1)", tooltip="The panel above.", id="panels.up"),
        Binding("down,j", "cursor(1)", tooltip="The panel below.", id="panels.down"),
        Binding("K,shift+up,u", "move(-1)", "up", tooltip="Move the panel up.", id="panels.move_up"),
        Binding("J,shift+down,d", "move(1)", "down", tooltip="Move the panel down.", id="panels.move_down"),
        Binding("a", "all", "all", tooltip="Show all panels, in the run's own order.", id="panels.all"),
        Binding("enter", "accept", "accept", tooltip="Show them so, in this run and in all others; it is remembered.", id="panels.accept"),
        Binding("escape,q", "dismiss(None)", "cancel", tooltip="Leave all as it was.", id="panels.close"),
        Binding("question_mark", "help", "help", tooltip="This page.", id="panels.help"),
    ]

    def __init__(self, choices: Sequence[Choice], *, titles: Sequence[str]) -> None:
        """Offer these panels.

        Args:
            choices: As they are now.
            titles: All of them in the run's own order.
        """
        super().__init__()
        self._choices = list(choices)
        self._titles = titles
        self._cursor = 0
        self._list = Static(markup=False)

    def compose(self) -> ComposeResult:
        """The list, and the keys below it."""
        first = keys.first_keys(self)
        words = [f"{first[binding.id or '']} {binding.description}" for binding in keys.bindings_of(type(self)) if binding.description]
        with VerticalScroll(classes="dialog") as box:
            box.border_title = "panels of all runs"
            yield self._list
            yield Static("\n" + "  ".join(words), markup=False)

    def on_mount(self) -> None:
        """Show the list."""
        self._draw()

    def action_cursor(self, rows: int) -> None:
        """Move the cursor."""
        self._cursor = min(max(self._cursor + rows, 0), max(len(self._choices) - 1, 0))
        self._draw()

    def action_move(self, rows: int) -> None:
        """Move the panel under the cursor, and the cursor with it."""
        to = self._cursor + rows
        if 0 <= to < len(self._choices):
            self._choices.insert(to, self._choices.pop(self._cursor))
            self.action_cursor(rows)

    def action_choose(self) -> None:
        """Show or hide the panel under the cursor."""
        here = self._choices[self._cursor]
        if not here.is_shown or sum(choice.is_shown for choice in self._choices) > 1:
            self._choices[self._cursor] = Choice(here.title, not here.is_shown)
            self._draw()

    def action_all(self) -> None:
        """Show all panels in the run's own order."""
        self._choices = [Choice(title, is_shown=True) for title in self._titles]
        self._draw()

    def action_accept(self) -> None:
        """Give what was chosen."""
        self.dismiss(tuple(self._choices))

    def action_help(self) -> None:
        """Explain the keys."""
        self.app.push_screen(HelpScreen(self, keys.bindings_of(type(self))))

    def _draw(self) -> None:
        rows = (
            f"{'>' if index == self._cursor else ' '} [{'x' if choice.is_shown else ' '}] {printable(choice.title)}"
            for index, choice in enumerate(self._choices)
        )
        self._list.update("\n".join(rows))
