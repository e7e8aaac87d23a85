"""The command that makes many runs from one spec: sweep."""

import sys
import time
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eos_tui.cli.drawing import Ascii, LowBandwidth, Mouse, Theme, drawing
from eos_tui.cli.group import ForAllRuns, Jobs, Json, Plain, RunsDir, print_json, print_table, say
from runners.errors import ExitCode, SpecError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence

    from eos_tui.cli.attending import Options
    from runners.expansion import PlannedRun
    from runners.grid import Axis
    from runners.grouping import Alike
    from runners.schema import Document
    from runners.sweeps import AnySweepRecord, EndedRecord, SittingRecord, SweepFolder, SweepTable

MOST = 1000
"""Runs that are made without --yes."""
SHOWN = 3
"""Names of runs in a list of some."""
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 10.0
"""How long the scheduler has to end all runs at once, before it is killed itself, which would leave them alone."""
CODES = {"complete": ExitCode.DONE, "incomplete": ExitCode.FAILED, "interrupted": ExitCode.INTERRUPTED}
"""By how a sweep ended."""
START_SECONDS = 10.0
"""How long the scheduler may take until it works: importing is 2 s on a slow disk."""


def sweep(
    spec: Annotated[
        str | None, typer.Argument(metavar="SPEC", help="A preset's name, a TOML file, or a run's spec.json.", show_default=False)
    ] = None,
    *,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            "--grid", metavar="KEY=VALUES", help="Vary a key: 64,256,1024 or 0.1:3.2:x2 (doubled) or 0:1:+0.1.", show_default=False
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Runs of each point, with run.seed and those that follow.", show_default=False)
    ] = None,
    overrides: ForAllRuns = None,
    jobs: Jobs = None,
    vmap: Annotated[
        bool | None,
        typer.Option(
            "--vmap/--no-vmap",
            help="Train runs that differ in optimizer.lr and seeds alone as one program; --jobs counts programs. [default: no]",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="How the sweep's name begins. [default: the spec's]", show_default=False)
    ] = None,
    go_on: Annotated[
        str | None, typer.Option("--continue", metavar="SWEEP", help="Go on with a sweep: its name or folder.", show_default=False)
    ] = None,
    runs_dir: RunsDir = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the runs, make nothing.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Start it, print its name, and leave.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help=f"Make also more than {MOST:,} runs.")] = False,
    plain: Plain = False,
    as_json: Json = False,
    ascii_only: Ascii = False,
    low_bandwidth: LowBandwidth = None,
    theme: Theme = None,
    mouse: Mouse = False,
) -> None:
    """Make a run of each point of a grid, some at a time.

    Varied are the keys of --grid, or of a table [sweep] in the file. In a terminal it opens the live view, which can be
    left at any time; elsewhere it prints a line for each run that begins or ends, and Ctrl-C stops all with checkpoints.
    Whatever ends it, --continue goes on: what has finished stays, what was cut off is resumed. Ends with 0 when all runs
    finished or diverged, with 1 when one did not.
    """
    from eos_tui import launch, scheduling
    from eos_tui.cli import attending
    from runners import grouping, run_folder, sweeps

    place = run_folder.runs_dir(runs_dir)
    options = drawing(ascii_only=ascii_only, low_bandwidth=low_bandwidth, theme=theme, mouse=mouse)
    live = None if plain or as_json or not attending.is_terminal() else options
    if go_on is not None:
        if spec is not None or grid or seeds or overrides or name or vmap is not None:
            raise typer.BadParameter("--continue takes a sweep as it is: leave out SPEC, --grid, --seeds, --set, --vmap and --name.")
        folder = sweeps.find(place, go_on)
        if dry_run:
            _print_values(_rows(folder), as_json=as_json)
        else:
            attend(folder, jobs=jobs, detach=detach, as_json=as_json, live=live)
        return
    if spec is None:
        raise typer.BadParameter("Name a spec, such as `eos sweep digits-gd --grid optimizer.lr=0.1:0.8:x2`, or --continue a sweep.")
    document, found, table, label = asked(spec, grid or [], overrides or [], seeds=seeds)
    runs = planned(document, found, label=label, yes=yes)
    alike = grouping.alike(runs) if (table.vmap if vmap is None else vmap) else None
    together = jobs or table.jobs or scheduling.default_jobs(alike.default_jobs() if alike else len(runs))
    groups = alike.groups(jobs=together) if alike else ()
    say(_estimate(runs, jobs=together, in_programs=bool(groups)))
    if alike:
        say(_grouped(alike, groups))
    if dry_run:
        rows = [{"run": run.name, "values": dict(run.values)} for run in runs]
        _print_values(rows, as_json=as_json)
        return
    folder = sweeps.create(
        place,
        name or launch.name_of(spec),
        runs,
        source=spec,
        document=document,
        grid={axis.key: [value.text for value in axis.values] for axis in found},
        jobs=together,
        groups=groups,
    )
    attend(folder, jobs=None, detach=detach, as_json=as_json, live=live)


