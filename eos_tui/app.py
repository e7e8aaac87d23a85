"""The terminal application: its screens follow run folders and show them. Never touches a run but by requests that the user makes.

Called by the command line. Must not import jax, nor anything else that is slow to load: its first frame is due within
0.7 s of the start of the process.
"""

import asyncio
import curses
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from msgspec.structs import replace
from rich.console import COLOR_SYSTEMS
from rich.terminal_theme import TerminalTheme
from textual.binding import Binding, BindingType
from textual.filter import NoColor
from textual.pilot import Pilot

from eos_tui import palette, settings
from eos_tui.display import THEME, Display, colors
from eos_tui.memory import Memory
from eos_tui.messages import NewRunAsked, Opened
from eos_tui.output import is_utf8, one_line
from eos_tui.pacing import PacedApp
from eos_tui.read_only import GuardedApp
from eos_tui.recording import Recorder, recorded
from eos_tui.replay import ReplayFolder
from eos_tui.screens import compare, home, run
from eos_tui.screens.commands import Palette
from eos_tui.screens.compare import CompareScreen
from eos_tui.screens.confirm import ConfirmScreen
from eos_tui.screens.home import Compared, HomeScreen
from eos_tui.screens.replay import ReplayScreen
from eos_tui.screens.run import RunScreen
from eos_tui.settings import Loaded, did_you_mean
from eos_tui.snapshot import RunSnapshot
from eos_tui.widgets.characters import Characters
from eos_tui.widgets.frugal import FrugalScreen
from runners import sweeps
from runners.errors import SettingsError
from runners.run_folder import RunFolder, reference
from runners.sweeps import SweepFolder

TERMINAL_SECONDS = 1.0
"""Time between two looks at whether the terminal is still there, for when no hang-up signal says so."""
PALETTE_SECONDS = 0.1
"""How long the palette has to find its commands before it is drawn."""
WARNING_SECONDS = 30.0
"""How long a warning about the settings stays on the screen."""
RICH_COLORS = {"none": "standard", "16": "standard", "256": "256", "truecolor": "truecolor"}
"""What Rich calls them; of none it would send no bold either."""
LAST_SECONDS = 2.0
"""How long a terminal that takes no more output may hold up the end that a signal asked for."""


Shown: TypeAlias = RunFolder | SweepFolder | Sequence[RunFolder] | Path
"""A run, a sweep, several runs that are compared, or the folder of the runs to list."""


