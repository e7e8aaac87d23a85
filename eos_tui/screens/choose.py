"""A question that is answered with one key of several."""

from collections.abc import Mapping
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.events import Key
from textual.widgets import Static

from eos_tui import keys
from eos_tui.widgets.frugal import FrugalModal


class ChooseScreen(FrugalModal[str | None]):
    """Gives the key that was pressed, of those that stand for a choice; None for Escape."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss(None)", "leave it", id="choose.leave", tooltip="Choose nothing.")]

    def __init__(self, question: str, *, consequence: str, choices: Mapping[str, str]) -> None:
        """Ask.

        Args:
            question: One line.
            consequence: What a choice leads to.
            choices: By key, what each stands for.
        """
        super().__init__()
        self._question = question
        self._choices = choices
        self._consequence = consequence

    def compose(self) -> ComposeResult:
        """One box in the middle of the screen."""
        with Container(classes="dialog") as box:
            box.border_title = self._question
            lines = {**self._choices, keys.first_keys(self)["choose.leave"]: "leave it"}
            yield Static("\n".join([self._consequence, "", *(f"{key:<3}  {does}" for key, does in lines.items())]), markup=False)

    def on_key(self, event: Key) -> None:
        """Give the choice."""
        if event.key in self._choices:
            event.stop()
            self.dismiss(event.key)