def asked(
    spec: str, grid: "Sequence[str]", overrides: "Sequence[str]", *, seeds: int | None
) -> "tuple[Document, tuple[Axis, ...], SweepTable, str]":
    """What all runs have in common, what varies, the file's table [sweep], and how messages call the file."""
    import msgspec

    from runners import expansion, spec_file
    from runners.grid import parse_axis, table_axis
    from runners.overrides import parse_override, with_overrides
    from runners.sweeps import SweepTable

    document, label = spec_file.read_document(spec)
    try:
        table = msgspec.convert(document.pop("sweep", {}), SweepTable)
    except msgspec.ValidationError as error:
        raise SpecError(
            f"{label}: [sweep] may hold the table grid and the numbers seeds and jobs, and vmap = true or false ({error})."
        ) from error
    document = with_overrides(document, [parse_override(argument) for argument in overrides])
    given = [parse_axis(argument) for argument in grid]
    keys = {axis.key for axis in given}
    in_file = [table_axis(key, values) for key, values in table.grid.items() if key not in keys]
    found = expansion.axes(document, [*in_file, *given], seeds=seeds or table.seeds)
    return document, found, table, label


def planned(document: "Document", found: "Sequence[Axis]", *, label: str, yes: bool) -> "list[PlannedRun]":
    """The runs, with all that they need found to be there."""
    from eos_tui import launch
    from runners import expansion

    count = expansion.num_runs(found)
    if count > MOST and not yes:
        axes = " x ".join(f"{len(axis.values):,} of {axis.key}" for axis in found)
        raise SpecError(f"{count:,} runs ({axes}): more than {MOST:,}. Say --yes if that is meant.")
    runs = expansion.expand(document, found, label=label)
    known: dict[bytes, int | None] = {}
    for run in runs:
        launch.check(run.spec, known=known)
    return runs


