"""A run in the care of this process: its folder, held, its log, and its session from the opening to the end.

Whatever happens on the way is written into the log as the run's end. Called by the runner process alone.
"""

import sys
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Literal, TypeAlias

from runners import environment, log_writer
from runners.control import Requests, Signals
from runners.errors import CheckpointError, EosError
from runners.experiments import Spec
from runners.log_writer import LogWriter
from runners.records import EndRecord
from runners.run_folder import RunFolder

if TYPE_CHECKING:
    from runners.checkpoint import Progress
    from runners.session import Runner, Session

Build: TypeAlias = Callable[..., "Runner"]
"""(spec, fresh=...) -> its runner."""
Status: TypeAlias = Literal["finished", "stopped", "diverged", "failed"]


class Sitting:
    """Holds a run's folder until the run is over."""

    def __init__(self, folder: RunFolder, spec: Spec, signals: Signals) -> None:
        """Hold the folder.

        Raises:
            RunFolderError: If another runner does.
        """
        self.folder = folder
        self.status: Status | None = None
        """How the run ended; None until then."""
        self.session: Session | None = None
        self._spec = spec
        self._signals = signals
        self._held = ExitStack()
        self._held.enter_context(folder.held())

    @property
    def is_paused(self) -> bool:
        """Whether the run waits for a request to go on."""
        return self.session is not None and self.session.is_paused

    def open(self, build: Build | None = None) -> None:
        """Begin, or go on from a checkpoint; the run is over where that fails.

        Args:
            build: Makes the run's runner; that of its kind when absent.
        """
        fresh = not self.folder.log.exists()
        requests = Requests(self.folder.control, from_start=fresh)
        self._log = LogWriter(self.folder.log)
        self._held.callback(self._log.close)
        try:
            with environment.without_garbage_collection():
                environment.prepare(self._spec.run.precision)
                _keep_programs()
                self.session = open_session(
                    self.folder, self._spec, log=self._log, signals=self._signals, requests=requests, fresh=fresh, build=build
                )
        except Exception as error:
            self.fail(error)

    def go_on(self, part: "Callable[[Session], EndRecord | None]") -> None:
        """Let the session do a part of its work; the run is over where that gives its last record, or fails."""
        assert self.session is not None
        try:
            end = part(self.session)
        except Exception as error:
            self.fail(error)
            return
        if end is not None:
            self._end(end.status)

    def fail(self, error: Exception) -> None:
        """End the run with what went wrong."""
        traceback.print_exception(error, file=sys.stderr)
        reason = str(error) if isinstance(error, EosError) else f"{type(error).__name__}: {error} (traceback in {self.folder.output.name})"
        if self.session:
            self.session.end("failed", reason)
        else:
            self._log.write(EndRecord(step=0, time=0.0, status="failed", reason=reason, steps=0, wall_seconds=0.0, measure_seconds=0.0))
        self._end("failed")

    def _end(self, status: Status) -> None:
        self.status = status
        self._held.close()


def _keep_programs() -> None:
    from runners import kept_programs

    kept_programs.keep_in(environment.compilation_cache() / "programs")


def open_session(
    folder: RunFolder, spec: Spec, *, log: LogWriter, signals: Signals, requests: Requests, fresh: bool, build: Build | None = None
) -> "Session":
    """A session at step 0, or at the newest checkpoint; of the spec's own runner when no other way to build one is given."""
    # jax and all that stands on it is imported here: what comes before answers at once.
    from runners import kinds
    from runners.session import Session

    runner = (build or kinds.build)(spec, fresh=fresh)
    session = Session(runner, folder, log=log, signals=signals, requests=requests)
    if fresh:
        _check_no_checkpoints(folder)
        session.start()
    else:
        _resume(session, folder, runner)
    return session


def _check_no_checkpoints(folder: RunFolder) -> None:
    if folder.checkpoints.is_dir() and any(folder.checkpoints.iterdir()):
        raise CheckpointError(
            f"{folder.log}: the log is gone, and there are checkpoints of the run. Copy the whole run folder again, or remove "
            f"{folder.checkpoints} to begin again at step 0."
        )


def _resume(session: "Session", folder: RunFolder, runner: "Runner") -> None:
    """Continue from the newest checkpoint, or begin again when there is none."""
    # 0.2 s of imports that a fresh start does without.
    from runners.checkpoint import Checkpoints

    checkpoints = Checkpoints(folder.checkpoints)
    saved = checkpoints.restore(runner.state())
    if saved:
        _cut(folder, saved[0])
        session.resume(checkpoints, *saved)
    else:
        log_writer.cut(folder.log, 0)
        session.start()
        session.event("resumed", "There was no checkpoint yet: begins again at step 0.")


def _cut(folder: RunFolder, progress: "Progress") -> None:
    try:
        log_writer.cut(folder.log, progress.log_bytes)
    except ValueError as error:
        raise CheckpointError(
            f"{folder.log}: the log ends before the newest checkpoint, that of step {progress.step:,}. Was it copied while it was being "
            f"written? Copy the whole run folder again, or remove {folder.checkpoints / str(progress.step)} to go on from an earlier one."
        ) from error
