"""The commands that ask something of a run that is going on: stop, pause, unpause."""

import time
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from eos_tui.cli.group import Run, RunsDir, say

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from eos_tui.snapshot import RunSnapshot
    from runners.run_folder import RunFolder

ANSWER_SECONDS = 5.0
"""How long to wait for the run to do what it was asked."""
POLL_SECONDS = 0.05


def stop(
    run: Run,
    *,
    now: Annotated[bool, typer.Option("--now", help="End the process at once, without a checkpoint.")] = False,
    runs_dir: RunsDir = None,
) -> None:
    """Stop a run, with a checkpoint that it can be resumed from.

    A sweep's name stands for the sweep with all its runs.
    """
    from eos_tui import launch, sweeping
    from runners import run_folder, sweeps
    from runners.run_folder import reference

    place = run_folder.runs_dir(runs_dir)
    if (sweep := sweeps.meant(place, run)) and not now:
        sweeping.stop(sweep)
        say(f"{sweep.name} was asked to stop: its runs take a checkpoint. `eos sweep --continue {sweeps.reference(sweep)}` goes on.")
        return
    folder = _running(run, runs_dir, verb="stop")
    again = f"`eos resume {reference(folder)}` continues it."
    if now:
        launch.kill(folder)
        say(f"{folder.name} was ended at once. {again}")
        return
    seen = _ask(folder, "stop", done=lambda seen: seen.end is not None)
    if seen is None:
        say(f"{folder.name} was asked to stop, and will once the steps in progress are done. `eos watch {reference(folder)}` shows when.")
    else:
        say(f"{folder.name}: {seen.status} at step {seen.step:,}. {again if seen.status == 'stopped' else ''}".rstrip())


def pause(run: Run, *, runs_dir: RunsDir = None) -> None:
    """Let a run wait where it is; its process stays."""
    from runners.run_folder import reference

    folder = _running(run, runs_dir, verb="pause")
    seen = _ask(folder, "pause", done=lambda seen: seen.paused or seen.end is not None)
    if seen is None:
        say(f"{folder.name} was asked to pause, and will once the steps in progress are done.")
    else:
        again = f"`eos unpause {reference(folder)}` lets it go on." if seen.status == "paused" else ""
        say(f"{folder.name}: {seen.status} at step {seen.step:,}. {again}".rstrip())


def unpause(run: Run, *, runs_dir: RunsDir = None) -> None:
    """Let a paused run go on."""
    folder = _running(run, runs_dir, verb="unpause")
    seen = _ask(folder, "unpause", done=lambda seen: not seen.paused)
    if seen is None:
        say(f"{folder.name} was asked to go on, and has not answered yet.")
    else:
        say(f"{folder.name}: {seen.status} at step {seen.step:,}.")


def _running(run: str, runs_dir: "Path | None", *, verb: str) -> "RunFolder":
    """The run of that name, if it can do what is asked."""
    from eos_tui import summary
    from runners import run_folder
    from runners.errors import RunFolderError

    folder = run_folder.find(run_folder.runs_dir(runs_dir), run)
    seen = summary.look(folder, now=time.time())
    if seen.status == "crashed":
        again = f"`eos resume {run_folder.reference(folder)}` continues the run."
        raise RunFolderError(f"{folder.name}: its runner is gone, there is nothing to {verb}. {again}")
    if seen.end is not None and not folder.is_held():
        raise RunFolderError(f"{folder.name} has ended: {seen.status} at step {seen.step:,}. There is nothing to {verb}.")
    return folder


def _ask(
    folder: "RunFolder", request: Literal["stop", "pause", "unpause"], *, done: "Callable[[RunSnapshot], bool]"
) -> "RunSnapshot | None":
    """Write the request and wait until it is done or cannot be any more; None when it was not within ANSWER_SECONDS."""
    from eos_tui import summary

    folder.request(request)
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        seen = summary.look(folder, now=time.time())
        if done(seen) or seen.status == "crashed":
            return seen
        time.sleep(POLL_SECONDS)
    return None
