"""The live view of a sweep: a cell for each point of its grid, the losses over the learning rate, what they say together, keys."""

import threading
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Footer

from eos_tui import keys, sweep_grid, sweeping
from eos_tui.messages import Opened, ReadingFailed
from eos_tui.output import one_line
from eos_tui.screens.confirm import ConfirmScreen
from eos_tui.screens.help import HelpScreen
from eos_tui.screens.home import Compared
from eos_tui.snapshot import Status
from eos_tui.strokes import RUN_TAGS
from eos_tui.sweep_grid import Cell, SweepStand
from eos_tui.sweep_watcher import SweepWatcher
from eos_tui.widgets.chart import Chart
from eos_tui.widgets.drawer import wrapped
from eos_tui.widgets.frugal import FrugalScreen
from eos_tui.widgets.panel import PanelTitle
from eos_tui.widgets.sweep_table import SweepTable, curves, head_rows, scale
from eos_tui.widgets.text_rows import Row, TextRows
from runners.errors import EosError
from runners.run_folder import RunFolder
from runners.sweeps import SweepFolder

POLL_SECONDS = 1.0
"""Time between two looks at the sweep's files."""
CHART_ROWS = 6
"""Rows of the chart with its frame below which it is left out."""
TOLD_SHARE = 4
"""The part of the rows that a notice, or the verdict, takes at most."""
TABLE_SHARE = 2
"""The part of the rows that the table takes beside a chart, at most."""
READING = """\
Each cell is a point of the grid: how its run stands, how far it is, and when it is done its loss, the mean over the last tenth of the
steps; of several seeds the mean of those that are done, and how many that are. * stands before the lowest of a row, > at the cursor.
The curves are the losses of the rows, with the rows' tags at their points; the lowest of each is a star with its column's value. A run
that diverged leaves a gap."""


def told_rows(lines: Sequence[str], width: int, height: int) -> Sequence[Row]:  # noqa: ARG001 - as many rows as there are
    """Sentences, broken between words."""
    return [[(row, "bold")] for line in lines for row in wrapped(one_line(line), max(width, 1))]


class SweepChanged(Message):
    """The sweep's files changed."""

    def __init__(self, stand: SweepStand) -> None:
        """Carry the sweep as it is now."""
        super().__init__()
        self.stand = stand


