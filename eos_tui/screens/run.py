"""The live view of one run: header, edges, panels, events, keys. Draws the snapshots that its follower reads."""

import math
import time
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, VerticalScroll
from textual.widgets import Footer, Static

from eos_tui.follower import Follower
from eos_tui.messages import ReadingFailed, RunAdvanced
from eos_tui.screens.confirm import ConfirmScreen
from eos_tui.screens.help import HelpScreen
from eos_tui.snapshot import RunSnapshot, Status
from eos_tui.widgets.event_line import edge_rows, event_rows, panel_rows
from eos_tui.widgets.frugal import FrugalScreen
from eos_tui.widgets.panel import PanelView
from eos_tui.widgets.run_header import header_rows
from eos_tui.widgets.text_rows import TextRows
from eos_tui.widgets.words import ENDED, ending
from runners.errors import LogError
from runners.records import Panel
from runners.run_folder import RunFolder

ANSWERS = {
    "stop": "Asked to stop; the run answers after its present chunk of steps, and writes a checkpoint.",
    "pause": "Asked to pause; the run answers after its present chunk of steps.",
    "unpause": "Asked to go on.",
}
POLL_SECONDS = 0.5
"""Time between two looks at a run's files."""
WIDE = 100
"""Columns from which two panels stand side by side."""
MIN_PANEL_ROWS = 5
"""Below this a chart says nothing; the panels are scrolled instead."""


