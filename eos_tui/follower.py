"""Follows a run from a thread of its own, so that a slow disk never blocks the screen.

Used by `app`. The thread is a daemon and not one of Textual's workers: a worker would hold up the end of the program
for as long as a read takes, which on a network file system has no limit. It looks again only after the app has shown
what it last delivered, so that a slow terminal never queues up.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeAlias

from textual.message import Message

from eos_tui.details import Paragraph
from eos_tui.log_reader import LogReader
from eos_tui.messages import DetailRead, DrawerRead, ReadingFailed, RunAdvanced
from eos_tui.output import last_lines
from eos_tui.snapshot import RunSnapshot, Status
from eos_tui.watcher import RunWatcher
from runners.errors import LogError
from runners.run_folder import RunFolder

Source: TypeAlias = Callable[[RunSnapshot], Sequence[Paragraph]]
"""Reads what stands beside a run's log."""


class Follower:
    """Polls one run and delivers what changed."""

    def __init__(
        self, folder: RunFolder, deliver: Callable[[Message], object], *, clock: Callable[[], float], reader: LogReader | None = None
    ) -> None:
        """Prepare; nothing is read yet.

        Args:
            folder: The run.
            deliver: Takes a message; called from the thread.
            clock: Seconds since the epoch.
            reader: What reads its log; a reader of all that is written where None.
        """
        self._folder = folder
        self._deliver = deliver
        self._watcher = RunWatcher(folder, clock=clock, reader=reader)
        self._error = ""
        self.is_behind = False
        """Whether the last look left something unread."""
        self._asked: tuple[float, float] | None = None
        self._beside: Source | None = None
        self._read: tuple[Source, Sequence[Paragraph]] | None = None
        self._wanted = threading.Event()
        """Set when there is something to do before the next look is due."""
        self._stopped = threading.Event()
        self._shown = threading.Event()
        self._shown.set()

    def start(self, poll_seconds: float) -> None:
        """Look every `poll_seconds` until stopped."""
        threading.Thread(target=self._follow, args=(poll_seconds,), name="eos-follower", daemon=True).start()

    def stop(self) -> None:
        """End the thread at its next look; never waits for it."""
        self._stopped.set()
        self._wanted.set()
        self._shown.set()

    def shown(self) -> None:
        """The app has shown what was delivered last."""
        self._shown.set()

    def hurry(self) -> None:
        """Look soon, whether or not the next look is due."""
        self._wanted.set()

    def ask(self, low: float, high: float) -> None:
        """Deliver the series between two steps in detail, soon; of several that were asked for the last."""
        self._asked = (low, high)
        self._wanted.set()

    def detail(self) -> Message | None:
        """What was asked for last, read; None when nothing was."""
        asked, self._asked = self._asked, None
        if asked is None:
            return None
        try:
            return DetailRead(*asked, self._watcher.detail(*asked))
        except (LogError, OSError) as error:
            return ReadingFailed(error)

    def read_beside(self, source: Source | None) -> None:
        """From now on, soon and at each look, read this too, and deliver it where it changed; None for nothing."""
        self._beside, self._read = source, None
        self._wanted.set()

    def beside(self) -> Message | None:
        """What is to be read beside the log; None when it has not changed."""
        if (source := self._beside) is None:
            return None
        try:
            found: Sequence[Paragraph] = tuple(source(self._watcher.snapshot))
        except (OSError, ValueError) as error:
            found = (("", f"This cannot be read: {error}."),)
        if (source, found) == self._read:
            return None
        self._read = (source, found)
        return DrawerRead(source, found)

    def look(self) -> Message | None:
        """What changed since the last look; None when nothing did."""
        try:
            snapshot = self._watcher.poll()
        except (LogError, OSError) as error:
            self.is_behind = False
            if str(error) == self._error:
                return None
            self._error = str(error)
            return ReadingFailed(error)
        self.is_behind = self._watcher.is_behind
        if snapshot is None:
            return None
        self._error = ""
        ended_badly = snapshot.status in (Status.CRASHED, Status.FAILED)
        return RunAdvanced(snapshot, output=tuple(last_lines(self._folder.output)) if ended_badly else ())

    def _follow(self, poll_seconds: float) -> None:
        while not self._stopped.is_set():
            try:
                found = [self.detail(), *self._looks(poll_seconds), self.beside()]
            except Exception as error:
                self._deliver(ReadingFailed(error))
                return
            for message in filter(None, found):
                self._shown.clear()
                self._deliver(message)
                self._shown.wait()
            self._wanted.wait(0 if self.is_behind else poll_seconds)
            self._wanted.clear()

    def _looks(self, seconds: float) -> list[Message]:
        """What changed; of a log that takes several looks to read, what is known after so many seconds or at its end."""
        deadline = time.monotonic() + seconds
        found: list[Message] = []
        while True:
            if message := self.look():
                found = [*found[:-1], message] if isinstance(message, RunAdvanced) else [*found, message]
            if not self.is_behind or time.monotonic() > deadline:
                return found
