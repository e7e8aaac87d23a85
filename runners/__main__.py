"""`python -m runners RUN_FOLDER`: the runner process. Runs what the folder's spec asks for, or goes on where it stopped.

Started by the viewer, a job script or a scheduler; needs nothing but the folder. Writes to the folder alone: records to
the log, everything else (prints, warnings, tracebacks) to stdout and stderr, which whoever starts it sends to
`output.txt`.
"""

import os
import sys
import traceback
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runners import environment, log_writer, spec_file
from runners.control import Requests, Signals
from runners.errors import CheckpointError, EosError, ExitCode, RunFolderError
from runners.experiments import Spec
from runners.log_writer import LogWriter
from runners.records import EndRecord
from runners.run_folder import RunFolder

if TYPE_CHECKING:
    from runners.session import Runner, Session

EXIT_CODES = {"finished": ExitCode.DONE, "stopped": ExitCode.DONE, "diverged": ExitCode.FAILED, "failed": ExitCode.FAILED}


def main(arguments: list[str]) -> ExitCode:
    """Run the folder named on the command line to its end; the process's exit code."""
    if len(arguments) != 1:
        return _complain("usage: python -m runners RUN_FOLDER", ExitCode.USAGE)
    folder = RunFolder(Path(arguments[0]))
    signals = Signals()
    signals.install()
    sys.path.append(os.getcwd())
    try:
        spec = _read_spec(folder)
        with folder.held():
            status = _run(folder, spec, signals)
    except EosError as error:
        return _complain(str(error), error.exit_code)
    if status == "stopped" and signals.received is not None:
        return ExitCode.INTERRUPTED
    return EXIT_CODES[status]


def _read_spec(folder: RunFolder) -> Spec:
    try:
        return spec_file.from_json(folder.spec.read_bytes())
    except FileNotFoundError as error:
        raise RunFolderError(f"{folder.path}: no run folder, for it has no spec.json. `eos run` makes one.") from error


def _run(folder: RunFolder, spec: Spec, signals: Signals) -> str:
    """Run under the folder's lock, and leave an `end` record whatever happens; the run's status."""
    fresh = not folder.log.exists()
    requests = Requests(folder.control, from_start=fresh)
    session = None
    with closing(LogWriter(folder.log)) as log:
        try:
            with environment.without_garbage_collection():
                environment.prepare(spec.run.precision)
                _keep_programs()
                session = open_session(folder, spec, log=log, signals=signals, requests=requests, fresh=fresh)
            return session.run().status
        except Exception as error:
            traceback.print_exc()
            reason = str(error) if isinstance(error, EosError) else f"{type(error).__name__}: {error} (traceback in {folder.output.name})"
            (session.end if session else partial(_end, log))("failed", reason)
            return "failed"


def _keep_programs() -> None:
    from runners import kept_programs

    kept_programs.keep_in(environment.compilation_cache() / "programs")


def open_session(folder: RunFolder, spec: Spec, *, log: LogWriter, signals: Signals, requests: Requests, fresh: bool) -> "Session":
    """A session at step 0, or at the newest checkpoint."""
    # jax and all that stands on it is imported here: what comes before answers at once.
    from runners import kinds
    from runners.session import Session

    runner = kinds.build(spec, fresh=fresh)
    session = Session(runner, folder, log=log, signals=signals, requests=requests)
    if fresh:
        session.start()
    else:
        _go_on(session, folder, runner)
    return session


def _go_on(session: "Session", folder: RunFolder, runner: "Runner") -> None:
    """Continue from the newest checkpoint, or begin again when there is none."""
    # 0.2 s of imports that a fresh start does without.
    from runners.checkpoint import Checkpoints

    checkpoints = Checkpoints(folder.checkpoints)
    saved = checkpoints.restore(runner.state())
    if saved:
        _cut(folder, saved[0].log_bytes)
        session.resume(checkpoints, *saved)
    else:
        log_writer.cut(folder.log, 0)
        session.start()
        session.event("resumed", "There was no checkpoint yet: begins again at step 0.")


def _cut(folder: RunFolder, length: int) -> None:
    try:
        log_writer.cut(folder.log, length)
    except ValueError as error:
        raise CheckpointError(
            f"{folder.log}: the log ends before the newest checkpoint ({error}). Was it copied while it was being written? "
            f"Copy the whole run folder again."
        ) from error


def _end(log: LogWriter, status: Literal["failed"], reason: str) -> None:
    """The end of a run that did not come to its first step."""
    log.write(EndRecord(step=0, time=0.0, status=status, reason=reason, steps=0, wall_seconds=0.0, measure_seconds=0.0))


def _complain(message: str, code: ExitCode) -> ExitCode:
    sys.stderr.write(f"runners: {message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