class EosApp(GuardedApp[str], PacedApp[str]):
    """Shows one run, a sweep, several runs, or all of a folder, until the user leaves; gives what to print then."""

    TITLE = "eos"
    CSS_PATH = "app.tcss"
    # Ours is opened by another key: Ctrl-P is taken in VS Code.
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c,ctrl+q", "leave", show=False, priority=True, tooltip="Leave the viewer. Runs go on.", id="app.leave"),
        Binding("ctrl+z", "suspend_process", show=False, priority=True, tooltip="Back to the shell; `fg` comes back.", id="app.suspend"),
        Binding(
            "colon", "palette", show=False, tooltip="Everything that can be done here, found by typing letters of it.", id="app.palette"
        ),
    ]

    def __init__(
        self,
        shown: Shown,
        *,
        poll_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
        display: Display | None = None,
        loaded: Loaded | None = None,
        read_only: bool = False,
    ) -> None:
        """Prepare; files are first read once the screen stands.

        Args:
            shown: A run, a sweep, several runs to compare, or the folder of the runs to list.
            poll_seconds: Time between two looks at its files, the screen's own where None; 0 leaves the looking to `poll_now`.
            clock: Seconds since the epoch.
            display: How it is drawn.
            loaded: The user's settings; without them nothing is remembered.
            read_only: Show, and refuse all that would write or touch a run.
        """
        display = display or (loaded or Loaded(Path())).display(os.environ)
        super().__init__(low_bandwidth=display.low_bandwidth, ansi_color=True)
        self.read_only = read_only
        for theme in palette.THEMES:
            self.register_theme(theme)
        self._colors = colors(display.colors, environ=os.environ, known=1 << 24)
        # Rich knows fewer terminals, and has no other way to be told.
        self.console._color_system = COLOR_SYSTEMS[RICH_COLORS[self._colors]]
        if self._colors == "none" and not self.no_color:
            self.no_color = True
            self._filters.append(NoColor())
        self._filters.append(Characters(ascii_only=bool(display.ascii)))
        self.theme = self._affordable(display.theme if display.theme in self.available_themes else THEME)
        self.animation_level = "none"
        self.set_class(bool(display.ascii), "-ascii")
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._appearance = display
        self._memory = Memory(loaded, failed=self._warn_from_thread)
        self.warnings = list(self._obey(loaded)) if loaded else []
        """What is wrong with the settings; said once the screen stands."""
        self._first = self._screen_of(shown)

    @property
    def snapshot(self) -> RunSnapshot | None:
        """The run as it is shown; None before it was first read, and where none is."""
        return self.screen.snapshot if isinstance(self.screen, RunScreen) else None

    def get_default_screen(self) -> FrugalScreen[None]:
        """What was asked for, from the first frame on."""
        return self._first

    def on_load(self) -> None:
        """Remember the loop, for signals."""
        self._event_loop = asyncio.get_running_loop()

    def on_mount(self) -> None:
        """From now on the theme says whether colours are the terminal's own; before, Textual would not listen to it."""
        self.ansi_color = None

    def on_ready(self) -> None:
        """Begin to look after the terminal."""
        self.app_resume_signal.subscribe(self, lambda _: self.screen.refresh())
        for warning in self.warnings:
            self._warn(warning)
        if not self.is_headless and not self.is_web and _is_terminal():
            self.set_interval(TERMINAL_SECONDS, _end_without_terminal)

    def on_unmount(self) -> None:
        """Keep what was chosen last."""
        self._memory.close()

    def poll_now(self) -> None:
        """Look once, at once, at the files of what is shown."""
        if isinstance(self.screen, FrugalScreen):
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
        """Show it over what is shown."""
        self.push_screen(self._screen_of(message.folder))

    def on_compared(self, message: Compared) -> None:
        """Show some runs of the list beside each other, over it."""
        self.push_screen(self._compare_screen(message.folders))

    def on_new_run_asked(self, message: NewRunAsked) -> None:
        """Let the user make a run."""
        # Loaded here: the first frame need not wait for an editor, nor for the readers of data sets.
        from eos_tui.screens.new_run import JUDGE_SECONDS, NewRunScreen

        seconds = JUDGE_SECONDS if self._poll_seconds is None else self._poll_seconds
        self.push_screen(NewRunScreen(message.runs, source=message.source, judge_seconds=seconds, ascii_only=bool(self._appearance.ascii)))

    def leave_soon(self) -> None:
        """Leave; for signal handlers, which run between any two instructions and do not wake the loop by themselves."""
        if self._event_loop is not None:
            self._event_loop.call_soon_threadsafe(self._leave)

    def action_detach(self) -> None:
        """Go back to the list; leave where there is none below. Runs go on."""
        if len(self.screen_stack) > 1:
            self.pop_screen()
        else:
            self.action_leave()

    def action_leave(self) -> None:
        """Leave, after a question where something typed would be lost; runs go on."""
        edited = next((screen for screen in self.screen_stack if isinstance(screen, FrugalScreen) and screen.is_edited), None)
        if edited and not isinstance(self.screen, ConfirmScreen):
            edited.leave(self._leave)
        else:
            self._leave()

    def _leave(self) -> None:
        shown = (screen for screen in reversed(self.screen_stack) if isinstance(screen, FrugalScreen))
        self.leave(next(filter(None, (screen.farewell for screen in shown)), None))

    def action_palette(self) -> None:
        """Offer everything that can be done."""
        # One repaint, with the commands in it, in place of two.
        self.delay_update(PALETTE_SECONDS)
        self.push_screen(Palette())

    def action_choose_theme(self, name: str) -> None:
        """Draw in these colours, and remember it."""
        self.theme = self._affordable(name)
        self._memory.remember_display(theme=name)

    async def action_quit(self) -> None:
        """Leave; runs go on."""
        self.action_leave()

    def slow_down(self) -> None:
        """The terminal turned out to be slow: low bandwidth from now on."""
        super().slow_down()
        self.theme = self._affordable(self.theme)

    def get_css_variables(self) -> dict[str, str]:
        """The theme's variables, with those of charts."""
        return palette.variables(self.current_theme, super().get_css_variables())

    @property
    def ansi_theme(self) -> TerminalTheme:
        """What the names of colours mean where they are not the terminal's own."""
        return palette.named(self.current_theme)

    def get_key_display(self, binding: Binding) -> str:
        """The name of a key, in words where the terminal has no arrows."""
        name = super().get_key_display(binding)
        return binding.key.partition(",")[0] if self._appearance.ascii and not name.isascii() else name

    def _affordable(self, theme: str) -> str:
        """The theme, or the terminal's own colours where it takes no others, or they are too many bytes."""
        found = self.available_themes[theme]
        if found.ansi or (self._colors in ("256", "truecolor") and not self.low_bandwidth):
            return theme
        return "ansi-dark" if found.dark else "ansi-light"

    def _screen_of(self, shown: Shown) -> FrugalScreen[None]:
        if isinstance(shown, RunFolder):
            return self._run_screen(shown)
        if isinstance(shown, SweepFolder):
            return self._sweep_screen(shown)
        return self._home_screen(shown) if isinstance(shown, Path) else self._compare_screen(shown)

    def _run_screen(self, folder: RunFolder) -> RunScreen:
        seconds = run.POLL_SECONDS if self._poll_seconds is None else self._poll_seconds
        make = partial(ReplayScreen, folder) if isinstance(folder, ReplayFolder) else partial(RunScreen, folder)
        return make(
            run=one_line(reference(folder)),
            poll_seconds=seconds,
            clock=self._clock,
            ascii_only=bool(self._appearance.ascii),
            memory=self._memory,
        )

    def _compare_screen(self, folders: Sequence[RunFolder]) -> CompareScreen:
        seconds = compare.POLL_SECONDS if self._poll_seconds is None else self._poll_seconds
        return CompareScreen(folders, poll_seconds=seconds, clock=self._clock, ascii_only=bool(self._appearance.ascii))

    def _sweep_screen(self, folder: SweepFolder) -> FrugalScreen[None]:
        # Loaded here: the first frame of other screens need not wait for the reports.
        from eos_tui.screens import sweep

        seconds = sweep.POLL_SECONDS if self._poll_seconds is None else self._poll_seconds
        name = one_line(sweeps.reference(folder))
        return sweep.SweepScreen(folder, sweep=name, poll_seconds=seconds, clock=self._clock, ascii_only=bool(self._appearance.ascii))

    def _home_screen(self, runs: Path) -> HomeScreen:
        seconds = home.POLL_SECONDS if self._poll_seconds is None else self._poll_seconds
        return HomeScreen(runs, poll_seconds=seconds, clock=self._clock, ascii_only=bool(self._appearance.ascii), memory=self._memory)

    def _obey(self, loaded: Loaded) -> Iterator[str]:
        """Put actions on the keys that the settings ask for; what is wrong with them."""
        if loaded.error:
            yield f"{loaded.error} Until it is mended the defaults count, and nothing is remembered."
        if loaded.settings.keys:
            # Checking loads every screen.
            from eos_tui import keymap

            try:
                self.set_keymap(keymap.checked(loaded.settings.keys, keymap.catalog(type(self)), label=str(loaded.path)))
            except SettingsError as error:
                yield f"{error} Until it is mended all actions are on their default keys."
        theme = loaded.given.get("display", {}).get("theme", THEME)
        if theme not in self.available_themes:
            hint = did_you_mean(theme, sorted(self.available_themes))
            yield f'{loaded.path}: display.theme = "{theme}": there is no such theme.{hint}'

    def _warn(self, words: str) -> None:
        self.notify(words, severity="warning", timeout=WARNING_SECONDS, markup=False)

    def _warn_from_thread(self, words: str) -> None:
        if self._event_loop is not None and self.is_running:
            self._event_loop.call_soon_threadsafe(self._warn, words)


