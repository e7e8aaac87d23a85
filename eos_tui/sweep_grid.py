"""A sweep as a grid: what varies besides the learning rate from row to row, the learning rate across, seeds in one cell. Pure.

Filled by `sweep_watcher`, drawn by the screen of sweeps. Knows how runs stand and what it means; reads nothing.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from eos_tui.numerals import format_number
from eos_tui.output import one_line
from eos_tui.reports import members, transfer
from eos_tui.reports.members import LR, SEEDS, Values
from eos_tui.snapshot import Status
from runners.errors import OutputError
from runners.sweeps import AnySweepRecord, BegunRecord, EndedRecord, SittingRecord

GROUPS: Mapping[str, tuple[str, ...]] = {
    "failed": (Status.FAILED, Status.CRASHED, "unreadable"),
    "diverged": (Status.DIVERGED,),
    "running": (Status.RUNNING, Status.STARTING, Status.STALLED, Status.PAUSED),
    "stopped": (Status.STOPPED,),
    "waiting": (Status.WAITING,),
    "done": (Status.FINISHED,),
}
"""How runs are counted; of the runs in one cell the first group says how it stands."""
COUNTED = ("running", "waiting", "done", "diverged", "stopped", "failed")
"""The same as the counts are told."""
FIRST_SHARE = 0.05
"""Of its steps, that a run has to have taken to tell how long it will take."""
_PLACES = {status: place for place, status in enumerate(status for group in GROUPS.values() for status in group)}


@dataclass(frozen=True, kw_only=True)
class GridRun:
    """A run of the sweep, as it stands."""

    run: str
    """Name of its folder."""
    values: Values
    status: str
    share: float = 0.0
    """Of its steps, those that it has taken."""
    loss: float | None = None
    """At its end, as `eos transfer` takes it; infinite where it diverged, None before its end and where its log has none."""

    @property
    def is_done(self) -> bool:
        """Whether it came to an end of its own."""
        return self.status in members.ENDED


@dataclass(frozen=True)
class Cell:
    """A point of the grid: the runs that differ in their seeds alone."""

    runs: tuple[GridRun, ...]

    @property
    def status(self) -> str:
        """How it stands: as that of its runs which matters most."""
        return min((run.status for run in self.runs), key=_place, default=Status.WAITING)

    @property
    def num_done(self) -> int:
        """Runs that came to an end of their own."""
        return sum(run.is_done for run in self.runs)

    @property
    def loss(self) -> tuple[float, float | None] | None:
        """Mean and standard error over the runs that are done, infinite where one diverged; None before one has a loss."""
        losses = [run.loss for run in self.runs if run.loss is not None]
        return members.mean_and_sem(losses) if losses else None

    @property
    def words(self) -> str:
        """The cell's text: how it stands, how far it is, or its loss, and behind it how many of its runs are done unless all are."""
        is_partly = 0 < self.num_done < len(self.runs)
        return f"{self._word}{f' {self.num_done}/{len(self.runs)}' if is_partly else ''}"

    @property
    def _word(self) -> str:
        if not self.runs:
            return ""
        if self.status in (*GROUPS["failed"], *GROUPS["diverged"]):
            return self.status
        if self.loss is not None:
            return format_number(self.loss[0])
        if self.status == Status.RUNNING:
            return f"{_percent(self.runs)} %"
        return "done" if self.status == Status.FINISHED else self.status


@dataclass(frozen=True)
class Row:
    """The cells that differ in the columns' key alone."""

    values: Values
    cells: tuple[Cell, ...]

    @cached_property
    def best(self) -> int | None:
        """Place of the cell with the lowest loss so far; None before two have one."""
        losses = {place: cell.loss[0] for place, cell in enumerate(self.cells) if cell.loss}
        best = min(losses, key=losses.__getitem__, default=None)
        return None if best is None or len(losses) < 2 or math.isinf(losses[best]) else best

    @property
    def label(self) -> str:
        """What is the same in all of its cells; of a text the value alone, which tells what it is."""
        return ", ".join(one_line(value if isinstance(value, str) else members.label({key: value})) for key, value in self.values.items())


