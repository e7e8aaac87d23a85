"""What the keys do and what the screen shows; the keys are read from the bindings of the screen that it explains."""

from collections.abc import Iterable
from typing import ClassVar

from rich.table import Table
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from eos_tui.read_only import GuardedApp

KEY_NAMES = {"question_mark": "?", "escape": "Esc", "space": "space"}
READING = """\
The first line says how the run stands; the second which edge is near. A ratio of 1 is the edge: below it the step
size is small enough for the curvature, at it the two are in balance, past it the loss may oscillate or blow up.
In a panel the line is what was measured, the dashes are what it is held against; both come from the run's log.
A gap means that a number was not finite. Letters on a panel's lower edge are events: c a checkpoint, ! a warning or a
divergence, o an eigenvalue that overtook the largest, p a pause, r a resume, b another batch size, w the end of a warm
start, e any other. Colours repeat what the words say."""


class HelpScreen(ModalScreen[None]):
    """A box over the run; closes with Esc, ? or q."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q", "dismiss", "close")]

    def __init__(self, bindings: Iterable[Binding], *, reading: str = READING) -> None:
        """Explain a screen.

        Args:
            bindings: Its keys, whose tooltips say what they do.
            reading: How to read what it shows.
        """
        super().__init__()
        self._reading = reading
        self._told = tuple(bindings)

    def compose(self) -> ComposeResult:
        """Keys, and how to read the screen."""
        table = Table.grid(padding=(0, 2))
        # A read-only app tells of the keys that it listens to.
        app, explained = self.app, self.app.screen_stack[-2]
        keys = [
            (binding.key_display or binding.key.replace(",", ", "), binding.tooltip)
            for binding in self._told
            if not isinstance(app, GuardedApp) or app.allows(binding.action, explained)
        ]
        for key, meaning in [*keys, ("escape", "Close this.")]:
            table.add_row(KEY_NAMES.get(key, key), meaning)
        with VerticalScroll(classes="dialog") as box:
            box.border_title = "keys, and how to read the screen"
            yield Static(table)
            yield Static("\n" + self._reading.replace("\n", " "), markup=False)
