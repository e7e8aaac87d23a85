"""A screen whose partial repaints send the changed cells only.

Textual's own partial repaint sends each line from the widget's left edge up to the last changed cell: for three charts
of a growing run 2.7 times the bytes (measured at 120x40, 2 Hz). This narrows it at both ends. It leans on two classes
that are not part of Textual's public interface; where a release shapes them differently, its own repaint is used.
"""

import inspect
import re
from collections.abc import Callable
from typing import TypeVar

from rich.console import Console
from rich.control import Control
from textual._compositor import ChopsUpdate, Compositor
from textual.binding import ActiveBinding
from textual.screen import ModalScreen, Screen

from eos_tui.keys import NO_KEY, bindings_of
from eos_tui.pacing import PacedApp

Result = TypeVar("Result")
IS_SUPPORTED = list(inspect.signature(ChopsUpdate).parameters) == ["chops", "spans", "chop_ends"]
"""Whether this Textual's partial repaint is the one that is narrowed here."""

_DEFAULTS = re.compile(r"\x1b\[((?:\d;)*(?:[39][0-7];)?)(?:39;)?49m")
"""A style that also asks for the terminal's own colours, which is what every style before it ended with: a fifth of all bytes."""


class NarrowUpdate(ChopsUpdate):
    """The spans of cells that changed, each moved to and sent."""

    def render_segments(self, console: Console) -> str:
        """The text and control codes to send.

        Args:
            console: Knows the terminal's colours.
        """
        sent = []
        for y, left, right in self.spans:
            for end, (start, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                begin, stop = max(start, left), min(end, right)
                if strip is not None and begin < stop:
                    sent += [Control.move_to(begin, y).segment.text, strip.crop(begin - start, stop - start).render(console)]
        return _DEFAULTS.sub(_without_defaults, "".join(sent))


def _without_defaults(style: re.Match[str]) -> str:
    return f"\x1b[{style[1].rstrip(';')}m" if style[1] else ""


class NarrowCompositor(Compositor):
    """Composes as Textual does, and narrows partial repaints."""

    def render_partial_update(self) -> ChopsUpdate | None:
        """What changed since the last repaint; None when nothing did."""
        update = super().render_partial_update()
        return None if update is None else NarrowUpdate(update.chops, update.spans, update.chop_ends)


class FrugalScreen(Screen[Result]):
    """Base of screens that are watched over slow lines."""

    def __init__(self) -> None:
        super().__init__()
        if IS_SUPPORTED:
            self._compositor = NarrowCompositor()

    @property
    def active_bindings(self) -> dict[str, ActiveBinding]:
        """The bindings that can be used, in the order of the class, without those that the user wants on no key."""
        places = {binding.id: place for place, binding in enumerate(bindings_of(type(self)))}
        found = [(key, active) for key, active in super().active_bindings.items() if key != NO_KEY]
        return dict(sorted(found, key=lambda pair: places.get(pair[1].binding.id, len(places))))

    @property
    def is_edited(self) -> bool:
        """Whether something was typed here that would be lost with the screen."""
        return False

    @property
    def farewell(self) -> str | None:
        """What to print when the viewer is left; None for nothing."""
        return None

    def poll_now(self) -> None:
        """Look once, at once, at the files of what is shown, if there are any."""

    def leave(self, then: Callable[[], None]) -> None:
        """Do what takes the screen away, after a question where something typed would be lost."""
        then()

    def _compositor_refresh(self) -> None:
        """Draw the next frame, unless it has to wait: drawn now it would be lost, and all had to be sent again."""
        if not (isinstance(self.app, PacedApp) and self.app.puts_off()):
            super()._compositor_refresh()


class FrugalModal(ModalScreen[Result]):
    """Base of boxes over a screen: drawn once with what is in them, where Textual sends the whole screen before and after it is."""

    def on_mount(self) -> None:
        """Wait for what is in the box."""
        self.app.delay_update()
