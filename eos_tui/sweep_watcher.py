"""Watches one sweep: how each of its runs stands, the loss of those that are done, whether a scheduler works at it.

Called by the screen of sweeps, from a thread. Reads run folders and the sweep's own files; polls, as `watcher` does.
"""

import time
from collections.abc import Callable, Sequence
from math import inf

from eos_tui import evidence, sweep_grid
from eos_tui.reports import transfer
from eos_tui.reports.members import Member
from eos_tui.runs import Listed, RunsWatcher
from eos_tui.snapshot import Status
from eos_tui.sweep_grid import GridRun, SweepStand
from runners.errors import EosError
from runners.sweeps import AnySweepRecord, Sweep, SweepFolder, SweepRun

MAX_SECONDS = 0.5
"""Time that one look reads the logs of runs that are done for; the rest of them is left to the next."""


class SweepWatcher:
    """The present state of a sweep, here or on another host."""

    def __init__(self, folder: SweepFolder, *, clock: Callable[[], float]) -> None:
        """Look at nothing yet.

        Args:
            folder: The sweep.
            clock: Seconds since 1970.
        """
        self._folder = folder
        self._clock = clock
        self._watcher = RunsWatcher(folder.path, clock=clock)
        self._sweep: Sweep | None = None
        self._listed: dict[str, Listed] = {}
        self._records: list[AnySweepRecord] = []
        self._offset = 0
        self._losses: dict[tuple[str, int], float | None] = {}
        """By name and last step of runs that have finished."""
        self._judged: tuple[tuple[GridRun, ...], tuple[str, ...] | None] = ((), ())
        """The runs as they were looked at last, and what they say together, once that was asked."""
        self._given: tuple[object, SweepStand] | None = None
        self.is_behind = False
        """Whether the last look left something to do: the next one need not wait."""

    def poll(self, *, max_seconds: float = MAX_SECONDS) -> SweepStand | None:
        """The sweep as it stands; None when nothing changed since it was given.

        Args:
            max_seconds: How long to read the logs of runs that are done.

        Cost: that of `RunsWatcher.poll`, and once the whole log of each run that has finished.
        """
        self.is_behind = False
        try:
            self._sweep = self._sweep or self._folder.read()
            new, self._offset = self._folder.records(self._offset)
        except (EosError, OSError) as error:
            return self._new(error, lambda: SweepStand(name=self._folder.name, problem=str(error)))
        self._records += new
        if (listed := self._watcher.poll()) is not None:
            self._listed = {run.folder.name: run for run in listed}
        runs = tuple(self._runs(self._sweep.runs, until=time.monotonic() + max_seconds))
        is_held = self._folder.is_held()
        self._judge(runs)
        return self._new((self._judged, is_held, self._offset), lambda: self._stand(runs, is_held=is_held))

    def _judge(self, runs: tuple[GridRun, ...]) -> None:
        """Ask what the runs say together, in the look after the one that gave them: it may take a second, and they are shown until then."""
        if runs != self._judged[0]:
            self._judged = (runs, None)
            self.is_behind |= all(run.is_done for run in runs)
        elif self._judged[1] is None:
            self._judged = (runs, sweep_grid.verdicts(runs))

    def _new(self, seen: object, stand: Callable[[], SweepStand]) -> SweepStand | None:
        """What is to be shown of that, unless it was given before."""
        seen = str(seen) if isinstance(seen, Exception) else seen
        if self._given and self._given[0] == seen:
            return None
        before, self._given = self._given, (seen, stand())
        return None if before and before[1] == self._given[1] else self._given[1]

    def _stand(self, runs: tuple[GridRun, ...], *, is_held: bool | None) -> SweepStand:
        left = sweep_grid.seconds_left(self._records, runs, now=self._clock()) if is_held is not False else None
        return SweepStand(name=self._folder.name, runs=runs, is_held=is_held, seconds_left=left, verdicts=self._judged[1] or ())

    def _runs(self, planned: Sequence[SweepRun], *, until: float) -> list[GridRun]:
        found = []
        for run in planned:
            listed = self._listed.get(run.run)
            if listed is None:
                found.append(GridRun(run=run.run, values=run.values, status="unreadable"))
                continue
            row = listed.row
            share = min(row.step / row.steps, 1.0) if row.steps else 0.0
            found.append(GridRun(run=run.run, values=run.values, status=row.status, share=share, loss=self._loss(run, listed, until=until)))
        return found

    def _loss(self, run: SweepRun, listed: Listed, *, until: float) -> float | None:
        """At the run's end; its log is read once."""
        if listed.row.status == Status.DIVERGED:
            return inf
        if listed.row.status != Status.FINISHED:
            return None
        key = (run.run, listed.row.step)
        if key not in self._losses:
            if time.monotonic() > until:
                self.is_behind = True
                return None
            try:
                self._losses[key] = transfer.final_loss(Member(run.values, evidence.read(listed.folder)))
            except (EosError, OSError):
                self._losses[key] = None
        return self._losses[key]
