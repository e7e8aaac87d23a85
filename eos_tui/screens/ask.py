"""A question that is answered with a line of text."""

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.widgets import Input, Static

from eos_tui import keys
from eos_tui.widgets.frugal import FrugalModal
from runners import run_folder
from runners.errors import RunFolderError


class AskScreen(FrugalModal[str | None]):
    """Gives what was typed once it is valid and Enter was pressed, None for Escape."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "leave it", id="ask.leave", tooltip="Change nothing.")]

    def __init__(self, question: str, *, consequence: str, text: str, problem: Callable[[str], str]) -> None:
        """Ask.

        Args:
            question: One line.
            consequence: What the answer leads to.
            text: To begin with.
            problem: What is wrong with a text; empty where nothing is.
        """
        super().__init__()
        self._question = question
        self._consequence = consequence
        self._input = Input(text, compact=True, select_on_focus=False)
        self._input.cursor_blink = False
        self._problem = problem
        self._said = Static("", markup=False)

    def compose(self) -> ComposeResult:
        """One box in the middle of the screen."""
        with Container(classes="dialog") as box:
            box.border_title = self._question
            yield Static(self._consequence + "\n", markup=False)
            yield self._input
            yield self._said
            yield Static(f"\nEnter  do it\n{keys.first_keys(self)['ask.leave']:<5}  leave it", markup=False)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say what is wrong while the user types."""
        self._said.update(self._problem(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Give the text, unless something is wrong with it."""
        if not self._problem(event.value):
            self.dismiss(event.value)


def name_problem(name: str) -> str:
    """What is wrong with a run's name; empty where nothing is."""
    try:
        run_folder.check_name(name)
    except RunFolderError as error:
        return str(error)
    return ""
