"""The commands that list and show: runs, one run, presets, the machine."""

import os
import time
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eos_tui.cli.group import Json, Run, RunsDir, print_json, print_table, say, wrapped
from eos_tui.numerals import NOTHING, or_nothing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eos_tui.snapshot import RunSnapshot
    from eos_tui.summary import Row
    from runners.run_folder import RunFolder


def list_runs(*, runs_dir: RunsDir = None, as_json: Json = False) -> None:
    """List the runs, the oldest first."""
    import msgspec

    from eos_tui import summary
    from runners import run_folder, sweeps

    place = run_folder.runs_dir(runs_dir)
    now = time.time()
    rows = [summary.row(folder, now=now) for folder in run_folder.all_runs(place)]
    found = sweeps.all_sweeps(place)
    if as_json:
        print_json(msgspec.to_builtins(rows))
    elif not rows and not found:
        say(f"No runs in {place}. `eos run` starts one.")
    elif rows:
        titles = ("run", "status", "step", "loss", "sharpness", "of its threshold", "K", "age")
        print_table(titles, [_cells(row) for row in rows], folds=True)
    if found:
        last = found[-1].path
        say(f"Sweeps here: {', '.join(folder.name for folder in found)}. `eos list --runs-dir {last}` lists the runs of one.")


def _cells(row: "Row") -> tuple[str, ...]:
    from eos_tui.widgets.words import duration

    numbers = (row.loss, row.sharpness, row.ratio, row.noise_kernel)
    return (
        row.run,
        row.status,
        f"{row.step:,} of {row.steps:,}" if row.steps else NOTHING,
        *map(or_nothing, numbers),
        # Its larger unit: 3 d, not 3 d 4 h.
        NOTHING if row.age_seconds is None else " ".join(duration(row.age_seconds).split()[:2]),
    )


def show(run: Run, *, runs_dir: RunsDir = None, as_json: Json = False) -> None:
    """Show how a run stands, its spec, and what it ran on."""
    from eos_tui import summary
    from eos_tui.output import one_line, one_row
    from runners import run_folder

    folder = run_folder.find(run_folder.runs_dir(runs_dir), run)
    seen = summary.look(folder, now=time.time())
    if as_json:
        print_json(_document(folder, seen))
        return
    for title, text in _paragraphs(folder, seen):
        typer.echo(f"{one_line(title):<12} {one_row(text)}".rstrip())


def _document(folder: "RunFolder", seen: "RunSnapshot") -> dict[str, Any]:
    import msgspec

    from eos_tui import details

    return {
        "run": folder.name,
        "path": str(folder.path.resolve()),
        "status": seen.status,
        "step": seen.step,
        "steps": seen.steps,
        "spec": details.spec(folder, seen),
        "header": msgspec.to_builtins(seen.header),
        "last": {kind: msgspec.to_builtins(record) for kind, record in seen.last.items() if kind not in ("header", "event", "end")},
        "end": msgspec.to_builtins(seen.end),
        "next": _next(folder, seen),
    }


def _paragraphs(folder: "RunFolder", seen: "RunSnapshot") -> "Iterator[tuple[str, str]]":
    """Titles and texts; a text without a title belongs to the title before it."""
    from eos_tui import details, plain

    yield "run", folder.name
    yield "status", plain.end_text(seen.end) if seen.end else seen.status
    yield "step", f"{seen.step:,} of {seen.steps:,}" if seen.steps else f"{seen.step:,}"
    panels = seen.header.panels if seen.header else ()
    yield from zip_longest(("numbers",), plain.numbers(panels, seen.last).values() or ["none yet"], fillvalue="")
    yield from details.origin(seen)
    yield from details.tables(folder, seen)
    yield from details.parameters(seen)
    yield from details.files(folder)
    yield "again", details.again(folder.path)
    yield "next", _next(folder, seen)


def _next(folder: "RunFolder", seen: "RunSnapshot") -> str:
    """What can be done with the run now."""
    from runners.run_folder import reference

    name = reference(folder)
    match seen.status:
        case "finished":
            return f"eos export {name} --format csv, eos plot {name} -o figure.svg"
        case "stopped" | "failed" | "crashed":
            return f"eos resume {name}"
        case "diverged":
            return "a new run with a lower optimizer.lr"
        case "paused":
            return f"eos unpause {name}, eos stop {name}"
        case _:
            return f"eos watch {name}, eos pause {name}, eos stop {name}"


def presets(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print this preset's TOML.", show_default=False)] = None,
    *,
    as_json: Json = False,
) -> None:
    """List the presets, or print one.

    eos presets digits-gd > mine.toml makes a file to start from.
    """
    from runners import spec_file

    if name is None:
        found = spec_file.presets()
        if as_json:
            print_json([{"name": preset.name, "claim": preset.claim, "run": preset.command, "expect": preset.expect} for preset in found])
        else:
            width = max(len(preset.name) for preset in found) + 2
            for preset in found:
                typer.echo(wrapped(f"{preset.name:<{width}}{preset.claim}", indent=width))
    elif as_json:
        typer.echo(spec_file.to_json(spec_file.read(name)).decode())
    else:
        spec_file.read(name)
        paths = {preset.name: preset.path for preset in spec_file.presets()}
        typer.echo(paths.get(name, Path(name)).read_text(encoding="utf-8"), nl=False)


def doctor(*, runs_dir: RunsDir = None, as_json: Json = False) -> None:
    """Look for what stands between this machine and a run.

    Versions, devices, terminal, folders, data. Ends with 1 when there is a problem.
    """
    import msgspec

    from eos_tui.doctor import checks
    from runners import run_folder

    found = checks(runs=run_folder.runs_dir(runs_dir), environ=os.environ)
    if as_json:
        print_json(msgspec.to_builtins(found))
    else:
        for check in found:
            typer.echo(wrapped(f"{check.status:<8} {check.name:<18} {check.found}", indent=28))
            if check.advice:
                typer.echo(wrapped(f"{'':<28}{check.advice}", indent=28))
    if any(check.status == "problem" for check in found):
        raise typer.Exit(1)
