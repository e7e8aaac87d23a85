"""What the thread that reads the log tells the app, and what screens ask of it. Whole values only, no shared state."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from textual.message import Message

from eos_tui.decimate import Trace
from eos_tui.details import Paragraph
from eos_tui.series import Key
from eos_tui.snapshot import RunSnapshot
from runners.run_folder import RunFolder
from runners.sweeps import SweepFolder


class RunAdvanced(Message):
    """The run's files changed, or its status did."""

    def __init__(self, snapshot: RunSnapshot, *, output: tuple[str, ...] = ()) -> None:
        """Carry the run as it is now.

        Args:
            snapshot: Everything known of the run.
            output: The last lines that its process printed, when they explain how it ended.
        """
        super().__init__()
        self.snapshot = snapshot
        self.output = output


class DetailRead(Message):
    """A part of the run was read anew, for a chart that shows it alone."""

    def __init__(self, low: float, high: float, traces: Mapping[Key, Trace]) -> None:
        """Carry the series between two steps."""
        super().__init__()
        self.low = low
        self.high = high
        self.traces = traces


class DrawerRead(Message):
    """What the drawer shows was read, and is not what it was."""

    def __init__(self, source: Callable[[RunSnapshot], Sequence[Paragraph]], paragraphs: Sequence[Paragraph]) -> None:
        """Carry the paragraphs, and where they are from."""
        super().__init__()
        self.source = source
        self.paragraphs = paragraphs


class ReadingFailed(Message):
    """The run could not be read."""

    def __init__(self, error: Exception) -> None:
        """Carry the error: a `LogError` or `OSError` is the log's fault, anything else is our own."""
        super().__init__()
        self.error = error


class Opened(Message):
    """The user wants to see a run, a sweep, or the list of a folder's runs."""

    def __init__(self, folder: RunFolder | SweepFolder | Path) -> None:
        """Carry its folder."""
        super().__init__()
        self.folder = folder


class NewRunAsked(Message):
    """The user wants to make a run."""

    def __init__(self, runs: Path, source: RunFolder | None = None) -> None:
        """Carry where it goes, and the run whose spec it begins with."""
        super().__init__()
        self.runs = runs
        self.source = source
