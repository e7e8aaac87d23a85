"""Carries a claim's runs out, several at a time: each in a run folder of its own, none twice.

A finished run with the same spec is taken as it is, an interrupted one is resumed, one that goes on is waited for. Called by the
command line.
"""

import os
import platform
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from eos_tui import launch
from eos_tui.launch import Launched
from eos_tui.snapshot import RunSnapshot, Status
from eos_tui.watcher import RunWatcher
from runners import data_files, run_folder, spec_file
from runners.errors import DataError
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


@dataclass(frozen=True)
class _Active:
    """A run that is waited for."""

    folder: RunFolder
    watcher: RunWatcher
    launched: Launched | None
    """None when somebody else has started it."""

    def lives(self) -> bool:
        return self.launched.process.poll() is None if self.launched else self.folder.is_held() is not False


def check_data(plan: Sequence[Planned], *, claim: str) -> None:
    """Find out, before anything starts, whether the data of all runs is there.

    Args:
        plan: The runs.
        claim: What needs it, for the message.

    Raises:
        DataError: If files are missing, or hold too few examples; says which, and where they come from.
    """
    for spec in (planned.spec() for planned in plan):
        try:
            if isinstance(spec, Train):
                data_files.check(spec.data)
        except DataError as error:
            raise DataError(f"{claim} needs a data set that is not here. {error}") from error


def carry_out(plan: Sequence[Planned], folder: Path, *, jobs: int, reporter: Reporter) -> dict[str, RunFolder]:
    """The run folders of all planned runs, by name, once each has ended.

    Args:
        plan: The runs, in the order of starting.
        folder: Where their folders are looked for and made.
        jobs: How many run at the same time, at least 1; each gets as large a share of the cores.
        reporter: Is told what happens.

    Raises:
        KeyboardInterrupt: After the runners have taken a checkpoint and ended.
    """
    waiting, active, done = list(plan), dict[str, _Active](), dict[str, RunFolder]()
    # XLA takes the number of its threads on a CPU from this variable.
    environment = {"NPROC": str(max(1, num_cores() // jobs))}
    with _stopping(active):
        while waiting or active:
            while waiting and len(active) < jobs:
                planned = waiting.pop(0)
                begun = _begin(planned, folder, environment=environment)
                snapshot = begun.watcher.catch_up()
                if begun.launched is None and not begun.lives():
                    done[planned.name] = begun.folder
                    reporter.taken(planned.name, snapshot)
                else:
                    active[planned.name] = begun
                    reporter.began(planned.name, snapshot)
            for name, run in list(active.items()):
                lives = run.lives()
                snapshot = run.watcher.catch_up()
                (reporter.advanced if lives else reporter.ended)(name, snapshot)
                if not lives:
                    done[name] = active.pop(name).folder
            if active:
                time.sleep(POLL_SECONDS)
    return {planned.name: done[planned.name] for planned in plan}


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """What computes, in words, such as `2 cores (AMD EPYC)`."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        model = ""
    return f"{num_cores()} cores ({model or platform.machine()})"


def _begin(planned: Planned, folder: Path, *, environment: Mapping[str, str]) -> _Active:
    """The planned run, found as it is, resumed or started."""
    spec = spec_file.with_absolute_paths(planned.spec())
    found = _existing(folder, planned.name, spec_file.to_json(spec))
    if found is None:
        launched = launch.start(spec, name=planned.name, runs=folder, environment=environment)
        return _Active(launched.folder, RunWatcher(launched.folder), launched)
    watcher = RunWatcher(found)
    if watcher.catch_up().status in FINAL or found.is_held() is not False:
        return _Active(found, watcher, None)
    return _Active(found, watcher, launch.restart(found, environment=environment))


def _existing(folder: Path, name: str, spec_json: bytes) -> RunFolder | None:
    """The newest run of this name that was given exactly this spec."""
    for run in reversed(run_folder.all_runs(folder)):
        if run.name.startswith(f"{name}-") and run.spec.is_file() and run.spec.read_bytes() == spec_json:
            return run
    return None


@contextmanager
def _stopping(active: Mapping[str, _Active]) -> Iterator[None]:
    """When this process is interrupted or terminated, the runners that it has started end with a checkpoint first."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        _end([run.launched for run in active.values() if run.launched])
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(launched: Sequence[Launched]) -> None:
    """Ask the runners to stop and wait until they have; a second interrupt kills them."""
    try:
        for run in launched:
            run.process.terminate()
        for run in launched:
            run.process.wait()
    except KeyboardInterrupt:
        for run in launched:
            run.process.kill()