class SweepScreen(FrugalScreen[None]):
    """One sweep."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "app.detach", "leave", tooltip="Leave the viewer, or go back. The sweep goes on.", id="sweep.leave"),
        Binding(
            "enter", "open", "open", tooltip="Show the run under the cursor, of several seeds the first; Esc comes back.", id="sweep.open"
        ),
        Binding("c", "compare('row')", "compare", tooltip="Lay the runs of the row over each other, one a cell.", id="sweep.compare"),
        Binding("C", "compare('column')", show=False, tooltip="Lay the runs of the column over each other.", id="sweep.compare_column"),
        Binding("l", "list", "list", tooltip="The runs as a list, which sorts, filters, exports and more.", id="sweep.list"),
        Binding(
            "s",
            "stop",
            "stop",
            tooltip="Stop the sweep, after a question. Its runs write checkpoints, from which `eos sweep --continue` goes on.",
            id="sweep.stop",
        ),
        Binding("left", "move(0, -1)", show=False, tooltip="The cell to the left.", id="sweep.left"),
        Binding("right", "move(0, 1)", show=False, tooltip="The cell to the right.", id="sweep.right"),
        Binding("up,k", "move(-1, 0)", show=False, tooltip="The row above.", id="sweep.up"),
        Binding("down,j", "move(1, 0)", show=False, tooltip="The row below.", id="sweep.down"),
        Binding("pageup", "move(-10, 0)", show=False, tooltip="Ten rows up.", id="sweep.page_up"),
        Binding("pagedown", "move(10, 0)", show=False, tooltip="Ten rows down.", id="sweep.page_down"),
        Binding("home", "move(0, -1000000)", show=False, tooltip="The first column.", id="sweep.first"),
        Binding("end", "move(0, 1000000)", show=False, tooltip="The last column.", id="sweep.last"),
        Binding("question_mark", "help", "help", key_display="?", tooltip="This page.", id="sweep.help"),
    ]

    def __init__(
        self, folder: SweepFolder, *, sweep: str, poll_seconds: float, clock: Callable[[], float], ascii_only: bool = False
    ) -> None:
        """Show nothing yet; the sweep is first read once the screen stands.

        Args:
            folder: The sweep.
            sweep: How it is named on the command line.
            poll_seconds: Time between two looks at its files; 0 leaves the looking to `poll_now`.
            clock: Seconds since 1970.
            ascii_only: For terminals without Unicode.
        """
        super().__init__()
        self._folder = folder
        self._sweep = sweep
        self._poll_seconds = poll_seconds
        self._watcher = SweepWatcher(folder, clock=clock)
        self._stopped = threading.Event()
        self._stand: SweepStand | None = None
        self._at = (0, 0)
        self._said = ""
        """What the last key led to, until the next one."""
        self._head = TextRows(head_rows, id="sweep-head", ascii_only=ascii_only)
        self._notice = TextRows(told_rows, id="sweep-notice", ascii_only=ascii_only)
        self._table = SweepTable(ascii_only=ascii_only)
        self._reading = TextRows(self._reading_rows, id="sweep-cell", ascii_only=ascii_only)
        self._verdict = TextRows(told_rows, id="sweep-verdict", ascii_only=ascii_only)
        self._title = PanelTitle(ascii_only=ascii_only)
        self._chart = Chart(framed=True, ascii_only=ascii_only)
        self._panel = Vertical(self._title, self._chart, id="sweep-chart")

    def compose(self) -> ComposeResult:
        """From the top down."""
        yield self._head
        yield self._notice
        yield self._table
        yield self._reading
        yield self._verdict
        yield self._panel
        yield Footer(show_command_palette=False, compact=True)

    @property
    def farewell(self) -> str | None:
        """What to print when the viewer is left; None when nothing is known of the sweep."""
        if self._stand is None or self._stand.problem:
            return None
        done = sum(run.is_done for run in self._stand.runs)
        told = f"{one_line(self._folder.name)}: {done:,} of {len(self._stand.runs):,} runs are done."
        match self._stand.state:
            case "running":
                return f"{told} It goes on. Come back with `eos watch {self._sweep}`, stop it with `eos stop {self._sweep}`."
            case "complete":
                return f"{told} Look again with `eos watch {self._sweep}`."
            case _:
                return f"{told} `eos sweep --continue {self._sweep}` goes on."

    def on_mount(self) -> None:
        """Begin to look, after the first frame."""
        if self._poll_seconds:
            self.call_after_refresh(threading.Thread(target=self._follow, name="eos-sweep", daemon=True).start)

    def on_unmount(self) -> None:
        """Let the thread go."""
        self._stopped.set()

    def poll_now(self) -> None:
        """Look at the sweep's files once, at once, and read all that there is."""
        while (stand := self._watcher.poll(max_seconds=inf)) or self._watcher.is_behind:
            if stand is not None:
                self.post_message(SweepChanged(stand))

    def on_sweep_changed(self, message: SweepChanged) -> None:
        """Show the sweep as it is now."""
        before, self._stand = self._stand, message.stand
        if before is None or before.is_held != message.stand.is_held:
            self._said = ""
            self.refresh_bindings()
        self._draw()

    def on_reading_failed(self, message: ReadingFailed) -> None:
        """An error of our own ends the app with its traceback."""
        raise message.error

    def on_resize(self) -> None:
        """Fit everything to the new size."""
        self._fit()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's signature
        """Whether a key does something: a sweep at which nobody works cannot be stopped."""
        return action != "stop" or (self._stand is not None and self._stand.is_held is not False)

    def action_move(self, rows: int, columns: int) -> None:
        """Move the cursor."""
        self._said = ""
        if self._stand and self._stand.runs:
            grid = self._stand.grid
            row, column = self._at[0] + rows, self._at[1] + columns
            self._at = (min(max(row, 0), len(grid.rows) - 1), min(max(column, 0), len(grid.columns) - 1))
        self._draw()

    def action_open(self) -> None:
        """Show the run under the cursor."""
        if (cell := self._cell) and cell.runs:
            self.app.post_message(Opened(self._run(cell)))

    def action_compare(self, which: str) -> None:
        """Show the runs of a row or a column beside each other."""
        if not self._stand or not self._stand.runs:
            return
        rows, (row, column) = self._stand.grid.rows, self._at
        cells = rows[row].cells if which == "row" else [each.cells[column] for each in rows]
        begun = [self._run(cell) for cell in cells if cell.runs and cell.runs[0].status not in (Status.WAITING, "unreadable")]
        if len(begun) < 2:
            self._say(f"Nothing to compare: fewer than two runs of this {which} have begun.")
        else:
            self.app.post_message(Compared(begun[: len(RUN_TAGS)]))

    def action_list(self) -> None:
        """Show the runs as a list."""
        self.app.post_message(Opened(self._folder.path))

    def action_stop(self) -> None:
        """Stop the sweep if the user means it."""
        question = ConfirmScreen(
            f"Stop {self._folder.name}?",
            consequence=f"Its runs write checkpoints and end. `eos sweep --continue {self._sweep}` goes on from there.",
            yes="stop the sweep",
            no="let it run",
        )
        self.app.push_screen(question, lambda sure: self._stop() if sure else None)

    def action_help(self) -> None:
        """Explain keys and screen."""
        self.app.push_screen(HelpScreen(self, keys.bindings_of(type(self)), reading=READING))

    @property
    def _cell(self) -> Cell | None:
        """What is under the cursor."""
        return self._stand.grid.rows[self._at[0]].cells[self._at[1]] if self._stand and self._stand.runs else None

    def _run(self, cell: Cell) -> RunFolder:
        return RunFolder(self._folder.path / cell.runs[0].run)

    def _stop(self) -> None:
        try:
            sweeping.stop(self._folder)
        except (OSError, EosError) as error:
            self._say(str(error))
        else:
            self._say("Asked to stop; each run answers after its present chunk of steps, and writes a checkpoint.")

    def _say(self, words: str) -> None:
        self._said = words
        self._draw()

    def _follow(self) -> None:
        while not self._stopped.is_set():
            try:
                stand = self._watcher.poll()
            except Exception as error:
                self.post_message(ReadingFailed(error))
                return
            if stand is not None:
                self.post_message(SweepChanged(stand))
            self._stopped.wait(0 if self._watcher.is_behind else self._poll_seconds)

    def _draw(self) -> None:
        """Show the sweep as it stands."""
        stand = self._stand
        if stand is None:
            return
        self._head.show(stand)
        if stand.runs:
            self._table.show_grid(stand.grid, self._at)
            self._chart.show_drawn(partial(curves, stand.grid, self._at[0]))
            over = f" over {stand.grid.name}" if stand.grid.across else ""
            self._title.show(
                {"name": (f"loss at the end{over}", "name"), "scale": (" (log)" if scale(stand.grid) == "log" else "", "note")}
            )
            self._reading.show(stand)
        self._fit()

    def _reading_rows(self, stand: SweepStand, width: int, height: int) -> list[Row]:  # noqa: ARG002 - one row, cut where needed
        return [[(sweep_grid.cell_words(stand.grid, *self._at), "")]]

    def _notices(self, stand: SweepStand) -> list[str]:
        """What is to be known first."""
        return [words for words in (stand.problem, self._said or self._advice(stand)) if words]

    def _advice(self, stand: SweepStand) -> str:
        if stand.state != "stopped" or not stand.runs:
            return ""
        is_live = "running" in stand.counts
        return f"No scheduler works at it{'; what it had begun goes on' if is_live else ''}. `eos sweep --continue {self._sweep}` goes on."

    def _fit(self) -> None:
        """Give the table the rows that it needs, and the chart what is left, where that is enough for one."""
        stand, (width, height) = self._stand, self.size
        if stand is None:
            return
        rows = [len(head_rows(stand, width - 2, 2))]
        self._head.styles.height = rows[0]
        for place, lines in ((self._notice, self._notices(stand)), (self._verdict, stand.verdicts)):
            rows.append(min(len(told_rows(lines, width - 2, height)), max(height // TOLD_SHARE, 1)))
            place.display = rows[-1] > 0
            place.styles.height = rows[-1]
            place.show(lines)
        if not stand.runs:
            return
        room = height - sum(rows) - 2
        wanted = min(1 + len(stand.grid.rows), max(room // TABLE_SHARE, 3))
        self._panel.display = room - wanted >= CHART_ROWS
        self._table.styles.height = wanted if self._panel.display else max(room, 1)
