"""What all commands share: errors become one message and an exit code, stdout is data, stderr is narration."""

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from runners.errors import EosError

Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's name, the beginning of one, or its folder.", show_default=False)]
RunsDir = Annotated[
    Path | None,
    typer.Option("--runs-dir", metavar="FOLDER", help="Where the runs are. [default: $EOS_RUNS, else ./runs]", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Jobs = Annotated[
    int | None,
    typer.Option("--jobs", metavar="N", min=1, help="Runs at the same time. [default: one a core, as memory allows]", show_default=False),
]
ForAllRuns = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the spec in all runs.", show_default=False)
]
Plain = Annotated[bool, typer.Option("--plain", help="Print a line a measurement, also in a terminal.")]


class Group(TyperGroup):
    """The commands, with the errors that they raise handled in one place."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the line names.

        Raises:
            typer.Exit: With the error's code, after its message; or when nobody reads the output any more.
        """
        try:
            return super().invoke(ctx)
        except EosError as error:
            say(str(error))
            raise typer.Exit(int(error.exit_code)) from error
        except BrokenPipeError:
            # `eos ... | head`: the reader had enough. What is still in the buffer goes nowhere, or exiting would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None


def say(message: str) -> None:
    """Narrate on stderr."""
    from eos_tui.output import printable

    typer.echo(printable(f"eos: {message}"), err=True)


def print_json(value: Any) -> None:
    """Print a value as data on stdout; numbers that are not finite are null already."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    # What a terminal would act on stands as its JSON escape, which means the same.
    typer.echo("\n".join("".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line) for line in text.split("\n")))


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]], *, folds: bool = False) -> None:
    """Print rows of text in columns as wide as their content.

    Args:
        titles: Of the columns.
        rows: A text for each column.
        folds: On a terminal that is too narrow for it, the first column's text gets a line of its own.
    """
    from eos_tui.output import aligned

    table = [titles, *rows]
    lines = aligned(table)
    if folds and sys.stdout.isatty() and max(map(len, lines)) > shutil.get_terminal_size().columns:
        firsts, rests = aligned([row[:1] for row in table]), aligned([row[1:] for row in table])
        lines = [line for first, rest in zip(firsts, rests, strict=True) for line in (first, f"  {rest}")]
    for line in lines:
        typer.echo(line)


def wrapped(text: str, *, indent: int) -> str:
    """The text in lines as wide as the terminal, all but the first one indented."""
    columns = max(shutil.get_terminal_size().columns, indent + 20)
    return textwrap.fill(text, columns, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
