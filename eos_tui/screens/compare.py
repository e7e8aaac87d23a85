"""Several runs at once: each panel that they share with a line a run, their legend, and the differences of their specs."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, NamedTuple

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.message import Message
from textual.widgets import Footer, Static

from eos_tui import comparison
from eos_tui.comparison import Axis, SharedPanel
from eos_tui.decimate import Trace
from eos_tui.follower import Follower
from eos_tui.messages import DetailRead, ReadingFailed, RunAdvanced
from eos_tui.numerals import NOTHING, format_number
from eos_tui.output import printable
from eos_tui.screens.help import HelpScreen
from eos_tui.screens.run import WIDE, close_up
from eos_tui.series import Key
from eos_tui.snapshot import RunSnapshot, empty
from eos_tui.strokes import RUN_TAGS
from eos_tui.view import PAN, SMOOTHINGS, ZOOM, View
from eos_tui.widgets.body import Body, Scrolled
from eos_tui.widgets.frugal import FrugalScreen
from eos_tui.widgets.overlay import NO_DIFFERENCE, Entry, Legend, Named, OverlayView, Table, legend_rows, table_rows, table_width
from eos_tui.widgets.panel import Source
from eos_tui.widgets.text_rows import Row, TextRows
from eos_tui.widgets.words import ENDED
from eos_tui.window import Window
from runners.errors import LogError
from runners.run_folder import RunFolder

POLL_SECONDS = 1.0
"""Time between two looks at the runs' files."""
GATHER_SECONDS = 0.1
"""How long the first of several runs that have changed waits for the others, so that all are painted at once."""
PANELS_CELLS = 110
"""Columns that the panels keep when the differences stand beside them."""
ROOMY = 36
"""Rows from which else they stand below them; with less of both they take the panels' place when they are asked for."""
TABLE_SHARE = 4
"""The part of the rows that the differences take below the panels, at most."""
READING = """\
Each line is one run; the character at its end is that of the legend, where its dashes and its name stand. Values are those of the
panel with the focus, else of the first, at each run's end or at the cursor. Where the runs are held against different thresholds,
a panel shows each number over its own: 1 is the edge. On the axis lr x steps runs of different learning rates stand at the same place
when they have moved as far. The table has the keys in which the specs differ, and no others."""


class Delivered(Message):
    """A run's follower has something to say."""

    def __init__(self, run: str, message: Message) -> None:
        """Carry it.

        Args:
            run: The run's key.
            message: As the follower gave it.
        """
        super().__init__()
        self.run = run
        self.message = message


@dataclass
class _Run:
    """One of the runs, as far as it is known."""

    folder: RunFolder
    follower: Follower
    snapshot: RunSnapshot | None = None
    problem: tuple[str, str] | None = None
    """Why it cannot be read: in a word, and in a sentence."""
    is_left_out: bool = False
    waits: bool = False
    """Whether its follower waits until what it delivered is shown."""
    detail: DetailRead | None = None
    asked: tuple[float, float] | None = None
    """The steps of which detail was asked for last."""

    @property
    def status(self) -> str:
        """In a word."""
        return self.problem[0] if self.problem else str(self.snapshot.status) if self.snapshot else "reading"


class Head(NamedTuple):
    """What the first row says."""

    num_runs: int
    live: int
    left_out: int
    unit: str
    cursor: str
    """Where values are read; empty where that is each run's end."""


def head_rows(head: Head, width: int, height: int) -> Sequence[Row]:  # noqa: ARG001 - one row, cut where needed
    """How many runs there are, how many of them go on, and along what they are laid."""
    words = [f"{head.live} live"] * bool(head.live) + [f"{head.left_out} left out"] * bool(head.left_out) + [f"over {head.unit}"]
    words += [f"read at {head.cursor}"] * bool(head.cursor)
    return [[("eos  ", "dim"), (f"{head.num_runs} runs", "bold"), *((f"   {word}", "") for word in words)]]


def _place(place: float) -> str:
    return f"{place:,}" if isinstance(place, int) else format_number(place, digits=4)


