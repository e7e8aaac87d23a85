"""The commands that make files of runs: export and plot."""

import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from eos_tui.cli.group import Run, RunsDir, say


def export(
    run: Run,
    *,
    file_format: Annotated[Literal["json", "jsonl", "csv", "parquet"], typer.Option("--format", help="What to write.")] = "json",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Where to; - is stdout. [default: the run's name, here]", show_default=False),
    ] = None,
    runs_dir: RunsDir = None,
) -> None:
    """Write a run as JSON, JSON lines, CSV or Parquet.

    json is one document, jsonl a record a line, csv and parquet a table for each kind of record, in a folder. Prints
    the files that it made.
    """
    from eos_tui import export, summary
    from runners import run_folder

    folder = run_folder.find(run_folder.runs_dir(runs_dir), run)
    if output == Path("-"):
        export.write(folder, file_format, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    else:
        for path in export.export(folder, file_format, output):
            typer.echo(path)
    seen = summary.look(folder, now=time.time(), kinds=summary.ROW_KINDS)
    if seen.end is None:
        say(f"{folder.name} has come to no end ({seen.status}, step {seen.step:,} of {seen.steps:,}): this is what it had so far.")


def plot(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Runs, drawn over each other.", show_default=False)],
    *,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="A .png, .svg or .pdf.", show_default=False)],
    runs_dir: RunsDir = None,
) -> None:
    """Draw runs as a figure, with their thresholds."""
    from eos_tui import plots
    from runners import run_folder

    place = run_folder.runs_dir(runs_dir)
    typer.echo(plots.plot([run_folder.find(place, run) for run in runs], output))
