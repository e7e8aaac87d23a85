"""What the keys do and what the screen shows; the keys are read from the bindings of the screen that it explains."""

from collections.abc import Iterable
from typing import Any, ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from eos_tui import keys
from eos_tui.read_only import GuardedApp
from eos_tui.widgets.frugal import FrugalModal

READING = """\
The first line says how the run stands; the second which edge is near. A ratio of 1 is the edge: below it the step
size is small enough for the curvature, at it the two are in balance, past it the loss may oscillate or blow up.
In a panel the line is what was measured, the dashes are what it is held against; both come from the run's log.
A gap means that a number was not finite. Letters on a panel's lower edge are events: c a checkpoint, ! a warning or a
divergence, x an edge crossed, l a jump of the learning rate, p a pause, r a resume, b another batch
size, w the end of a warm start, e any other. Colours repeat what the words say."""


class HelpScreen(FrugalModal[None]):
    """A box over the run; closes with Esc, ? or q."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,question_mark,q", "dismiss", "close", tooltip="Close this.", id="help.close")]

    def __init__(self, screen: Screen[Any], bindings: Iterable[Binding], *, reading: str = READING) -> None:
        """Explain a screen.

        Args:
            screen: What is explained; not always on the stack below this one yet when it is composed.
            bindings: Its keys, whose tooltips say what they do.
            reading: How to read what it shows.
        """
        super().__init__()
        self._reading = reading
        self._screen, self._explained = screen, list(bindings)

    def compose(self) -> ComposeResult:
        """Keys, and how to read the screen."""
        table = Table.grid(padding=(0, 2))
        # A read-only app tells of the keys that it listens to.
        app = self.app
        told = [(binding, self._screen) for binding in self._explained] + [(binding, app) for binding in keys.bindings_of(type(app))]
        heard = [binding for binding, place in told if not isinstance(app, GuardedApp) or app.allows(binding.action, place)]
        for binding in [*heard, *keys.bindings_of(type(self))]:
            table.add_row(Text(keys.on_keys(binding, app)), Text(binding.tooltip))
        with VerticalScroll(classes="dialog") as box:
            box.border_title = "keys, and how to read the screen"
            yield Static(table)
            yield Static("\n" + self._reading.replace("\n", " "), markup=False)
