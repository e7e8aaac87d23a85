"""A run's log given out again as it was written: by run time, from a playhead that can be held, hurried and moved.

Used by the replay screen and by `eos replay`. The follower and the watcher read a replay as they read a run: nothing is
copied, and nothing is ever written to the run folder.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from eos_tui import summary
from eos_tui.log_reader import MAX_BYTES, MAX_SECONDS, Batch, LogReader, read_whole
from runners.records import AnyRecord
from runners.run_folder import RunFolder


@dataclass(frozen=True)
class _Mark:
    """A moment from which a playhead goes on."""

    clock: float
    position: float
    speed: float
    is_playing: bool


class Playhead:
    """How far a replay has come, in seconds of run time. Set by the screen, read by the follower's thread."""

    def __init__(self, duration: float, *, speed: float = 1.0, clock: Callable[[], float] = time.monotonic) -> None:
        """At the beginning, held.

        Args:
            duration: Of the run, in seconds of run time.
            speed: Seconds of run time a second, > 0.
            clock: Seconds, never going back.
        """
        self.duration = duration
        self._clock = clock
        # Replaced whole, so that the thread never sees half of a change.
        self._mark = _Mark(clock(), 0.0, speed, is_playing=False)

    @property
    def speed(self) -> float:
        """Seconds of run time a second."""
        return self._mark.speed

    @property
    def is_playing(self) -> bool:
        """Whether it moves, or would if it were not at the end."""
        return self._mark.is_playing

    @property
    def position(self) -> float:
        """Where it is, at most at the end."""
        mark = self._mark
        passed = (self._clock() - mark.clock) * mark.speed if mark.is_playing else 0.0
        return min(mark.position + passed, self.duration)

    @property
    def is_at_end(self) -> bool:
        """Whether all that was written when the replay began has been played."""
        return self.position >= self.duration

    def play(self) -> None:
        """Go on."""
        self._set(is_playing=True)

    def hold(self) -> None:
        """Stay."""
        self._set(is_playing=False)

    def hurry(self, factor: float) -> None:
        """Go so many times as fast, > 0."""
        self._set(speed=self._mark.speed * factor)

    def move(self, position: float) -> None:
        """Go to a run time; as far as there is one."""
        self._set(position=min(max(position, 0.0), self.duration))

    def _set(self, *, position: float | None = None, speed: float | None = None, is_playing: bool | None = None) -> None:
        mark = self._mark
        self._mark = _Mark(
            clock=self._clock(),
            position=self.position if position is None else position,
            speed=mark.speed if speed is None else speed,
            is_playing=mark.is_playing if is_playing is None else is_playing,
        )


class ReplayFolder(RunFolder):
    """A run folder while its run is replayed: as if a runner held it, up to the end; takes no request."""

    def __init__(self, path: Path, playhead: Playhead) -> None:
        super().__init__(path)
        self.playhead = playhead

    def is_held(self) -> bool | None:
        """True up to the end of the replay, then what is."""
        return super().is_held() if self.playhead.is_at_end else True

    def request(self, request: str) -> None:
        """Nothing: what is shown has happened."""


class ReplayReader(LogReader):
    """A position in a log that no record passes before the playhead has come to its time; goes back with it."""

    def __init__(self, path: Path, playhead: Playhead) -> None:
        super().__init__(path)
        self._playhead = playhead
        self._until = self._latest = -math.inf
        """Run time up to which records are due, and the latest of those that were given."""
        self._due: float | None = None
        """When the next record is due, where one was seen that is not due yet."""

    def read(self, *, max_bytes: int = MAX_BYTES, max_seconds: float = MAX_SECONDS) -> Batch:
        """The records that have come due since the last read; all of them anew where the playhead was moved back.

        Args:
            max_bytes: Bytes to take at most.
            max_seconds: No further block is begun after this time, in seconds.

        Raises:
            LogError: As that of `LogReader`.
        """
        self._until = math.inf if self._playhead.is_at_end else self._playhead.position
        if self._until < self._latest:
            self._begin_anew()
            self._latest, self._due = -math.inf, None
        if self._due is not None and self._due > self._until:
            return self._waiting(self._batch([], at_end=True, modified=None))
        self._due = None
        batch = super().read(max_bytes=max_bytes, max_seconds=max_seconds)
        self._latest = max(self._latest, *(record.time for record in batch.records), -math.inf)
        return batch if self._due is None else self._waiting(batch)

    def _waiting(self, batch: Batch) -> Batch:
        """At the end for now, and never silent."""
        return msgspec.structs.replace(batch, at_end=True, modified=math.inf)

    def _decode(self, lines: bytes, count: int, *, may_stop: bool) -> tuple[list[AnyRecord], int]:
        records, taken = super()._decode(lines, count, may_stop=may_stop)
        early = next((index for index, record in enumerate(records) if record.time > self._until), None)
        if early is None:
            return records, taken
        self._due = records[early].time
        return records[:early], self._length(lines, early)

    def _length(self, lines: bytes, count: int) -> int:
        """Bytes before the line of the record with so many before it."""
        length = 0
        for number, line in enumerate(lines.split(b"\n")):
            if line.strip() and self._decode_line(line, number) is not None:
                if not count:
                    break
                count -= 1
            length += len(line) + 1
        return length


def replay(folder: RunFolder, *, speed: float, at: int | None = None, clock: Callable[[], float] = time.monotonic) -> ReplayFolder:
    """A run to be shown as it went.

    Args:
        folder: The run, which need not have ended: what is written by now is replayed.
        speed: Seconds of run time a second, > 0.
        at: The step to begin at; the first one where None.
        clock: Seconds, never going back.

    Raises:
        LogError: If the log is not one.
    """
    playhead = Playhead(summary.look(folder, now=time.time()).time, speed=speed, clock=clock)
    if at is not None:
        playhead.move(time_of(folder, at))
    return ReplayFolder(folder.path, playhead)


def time_of(folder: RunFolder, step: int) -> float:
    """The run time at which the last record of a step, or else of the steps before it, was written.

    Raises:
        LogError: If there is no log, or it is not one.

    Cost: about 1.5 s for a million records before it.
    """
    found = 0.0
    for records in read_whole(folder.log):
        for record in records:
            if record.step > step:
                return found
            found = max(found, record.time)
    return found
