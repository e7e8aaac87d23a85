"""Many runs, some at a time: what a scheduler has to provide, the one that runs processes of this machine, and the runs' queue.

A job is a run folder, or several whose runs train as one program, and the command `python -m runners RUN_FOLDER ...`, nothing else: it
needs nobody once it has begun, and says in its folders how it went. So a cluster's scheduler can stand where the local pool does. Must not
import jax or anything that draws.
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
    """Runs that have been handed to a scheduler, for one process."""

    folders: tuple[RunFolder, ...]
    """One, but where runs train as one program."""
    name: str
    """What the scheduler calls it; with it and a folder the job is found again after the process that handed it over is gone."""


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

    def submit(self, folders: Sequence[RunFolder]) -> Job:
        """Let a run begin, or go on from its last checkpoint, as soon as may be; or several that train as one program.

        Args:
            folders: Runs that nobody carries out.

        Raises:
            RunFolderError: If somebody does.
            OSError: If they cannot be begun.
        """

    def adopt(self, folder: RunFolder, name: str | None) -> Job | None:
        """The job that carries out the run already, or waits to, as one of this run alone; None where there is none.

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
            command: The runner's command, to which the folders are appended; `launch.RUNNER` when absent.
        """
        self.jobs = jobs
        self._command = command
        self._launched: dict[str, Launched] = {}
        """By process number, those of this sitting."""

    @property
    def threads(self) -> int:
        """Threads of each job."""
        return max(1, num_cores() // self.jobs)

    def submit(self, folders: Sequence[RunFolder]) -> Job:
        """Start a runner in the folders."""
        environment = dict.fromkeys(THREADS, str(self.threads))
        launched = launch.restart(*folders, command=self._command, environment=environment)
        name = str(launched.process.pid)
        self._launched[name] = launched
        return Job(tuple(folders), name)

    def adopt(self, folder: RunFolder, name: str | None) -> Job | None:  # noqa: ARG002 - the lock says more than the name
        """The runner that holds the folder."""
        holder = folder.holder()
        return Job((folder,), str(holder.pid)) if holder and folder.is_held() else None

    def poll(self, job: Job) -> Exited | None:
        """The exit status of a runner of this sitting; of another whether it still holds its folder."""
        launched = self._launched.get(job.name)
        if launched is None:
            return None if any(folder.is_held() for folder in job.folders) else Exited(None)
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
                launch.kill(job.folders[0], number)
        except (RunFolderError, ProcessLookupError):
            return


How: TypeAlias = Literal["started", "resumed", "awaited"]
"""Anew, from the last checkpoint; or somebody carried it out already."""


@dataclass(frozen=True)
class Begun:
    """A run has its turn."""

    folder: RunFolder
    job: Job
    how: How


@dataclass(frozen=True)
class Ended:
    """A run is not carried out any more."""

    folder: RunFolder
    exited: Exited
    problem: str = ""
    """Why it could not begin."""


class Queue:
    """Runs that wait for their turn, and those that have it."""

    def __init__(self, jobs: Iterable[Sequence[RunFolder]], scheduler: Scheduler, *, names: Mapping[str, str] | None = None) -> None:
        """Begin nothing yet.

        Args:
            jobs: The runs of each job, in the order of starting.
            scheduler: Carries them out.
            names: By run, what its last job was called, as far as that is known.
        """
        self._scheduler = scheduler
        self._names = names or {}
        self._waiting = deque(map(tuple, jobs))
        self._active: dict[Path, Begun] = {}
        self._cancelled: bool | None = None
        """Whether all was to end at once; None where nothing was to end."""

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
        for _ in range(len(self._waiting)):
            folders = self._waiting.popleft()
            adopted = {folder.path: begun for folder in folders if (begun := self._adopted(folder))}
            yield from adopted.values()
            if left := tuple(folder for folder in folders if folder.path not in adopted):
                self._waiting.append(left)

    def turn(self) -> Iterator[Begun | Ended]:
        """Collect what has ended, and begin what there is room for; waits for nothing."""
        for path, begun in list(self._active.items()):
            exited = self._scheduler.poll(begun.job)
            if exited is None:
                continue
            # Where somebody else has taken the run in the meantime, that one is waited for, or has to end as well.
            taken = self._adopted(begun.folder)
            if taken is None:
                del self._active[path]
                yield Ended(begun.folder, exited)
            elif self._cancelled is not None:
                self._scheduler.cancel(taken.job, now=self._cancelled)
        while self._waiting and self._num_jobs < self._scheduler.jobs:
            yield from self._begun(self._waiting.popleft())

    def cancel(self, *, now: bool, awaited: bool = True) -> None:
        """Begin nothing any more, and end what goes on.

        Args:
            now: At once, or with a checkpoint.
            awaited: Also what others have begun; else that goes on, and is not waited for any more.
        """
        self._waiting.clear()
        if awaited:
            self._cancelled = now
        for path, begun in list(self._active.items()):
            if begun.how == "awaited" and not awaited:
                del self._active[path]
            else:
                self._scheduler.cancel(begun.job, now=now)

    @property
    def _num_jobs(self) -> int:
        return len({begun.job.name for begun in self._active.values()})

    def _begun(self, folders: Sequence[RunFolder]) -> Iterator[Begun | Ended]:
        try:
            adopted = [begun for folder in folders if (begun := self._adopted(folder))]
            yield from adopted
            left = [folder for folder in folders if folder.path not in self._active]
            if left:
                yield from self._submitted(left)
        except (OSError, EosError) as error:
            yield from (Ended(folder, Exited(None), problem=str(error)) for folder in folders if folder.path not in self._active)

    def _adopted(self, folder: RunFolder) -> Begun | None:
        job = self._scheduler.adopt(folder, self._names.get(folder.name))
        return self._with_turn(Begun(folder, job, "awaited")) if job else None

    def _submitted(self, folders: Sequence[RunFolder]) -> list[Begun]:
        hows: list[How] = ["resumed" if folder.log.exists() else "started" for folder in folders]
        job = self._scheduler.submit(folders)
        return [self._with_turn(Begun(folder, job, how)) for folder, how in zip(folders, hows, strict=True)]

    def _with_turn(self, begun: Begun) -> Begun:
        self._active[begun.folder.path] = begun
        return begun


def num_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_jobs(most: int) -> int:
    """Jobs at the same time where nobody says how many: one a core, as far as the memory that is free goes, `BYTES_PER_RUN` each.

    Args:
        most: How many there is work for.
    """
    free = _free_bytes()
    fitting = most if free is None else free // BYTES_PER_RUN
    return max(1, min(num_cores(), most, fitting))


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