class RunScreen(FrugalScreen[None]):
    """One run."""

    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (WIDE, "-wide")]  # noqa: RUF012 - as Textual declares it
    VERTICAL_BREAKPOINTS = [(0, "-low"), (15, "-high")]  # noqa: RUF012 - as Textual declares it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "app.detach", "detach", tooltip="Leave the viewer. The run goes on; `eos watch` comes back. Ctrl-C does the same."),
        Binding("s", "stop", "stop", tooltip="Stop the run, after a question. It writes a checkpoint, from which `eos resume` goes on."),
        Binding("space", "pause", "pause", tooltip="Pause the run, or let it go on."),
        Binding("l", "toggle_scale", "log", tooltip="Logarithmic or linear axis, in all panels."),
        Binding("question_mark", "help", "help", key_display="?", tooltip="This page."),
    ]

    def __init__(
        self,
        folder: RunFolder,
        *,
        run: str,
        poll_seconds: float = POLL_SECONDS,
        clock: Callable[[], float] = time.time,
        ascii_only: bool = False,
    ) -> None:
        """Show nothing yet; the run is first read once the screen stands.

        Args:
            folder: The run.
            run: How it is named on the command line.
            poll_seconds: Time between two looks at its files; 0 leaves the looking to `poll_now`.
            clock: Seconds since the epoch.
            ascii_only: For terminals without Unicode.
        """
        super().__init__()
        self._folder = folder
        self._run = run
        self._poll_seconds = poll_seconds
        self._follower = Follower(folder, self.post_message, clock=clock)
        self._ascii_only = ascii_only
        # Kept rather than looked up: a snapshot may still be on its way to the screen while the app takes it down.
        self._message = Static(id="notice", markup=False)
        self._panels = Container(id="panels")
        self._lines = TextRows(panel_rows, id="lines", ascii_only=ascii_only)
        self._snapshot: RunSnapshot | None = None
        self._output: tuple[str, ...] = ()
        self._error = ""
        self._asked: tuple[str, Status] | None = None

    def compose(self) -> ComposeResult:
        """From the top down."""
        yield TextRows(header_rows, id="header", ascii_only=self._ascii_only)
        yield TextRows(edge_rows, id="edges", ascii_only=self._ascii_only)
        yield self._message
        with VerticalScroll(id="body"):
            yield self._panels
        yield self._lines
        yield TextRows(event_rows, id="events", ascii_only=self._ascii_only)
        yield Footer(show_command_palette=False, compact=True)

    @property
    def snapshot(self) -> RunSnapshot | None:
        """The run as it is shown; None before it was first read."""
        return self._snapshot

    def on_mount(self) -> None:
        """Begin to follow the run, after the first frame."""
        if self._poll_seconds:
            self.call_after_refresh(self._follower.start, self._poll_seconds)

    def on_unmount(self) -> None:
        """Let the follower go."""
        self._follower.stop()

    def poll_now(self) -> None:
        """Look at the run's files once, at once, and post what changed."""
        if message := self._follower.look():
            self.post_message(message)

    async def on_run_advanced(self, message: RunAdvanced) -> None:
        """Show the run as it is now."""
        await self.show(message.snapshot, output=message.output)
        self._follower.shown()

    def on_reading_failed(self, message: ReadingFailed) -> None:
        """Show why the log cannot be read; any other error is our own and ends the app with its traceback."""
        if not isinstance(message.error, (LogError, OSError)):
            raise message.error
        self.show_error(str(message.error))
        self._follower.shown()

    async def show(self, snapshot: RunSnapshot, *, output: tuple[str, ...] = ()) -> None:
        """Draw this state of the run.

        Args:
            snapshot: The run.
            output: What its process printed last, when that explains its end.
        """
        before, self._snapshot = self._snapshot, snapshot
        self._output, self._error = output, ""
        if self._asked and self._asked[1] is not snapshot.status:
            self._asked = None
        await self._set_panels(snapshot.header.panels if snapshot.header else ())
        for rows in self.query(TextRows):
            rows.show(snapshot)
        for view in self.query(PanelView):
            view.show(snapshot)
        self._show_notice()
        if before is None or before.status is not snapshot.status:
            self.refresh_bindings()

    def show_error(self, error: str) -> None:
        """Say why the run cannot be read; what was read before stays on the screen."""
        self._error = error
        self._show_notice()

    def on_resize(self) -> None:
        """Fit panels and notice to the new size."""
        self._fit_panels()
        self._show_notice()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's signature
        """Whether a key does something: a run that has ended can be neither stopped nor paused."""
        return action not in ("stop", "pause") or (self._snapshot is not None and self._snapshot.status not in ENDED)

    def action_stop(self) -> None:
        """Stop the run if the user means it."""
        question = ConfirmScreen(
            f"Stop {self._folder.name}?",
            consequence=f"It writes a checkpoint and ends. `eos resume {self._run}` goes on from there.",
            yes="stop the run",
            no="let it run",
        )
        self.app.push_screen(question, lambda sure: self._ask("stop") if sure else None)

    def action_pause(self) -> None:
        """Pause the run, or let it go on."""
        self._ask("unpause" if self._snapshot and self._snapshot.status is Status.PAUSED else "pause")

    def action_toggle_scale(self) -> None:
        """Switch all panels between a logarithmic and a linear axis."""
        for view in self.query(PanelView):
            view.toggle_scale()

    def action_help(self) -> None:
        """Explain keys and screen."""
        self.app.push_screen(HelpScreen(binding for binding in self.BINDINGS if isinstance(binding, Binding)))

    def _ask(self, request: Literal["stop", "pause", "unpause"]) -> None:
        if self._snapshot is None or self._snapshot.status in ENDED:
            return
        try:
            self._folder.request(request)
        except OSError as error:
            self.show_error(f"{self._folder.control}: the request cannot be written ({error.strerror}).")
            return
        self._asked = (request, self._snapshot.status)
        self._show_notice()

    async def _set_panels(self, panels: Sequence[Panel]) -> None:
        if [view.panel for view in self.query(PanelView)] == list(panels):
            return
        await self._panels.remove_children()
        views = [PanelView(panel, ascii_only=self._ascii_only) for panel in panels]
        if len(views) % 2:
            views[-1].add_class("alone")
        await self._panels.mount_all(views)
        self._lines.styles.height = len(views)
        self._fit_panels()

    def _fit_panels(self) -> None:
        count = len(self.query(PanelView))
        rows = math.ceil(count / 2) if self.size.width >= WIDE else count
        self._panels.styles.min_height = rows * MIN_PANEL_ROWS

    def _show_notice(self) -> None:
        text = self._notice()
        if text != str(self._message.content):
            self._message.update(text)
            self._message.display = bool(text)

    def _notice(self) -> str:
        if self._error:
            return self._error
        if self._asked:
            return ANSWERS[self._asked[0]]
        if self._snapshot is None:
            return ""
        room = max(1, self.size.height // 3)
        lines = [line[: max(0, self.size.width - 2)] for line in self._output[-room:]]
        return "\n".join([ending(self._snapshot, run=self._run), *lines]).strip()
