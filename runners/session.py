"""One sitting of a runner process in its run folder: measure, record, update, until the end, a stop or a failure.

Knows nothing of what runs: a `Runner` computes and hands over records, the session gives them the time, writes them,
takes checkpoints, and answers requests and signals.
"""

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from runners.control import Requests, Signals
from runners.crossings import Crossings
from runners.log_writer import LogWriter
from runners.records import AnyMeasurement, AnyRecord, EndRecord, EventRecord, Header
from runners.run_folder import RunFolder

if TYPE_CHECKING:
    from runners.checkpoint import Checkpoints, Progress

PAUSE_POLL_SECONDS = 0.1

Clock = Callable[[], float]
"""Seconds since the run began, compiled and ready, with pauses left out."""


@runtime_checkable
class Runner(Protocol):
    """What a kind of experiment has to provide."""

    step: int
    """Updates applied."""
    steps: int
    """Updates asked for."""
    checkpoint_every: int
    """Updates between checkpoints; 0 takes one at the end only."""
    first_loss: float | None
    """Loss at step 0; what divergence is judged by."""
    diverged: str | None
    """Why the run cannot go on, once that is so."""

    def header(self, run: str) -> Header:
        """The log's first line."""

    def measure(self, clock: Clock) -> Iterable[AnyRecord]:
        """Records of what is due at the present step; nothing when called again, or when the run has diverged."""

    def advance(self, clock: Clock) -> Iterable[AnyRecord]:
        """Apply some updates, at most to the next measurement, and give their records."""

    def state(self) -> Any:
        """Pytree of arrays: with the step, all that decides how the run goes on."""

    def restore(self, state: Any, *, step: int, first_loss: float | None) -> None:
        """Go on from a state, at a step whose measurements are done."""


class RunClock:
    """Seconds since the first step over all sittings, with pauses left out."""

    def __init__(self, start: float = 0.0, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._origin: float | None = None
        self._start = start

    def __call__(self) -> float:
        """Run time; the start's value until `begin`."""
        return self._start if self._origin is None else self._start + self._now() - self._origin

    def begin(self) -> None:
        """Let it run, if it does not yet."""
        if self._origin is None:
            self._origin = self._now()

    def hold(self) -> None:
        """Stop at the present value until `begin`."""
        self._start, self._origin = self(), None


class Session:
    """Drives one runner in one folder."""

    def __init__(self, runner: Runner, folder: RunFolder, *, log: LogWriter, signals: Signals, requests: Requests) -> None:
        self.runner = runner
        self.is_paused = False
        self._folder = folder
        self._log = log
        self._signals = signals
        self._requests = requests
        self._clock = RunClock()
        self._measure_seconds = 0.0
        self._checkpoints: Checkpoints | None = None
        self._saved_step: int | None = None
        self._crossings = Crossings(())

    def start(self) -> None:
        """Begin at step 0 with the header."""
        header = self.runner.header(self._folder.name)
        self._crossings = Crossings(header.panels)
        self._log.write(header)

    def resume(self, checkpoints: "Checkpoints", progress: "Progress", state: Any) -> None:
        """Go on from a checkpoint; the log has been cut to where it was then."""
        self.runner.restore(state, step=progress.step, first_loss=progress.first_loss)
        self._clock = RunClock(progress.time)
        self._measure_seconds = progress.measure_seconds
        self._checkpoints, self._saved_step = checkpoints, progress.step
        self._crossings = Crossings(self.runner.header(self._folder.name).panels, progress.past)
        self.event("resumed", f"Resumed from the checkpoint at step {progress.step}.")

    def run(self) -> EndRecord:
        """Go on until the last step, a stop, or divergence; the last record, which has been written."""
        while (end := self.due()) is None:
            if self.is_paused:
                time.sleep(PAUSE_POLL_SECONDS)
            else:
                self.advance()
        return end

    def due(self) -> EndRecord | None:
        """Do all that the present step asks for but its updates: measure, take a checkpoint, answer requests.

        Returns:
            The last record, written, where the run ends here. A run that is paused has nothing to do but this, again and again.
        """
        if not self.is_paused:
            self._clock.begin()
        self._write(self.runner.measure(self._clock))
        if self.runner.diverged:
            return self._diverged(self.runner.diverged)
        if self.runner.step >= self.runner.steps:
            self._save()
            return self.end("finished", f"All {self.runner.steps} steps are done.")
        if self._is_checkpoint_due():
            self._save()
        if reason := self._stop_reason():
            self._save()
            return self.end("stopped", reason)
        return None

    def advance(self) -> None:
        """Apply some updates, and write their records."""
        self._write(self.runner.advance(self._clock))

    def event(self, name: str, message: str, **data: Any) -> None:
        """Write an event at the present step."""
        self._log.write(EventRecord(step=self.runner.step, time=self._clock(), event=name, message=message, data=data))

    def end(self, status: Literal["finished", "stopped", "diverged", "failed"], reason: str) -> EndRecord:
        """Write the last record."""
        end = EndRecord(
            step=self.runner.step,
            time=self._clock(),
            status=status,
            reason=reason,
            steps=self.runner.step,
            wall_seconds=self._clock(),
            measure_seconds=self._measure_seconds,
        )
        self._log.write(end)
        self._log.sync()
        return end

    def _diverged(self, reason: str) -> EndRecord:
        self.event("diverged", reason)
        return self.end("diverged", reason)

    def _write(self, records: Iterable[AnyRecord]) -> None:
        for record in records:
            if isinstance(record, AnyMeasurement):
                self._measure_seconds += record.seconds
            self._log.write(record)
            for event in self._crossings.crossed(record):
                self._log.write(event)

    def _is_checkpoint_due(self) -> bool:
        every = self.runner.checkpoint_every
        return every > 0 and self.runner.step > 0 and self.runner.step % every == 0

    def _save(self) -> None:
        if self._saved_step == self.runner.step:
            return
        # Orbax takes 0.2 s to import: not before the first step.
        from runners.checkpoint import Checkpoints, Progress

        if self._checkpoints is None:
            self._checkpoints = Checkpoints(self._folder.checkpoints)
        progress = Progress(
            step=self.runner.step,
            time=self._clock(),
            measure_seconds=self._measure_seconds,
            first_loss=self.runner.first_loss,
            log_bytes=self._log.sync(),
            past=self._crossings.past,
        )
        self._checkpoints.save(progress, self.runner.state())
        self._saved_step = self.runner.step
        self.event("checkpoint", f"Checkpoint at step {self.runner.step}.")

    def _stop_reason(self) -> str | None:
        """Why to stop, if asked to; notes whether the run is to be paused."""
        if self._signals.received is not None:
            return f"Received {self._signals.received.name}."
        for request in self._requests.poll():
            if request.request == "stop":
                return "Asked to stop."
            if self.is_paused != (request.request == "pause"):
                self._pause_or_go_on()
        return None

    def _pause_or_go_on(self) -> None:
        self.is_paused = not self.is_paused
        if self.is_paused:
            self._clock.hold()
            self.event("paused", "Paused on request.")
        else:
            self.event("unpaused", "Goes on.")
            self._clock.begin()
