"""Start runners: a run folder, and a process of its own session that is given the folder and nothing else.

Called by the command line and the screens. The runner outlives whoever started it: it has no terminal, no pipe to its
parent, and everything that it prints goes to the folder's `output.txt`. Must not import jax or anything that draws.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from eos_tui.output import last_lines
from runners import run_folder, spec_file
from runners.errors import EosError, RunFolderError
from runners.experiments import CustomFunction, Function, Spec, WithData
from runners.run_folder import RunFolder
from runners.spec import CustomModel, CustomOptimizer, Train

RUNNER: tuple[str, ...] = (sys.executable, "-P", "-m", "runners")
"""The command that is given a run folder, or several. -P: a folder that happens to be called `runners` must not stand in for ours."""
START_SECONDS = 10.0
"""How long a started runner may take until it holds its folder: importing is 2 s on a slow disk."""
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Launched:
    """A run whose runner this process has started."""

    folder: RunFolder
    process: subprocess.Popen[bytes]


def check(spec: Spec, *, known: dict[bytes, int | None] | None = None) -> int | None:
    """Find out, before anything is made, whether the data and the user's modules are there and suffice.

    Args:
        spec: What to run.
        known: What this gave for data of specs before, which is not looked at again; added to.

    Returns:
        The number of training examples; None where there are none, or only running a user's function can tell.

    Raises:
        SpecError: If a user's module is not there, or more examples are asked for than there are.
        DataError: If files are missing, or not what they should be.
    """
    # Loaded here: screens that start no run need not wait for the readers of data sets.
    from runners import data_files, imports

    tables: dict[str, object] = (
        {"model.name": spec.model} if isinstance(spec, Train) else {"function.name": spec.function} if isinstance(spec, Function) else {}
    )
    for key, table in {**tables, "optimizer.name": spec.optimizer}.items():
        if isinstance(table, CustomModel | CustomFunction | CustomOptimizer):
            imports.find(table.target, key=key)
    if not isinstance(spec, WithData):
        return None
    known = {} if known is None else known
    data = msgspec.json.encode(spec.data)
    if data not in known:
        known[data] = data_files.check(spec.data)
    num_train = known[data]
    if num_train is not None and isinstance(spec, Train):
        spec_file.check_sizes(spec, num_train)
    return num_train


def name_of(spec: str) -> str:
    """How a run's name begins when none is given: the spec's, as far as its characters may stand in one."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", Path(spec).stem).strip("-._") or "run"