@dataclass(frozen=True)
class SweepGrid:
    """The runs of a sweep, laid out."""

    across: str
    """The columns' key; empty where nothing varies."""
    columns: tuple[Any, ...]
    rows: tuple[Row, ...]

    @property
    def titles(self) -> list[str]:
        """What stands above the columns."""
        return [value_words(value) for value in self.columns]

    @property
    def name(self) -> str:
        """What the columns are."""
        return self.across.rsplit(".", 1)[-1]

    @property
    def places(self) -> list[float]:
        """Where the columns lie on an axis: by logarithm where all are > 0, else by size; side by side where they are no numbers."""
        numbers = [value for value in self.columns if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(numbers) < len(self.columns):
            return [float(place) for place in range(len(self.columns))]
        return [math.log10(number) for number in numbers] if min(numbers, default=1.0) > 0 else [float(number) for number in numbers]

    def curve(self, row: Row) -> tuple[list[float], list[float | None]]:
        """The losses of a row over its columns, as far as there are some; None where a run diverged."""
        found = [(place, cell.loss[0]) for place, cell in zip(self.places, row.cells, strict=True) if cell.loss]
        return [place for place, _ in found], [loss if math.isfinite(loss) else None for _, loss in found]


@dataclass(frozen=True, kw_only=True)
class SweepStand:
    """All that the screen of a sweep shows, at one moment."""

    name: str
    runs: tuple[GridRun, ...] = ()
    is_held: bool | None = False
    """Whether a scheduler works at it; None where it is on another host."""
    seconds_left: float | None = None
    verdicts: tuple[str, ...] = ()
    """What its runs say together, once all are done."""
    problem: str = ""
    """Why it cannot be read."""

    @cached_property
    def grid(self) -> SweepGrid:
        """Its runs, laid out."""
        return laid_out(self.runs)

    @property
    def state(self) -> str:
        """How the sweep stands, in a word."""
        if self.runs and all(run.is_done for run in self.runs):
            return "complete"
        is_live = any(run.status in GROUPS["running"] for run in self.runs)
        return "running" if self.is_held or (self.is_held is None and is_live) else "stopped"

    @property
    def counts(self) -> dict[str, int]:
        """Runs by how they stand, without those of which there is none."""
        found = {name: sum(run.status in GROUPS[name] for run in self.runs) for name in COUNTED}
        return {name: count for name, count in found.items() if count}


def laid_out(runs: Sequence[GridRun]) -> SweepGrid:
    """The runs as a grid: across the learning rate, or where it does not vary the key that goes fastest.

    Seeds share a cell, unless nothing else varies.
    """
    varied = list(runs[0].values) if runs else []
    keys = [key for key in varied if key not in SEEDS] or varied
    across = LR if LR in keys else keys[-1] if keys else ""
    columns = {repr(run.values.get(across)): run.values.get(across) for run in runs}
    ordered = dict(sorted(columns.items(), key=lambda column: members.in_order(column[1])))
    rows = []
    for values, alike in members.groups(runs, [key for key in keys if key != across]):
        by_column: dict[str, list[GridRun]] = {column: [] for column in ordered}
        for run in alike:
            by_column[repr(run.values.get(across))].append(run)
        rows.append(Row(values, tuple(Cell(tuple(same)) for same in by_column.values())))
    return SweepGrid(across, tuple(ordered.values()), tuple(rows))


def value_words(value: Any) -> str:
    """A value in few characters."""
    return f"{value:.4g}" if isinstance(value, float) else one_line(str(value))


def cell_words(grid: SweepGrid, row: int, column: int) -> str:
    """A cell in a line: what its runs are, how many stand how, and their loss."""
    cell = grid.rows[row].cells[column]
    name = ", ".join(filter(None, (grid.rows[row].label, f"{grid.name} {grid.titles[column]}" if grid.across else "")))
    counted = {status: sum(run.status == status for run in cell.runs) for status in dict.fromkeys(run.status for run in cell.runs)}
    stands = [f"{count} {status}" if len(cell.runs) > 1 else status for status, count in counted.items()]
    if any(run.status in GROUPS["running"] for run in cell.runs):
        stands.append(f"{_percent(cell.runs)} % of the steps")
    if cell.loss and math.isfinite(cell.loss[0]):
        error = "" if cell.loss[1] is None else f" ± {cell.loss[1]:.1g}"
        stands.append(f"loss {format_number(cell.loss[0])}{error}")
    if grid.rows[row].best == column:
        stands.append("the lowest of its row")
    return ": ".join(filter(None, (name, ", ".join(stands))))


def verdicts(runs: Sequence[GridRun]) -> tuple[str, ...]:
    """Whether the best learning rate stays as nets grow, for each group of nets that are alike in all but size.

    Args:
        runs: All of the sweep's.

    Returns:
        Nothing before all runs are done, and where no learning rate or no size varies; why there is no verdict where that is so.

    Cost: importing scipy once, where there are three sizes or more, or several seeds.
    """
    varied = list(runs[0].values) if runs else []
    sizes = [key for key in members.SIZES if key in varied]
    if LR not in varied or not sizes or not all(run.is_done and run.loss is not None for run in runs):
        return ()
    others = [key for key in varied if key not in (LR, *SEEDS, *sizes)]
    try:
        return tuple(_verdicts(runs, sizes, others))
    except OutputError as error:
        return (f"Whether the best learning rate stays cannot be said. {one_line(str(error))}",)


def _verdicts(runs: Sequence[GridRun], sizes: Sequence[str], others: Sequence[str]) -> Iterator[str]:
    for values, alike in members.groups(runs, others):
        trials = [transfer.placed(run.values, sizes, loss=run.loss) for run in alike if run.loss is not None]
        found = transfer.group(trials, values=values, tolerance=transfer.TOLERANCE)
        said = transfer.words(found, tolerance=transfer.TOLERANCE)
        yield one_line(f"{members.label(values)}: {said}" if values else said)


def seconds_left(records: Sequence[AnySweepRecord], runs: Sequence[GridRun], *, now: float) -> float | None:
    """How long the sweep will take, were each run to take as long as those of its row have, else as the mean of all.

    Args:
        records: The scheduler's log. Runs of one job train together, and share out its time.
        runs: As they stand.
        now: Seconds since 1970.

    Returns:
        None before a run is done, or has come some way.
    """
    by_name = {run.run: run for run in runs}
    job_of = {record.run: record.job for record in records if isinstance(record, BegunRecord)}
    sizes = Counter(job_of.values())
    begun: dict[str, float] = {}
    took: dict[str, float] = {}
    jobs = 1
    for record in records:
        at = datetime.fromisoformat(record.time).timestamp()
        if isinstance(record, SittingRecord):
            jobs = max(record.jobs, 1)
            begun.clear()
        elif isinstance(record, BegunRecord):
            begun[record.run] = at
        elif isinstance(record, EndedRecord) and record.run in begun:
            seconds = at - begun.pop(record.run)
            if record.status in members.ENDED:
                took[record.run] = seconds
    for name, at in begun.items():
        if name in by_name and by_name[name].share > FIRST_SHARE:
            took[name] = (now - at) / by_name[name].share
    rows: dict[str, list[float]] = {}
    for name, seconds in took.items():
        if name in by_name:
            rows.setdefault(_row_of(by_name[name]), []).append(seconds / sizes[job_of[name]])
    known = [seconds for row in rows.values() for seconds in row]
    if not known:
        return None
    means = {name: math.fsum(found) / len(found) for name, found in {"": known, **rows}.items()}
    left = {run.run: (1.0 - run.share) * means.get(_row_of(run), means[""]) for run in runs if not run.is_done}
    longest = max((seconds * sizes.get(job_of.get(name, ""), 1) for name, seconds in left.items()), default=0.0)
    return max(math.fsum(left.values()) / jobs, longest)


def _row_of(run: GridRun) -> str:
    return repr([value for key, value in run.values.items() if key not in (LR, *SEEDS)])


def _place(status: str) -> int:
    return _PLACES.get(status, 0)


def _percent(runs: Sequence[GridRun]) -> int:
    return math.floor(100 * math.fsum(run.share for run in runs) / len(runs))
