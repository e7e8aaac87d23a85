"""Staying with a run until it ends or the user leaves: the live view in a terminal, plain lines elsewhere.

Called by the commands that start, continue or watch a run. The run never depends on this process: only a signal that
was meant for the run is passed on to it.
"""

import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Self, TypeAlias

import typer

from eos_tui import launch, summary
from eos_tui.cli.group import say
from eos_tui.launch import Launched
from eos_tui.output import is_utf8, last_lines, one_line
from eos_tui.plain import PlainLog, follow
from eos_tui.snapshot import STARTING_SECONDS, Status
from runners.errors import ExitCode, RunFolderError
from runners.records import EndRecord
from runners.run_folder import RunFolder, reference
from runners.sweeps import SweepFolder

Process: TypeAlias = "subprocess.Popen[bytes]"
Options: TypeAlias = Mapping[str, Any] | None

PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""The signals that ask a run to stop. SIGHUP is not one: a closed terminal leaves the run alone."""
KILL_SECONDS = 1.0
"""How long after a second SIGINT a runner that still lives is killed."""


def attend(launched: Launched, *, detach: bool, plain: bool, options: Options = None, log: PlainLog | None = None) -> None:
    """See a run that this process has started to its end, or leave it to itself.

    Args:
        launched: The run.
        detach: Print its name and leave.
        plain: Print lines also in a terminal.
        options: Of how to draw, as the command line gives them.
        log: What has been printed of it already.

    Raises:
        typer.Exit: With the code that says how the run ended.
        EosError: If the runner died before it held the folder.
    """
    name = reference(launched.folder)
    if detach:
        launch.wait_started(launched)
        typer.echo(launched.folder.name)
        say(f"Started. Watch it with `eos watch {name}`, stop it with `eos stop {name}`.")
    elif plain or not is_terminal():
        say(f"{launched.folder.name} runs in {launched.folder.path}. Watch it from elsewhere with `eos watch {name}`.")
        raise typer.Exit(_follow_own(launched, log or PlainLog()))
    else:
        try:
            raise typer.Exit(_live(launched.folder, options, launched))
        except KeyboardInterrupt:
            say(f"{launched.folder.name} goes on. Watch it with `eos watch {name}`, stop it with `eos stop {name}`.")
            raise


def watch(folder: RunFolder, *, plain: bool, options: Options = None) -> None:
    """Show a run that may be anybody's, until it ends or the user leaves.

    Args:
        folder: The run.
        plain: Print lines also in a terminal.
        options: Of how to draw, as the command line gives them.

    Raises:
        typer.Exit: With the code that says how the run ended.
    """
    raise typer.Exit(_follow_other(folder) if plain or not is_terminal() else _live(folder, options))


def show_live(shown: Sequence[RunFolder] | SweepFolder | Path, *, options: Options = None) -> None:
    """Show several runs, a sweep, or the runs of a folder, until the user leaves."""
    from eos_tui.app import watch as watch_live

    if farewell := watch_live(shown, options=options):
        say(farewell)


def print_screen(shown: RunFolder | SweepFolder | Sequence[RunFolder] | Path, *, options: Options) -> None:
    """Print the screen of a run, a sweep, several runs, or those of a folder, as large as the terminal; or as COLUMNS and LINES say."""
    from eos_tui import app, settings

    loaded = settings.load(settings.config_path(os.environ))
    if loaded.error:
        say(loaded.error)
    columns, lines = shutil.get_terminal_size()
    display = loaded.display(os.environ, terminal={"ascii": not is_utf8(sys.stdout.encoding)}, options=options)
    typer.echo(app.once(shown, width=columns, height=lines, display=display, loaded=loaded))


def resume(folder: RunFolder, *, detach: bool, plain: bool, options: Options = None) -> None:
    """Continue a run with a new runner, and attend it.

    Args:
        folder: A run that has steps left, and no runner.
        detach: Print its name and leave.
        plain: Print lines also in a terminal.
        options: Of how to draw, as the command line gives them.

    Raises:
        RunFolderError: If there is nothing to continue, or a runner holds the folder.
        typer.Exit: With the code that says how the run ended.
    """
    status = summary.look(folder, now=time.time()).status
    if status is Status.FINISHED:
        raise RunFolderError(f"{folder.name} has finished; no step is left. For a longer run start a new one, with --set run.steps=...")
    if status is Status.DIVERGED:
        raise RunFolderError(f"{folder.name} has diverged, and would again. Start a new run with a lower optimizer.lr.")
    log = PlainLog()
    follow(folder, write=lambda _: None, lives=lambda: False, log=log)
    log.restart()
    attend(launch.restart(folder), detach=detach, plain=plain, options=options, log=log)


class Signals:
    """Passes the signals that this process gets on to the runner; a second SIGINT gives it a second to live."""

    def __init__(
        self,
        process: Process,
        *,
        stops: str = "the run ends its steps in progress and writes a checkpoint",
        ends: str = "The run is",
        again: signal.Signals = signal.SIGINT,
        patience: float = KILL_SECONDS,
    ) -> None:
        """Pass nothing on yet.

        Args:
            process: What they go to.
            stops: What it does at the first signal, in words.
            ends: What is ended at once at the second SIGINT.
            again: What a second SIGINT is passed on as.
            patience: Seconds that it has from then on, before it is killed.
        """
        self.received: list[signal.Signals] = []
        self._process = process
        self._stops, self._ends = stops, ends
        self._again, self._patience = again, patience
        self._kill_at = math.inf
        self._num_told = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._pass_on) for number in PASSED_ON}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def look(self) -> None:
        """Say what was passed on, and kill the runner once its time is over. A handler itself may not print."""
        for index, number in enumerate(self.received[self._num_told :], self._num_told):
            self._num_told += 1
            if number is signal.SIGINT and signal.SIGINT in self.received[:index]:
                say(f"{self._ends} ended at once.")
            else:
                again = " Ctrl-C once more ends it at once." if number is signal.SIGINT else ""
                say(f"{number.name} passed on: {self._stops}.{again}")
        if time.monotonic() > self._kill_at:
            self._process.kill()

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self.received.append(signal.Signals(number))
        is_second = self.received.count(signal.SIGINT) > 1
        self._process.send_signal(self._again if is_second else number)
        if is_second:
            self._kill_at = min(self._kill_at, time.monotonic() + self._patience)


def _follow_own(launched: Launched, log: PlainLog) -> ExitCode:
    """Print the run's lines until its process has gone; an end from before a resume does not count as its end."""
    process = launched.process
    before = log.end
    with Signals(process) as signals:

        def lives() -> bool:
            signals.look()
            return process.poll() is None

        try:
            end = follow(launched.folder, write=typer.echo, lives=lives, log=log)
        except BrokenPipeError:
            say(f"Nobody reads the lines any more; the run goes on. Come back with `eos watch {reference(launched.folder)}`.")
            raise
    new_end = None if end == before else end
    if new_end is None and signals.received.count(signal.SIGINT) > 1:
        say(f"{launched.folder.name} ({launch.exit_words(process.returncode)}): {launch.way_on(launched.folder)}")
        return ExitCode.INTERRUPTED
    code = _conclude(launched.folder, new_end, status=process.returncode)
    interrupted = bool(signals.received) or process.returncode == ExitCode.INTERRUPTED
    return ExitCode.INTERRUPTED if interrupted and (end is None or end.status == "stopped") else code


