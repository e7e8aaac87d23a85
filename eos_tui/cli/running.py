"""The commands that attend a run: start one, watch one, continue one."""

from typing import Annotated

import typer

from eos_tui.cli.drawing import Ascii, LowBandwidth, Mouse, Once, Theme, drawing
from eos_tui.cli.group import Plain, Run, RunsDir, say

Detach = Annotated[bool, typer.Option("--detach", help="Start it, print its name, and leave.")]


def run(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A preset's name, a TOML file, or a run's spec.json.")] = "digits-gd",
    *,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the spec, such as optimizer.lr=0.4.", show_default=False),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="How the run's name begins. [default: the spec's]", show_default=False)
    ] = None,
    runs_dir: RunsDir = None,
    detach: Detach = False,
    plain: Plain = False,
    ascii_only: Ascii = False,
    low_bandwidth: LowBandwidth = None,
    theme: Theme = None,
    mouse: Mouse = False,
) -> None:
    """Start a run and watch it.

    In a terminal it opens the live view, elsewhere it prints a line a measurement. The run is a process of its own:
    leaving the live view does not end it.
    """
    from eos_tui import launch
    from eos_tui.cli import attending
    from runners import run_folder, spec_file

    options = drawing(ascii_only=ascii_only, low_bandwidth=low_bandwidth, theme=theme, mouse=mouse)
    loaded = spec_file.load(spec, overrides or [])
    launch.check(loaded)
    launched = launch.start(spec_file.with_absolute_paths(loaded), name=name or launch.name_of(spec), runs=run_folder.runs_dir(runs_dir))
    attending.attend(launched, detach=detach, plain=plain, options=options)


def watch(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="A run's name, the beginning of one, or its folder. [default: all of them]", show_default=False),
    ] = None,
    *,
    runs_dir: RunsDir = None,
    plain: Plain = False,
    once: Once = False,
    ascii_only: Ascii = False,
    low_bandwidth: LowBandwidth = None,
    theme: Theme = None,
    mouse: Mouse = False,
) -> None:
    """Watch a run, live or ended; without a name all of them.

    Leaving never touches a run. Without a terminal, or with --plain, no name stands for the newest run. A sweep's name
    shows the sweep: its grid, and the losses over the learning rate.
    """
    from eos_tui.cli import attending
    from runners import run_folder, sweeps

    place = run_folder.runs_dir(runs_dir)
    options = drawing(ascii_only=ascii_only, low_bandwidth=low_bandwidth, theme=theme, mouse=mouse)
    sweep = sweeps.meant(place, run)
    if sweep:
        place, run = sweep.path, None
    if once:
        attending.print_screen(run_folder.find(place, run) if run else sweep or place, options=options)
        return
    if run is None and not plain and attending.is_terminal():
        attending.show_live(sweep or place, options=options)
        return
    folder = run_folder.find(place, run)
    if run is None:
        grid = f" `eos watch --once {sweeps.reference(sweep)}` prints the sweep's grid." if sweep else ""
        say(f"{folder.name} is the newest run of {place}.{grid}")
    attending.watch(folder, plain=plain, options=options)


def resume(
    run: Run,
    *,
    runs_dir: RunsDir = None,
    detach: Detach = False,
    plain: Plain = False,
    ascii_only: Ascii = False,
    low_bandwidth: LowBandwidth = None,
    theme: Theme = None,
    mouse: Mouse = False,
) -> None:
    """Continue a stopped or crashed run from its checkpoint."""
    from eos_tui.cli import attending
    from runners import run_folder

    options = drawing(ascii_only=ascii_only, low_bandwidth=low_bandwidth, theme=theme, mouse=mouse)
    attending.resume(run_folder.find(run_folder.runs_dir(runs_dir), run), detach=detach, plain=plain, options=options)