def watch(shown: Shown, *, options: Mapping[str, Any] | None = None, recorder: Recorder | None = None) -> str | None:
    """Show the run, the sweep, several runs, or those of a folder, until the user leaves, or until SIGTERM, SIGHUP or SIGINT.

    Args:
        shown: The run, the sweep, the runs, or the folder.
        options: Of how to draw, as the command line gives them; the rest as the environment, the settings and the terminal say.
        recorder: Takes down what is sent to the terminal.

    Returns:
        What to print on the restored terminal; None when nothing is known of the run.
    """
    loaded = settings.load(settings.config_path(os.environ))
    display = _settled(loaded.display(os.environ, options=options))
    app = EosApp(shown, display=display, loaded=loaded)
    if recorder is not None:
        app.driver_class = recorded(app.driver_class, recorder)
    with _ended_by_signals(app):
        return app.run(mouse=display.mouse)


def once(shown: Shown, *, width: int, height: int, display: Display | None = None, loaded: Loaded | None = None) -> str:
    """The screen of what is shown, as it is now, as text: rows without the blanks at their right.

    Args:
        shown: The run, the sweep, the runs, or the folder.
        width: Cells across.
        height: Rows.
        display: How it is drawn.
        loaded: The user's settings; what is wrong with them is not told.

    Raises:
        LogError: If the log is not one.
    """
    app = EosApp(shown, poll_seconds=0, display=display, loaded=loaded)
    app.warnings.clear()
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


def _settled(display: Display) -> Display:
    """What is asked for, with the rest as the terminal can: Textual writes to the standard error stream."""
    unicode = is_utf8(sys.__stderr__.encoding if sys.__stderr__ else None)
    return replace(
        display,
        ascii=not unicode if display.ascii is None else display.ascii,
        colors=colors(display.colors, environ=os.environ, known=_known_colors()),
    )


def _known_colors() -> int | None:
    """Colours of the terminal as its description says; None where it has none, or there is no terminal."""
    try:
        curses.setupterm(fd=sys.__stderr__.fileno() if sys.__stderr__ else 2)
    except (curses.error, OSError, ValueError):
        return None
    return max(curses.tigetnum("colors"), 0)


def _end_without_terminal() -> None:
    """End the process at once if its terminal is gone: there is nothing to restore, and reading from it never waits."""
    if not _is_terminal():
        os._exit(128 + signal.SIGHUP)


def _is_terminal() -> bool:
    return os.isatty(sys.__stdin__.fileno() if sys.__stdin__ else 0)
