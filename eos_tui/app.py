"""The terminal application: its screens follow run folders and show them. Never touches a run but by requests that the user makes.

Called by the command line. Must not import jax, nor anything else that is slow to load: its first frame is due within
0.7 s of the start of the process.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, TypeAlias

from textual.binding import Binding, BindingType
from textual.pilot import Pilot

from eos_tui.display import THEME, Display
from eos_tui.output import is_utf8
from eos_tui.read_only import GuardedApp
from eos_tui.screens import compare, home, run
from eos_tui.screens.compare import CompareScreen
from eos_tui.screens.home import Compared, HomeScreen, Opened
from eos_tui.screens.run import RunScreen
from eos_tui.snapshot import RunSnapshot
from eos_tui.widgets.words import farewell
from runners.run_folder import RunFolder, reference

TERMINAL_SECONDS = 1.0
"""Time between two looks at whether the terminal is still there, for when no hang-up signal says so."""
LAST_SECONDS = 2.0
"""How long a terminal that takes no more output may hold up the end that a signal asked for."""


Shown: TypeAlias = RunFolder | Sequence[RunFolder] | Path
"""A run, several that are compared, or the folder of the runs to list."""


class EosApp(GuardedApp[str]):
    """Shows one run, several, or all of a folder, until the user leaves; gives what to print then."""

    TITLE = "eos"
    CSS_PATH = "app.tcss"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c,ctrl+q", "leave", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", show=False, priority=True),
    ]

    def __init__(
        self,
        shown: Shown,
        *,
        poll_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
        display: Display | None = None,
        read_only: bool = False,
    ) -> None:
        """Prepare; files are first read once the screen stands.

        Args:
            shown: A run, several to compare, or the folder of the runs to list.
            poll_seconds: Time between two looks at its files, the screen's own where None; 0 leaves the looking to `poll_now`.
            clock: Seconds since the epoch.
            display: How it is drawn.
            read_only: Show, and refuse all that would write or touch a run.
        """
        display = display or Display()
        super().__init__(ansi_color=True if display.theme == THEME else None)
        self.read_only = read_only
        self.theme = display.theme if display.theme in self.available_themes else THEME
        self.animation_level = "none"
        self.set_class(display.ascii, "-ascii")
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._appearance = display
        self._first = self._screen_of(shown)

    @property
    def snapshot(self) -> RunSnapshot | None:
        """The run as it is shown; None before it was first read, and where none is."""
        return self.screen.snapshot if isinstance(self.screen, RunScreen) else None

    def get_default_screen(self) -> RunScreen | CompareScreen | HomeScreen:
        """What was asked for, from the first frame on."""
        return self._first

    def on_load(self) -> None:
        """Remember the loop, for signals."""
        self._event_loop = asyncio.get_running_loop()

    def on_ready(self) -> None:
        """Begin to look after the terminal."""
        self.app_resume_signal.subscribe(self, lambda _: self.screen.refresh())
        if not self.is_headless and not self.is_web:
            self.set_interval(TERMINAL_SECONDS, _end_without_terminal)

    def poll_now(self) -> None:
        """Look once, at once, at the files of what is shown."""
        if isinstance(self.screen, RunScreen | CompareScreen | HomeScreen):
            self.screen.poll_now()

    def read_whole(self) -> None:
        """Show all that there is.

        Raises:
            LogError: If the log of the run is not one.
        """
        if isinstance(self.screen, RunScreen | CompareScreen):
            self.screen.read_whole()
        else:
            self.poll_now()

    def on_opened(self, message: Opened) -> None:
        """Show a run of the list, over it."""
        self.push_screen(self._run_screen(message.folder))

    def on_compared(self, message: Compared) -> None:
        """Show some runs of the list beside each other, over it."""
        self.push_screen(self._compare_screen(message.folders))

    def leave_soon(self) -> None:
        """Leave; for signal handlers, which run between any two instructions and do not wake the loop by themselves."""
        if self._event_loop is not None:
            self._event_loop.call_soon_threadsafe(self.action_leave)

    def action_detach(self) -> None:
        """Go back to the list; leave where there is none below. Runs go on."""
        if len(self.screen_stack) > 1:
            self.pop_screen()
        else:
            self.action_leave()

    def action_leave(self) -> None:
        """Leave; runs go on."""
        screen = next((screen for screen in reversed(self.screen_stack) if isinstance(screen, RunScreen)), None)
        self.exit(farewell(screen.snapshot, run=screen.run) if screen and screen.snapshot else None)

    async def action_quit(self) -> None:
        """Leave; runs go on."""
        self.action_leave()

    def _screen_of(self, shown: Shown) -> RunScreen | CompareScreen | HomeScreen:
        if isinstance(shown, RunFolder):
            return self._run_screen(shown)
        return self._home_screen(shown) if isinstance(shown, Path) else self._compare_screen(shown)

    def _run_screen(self, folder: RunFolder) -> RunScreen:
        seconds = run.POLL_SECONDS if self._poll_seconds is None else self._poll_seconds
        return RunScreen(folder, run=reference(folder), poll_seconds=seconds, clock=self._clock, ascii_only=self._appearance.ascii)

    def _compare_screen(self, folders: Sequence[RunFolder]) -> CompareScreen:
        seconds = compare.POLL_SECONDS if self._poll_seconds is None else self._poll_seconds
        return CompareScreen(folders, poll_seconds=seconds, clock=self._clock, ascii_only=self._appearance.ascii)

    def _home_screen(self, runs: Path) -> HomeScreen:
        seconds = home.POLL_SECONDS if self._poll_seconds is None else self._poll_seconds
        return HomeScreen(runs, poll_seconds=seconds, clock=self._clock, ascii_only=self._appearance.ascii)


def watch(shown: Shown, *, display: Display | None = None) -> str | None:
    """Show the run, several, or the runs of a folder, until the user leaves, or until SIGTERM, SIGHUP or SIGINT.

    Args:
        shown: The run, the runs, or the folder.
        display: How; where None, as the terminal can.

    Returns:
        What to print on the restored terminal; None when nothing is known of the run.
    """
    # Textual writes to the standard error stream.
    display = display or Display(ascii=not is_utf8(sys.__stderr__.encoding if sys.__stderr__ else None))
    app = EosApp(shown, display=display)
    with _ended_by_signals(app):
        return app.run(mouse=display.mouse)


def once(shown: Shown, *, width: int, height: int, display: Display | None = None) -> str:
    """The screen of a run, of several, or of the runs of a folder, as it is now, as text: rows without the blanks at their right.

    Args:
        shown: The run, the runs, or the folder.
        width: Cells across.
        height: Rows.
        display: How it is drawn.

    Raises:
        LogError: If the log is not one.
    """
    app = EosApp(shown, poll_seconds=0, display=display)
    rows: list[str] = []

    async def look(pilot: Pilot[object]) -> None:
        await pilot.pause()
        app.read_whole()
        before: list[str] = []
        while not before or rows != before:
            before = list(rows)
            await pilot.pause()
            rows[:] = [strip.text.rstrip() for strip in app.screen._compositor.render_strips()]
        app.exit()

    app.run(headless=True, size=(width, height), auto_pilot=look)
    return "\n".join(rows)


@contextmanager
def _ended_by_signals(app: EosApp) -> Iterator[None]:
    """Signals end the app with the terminal restored; a hang-up at once, for there is no terminal any more."""
    deadlines: list[threading.Timer] = []

    def end(number: int, _frame: object) -> None:
        _end_without_terminal()
        # Should the terminal take no output, the app's loop is stuck in a write and cannot end by itself.
        deadline = threading.Timer(LAST_SECONDS, os._exit, (128 + number,))
        deadline.daemon = True
        deadline.start()
        deadlines.append(deadline)
        app.leave_soon()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    try:
        yield
    finally:
        for deadline in deadlines:
            deadline.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_without_terminal() -> None:
    """End the process at once if its terminal is gone: there is nothing to restore, and reading from it never waits."""
    if not os.isatty(sys.__stdin__.fileno() if sys.__stdin__ else 0):
        os._exit(128 + signal.SIGHUP)
