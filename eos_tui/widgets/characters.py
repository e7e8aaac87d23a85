"""The last thing that happens to whatever is drawn: no character goes to the terminal that it would act on, or that it cannot show."""

from collections.abc import Sequence

from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from eos_tui.output import fitting


class Characters(LineFilter):
    """Replaces control characters and, where asked, all that is not ASCII; every cell stays where it is."""

    def __init__(self, *, ascii_only: bool) -> None:
        """Replace.

        Args:
            ascii_only: For terminals without Unicode.
        """
        super().__init__()
        self._ascii_only = ascii_only

    def apply(self, segments: Sequence[Segment], background: Color) -> list[Segment]:  # noqa: ARG002 - Textual's signature
        """The segments with such characters only, each as wide as it was."""
        return [Segment(fitting(text, ascii_only=self._ascii_only), style) for text, style, _ in segments]
