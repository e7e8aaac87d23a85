"""Carries a claim's runs out, several at a time: each in a run folder of its own, none twice.

A finished run with the same spec is taken as it is, an interrupted one is resumed, one that goes on is waited for. Called by the
command line.
"""

import platform
import signal
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from eos_tui.scheduling import Ended, LocalPool, Queue, num_cores
from eos_tui.snapshot import RunSnapshot, Status
from eos_tui.watcher import RunWatcher
from runners import data_files, run_folder, spec_file
from runners.errors import DataError, RunFolderError
from runners.experiments import Spec
from runners.run_folder import RunFolder
from runners.spec import Train

POLL_SECONDS = 0.2
FINAL = (Status.FINISHED, Status.DIVERGED)
"""A run that ended so would end so again."""


class Planned(Protocol):
    """A run that is wanted."""

    @property
    def name(self) -> str:
        """How its folder's name begins."""

    def spec(self) -> Spec:
        """The spec, checked."""


class Reporter(Protocol):
    """Is told how the runs come along."""

    def taken(self, name: str, snapshot: RunSnapshot) -> None:
        """A run was there already, with its end."""

    def began(self, name: str, snapshot: RunSnapshot) -> None:
        """A run has been started or resumed, or goes on already."""

    def advanced(self, name: str, snapshot: RunSnapshot) -> None:
        """A run has new records."""

    def ended(self, name: str, snapshot: RunSnapshot) -> None:
        """A run's runner has gone."""


def check_data(plan: Sequence[Planned], *, claim: str, optional: Collection[str] = ()) -> dict[str, str]:
    """The runs that can be left out and whose data is not here, by name: what is missing, and where it comes from.

    Args:
        plan: The runs.
        claim: What needs them, for the message.
        optional: Names of those that can be left out.

    Raises:
        DataError: If that of another is not here: files are missing, or hold too few examples.
    """
    missing = {}
    for planned in plan:
        spec = planned.spec()
        try:
            if isinstance(spec, Train):
                data_files.check(spec.data)
        except DataError as error:
            if planned.name not in optional:
                raise DataError(f"{claim} needs a data set that is not here. {error}") from error
            missing[planned.name] = str(error)
    return missing


def carry_out(plan: Sequence[Planned], folder: Path, *, jobs: int, reporter: Reporter) -> dict[str, RunFolder]:
    """The run folders of all planned runs, by name, once each has ended.

    Args:
        plan: The runs, in the order of starting.
        folder: Where their folders are looked for and made.
        jobs: How many run at the same time, at least 1; each gets as large a share of the cores.
        reporter: Is told what happens.

    Raises:
        KeyboardInterrupt: After the runners have taken a checkpoint and ended.
        RunFolderError: If a run's folder cannot be made, or its runner not be started.
    """
    folders = {planned.name: _folder(planned, folder) for planned in plan}
    watchers = {found.path: (name, RunWatcher(found)) for name, found in folders.items()}
    waiting = []
    for found in folders.values():
        name, watcher = watchers[found.path]
        snapshot = watcher.catch_up()
        if snapshot.status in FINAL:
            reporter.taken(name, snapshot)
        else:
            waiting.append((found,))
    queue = Queue(waiting, LocalPool(jobs))
    with _stopping(queue):
        while not queue.is_over:
            for event in queue.turn():
                if isinstance(event, Ended) and event.problem:
                    raise RunFolderError(event.problem)
                name, watcher = watchers[event.folder.path]
                (reporter.ended if isinstance(event, Ended) else reporter.began)(name, watcher.catch_up())
            for found in queue.active:
                name, watcher = watchers[found.path]
                reporter.advanced(name, watcher.catch_up())
            if queue.active:
                time.sleep(POLL_SECONDS)
    return folders


def machine() -> str:
    """What computes, in words, such as `2 cores (AMD EPYC)`."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        model = ""
    return f"{num_cores()} cores ({model or platform.machine()})"


def _folder(planned: Planned, folder: Path) -> RunFolder:
    """The planned run's folder, found as it is or made."""
    spec_json = spec_file.to_json(spec_file.with_absolute_paths(planned.spec()))
    return _existing(folder, planned.name, spec_json) or run_folder.create(folder, planned.name, spec_json)


def _existing(folder: Path, name: str, spec_json: bytes) -> RunFolder | None:
    """The newest run of this name that was given exactly this spec."""
    for run in reversed(run_folder.all_runs(folder)):
        if run.name.startswith(f"{name}-") and run.spec.is_file() and run.spec.read_bytes() == spec_json:
            return run
    return None


@contextmanager
def _stopping(queue: Queue) -> Iterator[None]:
    """When this process is interrupted or terminated, the runners that it has started end with a checkpoint first."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        _end(queue)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(queue: Queue) -> None:
    """Ask the runners to stop and wait until they have; a second interrupt kills them."""
    try:
        queue.cancel(now=False, awaited=False)
        while not queue.is_over:
            time.sleep(POLL_SECONDS)
            deque(queue.turn(), maxlen=0)
    except KeyboardInterrupt:
        queue.cancel(now=True, awaited=False)
