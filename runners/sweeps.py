"""The sweep folder: the names in it, what it says of its runs, and the records of the log in which a scheduler notes what it did.

A sweep is a folder of run folders. How a run stands is in the run's own folder alone; the sweep's log tells what happened when.
Called by everything that makes or looks at sweeps. Must not import jax or anything that draws.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct, field

from runners import run_folder, spec_file
from runners.errors import LogError, RunFolderError
from runners.expansion import PlannedRun
from runners.run_folder import Lock, LockHolder, RunFolder
from runners.spec import PositiveInt, Table

SCHEMA = 1
"""Goes up when a field changes its meaning or a reader needs a new one."""


class SweepTable(Table, frozen=True):
    """The table `[sweep]` of a spec file: what varies from run to run."""

    grid: dict[str, Any] = field(default_factory=dict)
    """By key with dots: a list of values, or a text as `--grid` takes it, such as "0.1:3.2:x2"."""
    seeds: PositiveInt | None = None
    """Runs of each point of the grid, with run.seed and the numbers that follow it."""
    jobs: PositiveInt | None = None
    """Processes at the same time: each has a run, or with `vmap` a group of them."""
    vmap: bool = False
    """Whether runs that differ in optimizer.lr and seeds alone train as one vectorised program."""


class SweepRun(Struct, frozen=True, kw_only=True):
    """A run of a sweep."""

    run: str
    """Name of its folder, in the sweep's."""
    values: dict[str, Any]
    """What varies, by key with dots."""


class Sweep(Struct, frozen=True, kw_only=True):
    """What a sweep was asked to do: the content of `sweep.json`."""

    schema: int
    name: str
    """The sweep folder's."""
    created: str
    """UTC, ISO 8601."""
    source: str
    """The spec file or preset that it began with."""
    spec: dict[str, Any]
    """What stood there, with the overrides; keys that are absent have their defaults. Each run's `spec.json` has all keys."""
    grid: dict[str, tuple[str, ...]]
    """The values of each key, as they were typed; with --seeds those of run.seed."""
    jobs: int
    """Processes at the same time: each has a run, or a group of them."""
    runs: tuple[SweepRun, ...]
    """In the order of starting."""
    groups: tuple[tuple[str, ...], ...] = ()
    """Names of the runs that train as one vectorised program, for each such program; runs in none train alone."""


