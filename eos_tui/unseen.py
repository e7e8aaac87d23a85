"""A replay drawn without a terminal: into a recording, as fast as that goes, or as a picture. Called by `eos replay`."""

import asyncio
from pathlib import Path

from textual.drivers.headless_driver import HeadlessDriver
from textual.pilot import Pilot

from eos_tui.app import EosApp
from eos_tui.display import Display
from eos_tui.recording import Recorder, recorded
from eos_tui.replay import ReplayFolder, ReplayReader
from eos_tui.screens.run import POLL_SECONDS, RunScreen
from runners.run_folder import RunFolder, reference

FRAME_SECONDS = 0.05
"""How long the app is given to draw what it was told: three of its frames."""
LAST_SECONDS = 2.0
"""How long the end of a recording stays before a player begins again."""
WITHOUT_CURSOR, WITH_CURSOR = "\x1b[?25l", "\x1b[?25h"


class Unseen(HeadlessDriver):
    """A terminal that is sent everything, and that nobody sees."""

    @property
    def is_headless(self) -> bool:
        """No: then nothing would be sent."""
        return False

    def start_application_mode(self) -> None:
        """Begin."""
        self.write(WITHOUT_CURSOR)
        super().start_application_mode()

    def stop_application_mode(self) -> None:
        """Leave the last picture standing."""
        self.write(WITH_CURSOR)


class Ticks:
    """A clock that goes only when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        """The present."""
        return self.seconds


def record(replayed: ReplayFolder, recorder: Recorder, *, ticks: Ticks, size: tuple[int, int], display: Display | None = None) -> None:
    """Record a replay up to its end, without a terminal.

    Args:
        replayed: The run, at the clock `ticks`.
        recorder: Of the same clock.
        ticks: Moved on here.
        size: Columns and rows.
        display: How it is drawn.

    Raises:
        LogError: If the log is not one.

    Cost: 0.05 s for each half second of the recording.
    """
    app = EosApp(replayed, poll_seconds=0, display=display)
    app.driver_class = recorded(Unseen, recorder)

    async def play(pilot: Pilot[object]) -> None:
        await pilot.pause()
        while True:
            is_last = replayed.playhead.is_at_end
            app.read_whole()
            await asyncio.sleep(FRAME_SECONDS)
            await pilot.pause()
            ticks.seconds += LAST_SECONDS if is_last else POLL_SECONDS
            if is_last:
                break
        app.exit()

    app.run(size=size, auto_pilot=play)


class Picture(EosApp):
    """A replay that stands, in the screen that its run had then."""

    def _run_screen(self, folder: RunFolder) -> RunScreen:
        assert isinstance(folder, ReplayFolder)
        reader = ReplayReader(folder.log, folder.playhead)
        return RunScreen(folder, run=reference(folder), poll_seconds=0, ascii_only=bool(self._appearance.ascii), reader=reader)


def draw(replayed: ReplayFolder, path: Path, *, size: tuple[int, int], display: Display | None = None) -> None:
    """Write the screen that a run had where its replay stands, as an SVG.

    Args:
        replayed: The run, at a clock that stands.
        path: Where to.
        size: Columns and rows.
        display: How it is drawn.

    Raises:
        LogError: If the log is not one.
        OSError: If the file cannot be written.
    """
    app = Picture(replayed, display=display)
    pictures: list[str] = []

    async def look(pilot: Pilot[object]) -> None:
        await pilot.pause()
        app.read_whole()
        while len(pictures) < 2 or pictures[-1] != pictures[-2]:
            await pilot.pause()
            pictures.append(app.export_screenshot())
        app.exit()

    app.run(headless=True, size=size, auto_pilot=look)
    path.write_text(pictures[-1], encoding="utf-8")
