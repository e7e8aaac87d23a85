"""Many runs, some at a time: what a scheduler has to provide, the one that runs processes of this machine, and the runs' queue.

A job is a run folder and the command `python -m runners RUN_FOLDER`, nothing else: it needs nobody once it has begun, and says in its
folder how it went. So a cluster's scheduler can stand where the local pool does. Must not import jax or anything that draws.
"""

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from eos_tui import launch
from eos_tui.launch import Launched
from runners.errors import EosError, RunFolderError
from runners.run_folder import RunFolder

BYTES_PER_RUN = 2**30
"""Memory to leave for each run where nothing else is known: one of digits-gd takes 0.6 GiB at most."""
THREADS = ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables by which a runner is told its number of threads: XLA's on a CPU, and those of the libraries below NumPy."""


@dataclass(frozen=True)
class Job:
    """A run that has been handed to a scheduler."""

    folder: RunFolder
    name: str
    """What the scheduler calls it; with it and the folder the job is found again after the process that handed it over is gone."""


@dataclass(frozen=True)
class Exited:
    """What has become of a job that is over."""

    code: int | None
    """Exit status of its process; minus a signal's number when a signal ended it; None when that is not known."""


class Scheduler(Protocol):
    """Carries out jobs, somewhere."""

    @property
    def jobs(self) -> int:
        """The most jobs to hand over at a time; one whose own queue takes all of them says a large number."""

    def submit(self, folder: RunFolder) -> Job:
        """Let a run begin, or go on from its last checkpoint, as soon as may be.

        Args:
            folder: A run that nobody carries out.

        Raises:
            RunFolderError: If somebody does.
            OSError: If it cannot be begun.
        """

    def adopt(self, folder: RunFolder, name: str | None) -> Job | None:
        """The job that carries out the run already, or waits to; None where there is none.

        Args:
            folder: The run.
            name: What the run's last job was called, as far as that is known.
        """

    def poll(self, job: Job) -> Exited | None:
        """What has become of the job; None while it waits or runs."""

    def cancel(self, job: Job, *, now: bool) -> None:
        """Ask the job to take a checkpoint and end, or end it at once; returns without waiting, also when it is over."""


