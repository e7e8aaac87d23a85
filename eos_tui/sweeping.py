"""`python -m eos_tui.sweeping SWEEP_FOLDER JOBS`: the process that carries a sweep out. It needs the folder and nobody's terminal.

What it does it notes in the sweep's log. How each run stands it reads from the run's folder alone, so that whatever ended it, a new one
goes on: finished and diverged runs are passed over, stopped, crashed and failed ones go on from their checkpoints, once each, those whose
runners still live are waited for, and unreadable ones are left alone.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType

from eos_tui import launch, summary
from eos_tui.output import last_lines, printable
from eos_tui.scheduling import Begun, Ended, LocalPool, Queue, Scheduler
from eos_tui.snapshot import RunSnapshot, Status
from runners.errors import EosError, ExitCode, LogError, RunFolderError
from runners.run_folder import RunFolder, utc_now
from runners.sweeps import SCHEMA, BegunRecord, EndedRecord, SittingRecord, SweepEndRecord, SweepFolder

SWEEPER: tuple[str, ...] = (sys.executable, "-P", "-m", "eos_tui.sweeping")
"""The command that is given a sweep folder and the number of jobs."""
STOPPING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
POLL_SECONDS = 0.1
FINAL = (Status.FINISHED, Status.DIVERGED)
"""A run that ended so would end so again."""
UNREADABLE = "unreadable"
"""How a run stands whose log is no log, or whose folder is gone."""


AT_ONCE = signal.SIGQUIT
"""Ends the runs at once. A second SIGINT does so too, but of two that come close together the process may see only one."""


class Interrupts:
    """Counts the signals that ask to stop: the first ends the runs with a checkpoint, a second SIGINT or SIGQUIT at once."""

    def __init__(self) -> None:
        self.count = 0
        self._interrupts = 0

    def install(self) -> None:
        """Take them over, and ignore SIGHUP."""
        for number in (*STOPPING_SIGNALS, AT_ONCE):
            signal.signal(number, self._accept)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _accept(self, number: int, _frame: FrameType | None) -> None:
        self._interrupts += {signal.SIGINT: 1, AT_ONCE: 2}.get(signal.Signals(number), 0)
        self.count = max(1, self._interrupts)


def start(folder: SweepFolder, *, jobs: int) -> "subprocess.Popen[bytes]":
    """A process that carries the sweep out, in a session of its own, so that it outlives this one.

    Args:
        folder: The sweep.
        jobs: Runs at the same time.
    """
    with folder.output.open("ab") as output:
        return subprocess.Popen(
            [*SWEEPER, str(folder.path.resolve()), str(jobs)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )


def main(arguments: Sequence[str]) -> ExitCode:
    """Carry out the sweep that is named on the command line; the process's exit code."""
    interrupts = Interrupts()
    interrupts.install()
    folder = SweepFolder(Path(arguments[0]))
    try:
        with folder.held():
            return carry_out(folder, LocalPool(int(arguments[1])), interrupted=lambda: interrupts.count)
    except EosError as error:
        sys.stderr.write(f"sweep: {error}\n")
        return error.exit_code


def carry_out(
    folder: SweepFolder, scheduler: Scheduler, *, interrupted: Callable[[], int], sleep: Callable[[float], None] = time.sleep
) -> ExitCode:
    """See all runs of the sweep to their ends.

    Args:
        folder: The sweep; held by the caller.
        scheduler: Carries the runs out.
        interrupted: How often it was asked to stop: once ends the runs with a checkpoint, twice at once.
        sleep: Waits so many seconds between looks.

    Returns:
        DONE when all runs have finished or diverged, FAILED when some have not, INTERRUPTED when it was asked to stop.

    Raises:
        LogError: If the sweep's own files cannot be read.
    """
    runs = folder.runs()
    names = {record.run: record.job for record in folder.records()[0] if isinstance(record, BegunRecord)}
    stands = {run: stand(run)[0] for run in runs}
    todo = [run for run, status in stands.items() if status not in (*FINAL, UNREADABLE)]
    folder.write(
        SittingRecord(
            time=utc_now(),
            schema=SCHEMA,
            host=socket.gethostname(),
            pid=os.getpid(),
            jobs=scheduler.jobs,
            num_runs=len(runs),
            num_done=sum(status in FINAL for status in stands.values()),
        )
    )
    queue = Queue(folder.jobs(todo), scheduler, names=names)
    _note(folder, queue.adopt())
    told = 0
    while not queue.is_over:
        if interrupted() > told:
            told = interrupted()
            queue.cancel(now=told > 1)
        _note(folder, queue.turn())
        if not queue.is_over:
            sleep(POLL_SECONDS)
    counts = Counter(stand(run)[0] for run in runs)
    is_complete = set(counts) <= set(FINAL)
    if is_complete:
        folder.write(SweepEndRecord(time=utc_now(), status="complete", counts=dict(counts)))
        return ExitCode.DONE
    folder.write(SweepEndRecord(time=utc_now(), status="interrupted" if told else "incomplete", counts=dict(counts)))
    return ExitCode.INTERRUPTED if told else ExitCode.FAILED


def stand(run: RunFolder) -> tuple[str, RunSnapshot | None]:
    """How a run stands, and what its log says; None where that cannot be read."""
    try:
        seen = summary.look(run, now=time.time(), kinds=summary.ROW_KINDS)
    except (LogError, OSError):
        return UNREADABLE, None
    return seen.status, seen


def stop(folder: SweepFolder) -> None:
    """Ask the scheduler to stop: its runs take a checkpoint and end, and so does it.

    Raises:
        RunFolderError: If none on this host works at the sweep.
    """
    holder = folder.holder()
    if holder is None or not folder.is_held():
        where = f" The last was on {holder.host}." if holder else ""
        raise RunFolderError(f"{folder.name}: no scheduler on this host works at the sweep.{where} There is nothing to stop.")
    os.kill(holder.pid, signal.SIGTERM)


def _note(folder: SweepFolder, events: Iterator[Begun | Ended]) -> None:
    for event in events:
        if isinstance(event, Begun):
            folder.write(BegunRecord(time=utc_now(), run=event.folder.name, how=event.how, job=event.job.name))
        else:
            folder.write(_ended(event))


def _ended(event: Ended) -> EndedRecord:
    status, seen = stand(event.folder)
    # The scheduler says that nothing carries the run out: it is not starting any more, as it seems by its age alone.
    if status not in (*FINAL, Status.STOPPED, Status.FAILED, UNREADABLE):
        status = Status.CRASHED
    reason = event.problem
    if not reason and seen is not None and seen.end is not None:
        reason = printable(seen.end.reason)
    if not reason:
        how = "" if event.exited.code is None else f" ({launch.exit_words(event.exited.code)})"
        reason = " ".join([f"The runner died{how}.", *last_lines(event.folder.output, count=1)])
    return EndedRecord(time=utc_now(), run=event.folder.name, status=status, step=seen.step if seen else 0, reason=reason)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
