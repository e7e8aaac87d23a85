"""The runs of a folder as a list that is looked at again and again; only what may have changed is read again. Used by the home screen."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from eos_tui import course, summary
from eos_tui.course import Course
from eos_tui.filtering import Candidate
from eos_tui.snapshot import Status
from eos_tui.summary import Row
from runners import run_folder
from runners.errors import LogError
from runners.run_folder import RunFolder

ENDED = frozenset(str(status) for status in (Status.FINISHED, Status.STOPPED, Status.DIVERGED, Status.FAILED, Status.CRASHED))
"""What does not change any more while the log does not."""
TRASH = "trash"
"""The folder, in that of the runs, to which deleted ones go."""


@dataclass(frozen=True)
class Listed:
    """A run in the list."""

    folder: RunFolder = field(compare=False)
    row: Row
    """Without its age, which changes all the time."""
    host: str = ""
    spec: Mapping[str, Any] = field(default_factory=dict, repr=False)
    course: Course | None = None
    """None before the run was in sight."""

    @property
    def candidate(self) -> Candidate:
        """What a filter sees."""
        row = self.row
        numbers = {"step": row.step, "steps": row.steps, "loss": row.loss, "sharpness": row.sharpness, "ratio": row.ratio}
        return Candidate(row.run, {**numbers, "K": row.noise_kernel, "status": row.status, "host": self.host}, self.spec)


class RunsWatcher:
    """The present list of a folder's runs."""

    def __init__(self, runs: Path, *, clock: Callable[[], float]) -> None:
        """Look at nothing yet.

        Args:
            runs: The folder.
            clock: Seconds since 1970.
        """
        self._runs = runs
        self._clock = clock
        self._known: dict[str, tuple[tuple[int, int], Listed]] = {}
        """By name: time and size of the log when the run was last read, and what it was."""
        self.in_sight: frozenset[str] = frozenset()
        """Names of the runs whose course is wanted."""
        self._given: tuple[Listed, ...] | None = None

    def poll(self) -> tuple[Listed, ...] | None:
        """The runs, oldest first; None when nothing changed since they were given.

        Cost: a stat of each log, and the head and the tail of those that changed or whose run has not ended.
        """
        found = [self._listed(folder) for folder in run_folder.all_runs(self._runs) if folder.name != TRASH]
        self._known = {listed.folder.name: (stamp, listed) for stamp, listed in found}
        runs = tuple(listed for _, listed in found)
        if runs == self._given:
            return None
        self._given = runs
        return runs

    def _listed(self, folder: RunFolder) -> tuple[tuple[int, int], Listed]:
        try:
            status = folder.log.stat()
            stamp = (status.st_mtime_ns, status.st_size)
        except OSError:
            stamp = (0, 0)
        known = self._known.get(folder.name)
        is_same = known is not None and known[0] == stamp
        listed = known[1] if known and is_same and _stays(known[1]) else self._look(folder)
        if folder.name in self.in_sight and listed.course is None:
            before = known[1].course if known and is_same else None
            listed = dataclasses.replace(listed, course=before or course.read(folder.log))
        return stamp, listed

    def _look(self, folder: RunFolder) -> Listed:
        now = self._clock()
        try:
            seen = summary.look(folder, now=now, kinds=summary.ROW_KINDS)
        except LogError:
            return Listed(folder, summary.unreadable(folder), spec=_spec(folder))
        row = replace(summary.row_of(seen, now=now), age_seconds=None)
        host = seen.header.host if seen.header else ""
        if not seen.end and (holder := folder.holder()):
            host = holder.host
        return Listed(folder, row, host=host, spec=seen.header.spec if seen.header else _spec(folder))


def _stays(listed: Listed) -> bool:
    """Whether a run whose log is as it was stands as it did."""
    return listed.row.status in ENDED or (listed.row.status == Status.WAITING and not listed.folder.was_started())


def move_to_trash(folder: RunFolder) -> Path:
    """Move a run to the folder for deleted ones, beside which it stands; where it is now."""
    trash = folder.path.parent / TRASH
    trash.mkdir(exist_ok=True)
    place = trash / folder.name
    folder.path.rename(place)
    return place


def _spec(folder: RunFolder) -> Mapping[str, Any]:
    try:
        spec = json.loads(folder.spec.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return spec if isinstance(spec, dict) else {}