class LocalPool:
    """Processes of this machine, which share its cores out between them, and outlive this one."""

    def __init__(self, jobs: int, command: Sequence[str] | None = None) -> None:
        """Begin nothing yet.

        Args:
            jobs: How many run at the same time, at least 1.
            command: The runner's command, to which the folder is appended; `launch.RUNNER` when absent.
        """
        self.jobs = jobs
        self._command = command
        self._launched: dict[str, Launched] = {}
        """By process number, those of this sitting."""

    @property
    def threads(self) -> int:
        """Threads of each run."""
        return max(1, num_cores() // self.jobs)

    def submit(self, folder: RunFolder) -> Job:
        """Start a runner in the folder."""
        environment = dict.fromkeys(THREADS, str(self.threads))
        launched = launch.restart(folder, command=self._command, environment=environment)
        name = str(launched.process.pid)
        self._launched[name] = launched
        return Job(folder, name)

    def adopt(self, folder: RunFolder, name: str | None) -> Job | None:  # noqa: ARG002 - the lock says more than the name
        """The runner that holds the folder."""
        holder = folder.holder()
        return Job(folder, str(holder.pid)) if holder and folder.is_held() else None

    def poll(self, job: Job) -> Exited | None:
        """The exit status of a runner of this sitting; of another whether it still holds its folder."""
        launched = self._launched.get(job.name)
        if launched is None:
            return None if job.folder.is_held() else Exited(None)
        code = launched.process.poll()
        return None if code is None else Exited(code)

    def cancel(self, job: Job, *, now: bool) -> None:
        """Send the runner SIGTERM, or SIGKILL."""
        number = signal.SIGKILL if now else signal.SIGTERM
        launched = self._launched.get(job.name)
        try:
            if launched is not None:
                launched.process.send_signal(number)
            else:
                launch.kill(job.folder, number)
        except (RunFolderError, ProcessLookupError):
            return


How: TypeAlias = Literal["started", "resumed", "awaited"]
"""Anew, from the last checkpoint; or somebody carried it out already."""


@dataclass(frozen=True)
class Begun:
    """A run has its turn."""

    job: Job
    how: How

    @property
    def folder(self) -> RunFolder:
        """The run."""
        return self.job.folder


@dataclass(frozen=True)
class Ended:
    """A run is not carried out any more."""

    folder: RunFolder
    exited: Exited
    problem: str = ""
    """Why it could not begin."""


class Queue:
    """Runs that wait for their turn, and those that have it."""

    def __init__(self, folders: Iterable[RunFolder], scheduler: Scheduler, *, names: Mapping[str, str] | None = None) -> None:
        """Begin nothing yet.

        Args:
            folders: The runs, in the order of starting.
            scheduler: Carries them out.
            names: By run, what its last job was called, as far as that is known.
        """
        self._scheduler = scheduler
        self._names = names or {}
        self._waiting = deque(folders)
        self._active: dict[Path, Begun] = {}

    @property
    def is_over(self) -> bool:
        """Whether no run is left."""
        return not self._waiting and not self._active

    @property
    def active(self) -> list[RunFolder]:
        """The runs that have their turn."""
        return [begun.folder for begun in self._active.values()]

    def adopt(self) -> Iterator[Begun]:
        """Take those that are carried out already, however many they are."""
        for folder in tuple(self._waiting):
            if begun := self._adopted(folder):
                self._waiting.remove(folder)
                yield begun

    def turn(self) -> Iterator[Begun | Ended]:
        """Collect what has ended, and begin what there is room for; waits for nothing."""
        for path, begun in list(self._active.items()):
            exited = self._scheduler.poll(begun.job)
            # Where somebody else has taken the run in the meantime, that one is waited for.
            if exited is not None and self._adopted(begun.folder) is None:
                del self._active[path]
                yield Ended(begun.folder, exited)
        while self._waiting and len(self._active) < self._scheduler.jobs:
            yield self._begun(self._waiting.popleft())

    def cancel(self, *, now: bool, awaited: bool = True) -> None:
        """Begin nothing any more, and end what goes on.

        Args:
            now: At once, or with a checkpoint.
            awaited: Also what others have begun; else that goes on, and is not waited for any more.
        """
        self._waiting.clear()
        for path, begun in list(self._active.items()):
            if begun.how == "awaited" and not awaited:
                del self._active[path]
            else:
                self._scheduler.cancel(begun.job, now=now)

    def _begun(self, folder: RunFolder) -> Begun | Ended:
        try:
            return self._adopted(folder) or self._submitted(folder)
        except (OSError, EosError) as error:
            return Ended(folder, Exited(None), problem=str(error))

    def _adopted(self, folder: RunFolder) -> Begun | None:
        job = self._scheduler.adopt(folder, self._names.get(folder.name))
        return self._with_turn(Begun(job, "awaited")) if job else None

    def _submitted(self, folder: RunFolder) -> Begun:
        how: How = "resumed" if folder.log.exists() else "started"
        return self._with_turn(Begun(self._scheduler.submit(folder), how))

    def _with_turn(self, begun: Begun) -> Begun:
        self._active[begun.folder.path] = begun
        return begun


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_jobs(num_runs: int) -> int:
    """Runs at the same time where nobody says how many: one a core, as far as the memory that is free goes, `BYTES_PER_RUN` each."""
    free = _free_bytes()
    fitting = num_runs if free is None else free // BYTES_PER_RUN
    return max(1, min(num_cores(), num_runs, fitting))


def _free_bytes() -> int | None:
    """Memory that can be had, of the machine and of the control group that this process is in; None where nothing says."""
    found = []
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        group = Path("/sys/fs/cgroup")
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        if limit != "max":
            found.append(int(limit) - int((group / "memory.current").read_text(encoding="ascii")))
    except (OSError, ValueError, IndexError):
        pass
    return min(found) if found else None
