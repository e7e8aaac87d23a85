"""The live view of one run: header, edges, panels, events, keys. Draws the snapshots that its follower reads."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar, Literal

import msgspec
from rich.cells import cell_len, set_cell_size
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal
from textual.widget import Widget
from textual.widgets import Footer, Static

from eos_tui import arrangement, clocks, details, keys
from eos_tui.arrangement import Choice
from eos_tui.decimate import Trace
from eos_tui.follower import Follower, Source
from eos_tui.log_reader import LogReader
from eos_tui.memory import Memory
from eos_tui.messages import DetailRead, DrawerRead, NewRunAsked, ReadingFailed, RunAdvanced
from eos_tui.output import printable
from eos_tui.screens.confirm import ConfirmScreen
from eos_tui.screens.help import HelpScreen
from eos_tui.screens.panels import PanelsScreen
from eos_tui.series import Key
from eos_tui.snapshot import RunSnapshot, Status
from eos_tui.view import PAN, SMOOTHINGS, ZOOM, View, extents
from eos_tui.widgets.body import Body, Scrolled
from eos_tui.widgets.chart import Chart
from eos_tui.widgets.drawer import Drawer
from eos_tui.widgets.event_line import edge_rows, event_rows, panel_rows
from eos_tui.widgets.frugal import FrugalScreen
from eos_tui.widgets.panel import PanelView
from eos_tui.widgets.run_header import header_rows
from eos_tui.widgets.text_rows import Row, TextRows
from eos_tui.widgets.words import ENDED, ending, farewell
from runners.errors import LogError, RunFolderError
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
BESIDE = 140
"""Columns from which the drawer stands beside the panels; it takes their place on a narrower screen."""
DRAWER_CELLS = 60
"""Columns of a drawer that stands beside the panels."""


class RunScreen(FrugalScreen[None]):
    """One run."""

    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (WIDE, "-wide")]  # noqa: RUF012 - as Textual declares it
    VERTICAL_BREAKPOINTS = [(0, "-low"), (15, "-high")]  # noqa: RUF012 - as Textual declares it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding(
            "q",
            "app.detach",
            "detach",
            tooltip="Leave the viewer. The run goes on; `eos watch` comes back. Ctrl-C does the same.",
            id="run.leave",
        ),
        Binding(
            "s",
            "stop",
            "stop",
            tooltip="Stop the run, after a question. It writes a checkpoint, from which `eos resume` goes on.",
            id="run.stop",
        ),
        Binding("space", "pause", "pause", tooltip="Pause the run, or let it go on.", id="run.pause"),
        Binding(
            "l", "toggle_scale", "log", tooltip="Logarithmic or linear axis: of the panel with the focus, else of all.", id="run.scale"
        ),
        Binding(
            "left", "cursor(-1)", "read", tooltip="Read the values at a step: the cursor, one column to the left.", id="run.cursor_left"
        ),
        Binding("right", "cursor(1)", show=False, tooltip="The cursor, one column to the right.", id="run.cursor_right"),
        Binding(
            "less_than_sign",
            "cursor(-10)",
            show=False,
            key_display="<",
            tooltip="The cursor, ten columns to the left.",
            id="run.cursor_far_left",
        ),
        Binding(
            "greater_than_sign",
            "cursor(10)",
            show=False,
            key_display=">",
            tooltip="The cursor, ten columns to the right.",
            id="run.cursor_far_right",
        ),
        Binding("plus", "zoom(1)", "zoom", key_display="+", tooltip="Fewer steps, around the cursor or the run's end.", id="run.zoom_in"),
        Binding("minus", "zoom(-1)", show=False, key_display="-", tooltip="More steps.", id="run.zoom_out"),
        Binding("left_square_bracket", "pan(-1)", show=False, key_display="[", tooltip="Earlier steps.", id="run.pan_left"),
        Binding("right_square_bracket", "pan(1)", show=False, key_display="]", tooltip="Later steps.", id="run.pan_right"),
        Binding("0", "whole", show=False, tooltip="All steps.", id="run.whole"),
        Binding("f", "follow", show=False, tooltip="Follow the run's end, or stay where the window is.", id="run.follow"),
        Binding("x", "unit", show=False, tooltip="The axis: steps, run time, examples seen, lr x steps.", id="run.axis"),
        Binding(
            "m", "smooth", show=False, tooltip="A moving average over faint series; again for a longer one, then none.", id="run.smooth"
        ),
        Binding("tab", "app.focus_next", show=False, tooltip="The next panel.", id="run.next_panel"),
        Binding(
            "enter",
            "zoom_panel",
            "panel",
            tooltip="The panel with the focus, else the first, on the whole screen; again for all.",
            id="run.one_panel",
        ),
        Binding(
            "i",
            "drawer('details')",
            "details",
            id="run.details",
            tooltip="The run's spec, machine, files, what measuring cost; again to close.",
        ),
        Binding("t", "drawer('output')", show=False, id="run.output", tooltip="The last lines that its process printed; again to close."),
        Binding(
            "escape",
            "back",
            show=False,
            tooltip="Close details or output; else all panels again; else no cursor; else all steps; else back to the list or the sweep.",
            id="run.back",
        ),
        Binding("v", "panels", show=False, tooltip="Choose which panels are shown, and their order; it is remembered.", id="run.panels"),
        Binding("N", "again", show=False, id="run.again", tooltip="A new run from the spec of this one."),
        Binding("question_mark", "help", "help", key_display="?", tooltip="This page.", id="run.help"),
    ]

    def __init__(
        self,
        folder: RunFolder,
        *,
        run: str,
        poll_seconds: float = POLL_SECONDS,
        clock: Callable[[], float] = time.time,
        ascii_only: bool = False,
        memory: Memory | None = None,
        reader: LogReader | None = None,
    ) -> None:
        """Show nothing yet; the run is first read once the screen stands.

        Args:
            folder: The run.
            run: How it is named on the command line.
            poll_seconds: Time between two looks at its files; 0 leaves the looking to `poll_now`.
            clock: Seconds since the epoch.
            ascii_only: For terminals without Unicode.
            memory: How runs are shown, and what keeps it.
            reader: What reads its log; a reader of all that is written where None.
        """
        super().__init__()
        self._memory = memory or Memory()
        self._folder = folder
        self._run = run
        self._poll_seconds = poll_seconds
        self._follower = Follower(folder, self.post_message, clock=clock, reader=reader)
        self._ascii_only = ascii_only
        # Kept rather than looked up: a snapshot may still be on its way to the screen while the app takes it down.
        self._message = Static(id="notice", markup=False)
        self._panels = Container(id="panels")
        self._body = Body(self._panels)
        self._header = TextRows(self.header_rows, id="header", ascii_only=ascii_only)
        self._edges = TextRows(edge_rows, id="edges", ascii_only=ascii_only)
        self._lines = TextRows(self._panel_rows, id="lines", ascii_only=ascii_only)
        self._events = TextRows(event_rows, id="events", ascii_only=ascii_only)
        self._snapshot: RunSnapshot | None = None
        self._output: tuple[str, ...] = ()
        self._error = ""
        self._asked: tuple[str, Status] | None = None
        self._view = View(unit=self._memory.run.unit, smoothing=self._memory.run.smoothing)
        self._detail: DetailRead | None = None
        self._detail_asked: tuple[float, float] | None = None
        self._alone: PanelView | None = None
        self._drawer = Drawer(id="drawer", ascii_only=ascii_only)
        self._sources: dict[str, tuple[str, Source]] = {
            "details": (f"details of {folder.name}", partial(details.paragraphs, folder)),
            "output": (f"end of {folder.output.name}", lambda _: details.printed(folder)),
        }
        self._source: Source | None = None
        """What the drawer shows; None while it is closed."""
        self._focused: Widget | None = None
        """What had the focus before the drawer."""

    def compose(self) -> ComposeResult:
        """From the top down."""
        yield self._header
        yield self._edges
        yield self._message
        with Horizontal(id="middle"):
            yield self._body
            yield self._drawer
        yield self._lines
        yield self._events
        yield Footer(show_command_palette=False, compact=True)

    @property
    def run(self) -> str:
        """How the run is named on the command line."""
        return self._run

    @property
    def explained(self) -> list[Binding]:
        """The keys that the help tells of."""
        return list(keys.bindings_of(type(self), Scrolled))

    @property
    def snapshot(self) -> RunSnapshot | None:
        """The run as it is shown; None before it was first read."""
        return self._snapshot

    @property
    def farewell(self) -> str | None:
        """What to print when the viewer is left; None when nothing is known of the run."""
        return farewell(self._snapshot, run=self._run) if self._snapshot else None

    def on_mount(self) -> None:
        """Begin to follow the run, after the first frame."""
        if self._poll_seconds:
            self.call_after_refresh(self._follower.start, self._poll_seconds)

    def on_unmount(self) -> None:
        """Let the follower go."""
        self._follower.stop()

    def header_rows(self, snapshot: RunSnapshot, width: int, height: int) -> Sequence[Row]:
        """The top of the screen."""
        return header_rows(snapshot, width, height)

    def poll_now(self) -> None:
        """Look at the run's files once, at once, and post what changed."""
        for message in filter(None, (self._follower.look(), self._follower.beside())):
            self.post_message(message)

    def read_whole(self) -> None:
        """Show all that there is of the run.

        Raises:
            LogError: If the log is not one.
        """
        message: RunAdvanced | None = None
        while (found := self._follower.look()) or self._follower.is_behind:
            if isinstance(found, ReadingFailed):
                raise found.error
            message = found if isinstance(found, RunAdvanced) else message
        if message:
            self.post_message(message)

    async def on_run_advanced(self, message: RunAdvanced) -> None:
        """Show the run as it is now."""
        await self.show(message.snapshot, output=message.output)
        self._follower.shown()

    def on_detail_read(self, message: DetailRead) -> None:
        """Draw what was read anew of the steps in sight."""
        self._detail = message
        self._show_panels()
        self._follower.shown()

    def on_drawer_read(self, message: DrawerRead) -> None:
        """Show what was read for the drawer, if it is still that which it shows."""
        if message.source is self._source:
            self._drawer.show(message.paragraphs)
        self._follower.shown()

    def on_chart_pointed(self, message: Chart.Pointed) -> None:
        """Read the panels where the mouse is."""
        self._look(lambda view, snapshot: view.pointed(extents(snapshot), view.window(snapshot), message.share))

    def on_chart_zoomed(self, message: Chart.Zoomed) -> None:
        """Show fewer steps or more around where the mouse is."""
        factor = ZOOM**message.direction
        self._look(lambda view, run: view.zoomed(extents(run), factor, around=view.window(run).step(message.share)))

    def on_reading_failed(self, message: ReadingFailed) -> None:
        """Show why the log cannot be read; any other error is our own and ends the app with its traceback."""
        if not isinstance(message.error, (LogError, OSError)):
            raise message.error
        if isinstance(message.error, LogError) and self._snapshot is not None:
            self._header.show(replace(self._snapshot, status=Status.UNREADABLE, seconds_left=None))
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
        await self._set_panels(arrangement.arranged(snapshot.header.panels, self._memory.run) if snapshot.header else ())
        for rows in (self._header, self._edges, self._lines, self._events):
            rows.show(snapshot)
        self._view = self._view.followed(extents(snapshot))
        self._show_panels()
        self._show_notice()
        if before is None or before.status is not snapshot.status:
            self.refresh_bindings()

    def show_error(self, error: str) -> None:
        """Say why the run cannot be read; what was read before stays on the screen."""
        self._error = error
        self._show_notice()

    def on_resize(self) -> None:
        """Fit panels, drawer and notice to the new size."""
        self._fit_drawer()
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
        """Switch between a logarithmic and a linear axis: the panel with the focus, else all."""
        focused = [view for view in self._views if view.has_focus]
        for view in focused or self._views:
            view.toggle_scale()
        scales = {view.panel.title: view.scale for view in focused or self._views}
        self._memory.remember_run(scales={**self._memory.run.scales, **scales})

    def action_cursor(self, columns: int) -> None:
        """Move the cursor, or set it to the last step in sight."""
        widths = [view.content_size.width for view in self._views if view.display]
        width = max(widths, default=1)
        self._look(lambda view, snapshot: view.with_cursor(extents(snapshot), view.window(snapshot), columns=columns, width=width))

    def action_zoom(self, direction: int) -> None:
        """Show fewer steps, or more."""
        self._look(lambda view, snapshot: view.zoomed(extents(snapshot), ZOOM**direction))

    def action_pan(self, direction: int) -> None:
        """Show earlier steps, or later ones."""
        self._look(lambda view, snapshot: view.panned(extents(snapshot), direction * PAN))

    def action_whole(self) -> None:
        """Show all steps."""
        self._look(lambda view, _: replace(view, span=None, follows=True))

    def action_follow(self) -> None:
        """Follow the run's end, or stay."""
        self._look(lambda view, snapshot: replace(view, follows=not view.follows).followed(extents(snapshot)))

    def action_unit(self) -> None:
        """Draw on the next axis that the log knows."""

        def turned(view: View, snapshot: RunSnapshot) -> View:
            units = clocks.units(snapshot)
            return replace(view, unit=units[(units.index(view.unit) + 1) % len(units)] if view.unit in units else "steps")

        self._look(turned)

    def action_smooth(self) -> None:
        """Average over more steps, or none."""
        self._look(lambda view, _: replace(view, smoothing=next((share for share in SMOOTHINGS if share > view.smoothing), 0.0)))

    def action_zoom_panel(self) -> None:
        """Show one panel alone, or all again."""
        views = self._views
        focused = next((view for view in views if view.has_focus), views[0] if views else None)
        self._show_alone(None if self._alone else focused)

    def action_drawer(self, name: str) -> None:
        """Open the drawer with this, or close it if it shows that."""
        title, source = self._sources[name]
        if self._source is source:
            self._close_drawer()
            return
        if self._source is None:
            self._focused = self.focused
        self._source = source
        self._fit_drawer()
        self._drawer.open(title, at_end=name == "output")
        self._drawer.focus()
        self._follower.read_beside(source)

    def action_back(self) -> None:
        """Undo the last of: an open drawer, one panel alone, a cursor, a window; else go back to what the run was opened from."""
        if self._source:
            self._close_drawer()
        elif self._alone:
            self._show_alone(None)
        elif self._view.cursor is not None:
            self._look(lambda view, _: replace(view, cursor=None))
        elif self._view.span is not None or len(self.app.screen_stack) == 1:
            self.action_whole()
        else:
            self.app.pop_screen()

    def action_again(self) -> None:
        """Make a run from this one's spec."""
        self.app.post_message(NewRunAsked(self._folder.path.parent, self._folder))

    def action_panels(self) -> None:
        """Choose the panels."""
        if self._snapshot and self._snapshot.header and (panels := self._snapshot.header.panels):
            choices = arrangement.choices(panels, self._memory.run)
            self.app.push_screen(PanelsScreen(choices, titles=[panel.title for panel in panels]), self._arrange)

    def action_help(self) -> None:
        """Explain keys and screen."""
        self.app.push_screen(HelpScreen(self, self.explained))

    @property
    def _views(self) -> list[PanelView]:
        return [view for view in self._panels.children if isinstance(view, PanelView)]

    def _look(self, change: Callable[[View, RunSnapshot], View]) -> None:
        """Change what is shown of the run."""
        if self._snapshot is not None:
            self._view = change(self._view, self._snapshot)
            self._memory.remember_run(unit=self._view.unit, smoothing=self._view.smoothing)
            self._show_panels()

    async def _arrange(self, chosen: Sequence[Choice] | None) -> None:
        """Show these panels, in this order."""
        if chosen is not None and self._snapshot and self._snapshot.header:
            panels = self._snapshot.header.panels
            if tuple(chosen) != arrangement.choices(panels, self._memory.run):
                hidden, order = arrangement.remembered(self._memory.run, chosen)
                self._memory.remember_run(hidden=hidden, order=order)
            await self.show(self._snapshot, output=self._output)

    def _panel_rows(self, snapshot: RunSnapshot, width: int, height: int) -> Sequence[Row]:
        """The panels that are shown, as text."""
        if snapshot.header is None:
            return ()
        shown = tuple(arrangement.arranged(snapshot.header.panels, self._memory.run))
        return panel_rows(replace(snapshot, header=msgspec.structs.replace(snapshot.header, panels=shown)), width, height)

    def _show_panels(self) -> None:
        """Draw the panels; a part of a long run from what was read anew of it, once that is there."""
        if self._snapshot is None:
            return
        traces = None
        if span := self._view.span:
            traces, is_enough = close_up(self._snapshot, span, self._detail)
            if not is_enough:
                self._ask_for_detail(span)
        for view in self._views:
            view.show(self._snapshot, self._view, traces)

    def _ask_for_detail(self, span: tuple[float, float]) -> None:
        if span != self._detail_asked:
            self._detail_asked = span
            self._follower.ask(*span)

    def _show_alone(self, panel: PanelView | None) -> None:
        self._alone = panel
        for view in self._views:
            view.display = panel is None or view is panel
        self._panels.set_class(panel is not None, "alone")
        self._fit_panels()

    def _close_drawer(self) -> None:
        self._source = None
        self._follower.read_beside(None)
        self._fit_drawer()
        self.set_focus(self._focused)

    def _fit_drawer(self) -> None:
        """Put the drawer beside the panels or in their place, and the panels into what is left."""
        self.set_class(self._source is not None, "-open")
        self.set_class(self._is_beside, "-beside")
        self._drawer.styles.width = DRAWER_CELLS if self._is_beside else "1fr"
        self._fit_panels()

    @property
    def _is_beside(self) -> bool:
        return self._source is not None and self.size.width >= BESIDE

    def _ask(self, request: Literal["stop", "pause", "unpause"]) -> None:
        if self._snapshot is None or self._snapshot.status in ENDED:
            return
        try:
            self._folder.request(request)
        except RunFolderError as error:
            self.show_error(str(error))
            return
        self._asked = (request, self._snapshot.status)
        self._show_notice()

    async def _set_panels(self, panels: Sequence[Panel]) -> None:
        if [view.panel for view in self._views] == list(panels):
            return
        self._alone = None
        await self._panels.remove_children()
        scales = self._memory.run.scales
        views = [PanelView(panel, scale=scales.get(panel.title), ascii_only=self._ascii_only) for panel in panels]
        if len(views) % 2:
            views[-1].add_class("alone")
        await self._panels.mount_all(views)
        self._lines.styles.height = len(views) + 1
        self._fit_panels()

    def _fit_panels(self) -> None:
        count = sum(view.display for view in self._views)
        width = self.size.width - DRAWER_CELLS * self._is_beside
        self._panels.set_class(width >= WIDE, "two")
        self._body.fit(math.ceil(count / 2) if width >= WIDE else count)

    def _show_notice(self) -> None:
        text = self._notice()
        if text != str(self._message.content):
            self._message.update(text)
            self._message.display = bool(text)

    def _notice(self) -> str:
        if self._error:
            return printable(self._error)
        if self._asked:
            return ANSWERS[self._asked[0]]
        if self._snapshot is None:
            return ""
        room = max(1, self.size.height // 3)
        lines = [set_cell_size(line, min(cell_len(line), max(0, self.size.width - 2))) for line in self._output[-room:]]
        return "\n".join([ending(self._snapshot, run=self._run), *lines]).strip()


def close_up(snapshot: RunSnapshot, span: tuple[float, float], detail: DetailRead | None) -> tuple[Mapping[Key, Trace] | None, bool]:
    """What a part of a run is drawn from in place of the whole's series, and whether that is all that can be had.

    Args:
        snapshot: The run.
        span: The steps in sight.
        detail: What was last read anew.

    Returns:
        None and True where the whole's series do; False where the span is to be read anew.
    """
    # Of steps that are still to come, what was read anew would soon lack the newest.
    is_past = span[1] <= snapshot.step or snapshot.status in ENDED
    if not is_past or not _is_coarse(snapshot.traces, span):
        return None, True
    if detail is None or not detail.low <= span[0] or not span[1] <= detail.high:
        return None, False
    return detail.traces, (detail.low, detail.high) == span or not _is_coarse(detail.traces, span)


def _is_coarse(traces: Mapping[Key, Trace], span: tuple[float, float]) -> bool:
    """Whether a chart of the span would show more of some series if it were read anew."""
    return any(found.is_coarse(*span) for found in traces.values())
