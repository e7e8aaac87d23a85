"""The run screen over a replay: the same, but that its keys move the playhead where they would ask something of the run."""

import time
from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType

from eos_tui.memory import Memory
from eos_tui.replay import ReplayFolder, ReplayReader
from eos_tui.screens.run import POLL_SECONDS, RunScreen
from eos_tui.snapshot import RunSnapshot
from eos_tui.widgets.run_header import header_rows
from eos_tui.widgets.text_rows import Row

OF_A_RUNNER = frozenset({"stop", "pause"})
"""What the run screen can do that takes a runner."""
HURRY = 2.0
"""Factor of one key of the speed."""
JUMP = 0.1
"""Share of the run that one jump goes."""


class ReplayScreen(RunScreen):
    """One run, as it went."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "hold", "hold", id="replay.hold", tooltip="Hold the replay, or let it go on; at its end play it again."),
        Binding("full_stop", "hurry(1)", "faster", id="replay.faster", key_display=".", tooltip="Twice as fast."),
        Binding("comma", "hurry(-1)", "slower", id="replay.slower", key_display=",", tooltip="Half as fast."),
        Binding("b", "jump(-1)", "back", id="replay.back", tooltip="A tenth of the run back."),
        Binding("n", "jump(1)", "on", id="replay.on", tooltip="A tenth of the run on."),
        Binding("r", "restart", "again", id="replay.restart", tooltip="From the beginning."),
    ]

    def __init__(
        self,
        folder: ReplayFolder,
        *,
        run: str,
        poll_seconds: float = POLL_SECONDS,
        clock: Callable[[], float] = time.time,
        ascii_only: bool = False,
        memory: Memory | None = None,
    ) -> None:
        """Show nothing yet; the replay begins once the screen stands.

        Args:
            folder: The run, with the playhead.
            run: How it is named on the command line.
            poll_seconds: Time between two looks at what has come due; 0 leaves the looking to `poll_now`.
            clock: Seconds since the epoch.
            ascii_only: For terminals without Unicode.
            memory: How runs are shown, and what keeps it.
        """
        self._playhead = folder.playhead
        reader = ReplayReader(folder.log, folder.playhead)
        super().__init__(folder, run=run, poll_seconds=poll_seconds, clock=clock, ascii_only=ascii_only, memory=memory, reader=reader)

    @property
    def farewell(self) -> str | None:
        """Nothing: the run has not changed."""
        return None

    def on_mount(self) -> None:
        """Begin to play."""
        self._playhead.play()

    @property
    def explained(self) -> list[Binding]:
        """The keys that do something here."""
        return [binding for binding in super().explained if binding.action not in OF_A_RUNNER]

    def header_rows(self, snapshot: RunSnapshot, width: int, height: int) -> Sequence[Row]:
        """The top of the screen, which says how the replay goes."""
        playhead = self._playhead
        how = ", at its end" if playhead.is_at_end else "" if playhead.is_playing else ", held"
        return header_rows(snapshot, width, height, mode=f"replay x{playhead.speed:.4g}{how}")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Whether a key does something: nothing is asked of a run that is replayed."""
        return action not in OF_A_RUNNER and super().check_action(action, parameters)

    def action_hold(self) -> None:
        """Hold, go on, or at the end begin again."""
        if self._playhead.is_at_end:
            self.action_restart()
        elif self._playhead.is_playing:
            self._playhead.hold()
        else:
            self._playhead.play()
        self._moved()

    def action_hurry(self, direction: int) -> None:
        """Go faster, or slower."""
        self._playhead.hurry(HURRY**direction)
        self._moved()

    def action_jump(self, direction: int) -> None:
        """Go back, or on."""
        self._playhead.move(self._playhead.position + direction * JUMP * self._playhead.duration)
        self._moved()

    def action_restart(self) -> None:
        """Play from the beginning."""
        self._playhead.move(0.0)
        self._playhead.play()
        self._moved()

    def _moved(self) -> None:
        """Say it, and look at what is due now."""
        if self._snapshot:
            self._header.show(self._snapshot)
        self._follower.hurry()