class CompareScreen(FrugalScreen[None]):
    """Several runs."""

    HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (WIDE, "-wide")]  # noqa: RUF012 - as Textual declares it
    VERTICAL_BREAKPOINTS = [(0, "-low"), (15, "-high")]  # noqa: RUF012 - as Textual declares it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "app.detach", "back", id="compare.leave", tooltip="Back to the list, or leave. Runs go on."),
        Binding("x", "unit", "axis", id="compare.axis", tooltip="Lay the runs along steps, run time, examples seen, or lr x steps."),
        Binding(
            "r",
            "toggle_ratio",
            "ratio",
            id="compare.ratio",
            tooltip="Numbers, or each over its own threshold: of the panel with the focus, else of all.",
        ),
        Binding(
            "l", "toggle_scale", "log", id="compare.scale", tooltip="Logarithmic or linear axis: of the panel with the focus, else of all."
        ),
        Binding("d", "differences", "differences", id="compare.differences", tooltip="The keys in which the specs differ, or not."),
        Binding(
            "left",
            "cursor(-1)",
            "read",
            id="compare.cursor_left",
            tooltip="Read the values at a place: the cursor, one column to the left.",
        ),
        Binding("right", "cursor(1)", show=False, id="compare.cursor_right", tooltip="The cursor, one column to the right."),
        Binding(
            "less_than_sign",
            "cursor(-10)",
            show=False,
            key_display="<",
            id="compare.cursor_far_left",
            tooltip="The cursor, ten columns to the left.",
        ),
        Binding(
            "greater_than_sign",
            "cursor(10)",
            show=False,
            key_display=">",
            id="compare.cursor_far_right",
            tooltip="The cursor, ten columns to the right.",
        ),
        Binding(
            "plus", "zoom(1)", "zoom", key_display="+", id="compare.zoom_in", tooltip="Less of the axis, around the cursor or the end."
        ),
        Binding("minus", "zoom(-1)", show=False, key_display="-", id="compare.zoom_out", tooltip="More of the axis."),
        Binding("left_square_bracket", "pan(-1)", show=False, key_display="[", id="compare.pan_left", tooltip="Earlier."),
        Binding("right_square_bracket", "pan(1)", show=False, key_display="]", id="compare.pan_right", tooltip="Later."),
        Binding("0", "whole", show=False, id="compare.whole", tooltip="All of the axis."),
        Binding("f", "follow", show=False, id="compare.follow", tooltip="Follow the end of the furthest run, or stay where the window is."),
        Binding(
            "m", "smooth", show=False, id="compare.smooth", tooltip="A moving average over faint lines; again for a longer one, then none."
        ),
        *(
            Binding(
                str(number),
                f"leave_out({number - 1})",
                show=False,
                key_display="1 - 9",
                id=f"compare.run_{number}",
                tooltip="Leave out the run with this tag, or take it in again.",
            )
            for number in range(1, 10)
        ),
        Binding("tab", "app.focus_next", show=False, id="compare.next_panel", tooltip="The next panel."),
        Binding(
            "enter",
            "alone",
            "panel",
            id="compare.one_panel",
            tooltip="The panel with the focus, else the first, on the whole screen; again for all.",
        ),
        Binding(
            "escape", "back", show=False, id="compare.back", tooltip="All panels again; else no cursor; else all of the axis; else back."
        ),
        Binding("question_mark", "help", "help", key_display="?", id="compare.help", tooltip="This page."),
    ]

    def __init__(
        self,
        folders: Sequence[RunFolder],
        *,
        poll_seconds: float = POLL_SECONDS,
        clock: Callable[[], float] = time.time,
        ascii_only: bool = False,
    ) -> None:
        """Show nothing yet; the runs are first read once the screen stands.

        Args:
            folders: The runs.
            poll_seconds: Time between two looks at their files; 0 leaves the looking to `poll_now`.
            clock: Seconds since the epoch.
            ascii_only: For terminals without Unicode.
        """
        super().__init__()
        self._poll_seconds = poll_seconds
        self._ascii_only = ascii_only
        keys = {str(folder.path): folder for folder in folders}
        self._runs = {key: _Run(folder, Follower(folder, partial(self._deliver, key), clock=clock)) for key, folder in keys.items()}
        self._places = comparison.places(self._runs, {})
        self._is_due = False
        """Whether the runs are to be painted soon."""
        self._view = View()
        self._axis = comparison.axis({}, "steps")
        self._alone: OverlayView | None = None
        self._wants_table: bool | None = None
        self._entries: Mapping[str, Entry] = {}
        self._specs: Mapping[str, Any] = {}
        self._told = Table((), ())
        self._message = Static(id="notice", markup=False)
        self._head = TextRows(head_rows, id="compare-head", ascii_only=ascii_only)
        self._legend = Legend(id="legend", ascii_only=ascii_only)
        self._panels = Container(id="panels")
        self._body = Body(self._panels)
        self._table = TextRows(table_rows, id="table", ascii_only=ascii_only)
        self._differences = Scrolled(self._table, id="differences")
        self._stage = Container(self._body, self._differences, id="stage")

    def compose(self) -> ComposeResult:
        """From the top down."""
        yield self._head
        yield self._legend
        yield self._message
        yield self._stage
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Begin to follow the runs, after the first frame."""
        self._draw()
        for run in self._runs.values() if self._poll_seconds else ():
            self.call_after_refresh(run.follower.start, self._poll_seconds)

    def on_unmount(self) -> None:
        """Let the followers go."""
        for run in self._runs.values():
            run.follower.stop()

    def poll_now(self) -> None:
        """Look at the runs' files once, at once, and post what changed."""
        for key, run in self._runs.items():
            if message := run.follower.look():
                self._deliver(key, message)

    def read_whole(self) -> None:
        """Show all that there is of the runs; of a log that is none, why."""
        for key, run in self._runs.items():
            while (found := run.follower.look()) or run.follower.is_behind:
                if found:
                    self._deliver(key, found)

    def on_delivered(self, message: Delivered) -> None:
        """Take in what a follower found; an error that is not the log's is our own and ends the app with its traceback."""
        run = self._runs[message.run]
        run.waits = True
        match message.message:
            case RunAdvanced(snapshot=snapshot):
                run.snapshot, run.problem = snapshot, None
            case DetailRead():
                run.detail = message.message
            case ReadingFailed(error=error):
                if not isinstance(error, LogError | OSError):
                    raise error
                run.problem = ("gone" if isinstance(error, FileNotFoundError) else "unreadable", str(error))
        if not self._is_due:
            self._is_due = True
            if self._poll_seconds:
                self.set_timer(GATHER_SECONDS, self._repaint)
            else:
                self.call_later(self._repaint)

    def on_resize(self) -> None:
        """Fit everything to the new size."""
        self._fit()

    def on_descendant_focus(self) -> None:
        """The legend has the values of the panel with the focus."""
        self._show_legend()

    def on_descendant_blur(self) -> None:
        """The legend has the values of the first panel."""
        self._show_legend()

    def action_toggle_scale(self) -> None:
        """Switch between a logarithmic and a linear axis: the panel with the focus, else all."""
        for view in self._chosen_panels():
            view.toggle_scale()

    def action_toggle_ratio(self) -> None:
        """Switch between numbers and ratios to thresholds: the panel with the focus, else all that have any."""
        for view in self._chosen_panels():
            view.toggle_ratio()
        self._show_legend()

    def action_differences(self) -> None:
        """Show the table, or hide it."""
        self._wants_table = not self._shows_table
        self._fit()

    def action_cursor(self, columns: int) -> None:
        """Move the cursor, or set it to the last place in sight."""
        width = max((view.content_size.width for view in self._views if view.display), default=1)
        self._look(lambda view, axis: view.with_cursor(axis.extents, axis.window(view), columns=columns, width=width))

    def action_zoom(self, direction: int) -> None:
        """Show less of the axis, or more."""
        self._look(lambda view, axis: view.zoomed(axis.extents, ZOOM**direction))

    def action_pan(self, direction: int) -> None:
        """Show what lies before, or behind."""
        self._look(lambda view, axis: view.panned(axis.extents, direction * PAN))

    def action_whole(self) -> None:
        """Show all of the axis."""
        self._look(lambda view, _: replace(view, span=None, follows=True))

    def action_follow(self) -> None:
        """Follow the end of the furthest run, or stay."""
        self._look(lambda view, axis: replace(view, follows=not view.follows).followed(axis.extents))

    def action_unit(self) -> None:
        """Lay the runs along the next axis that all of them know."""
        runs = self._compared()
        units = comparison.units(runs)
        unit = units[(units.index(self._view.unit) + 1) % len(units)] if self._view.unit in units else "steps"
        self._look(lambda view, axis: comparison.turned(view, axis, comparison.axis(runs, unit)))

    def action_smooth(self) -> None:
        """Average over more of each run, or nothing."""
        self._look(lambda view, _: replace(view, smoothing=SMOOTHINGS[(SMOOTHINGS.index(view.smoothing) + 1) % len(SMOOTHINGS)]))

    def action_leave_out(self, place: int) -> None:
        """Leave a run out, or take it in again; its line looks as before."""
        for key, run in self._runs.items():
            if self._places[key] == place:
                run.is_left_out = not run.is_left_out
                self._draw()

    def action_alone(self) -> None:
        """Show one panel alone, or all again."""
        panels = self._chosen_panels()
        self._show_alone(None if self._alone else panels[0] if panels else None)

    def action_back(self) -> None:
        """Undo the last of: one panel alone, a cursor, a window; else go back to where the runs were chosen."""
        if self._alone:
            self._show_alone(None)
        elif self._view.cursor is not None:
            self._look(lambda view, _: replace(view, cursor=None))
        elif self._view.span is not None or len(self.app.screen_stack) == 1:
            self.action_whole()
        else:
            self.app.pop_screen()

    def action_help(self) -> None:
        """Explain keys and screen."""
        bindings = {binding.tooltip: binding for binding in reversed(self.BINDINGS) if isinstance(binding, Binding)}
        self.app.push_screen(HelpScreen(self, reversed(bindings.values()), reading=READING))

    @property
    def _views(self) -> list[OverlayView]:
        return [view for view in self._panels.children if isinstance(view, OverlayView)]

    @property
    def _is_beside(self) -> bool:
        """Whether the table has its room beside the panels."""
        return self.size.width - self._table_cells >= PANELS_CELLS

    @property
    def _table_cells(self) -> int:
        return 2 + max(table_width(self._told), len(NO_DIFFERENCE))

    @property
    def _shows_table(self) -> bool:
        has_room = self._is_beside or self.size.height >= ROOMY
        return has_room if self._wants_table is None else self._wants_table

    def _chosen_panels(self) -> list[OverlayView]:
        """The panel with the focus, else all."""
        return [view for view in self._views if view.has_focus] or self._views

    def _compared(self) -> dict[str, RunSnapshot]:
        """What is known of the runs that are not left out, in the order of their tags."""
        keys = sorted(self._runs, key=lambda key: self._places[key])
        return {key: found for key in keys if (found := self._runs[key].snapshot) and not self._runs[key].is_left_out}

    def _deliver(self, key: str, message: Message) -> None:
        """Post what a follower found; called from its thread."""
        path = self._runs[key].folder.path
        if isinstance(message, RunAdvanced) and message.snapshot.header is None and not path.exists():
            message = ReadingFailed(FileNotFoundError(f"{path}: the run's folder is gone; what was read of it stays."))
        self.post_message(Delivered(key, message))

    async def _repaint(self) -> None:
        """Show what all runs are now, and let their followers look again."""
        self._is_due = False
        await self._set_panels(comparison.shared_panels({key: run.snapshot for key, run in self._runs.items() if run.snapshot}))
        self._draw()
        for run in self._runs.values():
            if run.waits:
                run.waits = False
                run.follower.shown()

    async def _set_panels(self, panels: Sequence[SharedPanel]) -> None:
        views = self._views
        if [view.panel.title for view in views] == [panel.title for panel in panels]:
            for view, panel in zip(views, panels, strict=True):
                view.panel = panel
            return
        self._alone = None
        await self._panels.remove_children()
        views = [OverlayView(panel, ascii_only=self._ascii_only) for panel in panels]
        if len(views) % 2:
            views[-1].add_class("alone")
        await self._panels.mount_all(views)

    def _look(self, change: Callable[[View, Axis], View]) -> None:
        """Change what is shown of the runs."""
        self._view = change(self._view, self._axis)
        self._draw()

    def _draw(self) -> None:
        """Show the runs in the present view."""
        runs = self._compared()
        self._axis = comparison.axis(runs, self._view.unit, before=self._axis)
        self._view = self._view.followed(self._axis.extents)
        windows, window = self._axis.windows(self._view), self._axis.window(self._view)
        self._entries = {key: self._entry(key, snapshot, windows.get(key)) for key, snapshot in runs.items()}
        for view in self._views:
            view.show(self._entries, self._view, window)
        live = sum(run.snapshot is not None and not run.problem and run.snapshot.status not in ENDED for run in self._runs.values())
        left_out = sum(run.is_left_out for run in self._runs.values())
        cursor = "" if self._view.cursor is None else _place(self._view.cursor)
        self._head.show(Head(len(self._runs), live, left_out, self._view.unit, cursor))
        self._show_legend()
        self._show_table(runs)
        self._show_notice()
        self._fit()

    def _entry(self, key: str, snapshot: RunSnapshot, window: Window | None) -> Entry:
        cursor = None if self._view.cursor is None or window is None else self._axis.step(key, self._view.cursor)
        traces = self._close_up(self._runs[key], snapshot, window) if self._view.span and window else {}
        return Entry(self._places[key], Source(snapshot, traces, cursor), window)

    def _close_up(self, run: _Run, snapshot: RunSnapshot, window: Window) -> Mapping[Key, Trace]:
        """The run's series as far as they were read anew for this window."""
        span = (math.floor(window.low), math.ceil(window.high))
        traces, is_enough = close_up(snapshot, span, run.detail)
        if not is_enough and span != run.asked:
            run.asked = span
            run.follower.ask(*span)
        return traces or {}

    def _show_legend(self) -> None:
        panel = next(iter(self._chosen_panels()), None)
        names = comparison.names({key: run.snapshot or empty(run.folder.path) for key, run in self._runs.items()})
        is_read = self._view.cursor is not None
        runs = []
        for key in sorted(self._runs, key=lambda key: self._places[key]):
            run, entry = self._runs[key], self._entries.get(key)
            value = panel.reading(key, entry) if panel and entry and (entry.window or not is_read) else NOTHING
            runs.append(Named(self._places[key], names[key], run.status, value, run.is_left_out))
        self._legend.say(runs, title="" if panel is None else "ratio" if panel.is_ratio else panel.panel.title)

    def _show_table(self, runs: Mapping[str, RunSnapshot]) -> None:
        """The differences of the specs; worked out anew only when a header has come, or the runs are others."""
        specs = {key: spec for key, spec in comparison.specs(runs).items() if spec is not None}
        if specs == self._specs:
            return
        self._specs = specs
        found = comparison.differences(specs)
        rows = [(printable(one.key), [comparison.value_words(one.values[key]) for key in specs]) for one in found]
        self._told = Table([RUN_TAGS[self._places[key]] for key in specs], rows)
        self._table.styles.height = len(rows) + 1
        self._table.show(self._told)

    def _show_notice(self) -> None:
        problems = [run.problem[1] for run in self._runs.values() if run.problem]
        known = sum(run.snapshot is not None and run.snapshot.header is not None for run in self._runs.values())
        if known > 1 and not self._views:
            problems.append("No panel is in two of these runs: there is nothing to lay over each other.")
        text = "\n".join(" ".join(printable(problem).split()) for problem in problems)
        if text != str(self._message.content):
            self._message.update(text)
            self._message.display = bool(text)

    def _show_alone(self, panel: OverlayView | None) -> None:
        self._alone = panel
        for view in self._views:
            view.display = panel is None or view is panel
        self._panels.set_class(panel is not None, "alone")
        self._fit()

    def _fit(self) -> None:
        """Give each part the rows that it needs and that there are."""
        width, height = self.size
        count = sum(view.display for view in self._views)
        rows = math.ceil(count / 2) if width >= WIDE else count
        self._panels.set_class(width >= WIDE, "two")
        self._body.fit(rows)
        self._legend.styles.height = legend_rows(len(self._runs), width=width - 2, height=height)
        has_room = self._is_beside or height >= ROOMY
        self._differences.display = self._shows_table
        self._body.display = has_room or not self._shows_table
        self._stage.set_class(self._is_beside, "beside")
        below = max(2, min(1 + len(self._told.rows), height // TABLE_SHARE))
        self._differences.styles.width = self._table_cells if self._is_beside else "1fr"
        self._differences.styles.height = "1fr" if self._is_beside or not has_room else below
