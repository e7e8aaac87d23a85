"""The command that plays a run again: in the terminal, into a recording, or as a picture of its screen."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eos_tui.cli.group import Run, RunsDir, say

if TYPE_CHECKING:
    from runners.run_folder import RunFolder

SIZE = "120x40"
"""Of what is drawn without a terminal, when no size is asked for."""


def replay(
    run: Run,
    *,
    speed: Annotated[float, typer.Option(metavar="NUMBER", help="How many times as fast as it was, > 0.")] = 1.0,
    at: Annotated[int | None, typer.Option("--at", metavar="STEP", help="Begin at this step.", show_default=False)] = None,
    record: Annotated[
        Path | None,
        typer.Option("--record", metavar="FILE", help="Write what is shown as a recording (asciinema .cast).", show_default=False),
    ] = None,
    svg: Annotated[
        Path | None,
        typer.Option(
            "--svg", metavar="FILE", help="Write the screen at --at, else at the end, as a picture, and leave.", show_default=False
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(metavar="WxH", help=f"Draw --record or --svg without a terminal, this large. [default: {SIZE}]", show_default=False),
    ] = None,
    runs_dir: RunsDir = None,
) -> None:
    """Play a run again, as it went.

    In the screen that shows live ones. Space holds it, . and , change the speed, b and n jump, r begins again. The run is never touched.
    """
    from eos_tui.cli import attending
    from runners import run_folder

    if not speed > 0:
        raise typer.BadParameter(f"{speed:g}: expected a number > 0.", param_hint="--speed")
    cells = _size(size or SIZE)
    folder = run_folder.find(run_folder.runs_dir(runs_dir), run)
    is_terminal = attending.is_terminal()
    if svg is not None:
        _draw(folder, svg, at=at, size=cells)
    elif record is not None and (size or not is_terminal):
        _record(folder, record, speed=speed, at=at, size=cells)
    elif is_terminal:
        _show(folder, record, speed=speed, at=at)
    else:
        raise typer.BadParameter("a replay needs a terminal. Without one, --record or --svg writes a file.", param_hint="RUN")


def _size(text: str) -> tuple[int, int]:
    columns, _, rows = text.partition("x")
    if not (columns.isdecimal() and rows.isdecimal() and int(columns) and int(rows)):
        raise typer.BadParameter(f"{text!r}: expected columns and rows, like {SIZE}.", param_hint="--size")
    return int(columns), int(rows)


def _show(folder: "RunFolder", path: Path | None, *, speed: float, at: int | None) -> None:
    from eos_tui.app import watch
    from eos_tui.recording import Recorder
    from eos_tui.replacing import replacing
    from eos_tui.replay import replay

    replayed = replay(folder, speed=speed, at=at)
    if path is None:
        watch(replayed)
        return
    with replacing(path) as place, place.open("w", encoding="utf-8") as file:
        watch(replayed, recorder=Recorder(file, title=folder.name))
    say(f"Recorded in {path}.")


def _record(folder: "RunFolder", path: Path, *, speed: float, at: int | None, size: tuple[int, int]) -> None:
    # Its colours are a terminal's, wherever this was started.
    os.environ["TERM"] = "xterm-256color"
    from eos_tui import unseen
    from eos_tui.recording import Recorder
    from eos_tui.replacing import replacing
    from eos_tui.replay import replay

    ticks = unseen.Ticks()
    with replacing(path) as place, place.open("w", encoding="utf-8") as file:
        recorder = Recorder(file, title=folder.name, clock=ticks)
        unseen.record(replay(folder, speed=speed, at=at, clock=ticks), recorder, ticks=ticks, size=size)
    typer.echo(path)


def _draw(folder: "RunFolder", path: Path, *, at: int | None, size: tuple[int, int]) -> None:
    from eos_tui import unseen
    from eos_tui.replacing import replacing
    from eos_tui.replay import replay

    replayed = replay(folder, speed=1.0, at=at, clock=lambda: 0.0)
    if at is None:
        replayed.playhead.move(replayed.playhead.duration)
    with replacing(path) as place:
        unseen.draw(replayed, place, size=size)
    typer.echo(path)