def start(
    spec: Spec, *, name: str, runs: Path, command: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> Launched:
    """A new run in a folder of its own. Returns as soon as the process exists.

    Args:
        spec: What to run; already checked.
        name: How the folder's name begins.
        runs: The folder that holds the runs; made when absent.
        command: The runner's command, to which the folder is appended; `RUNNER` when absent.
        environment: Variables for the runner, beside those of this process.

    Returns:
        The folder, and the process for the caller that stays to attend it.

    Raises:
        RunFolderError: If the folder cannot be made.
    """
    return _spawn(run_folder.create(runs, name, spec_file.to_json(spec)), command=command, environment=environment)


def restart(
    folder: RunFolder, *others: RunFolder, command: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> Launched:
    """The run of an existing folder, continued by a new runner from its last checkpoint; or several runs that train as one program.

    Args:
        folder: A run that no runner holds.
        others: Further ones, for the same runner.
        command: The runner's command, to which the folders are appended; `RUNNER` when absent.
        environment: Variables for the runner, beside those of this process.

    Returns:
        The first folder and the new process.

    Raises:
        RunFolderError: If a runner holds a folder, one on another host may hold it, or it cannot be written to.
    """
    for run in (folder, *others):
        held = run.is_held()
        if held is None:
            raise RunFolderError(f"{run.name}: its runner was started on {_host(run)}. Resume it there, or after that runner has ended.")
        if held:
            raise RunFolderError(f"{run.name}: the run is going on. Watch it with `eos watch {run_folder.reference(run)}`.")
    for other in others:
        with _output(other) as output:
            output.write(f"Trains in one process with {folder.name}, whose {folder.output.name} has what that prints.\n".encode())
    return _spawn(folder, *others, command=command, environment=environment)


def wait_started(launched: Launched, *, seconds: float = START_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
    """Wait until the runner holds its folder, so that a death on the first lines does not go unnoticed.

    Args:
        launched: The run.
        seconds: How long to wait; a runner that is slower than this is taken to be starting still.
        clock: Seconds, never going back.

    Raises:
        EosError: If the process ended without having held the folder; with the end of its output.
    """
    deadline = clock() + seconds
    while not launched.folder.is_held() and clock() < deadline:
        status = launched.process.poll()
        if status is not None:
            if launched.folder.log.exists():
                return
            raise EosError(death(launched.folder, status))
        time.sleep(POLL_SECONDS)


def death(folder: RunFolder, status: int | None = None) -> str:
    """What is to be said of a runner that ended without a word in its log: how, the end of its output, what to do.

    Args:
        folder: The run.
        status: The process's exit status, when known; minus a signal's number when a signal ended it.

    Returns:
        Several lines.
    """
    how = "" if status is None else f" ({exit_words(status)})"
    resume = way_on(folder)
    tail = last_lines(folder.output)
    if not tail:
        return f"{folder.name}: the runner died{how} and printed nothing. {resume}"
    return "\n".join([f"{folder.name}: the runner died{how}. {resume} The end of {folder.output}:", *tail])


def way_on(folder: RunFolder) -> str:
    """How a run that came to no end goes on."""
    has_checkpoint = folder.checkpoints.is_dir() and any(folder.checkpoints.iterdir())
    goes_on = "continues it from its last checkpoint" if has_checkpoint else "starts it again; it had no checkpoint yet"
    return f"`eos resume {run_folder.reference(folder)}` {goes_on}."


def exit_words(status: int) -> str:
    """How a process ended, given its exit status; minus a signal's number when a signal ended it."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"ended by signal {-status}"


def kill(folder: RunFolder, number: signal.Signals = signal.SIGKILL) -> None:
    """End the runner at once: no checkpoint, no `end` in the log. Or send it another signal.

    Args:
        folder: The run.
        number: With SIGTERM it takes a checkpoint first.

    Raises:
        RunFolderError: If no runner of this host holds the folder, or it is another user's.
    """
    holder = folder.holder()
    if holder is None or holder.host != socket.gethostname() or not folder.is_held():
        raise RunFolderError(f"{folder.name}: no runner on this host ({socket.gethostname()}) holds it; the last was on {_host(folder)}.")
    try:
        os.kill(holder.pid, number)
    except PermissionError as error:
        raise RunFolderError(f"{folder.name}: process {holder.pid} is another user's, and cannot be ended.") from error


def _spawn(folder: RunFolder, *others: RunFolder, command: Sequence[str] | None, environment: Mapping[str, str] | None) -> Launched:
    with _output(folder) as output:
        process = subprocess.Popen(
            [*(command or RUNNER), *(str(run.path.resolve()) for run in (folder, *others))],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **(environment or {}), "PYTHONUNBUFFERED": "1"},
        )
    # Collects the exit status while nobody looks, so that a dead runner is not left as a zombie.
    threading.Thread(target=process.wait, name="runner-reaper", daemon=True).start()
    return Launched(folder, process)


def _output(folder: RunFolder) -> BinaryIO:
    """The file that a runner prints to, at its end."""
    try:
        return folder.output.open("ab")
    except OSError as error:
        raise RunFolderError(f"{folder.path}: no runner can write to this folder ({error.strerror}).") from error


def _host(folder: RunFolder) -> str:
    holder = folder.holder()
    return holder.host if holder else "no host known"