def _follow_other(folder: RunFolder) -> ExitCode:
    def lives() -> bool | None:
        held = folder.is_held()
        if held is False and not folder.log.exists():
            return time.time() - folder.path.stat().st_mtime < STARTING_SECONDS
        return held

    try:
        end = follow(folder, write=typer.echo, lives=lives, log=PlainLog())
    except KeyboardInterrupt:
        say(f"Left; the run was not touched. Come back with `eos watch {reference(folder)}`.")
        return ExitCode.INTERRUPTED
    return _conclude(folder, end)


def _conclude(folder: RunFolder, end: EndRecord | None, *, status: int | None = None) -> ExitCode:
    """Say how the run ended and what can be done now; the exit code."""
    name = reference(folder)
    if end is None:
        say(launch.death(folder, status))
        return ExitCode.FAILED
    if end.status == "finished":
        say(f"The log is {folder.log}. `eos export {name} --format csv` and `eos plot {name} -o figure.svg` make files of it.")
        return ExitCode.DONE
    if end.status == "stopped":
        say(f"`eos resume {name}` continues it.")
        return ExitCode.DONE
    printed = last_lines(folder.output)
    if printed and printed[-1].endswith(one_line(end.reason)):
        # The traceback of an error that has told all there is to do.
        printed = [f"The traceback is in {folder.output}."]
    say("\n".join([f"{folder.name} {end.status}: {end.reason}", *printed]))
    return ExitCode.FAILED


def _live(folder: RunFolder, options: Options, launched: Launched | None = None) -> ExitCode:
    from eos_tui.app import watch as watch_live

    if launched is not None:
        launch.wait_started(launched)
    farewell = watch_live(folder, options=options)
    if farewell:
        say(farewell)
    ended_badly = summary.look(folder, now=time.time()).status in (Status.DIVERGED, Status.FAILED, Status.CRASHED)
    return ExitCode.FAILED if ended_badly else ExitCode.DONE


def is_terminal() -> bool:
    """Whether there is a terminal that can be drawn on."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
