"""When a frame is sent: not before the terminal has taken the one before it, and in low bandwidth no more than one in two seconds.

What changes meanwhile is drawn into the next frame, so that nothing queues up on a slow line and the last state is shown soon.
Whether the terminal has taken a frame is what it is asked behind each: where the cursor is, which every terminal since the VT100
answers, over any number of programs and lines between. One that does not is never waited for.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeVar

from rich.console import RenderableType
from textual import events
from textual.app import App
from textual.screen import Screen
from textual.timer import Timer

Result = TypeVar("Result")
ASK = "\x1b[6n"
"""Report the position of the cursor."""
LOW_SECONDS = 2.0
"""Time between two frames in low bandwidth."""
FREE_SECONDS = 1.0
"""How long after a key, and after the beginning, frames are sent as they come: it takes several until a screen stands."""
SLOW_SECONDS = 1.0
"""A terminal that takes longer for a frame is slow."""
SLOW_FRAMES = 3
"""Slow frames in a row from which on bandwidth is low."""
PATIENCE_SECONDS = 10.0
"""After so long without an answer the next frame is sent anyway."""
LEAVE_SECONDS = 1.0
"""How long leaving waits for an answer that is due, so that it is not typed into the shell."""
SLOW = (
    "The terminal is slow to take what it is sent: from now on it gets a frame every two seconds, in 16 colours. "
    "`--no-low-bandwidth` keeps the full rate."
)


class PacedApp(App[Result]):
    """An app that waits for its terminal."""

    def __init__(self, *, low_bandwidth: bool | None, ansi_color: bool | None) -> None:
        """Prepare.

        Args:
            low_bandwidth: Half a frame a second from the start, or never; None: once the terminal turns out to be slow.
            ansi_color: As Textual's.
        """
        super().__init__(ansi_color=ansi_color)
        self._low_bandwidth = low_bandwidth
        self._asked_at: float | None = None
        """When the question was sent that has not been answered; None when there is none."""
        self._answers = False
        """Whether this terminal has ever answered."""
        self._slow_frames = 0
        self._held: ExitStack | None = None
        """Holds repaints back while it is open."""
        self._held_until = 0.0
        self._free_until = time.monotonic() + 2 * FREE_SECONDS
        self._lost = False
        """Whether a frame was drawn and not sent."""
        self._has_drawn = False
        self._put_off = False
        """Whether a screen has a frame to draw as soon as that may be sent."""
        self._postponed: dict[Callable[[], None], None] = {}
        """What is to be drawn before that, in the order in which it came."""
        self._due: list[Timer] = []
        """When to look whether holding is over."""
        self._leaving: tuple[Result | None] | None = None

    @property
    def low_bandwidth(self) -> bool:
        """Whether frames are rare and in few colours, as it is now."""
        return bool(self._low_bandwidth)

    @property
    def _is_rationed(self) -> bool:
        return self.low_bandwidth and time.monotonic() > self._free_until

    def slow_down(self) -> None:
        """The terminal turned out to be slow: low bandwidth from now on."""
        self._low_bandwidth = True
        self.notify(SLOW, markup=False)

    def on_mount(self) -> None:
        """Ask before the first frame already, so as to know soon whether this terminal answers."""
        if self._driver is not None and not self.is_headless:
            self._ask()

    def _display(self, screen: Screen[Any], renderable: RenderableType | None) -> None:
        """Send a frame; there may be nothing in it, which then is no frame."""
        self._has_drawn = renderable is not None
        super()._display(screen, renderable)

    def puts_off(self) -> bool:
        """Whether the screen's next frame has to wait; if so, it will be asked for it."""
        self._put_off = self._put_off or self._held is not None
        return self._held is not None

    def postpones(self, draw: Callable[[], None]) -> bool:
        """Whether nothing can be sent now; if so, this will be called, once, when something can."""
        if self._held is not None:
            self._postponed[draw] = None
        return self._held is not None

    def post_display_hook(self) -> None:
        """A frame was sent, or would have been but for the one before."""
        if self._driver is None or self.is_headless or self._leaving or not self._has_drawn:
            return
        if self._held:
            self._lost = True
            return
        if self._batch_count:
            return
        if self._asked_at is None:
            self._ask()
        if self._answers or self._is_rationed:
            self._hold()

    def on_cursor_position(self) -> None:
        """The terminal has answered."""
        if self._asked_at is not None:
            took, self._asked_at = time.monotonic() - self._asked_at, None
            self._answers = True
            self._timed(took)
            self._go_on()

    async def on_event(self, event: events.Event) -> None:
        """Let a key's effect be seen at once."""
        if isinstance(event, events.InputEvent):
            self._free_until = time.monotonic() + FREE_SECONDS
            self._held_until = 0.0
            self._go_on()
        await super().on_event(event)

    def leave(self, result: Result | None) -> None:
        """End the app, once the terminal owes no answer."""
        self._leaving = (result,)
        if self._answers and self._asked_at is not None:
            self.set_timer(LEAVE_SECONDS, self._end)
        else:
            self._end()

    def _timed(self, seconds: float) -> None:
        """Count a frame, or the wait for room to write, that took so long."""
        self._slow_frames = self._slow_frames + 1 if seconds > SLOW_SECONDS else 0
        if self._slow_frames == SLOW_FRAMES and self._low_bandwidth is None:
            self.slow_down()

    def _ask(self) -> None:
        assert self._driver is not None
        self._asked_at = time.monotonic()
        self._driver.write(ASK)
        if (waited := time.monotonic() - self._asked_at) > SLOW_SECONDS:
            self._timed(waited)

    def _hold(self) -> None:
        """Hold further frames back until there is an answer, and in low bandwidth until the next is due."""
        self._held = ExitStack()
        self._held.enter_context(self.batch_update())
        self._due = [self.set_timer(PATIENCE_SECONDS, self._go_on)]
        if self._is_rationed:
            self._held_until = time.monotonic() + LOW_SECONDS
            self._due.append(self.set_timer(LOW_SECONDS, self._go_on))

    def _go_on(self) -> None:
        """Send what has changed, if nothing speaks against it any more."""
        now = time.monotonic()
        if self._answers and self._asked_at is not None and now - self._asked_at >= PATIENCE_SECONDS:
            self._timed(now - self._asked_at)
            self._asked_at = None
        if self._leaving and self._asked_at is None:
            self._end()
        if self._held is None or (self._answers and self._asked_at is not None) or now < self._held_until:
            return
        for timer in self._due:
            timer.stop()
        held, self._held = self._held, None
        for draw in self._postponed:
            draw()
        self._postponed.clear()
        held.close()
        if self._lost:
            self.screen.refresh()
        elif self._put_off:
            self.screen._compositor_refresh()
        self._lost = self._put_off = False
        self.screen.check_idle()

    def _end(self) -> None:
        if self._leaving:
            (result,) = self._leaving
            self.exit(result)