class SweepRecord(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """What every line of the sweep's log has. A reader ignores fields that it does not know."""

    time: str
    """UTC, ISO 8601."""


class SittingRecord(SweepRecord, frozen=True, kw_only=True, tag="sitting"):
    """A scheduler began to work at the sweep."""

    schema: int
    host: str
    pid: int
    jobs: int
    """Processes at the same time."""
    num_runs: int
    num_done: int
    """Runs that had finished or diverged by then."""


class BegunRecord(SweepRecord, frozen=True, kw_only=True, tag="begun"):
    """A run has its turn."""

    run: str
    how: Literal["started", "resumed", "awaited"]
    """started: anew; resumed: from its last checkpoint; awaited: its runner lived already, from an earlier sitting or by hand."""
    job: str
    """What the scheduler calls it: for the local pool the runner's process number."""


class EndedRecord(SweepRecord, frozen=True, kw_only=True, tag="ended"):
    """A run's runner has gone."""

    run: str
    status: str
    """finished, stopped, diverged, failed or crashed; unreadable where its log is no log."""
    step: int
    reason: str
    """From the run's own end; the runner's last words where it left none."""


class SweepEndRecord(SweepRecord, frozen=True, kw_only=True, tag="end"):
    """The scheduler has gone; absent where it was killed."""

    status: Literal["complete", "incomplete", "interrupted"]
    """complete: all runs have finished or diverged; incomplete: some have not; interrupted: it was told to stop."""
    counts: dict[str, int]
    """Runs by how they stand."""


AnySweepRecord: TypeAlias = SittingRecord | BegunRecord | EndedRecord | SweepEndRecord


class SweepFolder:
    """The paths of one sweep. The only place that knows the files' names."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"SweepFolder({str(self.path)!r})"

    @property
    def name(self) -> str:
        """The folder's name, which is the sweep's."""
        return self.path.name

    @property
    def sweep(self) -> Path:
        """What was asked; written last when the folder is made."""
        return self.path / "sweep.json"

    @property
    def log(self) -> Path:
        """The records, one a line. Not `log.jsonl`, by which a run is known."""
        return self.path / "sweep.jsonl"

    @property
    def output(self) -> Path:
        """What the scheduler's process printed."""
        return self.path / "output.txt"

    @property
    def lock(self) -> Path:
        """Held by the scheduler while it works."""
        return self.path / "lock"

    def read(self) -> Sweep:
        """What was asked.

        Raises:
            LogError: If `sweep.json` is not that, or of a later schema.
        """
        try:
            sweep = msgspec.json.decode(self.sweep.read_bytes(), type=Sweep)
        except (OSError, msgspec.DecodeError) as error:
            raise LogError(f"{self.sweep}: expected what a sweep was asked to do ({error}).") from error
        if sweep.schema > SCHEMA:
            raise LogError(f"{self.sweep}: schema {sweep.schema}, this version reads up to {SCHEMA}. Install a newer eos-tui.")
        return sweep

    def runs(self) -> list[RunFolder]:
        """The folders of the sweep's runs, in the order of starting."""
        return [RunFolder(self.path / run.run) for run in self.read().runs]

    def jobs(self, todo: Sequence[RunFolder]) -> list[tuple[RunFolder, ...]]:
        """These runs of the sweep, in the order of starting, by what a process gets: one, or those of a group."""
        group_of = {run: group for group in self.read().groups for run in group}
        jobs: dict[tuple[str, ...], list[RunFolder]] = {}
        for folder in todo:
            jobs.setdefault(group_of.get(folder.name, (folder.name,)), []).append(folder)
        return [tuple(folders) for folders in jobs.values()]

    def holder(self) -> LockHolder | None:
        """Which scheduler holds or last held the sweep; None before the first."""
        return Lock(self.lock).holder()

    def is_held(self) -> bool | None:
        """Whether a scheduler works at it; None when it is on another host."""
        return Lock(self.lock).is_held()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the sweep's lock for the body, and leave no torn line in its log from before.

        Raises:
            RunFolderError: If another scheduler works at the sweep.
        """
        with Lock(self.lock).held(lambda who: f"{self.path}: {who} works at this sweep already."):
            if self.log.exists():
                with self.log.open("r+b") as log:
                    log.truncate(log.read().rfind(b"\n") + 1)
            yield

    def write(self, record: AnySweepRecord) -> None:
        """Append a record to the log; the scheduler alone does."""
        run_folder.append(self.log, record)

    def records(self, start: int = 0) -> tuple[list[AnySweepRecord], int]:
        """The log's records from a byte on, and the byte that they go to; a torn last line waits.

        Raises:
            LogError: If a line is not a record.
        """
        try:
            with self.log.open("rb") as log:
                log.seek(start)
                text = log.read()
        except FileNotFoundError:
            return [], start
        whole = text[: text.rfind(b"\n") + 1]
        try:
            return [msgspec.json.decode(line, type=AnySweepRecord) for line in whole.splitlines()], start + len(whole)
        except msgspec.DecodeError as error:
            raise LogError(f"{self.log}: not a record of a sweep ({error}).") from error


def create(
    runs: Path,
    name: str,
    planned: Sequence[PlannedRun],
    *,
    source: str,
    document: Mapping[str, Any],
    grid: Mapping[str, Sequence[str]],
    jobs: int,
    groups: Sequence[Sequence[str]] = (),
) -> SweepFolder:
    """A new sweep folder with a folder for each run; never an existing one.

    `sweep.json` is written last, so that a folder that has one is whole.

    Args:
        runs: The folder that holds runs and sweeps; made when absent.
        name: Letters, digits, `.`, `_` and `-`.
        planned: The runs, in the order of starting.
        source: The spec file or preset.
        document: What stood in it, with the overrides.
        grid: The values of each key.
        jobs: Processes at the same time.
        groups: Names of the runs that train as one program, for each.

    Raises:
        RunFolderError: If the name has other characters, or the folders cannot be made.
    """
    folder = SweepFolder(run_folder.new_folder(runs, name))
    sweep = Sweep(
        schema=SCHEMA,
        name=folder.name,
        created=run_folder.utc_now(),
        source=source,
        spec=dict(document),
        grid={key: tuple(values) for key, values in grid.items()},
        jobs=jobs,
        runs=tuple(SweepRun(run=run.name, values=dict(run.values)) for run in planned),
        groups=tuple(map(tuple, groups)),
    )
    try:
        for run in planned:
            made = RunFolder(folder.path / run.name)
            made.path.mkdir()
            made.spec.write_bytes(spec_file.to_json(run.spec))
        temporary = folder.sweep.with_suffix(".tmp")
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(sweep), indent=2) + b"\n")
        os.replace(temporary, folder.sweep)
    except OSError as error:
        raise RunFolderError(f"{folder.path}: the sweep's folders cannot be made ({error.strerror}).") from error
    return folder


def find(runs: Path, text: str) -> SweepFolder:
    """The sweep that `text` names: a folder, a sweep's name, or a prefix of one name only.

    Raises:
        RunFolderError: If there is none, or more than one.
    """
    if is_sweep(Path(text)):
        return SweepFolder(Path(os.path.abspath(text)))
    if is_sweep(runs / text):
        return SweepFolder(runs / text)
    names = [folder.name for folder in all_sweeps(runs) if folder.name.startswith(text)]
    if not names:
        raise RunFolderError(f"{text!r}: no such sweep in {runs}. `eos list` shows what is there.")
    if len(names) > 1:
        raise RunFolderError(f"{text!r} is the beginning of {len(names)} sweeps ({run_folder.some(names)}). Write more of the name.")
    return SweepFolder(runs / names[0])


def named(runs: Path, text: str | None) -> SweepFolder | None:
    """The sweep of exactly this name, or in this folder; None where there is none, and what is meant is a run."""
    paths = (Path(text), runs / text) if text else ()
    return next((SweepFolder(path) for path in paths if is_sweep(path)), None)


def meant(runs: Path, text: str | None) -> SweepFolder | None:
    """The sweep of this name, or of one that begins so where no run's does; None where a run is meant.

    Raises:
        RunFolderError: If several sweeps begin so.
    """
    if exact := named(runs, text):
        return exact
    begins = text and "/" not in text and any(folder.name.startswith(text) for folder in all_sweeps(runs))
    return find(runs, text) if text and begins and not any(run.name.startswith(text) for run in run_folder.all_runs(runs)) else None


def reference(folder: SweepFolder) -> str:
    """What names the sweep on a command line typed here: its name when it lies where runs are looked for, else its path."""
    return run_folder.reference(RunFolder(folder.path))


def all_sweeps(runs: Path) -> list[SweepFolder]:
    """The sweeps in `runs`, by name."""
    if not runs.is_dir():
        return []
    found = [SweepFolder(Path(entry.path)) for entry in os.scandir(runs) if is_sweep(Path(entry.path))]
    return sorted(found, key=lambda sweep: sweep.name)


def is_sweep(path: Path) -> bool:
    """Whether a folder is a sweep's."""
    return (path / "sweep.json").is_file()
