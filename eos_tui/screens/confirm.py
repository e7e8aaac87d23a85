"""A question that has to be answered with yes or no before something is done that cannot be taken back."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.content import Content
from textual.widgets import Static

from eos_tui import keys
from eos_tui.output import one_line, printable
from eos_tui.widgets.frugal import FrugalModal


class ConfirmScreen(FrugalModal[bool]):
    """Gives True for y, False for n or Escape."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "yes", tooltip="Do it.", id="confirm.yes"),
        Binding("n,escape,q", "dismiss(False)", "no", tooltip="Leave everything as it is.", id="confirm.no"),
    ]

    def __init__(self, question: str, *, consequence: str, yes: str, no: str) -> None:
        """Ask.

        Args:
            question: One line.
            consequence: What a yes leads to.
            yes: What the key y does.
            no: What the key n does.
        """
        super().__init__()
        self._question = one_line(question)
        self._consequence = printable(consequence)
        self._answers = {"confirm.yes": yes, "confirm.no": no}

    def compose(self) -> ComposeResult:
        """One box in the middle of the screen."""
        with Container(classes="dialog") as box:
            box.border_title = Content(self._question)
            first = keys.first_keys(self)
            answers = [f"{first[name]}  {does}" for name, does in self._answers.items()]
            yield Static("\n".join([self._consequence, "", *answers]), markup=False)
