"""The commands' names and order, and the process's entry point."""

import sys
from typing import Annotated

import typer

from eos_tui import __version__
from eos_tui.cli import (
    comparing,
    configuring,
    files,
    looking,
    overlaying,
    replaying,
    reporting,
    reproducing,
    requests,
    running,
    serving,
    sweeping,
    theorizing,
)
from eos_tui.cli.drawing import Ascii, LowBandwidth, Mouse, Theme
from eos_tui.cli.group import Group

app = typer.Typer(
    name="eos",
    cls=Group,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001
    if wanted:
        typer.echo(f"eos {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def eos(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)] = False,  # noqa: ARG001
    ascii_only: Ascii = False,
    low_bandwidth: LowBandwidth = None,
    theme: Theme = None,
    mouse: Mouse = False,
) -> None:
    """Train neural networks in the terminal and watch where they stand against the edge of stability."""
    if context.invoked_subcommand is None:
        if sys.stdin.isatty() and sys.stdout.isatty():
            running.watch(ascii_only=ascii_only, low_bandwidth=low_bandwidth, theme=theme, mouse=mouse)
        else:
            typer.echo(context.get_help())
    elif ascii_only or low_bandwidth is not None or theme is not None or mouse:
        raise typer.BadParameter("stands behind a command that draws, as in `eos watch --ascii`.", param_hint="An option of how to draw")


app.command()(running.run)
app.command()(running.watch)
app.command()(serving.serve)
app.command("list")(looking.list_runs)
app.command()(looking.show)
app.command()(requests.stop)
app.command()(requests.pause)
app.command()(requests.unpause)
app.command()(running.resume)
app.command()(replaying.replay)
app.command()(files.export)
app.command()(files.plot)
app.command()(overlaying.compare)
app.command("compare-flow")(comparing.compare_flow)
app.command()(sweeping.sweep)
app.command("transfer")(reporting.transfer_)
app.command("coord-check")(reporting.coord_check)
app.command()(reporting.consistency)
app.command()(reproducing.reproduce)
app.add_typer(theorizing.theory, name="theory")
app.command()(looking.presets)
app.command()(looking.doctor)
app.command()(configuring.config)


def main() -> None:
    """Run the command line; a character that the terminal cannot show becomes a question mark."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    app(prog_name="eos")