def _estimate(runs: "Sequence[PlannedRun]", *, jobs: int, in_programs: bool) -> str:
    from eos_tui import scheduling

    steps = sum(run.spec.run.steps for run in runs)
    threads = max(1, scheduling.num_cores() // jobs)
    what = f" program{'s' * (jobs > 1)}" if in_programs else ""
    cores = f"{threads} {'core' if threads == 1 else 'cores'} each"
    together = f"{jobs}{what} at a time with {cores}" if jobs > 1 else f"one{what} after another"
    return f"{len(runs):,} {'run' if len(runs) == 1 else 'runs'}, {steps:,} steps in all, {together}."


def _grouped(alike: "Alike", groups: "Sequence[Sequence[str]]") -> str:
    """Which runs train as one program, and why the others do not."""
    sizes = [len(group) for group in groups]
    size = f"{min(sizes)} to {max(sizes)}" if len(set(sizes)) > 1 else f"{max(sizes, default=0)}"
    programs = f"{sum(sizes):,} runs train in {len(sizes):,} {'programs' if len(sizes) > 1 else 'program'} of {size}"
    alone = dict(alike.alone)
    if left := [run.name for runs in alike.classes for run in runs if not any(run.name in group for group in groups)]:
        alone["--jobs is so large that each has a process of its own"] = left
    reasons = "; ".join(f"{_some(names)} alone: {reason}" for reason, names in alone.items())
    return f"--vmap: {'; '.join(filter(None, [programs if groups else 'no runs train together', reasons]))}."


def _some(names: "Sequence[str]") -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def attend(
    folder: "SweepFolder",
    *,
    jobs: int | None,
    detach: bool = False,
    as_json: bool = False,
    prints: bool = True,
    live: "Options" = None,
) -> None:
    """Start the sweep's scheduler, unless one works already, and tell what it does until it has gone, or leave it to itself.

    Args:
        folder: The sweep.
        jobs: Runs at the same time; None for as many as the sweep was made with.
        detach: Whether to leave it to itself.
        as_json: Whether how the runs stand is printed as JSON.
        prints: Whether it is printed at all.
        live: How to draw the live view; None for lines.

    Raises:
        typer.Exit: With 0 when all runs finished or diverged.
    """
    from eos_tui import sweeping
    from eos_tui.cli.attending import Signals
    from runners import sweeps

    name = sweeps.reference(folder)
    start = folder.log.stat().st_size if folder.log.exists() else 0
    is_held = folder.is_held()
    if is_held is None:
        holder = folder.holder()
        say(
            f"{folder.name}: its last scheduler was on {holder.host if holder else 'another host'}; if that still works, this one will not."
        )
    if is_held:
        if jobs:
            say("--jobs is left out: the scheduler that works at it keeps its own number.")
        if live is not None and not detach:
            _show(folder, live)
        _watch(folder, detach=detach, as_json=as_json, prints=prints)
        return
    process = sweeping.start(folder, jobs=jobs or folder.read().jobs)
    if detach:
        _wait_started(folder, process, start)
        typer.echo(folder.name)
        say(f"Started. `eos watch {name}` shows its runs, `eos stop {name}` stops it, `eos sweep --continue {name}` comes back to it.")
        return
    if live is not None:
        _wait_started(folder, process, start)
        _show(folder, live)
    say(f"{folder.name} works in {folder.path}. `eos watch {name}` shows its runs from elsewhere.")
    stops = "the runs end their steps in progress and write checkpoints"
    with Signals(process, stops=stops, ends="All runs are", again=sweeping.AT_ONCE, patience=PATIENCE_SECONDS) as signals:

        def lives() -> bool:
            signals.look()
            return process.poll() is None

        _tell(folder, lives=lives, start=start)
    code = _conclude(folder, start=start, as_json=as_json, prints=prints)
    raise typer.Exit(int(ExitCode.INTERRUPTED if signals.received and code is ExitCode.FAILED else code))


def _show(folder: "SweepFolder", options: "Options") -> None:
    """Open the live view until the user leaves, which leaves the sweep alone; end as the sweep did, if it has ended by then."""
    from eos_tui.cli import attending
    from runners.sweeps import SweepEndRecord

    before = len(folder.records()[0])
    attending.show_live(folder, options=options)
    ends = [record.status for record in folder.records()[0][before:] if isinstance(record, SweepEndRecord)]
    raise typer.Exit(int(CODES[ends[-1] if ends else "complete"]))


def _watch(folder: "SweepFolder", *, detach: bool, as_json: bool, prints: bool) -> None:
    """Tell what a scheduler does that somebody else has started."""
    from runners import sweeps

    name = sweeps.reference(folder)
    say(f"{folder.name} goes on already. Ctrl-C leaves it alone; `eos stop {name}` stops it.")
    if detach:
        return
    try:
        _tell(folder, lives=lambda: folder.is_held() is not False, start=0)
    except KeyboardInterrupt:
        say(f"Left; the sweep was not touched. Come back with `eos sweep --continue {name}`.")
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from None
    raise typer.Exit(int(_conclude(folder, start=0, as_json=as_json, prints=prints)))


def _wait_started(folder: "SweepFolder", process: "subprocess.Popen[bytes]", start: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not folder.records(start)[0] and process.poll() is None and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    if process.poll() is not None and not folder.records(start)[0]:
        _say_death(folder)
        raise typer.Exit(int(ExitCode.FAILED))


def _tell(folder: "SweepFolder", *, lives: "Callable[[], bool]", start: int) -> None:
    """Narrate the log from a byte on, of what there is already the last sitting alone, until the scheduler has gone."""
    from runners.sweeps import SittingRecord

    lines = None
    while True:
        alive = lives()
        records, start = folder.records(start)
        sittings = [index for index, record in enumerate(records) if isinstance(record, SittingRecord)]
        for record in records[sittings[-1] if sittings else 0 :]:
            if isinstance(record, SittingRecord):
                lines = Lines(record)
            elif lines is not None:
                lines.tell(record)
        if not alive:
            return
        if not records:
            time.sleep(POLL_SECONDS)


class Lines:
    """A line for each run that begins or ends."""

    def __init__(self, sitting: "SittingRecord") -> None:
        self._num_runs, self._num_done, self._jobs = sitting.num_runs, sitting.num_done, sitting.jobs
        self._begun: dict[str, tuple[float, str]] = {}
        """When the runs that go on began, in seconds since 1970, and in which job."""
        self._sizes: Counter[str] = Counter()
        """Runs by job."""
        self._took: list[float] = []
        """Seconds of those that have ended, shared out over the runs of a job."""
        if sitting.num_done:
            say(f"{sitting.num_done:,} of {sitting.num_runs:,} runs are done already.")

    def tell(self, record: "AnySweepRecord") -> None:
        """Say what the scheduler noted."""
        from runners.sweeps import BegunRecord, EndedRecord

        at = datetime.fromisoformat(record.time).timestamp()
        if isinstance(record, BegunRecord):
            self._begun[record.run] = at, record.job
            self._sizes[record.job] += 1
            words = {"started": "begins", "resumed": "goes on from its checkpoint", "awaited": "goes on already"}
            self._say(f"{record.run} {words[record.how]}")
        elif isinstance(record, EndedRecord):
            self._num_done += 1
            why = "" if record.status == "finished" else f": {record.reason}"
            self._say(f"{record.run} {record.status} at step {record.step:,}{self._times(record, at)}{why}")

    def _times(self, record: "EndedRecord", at: float) -> str:
        """How long the run took and, if that was all of it, how long the others will if they take as long."""
        from eos_tui.widgets.words import duration

        if record.run not in self._begun:
            return ""
        begun, job = self._begun.pop(record.run)
        if record.status not in ("finished", "diverged"):
            return f" after {duration(at - begun)}"
        self._took.append((at - begun) / self._sizes[job])
        # Those of the same job have ended as well, and are about to be told of.
        waiting = self._num_runs - self._num_done - sum(other == job for _, other in self._begun.values())
        left = waiting * sum(self._took) / len(self._took) / self._jobs
        return f" after {duration(at - begun)}{f', about {duration(left)} left' if left else ''}"

    def _say(self, message: str) -> None:
        say(f"[{self._num_done}/{self._num_runs}] {message}")


def _conclude(folder: "SweepFolder", *, start: int, as_json: bool, prints: bool) -> ExitCode:
    """Print how all runs stand and say what can be done now; the exit code."""
    from runners import sweeps
    from runners.sweeps import SweepEndRecord

    rows = _rows(folder)
    if prints:
        _print_values(rows, as_json=as_json)
    counts = Counter(row["status"] for row in rows)
    records, _ = folder.records(start)
    end = next((record for record in reversed(records) if isinstance(record, SweepEndRecord)), None)
    again = f"`eos sweep --continue {sweeps.reference(folder)}` goes on."
    say(f"{', '.join(f'{count:,} {status}' for status, count in counts.items())}. The runs are in {folder.path}.")
    if end is None:
        _say_death(folder)
        return ExitCode.FAILED
    if end.status != "complete":
        say(f"Interrupted; {again}" if end.status == "interrupted" else f"Not all came to their end; {again}")
    return CODES[end.status]


def _say_death(folder: "SweepFolder") -> None:
    from eos_tui.output import last_lines
    from runners import sweeps

    again = f"`eos sweep --continue {sweeps.reference(folder)}` goes on."
    say("\n".join([f"{folder.name}: its scheduler died; runs that it had begun go on. {again}", *last_lines(folder.output)]))


def _rows(folder: "SweepFolder") -> list[dict[str, Any]]:
    """How the sweep's runs stand."""
    import msgspec

    from eos_tui import summary
    from runners.run_folder import RunFolder

    rows: list[dict[str, Any]] = []
    for run in folder.read().runs:
        path = RunFolder(folder.path / run.run)
        row = summary.row(path, now=time.time()) if path.path.is_dir() else summary.unreadable(path)
        rows.append({"run": run.run, "values": run.values} | msgspec.to_builtins(row))
    return rows


def _print_values(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    from eos_tui.numerals import format_number

    if as_json:
        print_json(rows)
        return
    keys = [key for key in ("status", "step", "loss", "sharpness", "ratio", "noise_kernel") if any(key in row for row in rows)]
    titles = {"ratio": "of its threshold", "noise_kernel": "K"}

    def cell(value: Any) -> str:
        return (
            "-" if value is None else value if isinstance(value, str) else f"{value:,}" if isinstance(value, int) else format_number(value)
        )

    print_table(("run", *(titles.get(key, key) for key in keys)), [(row["run"], *(cell(row[key]) for key in keys)) for row in rows])
    sys.stdout.flush()
