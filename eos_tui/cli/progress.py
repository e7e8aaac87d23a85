"""How the runs of a claim come along, on stderr: a bar for each in a terminal, a line for each beginning, end and minute elsewhere."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from eos_tui.cli.group import say
from eos_tui.snapshot import RunSnapshot

QUIET_SECONDS = 60.0
"""After this long without a line of a run there is one of how far it is."""


class Lines:
    """One line when a run begins, one when it has ended, and between them one a minute."""

    def __init__(self, num_runs: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin.

        Args:
            num_runs: All runs, those that are there already too.
            clock: Seconds.
        """
        self._num_runs = num_runs
        self._num_done = 0
        self._clock = clock
        self._told: dict[str, float] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        return None

    def taken(self, name: str, snapshot: RunSnapshot) -> None:
        """Say that the run was there already."""
        self._num_done += 1
        self._tell(f"{name} was there already: {snapshot.status} at step {snapshot.step:,}")

    def began(self, name: str, snapshot: RunSnapshot) -> None:
        """Say that the run begins, or goes on."""
        self._told[name] = self._clock()
        self._tell(f"{name} {f'goes on from step {snapshot.step:,}' if snapshot.num_records else 'begins'}")

    def advanced(self, name: str, snapshot: RunSnapshot) -> None:
        """Say how far the run is, if that is due."""
        now = self._clock()
        if now - self._told[name] >= QUIET_SECONDS:
            self._told[name] = now
            self._tell(f"{name} is at step {snapshot.step:,} of {snapshot.steps:,}")

    def ended(self, name: str, snapshot: RunSnapshot) -> None:
        """Say how the run ended."""
        self._num_done += 1
        seconds = f" after {snapshot.end.wall_seconds:.0f} s" if snapshot.end else ""
        self._tell(f"{name} {snapshot.status} at step {snapshot.step:,}{seconds}")

    def _tell(self, message: str) -> None:
        say(f"[{self._num_done}/{self._num_runs}] {message}")


class Bars(Lines):
    """A bar of all runs, and one of each that goes on."""

    def __init__(self, num_runs: int) -> None:
        super().__init__(num_runs)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._all = self._progress.add_task("runs", total=num_runs)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._progress.stop()

    def began(self, name: str, snapshot: RunSnapshot) -> None:
        """Add a bar."""
        self._tasks[name] = self._progress.add_task(name, total=snapshot.steps or None)

    def advanced(self, name: str, snapshot: RunSnapshot) -> None:
        """Move the run's bar."""
        self._progress.update(self._tasks[name], completed=snapshot.step, total=snapshot.steps or None)

    def ended(self, name: str, snapshot: RunSnapshot) -> None:
        """Say how the run ended, and take its bar away."""
        super().ended(name, snapshot)
        self._progress.remove_task(self._tasks.pop(name))

    def _tell(self, message: str) -> None:
        self._progress.update(self._all, completed=self._num_done)
        self._progress.console.print(message, highlight=False, markup=False)
