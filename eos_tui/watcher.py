"""Watches one run: polls its log and whether its runner lives, and hands out a snapshot when something changed.

Called by the app, by `eos list` and `eos show`, and by the plots. Polls, because inotify does not cross NFS or Lustre.
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from math import inf

from eos_tui.decimate import Trace
from eos_tui.log_reader import MAX_BYTES, MAX_SECONDS, Batch, LogReader, read_between
from eos_tui.series import Key
from eos_tui.snapshot import RunSnapshot, empty, fold, with_status
from runners.run_folder import RunFolder

CATCH_UP_BYTES = 4 << 20
"""Bytes that are read and folded at once when reading to the end: their records bound the memory."""
PLACE_BYTES = 1 << 18
"""Bytes of the log between two places of it that are remembered, at least."""


class RunWatcher:
    """The present state of one run, running or ended, here or on another host."""

    def __init__(self, folder: RunFolder, clock: Callable[[], float] = time.time, *, reader: LogReader | None = None) -> None:
        """Watch a run, of which nothing is read yet.

        Args:
            folder: The run.
            clock: The present, in seconds since 1970.
            reader: What reads its log; a reader of all that is written where None.
        """
        self._folder = folder
        self._clock = clock
        self._reader = reader or LogReader(folder.log)
        self._snapshot = empty(folder.path)
        self._given: RunSnapshot | None = None
        self._caught_up = False
        self.is_behind = False
        """Whether the last poll left something unread: the next one need not wait."""
        self._seen_written = 0.0
        self._places: list[tuple[int, int]] = []
        """Steps, and the bytes of the log before the first record of each."""

    @property
    def snapshot(self) -> RunSnapshot:
        """The run as far as it has been read."""
        return self._snapshot

    def poll(self, *, max_bytes: int = MAX_BYTES, max_seconds: float = MAX_SECONDS) -> RunSnapshot | None:
        """The snapshot after what was written since the last call; None when nothing changed since it was given.

        A long log takes several calls, up to the last of which the run counts as running.

        Args:
            max_bytes: Bytes to read at most.
            max_seconds: Seconds to read for at most; folding what was read takes about as long again.

        Raises:
            LogError: If the log is not one; the snapshot of what precedes the bad line was given before.
        """
        self._advance(max_bytes=max_bytes, max_seconds=max_seconds)
        if self._snapshot == self._given:
            return None
        self._given = self._snapshot
        return self._snapshot

    def catch_up(self) -> RunSnapshot:
        """The snapshot of all that is written.

        Raises:
            LogError: If the log is not one.

        Cost: about 1.5 s for a million records.
        """
        while not self._advance(max_bytes=CATCH_UP_BYTES, max_seconds=inf):
            pass
        self._given = self._snapshot
        return self._snapshot

    def detail(self, low: float, high: float) -> Mapping[Key, Trace]:
        """The series between two steps, read anew, so that they have as many buckets as the whole run has.

        Args:
            low: The first step.
            high: The last one.

        Raises:
            LogError: If the log is not one any more.

        Cost: about 1.5 s for a million records between them.
        """
        steps = [step for step, _ in self._places]
        first, behind = max(bisect_right(steps, low) - 1, 0), bisect_right(steps, high)
        begin = self._places[first][1] if self._places else 0
        end = self._places[behind][1] if behind < len(self._places) else self._reader.offset
        found = empty(self._folder.path)
        for records in read_between(self._folder.log, begin, end):
            found = fold(found, [record for record in records if low <= record.step <= high])
        return found.traces

    def _advance(self, *, max_bytes: int, max_seconds: float) -> bool:
        """Read and fold once; whether that was all there is."""
        # The lock is looked at before the log: a runner that was gone by then has written its last word.
        held = None if self._snapshot.end else self._folder.is_held()
        before = self._reader.offset
        batch = self._reader.read(max_bytes=max_bytes, max_seconds=max_seconds)
        if batch.restarted:
            self._places.clear()
            before = 0
        if batch.records and (not self._places or before - self._places[-1][1] >= PLACE_BYTES):
            self._places.append((batch.records[0].step, before))
        self.is_behind = not batch.at_end
        now = self._clock()
        if self._caught_up and (batch.records or batch.restarted):
            self._seen_written = now
        folded = fold(empty(self._folder.path) if batch.restarted else self._snapshot, batch.records)
        if batch.at_end:
            self._caught_up = True
            was_started = folded.header is not None or self._folder.was_started()
            self._snapshot = with_status(folded, held=held, modified=self._modified(batch), now=now, was_started=was_started)
        else:
            self._snapshot = with_status(folded, held=True, modified=None, now=now)
        return batch.at_end

    def _modified(self, batch: Batch) -> float | None:
        """When the log was last written to: by the file, or by our own clock, which need not agree with a file server's."""
        if batch.modified is not None:
            return max(batch.modified, self._seen_written)
        try:
            return self._folder.path.stat().st_mtime
        except FileNotFoundError:
            return None
