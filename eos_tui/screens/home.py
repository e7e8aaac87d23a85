"""The list of runs: what there is, how each stands to its edges, and what can be done with it."""

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Footer, Input, Static

from eos_tui import export, filtering, keys, launch, reproduction
from eos_tui.export import Format
from eos_tui.filtering import FilterError
from eos_tui.memory import Memory
from eos_tui.messages import NewRunAsked, Opened
from eos_tui.output import one_line
from eos_tui.runs import ENDED, Listed, RunsWatcher, move_to_trash
from eos_tui.screens.ask import AskScreen, name_problem
from eos_tui.screens.choose import ChooseScreen
from eos_tui.screens.confirm import ConfirmScreen
from eos_tui.screens.help import HelpScreen
from eos_tui.snapshot import Status
from eos_tui.strokes import RUN_TAGS
from eos_tui.widgets.frugal import FrugalScreen
from eos_tui.widgets.runs_table import RunsTable, columns
from runners import run_folder, sweeps
from runners.errors import EosError
from runners.run_folder import RunFolder, stem
from runners.sweeps import SweepFolder

MOST_RUNS = len(RUN_TAGS)
"""Of those that are compared at once: each has a character of its own."""
RESUMABLE = frozenset({"stopped", "failed", "crashed"})
EXPORTS = {
    "j": "JSON: one document a run",
    "l": "JSON lines: a record a line",
    "c": "CSV: a table a kind of record",
    "p": "Parquet: the same",
}
FORMAT_KEYS: Mapping[str, Format] = {"j": "json", "l": "jsonl", "c": "csv", "p": "parquet"}
SWEEP_KEYS = "123456789"
"""Of the sweeps that are offered, the newest ones."""
POLL_SECONDS = 1.0
"""Time between two looks at the folder."""


class RunsChanged(Message):
    """The list of runs is another."""

    def __init__(self, runs: tuple[Listed, ...]) -> None:
        """Carry it."""
        super().__init__()
        self.runs = runs


class Exported(Message):
    """Runs were written as files, or could not be."""

    def __init__(self, words: str) -> None:
        """Carry what to say of it."""
        super().__init__()
        self.words = words


class Compared(Message):
    """The user wants to see several runs beside each other."""

    def __init__(self, folders: Sequence[RunFolder]) -> None:
        """Carry their folders."""
        super().__init__()
        self.folders = folders


class HomeScreen(FrugalScreen[None]):
    """The runs of a folder."""

    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "app.detach", "quit", tooltip="Leave. Runs go on.", id="home.leave"),
        Binding("enter", "open", "open", tooltip="Show the run under the cursor; q or Esc comes back.", id="home.open"),
        # With priority: the keys that follow it may have come already, as over a slow line, and must find the focus moved.
        Binding(
            "slash",
            "filter",
            "filter",
            priority=True,
            key_display="/",
            tooltip="Filter: name, /regex/, status:running, lr>0.1, optimizer=adam, -b8.",
            id="home.filter",
        ),
        Binding("o", "sort(1)", show=False, tooltip="Sort by the next column.", id="home.sort"),
        Binding("O", "reverse", show=False, tooltip="Sort the other way round.", id="home.reverse"),
        Binding(
            "space",
            "select",
            "select",
            tooltip="Choose the run under the cursor; stop and delete act on all that are chosen.",
            id="home.select",
        ),
        Binding("n", "new", "new", id="home.new", tooltip="A new run: pick a preset, edit its spec, start it."),
        Binding("N", "again", show=False, id="home.again", tooltip="A new run from the spec of the run under the cursor."),
        Binding("c", "compare", "compare", id="home.compare", tooltip="Lay the chosen runs over each other, two or more; q comes back."),
        Binding(
            "s",
            "stop",
            "stop",
            tooltip="Stop, after a question; each writes a checkpoint, from which `eos resume` goes on.",
            id="home.stop",
        ),
        Binding(
            "r",
            "resume",
            "resume",
            tooltip="Go on with runs that were stopped, failed or crashed, from their last checkpoints.",
            id="home.resume",
        ),
        Binding("R", "rename", show=False, tooltip="Call the run under the cursor otherwise, once it has ended.", id="home.rename"),
        Binding(
            "e",
            "export",
            show=False,
            tooltip="Write runs as JSON, JSON lines, CSV or Parquet into the folder that eos was started in.",
            id="home.export",
        ),
        Binding("w", "sweeps", show=False, tooltip="Open a sweep of this folder.", id="home.sweeps"),
        Binding("y", "copy", show=False, tooltip="Copy the command that does the run under the cursor again.", id="home.copy"),
        Binding(
            "d",
            "delete",
            "delete",
            tooltip="Move runs that have ended to the folder `trash` among the runs, after a question.",
            id="home.delete",
        ),
        Binding("up,k", "move(-1)", show=False, tooltip="The row above.", id="home.up"),
        Binding("down,j", "move(1)", show=False, tooltip="The row below.", id="home.down"),
        Binding("pageup", "move(-20)", show=False, tooltip="Twenty rows up.", id="home.page_up"),
        Binding("pagedown", "move(20)", show=False, tooltip="Twenty rows down.", id="home.page_down"),
        Binding("home", "move(-1000000)", show=False, tooltip="The first row.", id="home.first"),
        Binding("end", "move(1000000)", show=False, tooltip="The last row.", id="home.last"),
        Binding("escape", "clear", show=False, tooltip="No filter, and nothing chosen.", id="home.clear"),
        Binding("question_mark", "help", "help", key_display="?", tooltip="This page.", id="home.help"),
    ]

    def __init__(
        self,
        runs: Path,
        *,
        poll_seconds: float,
        clock: Callable[[], float],
        ascii_only: bool = False,
        memory: Memory | None = None,
    ) -> None:
        """Show nothing yet; the folder is first looked at once the screen stands.

        Args:
            runs: The folder of the runs.
            poll_seconds: Time between two looks at it; 0 leaves the looking to `poll_now`.
            clock: Seconds since 1970.
            ascii_only: For terminals without Unicode.
            memory: How the list is shown, and what keeps it.
        """
        super().__init__()
        self._memory = memory or Memory()
        self._place = runs
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._ascii_only = ascii_only
        self._watcher = RunsWatcher(runs, clock=clock)
        self._stopped = threading.Event()
        self._wanted = threading.Event()
        """Set when there is something to read before the next look is due."""
        self._all: tuple[Listed, ...] | None = None
        self._shown: Sequence[Listed] = ()
        self._at: str | None = None
        """Name of the run under the cursor; the newest at first."""
        self._selected: frozenset[str] = frozenset()
        view = self._memory.home
        self._sorted_by = (view.sort, view.reverse) if view.sort in {column.key for column in columns() if column.title} else ("age", True)
        self._filter = view.filter
        self._said = ""
        """What the last key led to, until the next one."""
        self._table = RunsTable(ascii_only=ascii_only)
        self._head = Static(id="home-head", markup=False)
        self._input = Input(placeholder="name  /regex/  status:running  lr>0.1  optimizer=adam  -not", id="filter", compact=True)
        self._input.cursor_blink = False

    def compose(self) -> ComposeResult:
        """From the top down."""
        yield self._head
        yield self._table
        yield self._input
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Begin to look, after the first frame."""
        self._input.display = False
        self._input.value = self._filter
        if self._poll_seconds:
            self.call_after_refresh(threading.Thread(target=self._follow, name="eos-runs", daemon=True).start)

    def on_unmount(self) -> None:
        """Let the thread go."""
        self._stopped.set()
        self._wanted.set()

    def poll_now(self) -> None:
        """Look at the folder once, at once."""
        if (runs := self._watcher.poll()) is not None:
            self.post_message(RunsChanged(runs))

    def on_runs_changed(self, message: RunsChanged) -> None:
        """Show the list as it is now."""
        self._all = message.runs
        self._draw()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while the user types."""
        self._filter = event.value
        self._draw()

    def on_input_submitted(self) -> None:
        """Keep the filter, and go back to the list."""
        self._input.display = False
        self.set_focus(None)
        self._memory.remember_home(filter=self._filter)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's signature
        """Keys are the filter's while it is typed, but for Esc."""
        return self.focused is not self._input or action in ("clear", "detach")

    def action_move(self, rows: int) -> None:
        """Move the cursor."""
        if self._shown:
            index = min(max(self._cursor + rows, 0), len(self._shown) - 1)
            self._at = self._shown[index].row.run
        self._said = ""
        self._draw()

    def action_open(self) -> None:
        """Show the run under the cursor."""
        if self._shown:
            self.app.post_message(Opened(self._shown[self._cursor].folder))

    def action_compare(self) -> None:
        """Show the chosen runs beside each other."""
        chosen = self._chosen()
        if 2 <= len(chosen) <= MOST_RUNS:
            self.app.post_message(Compared([run.folder for run in chosen]))
        elif len(chosen) < 2:
            self._say("Nothing to compare: choose two runs or more with space.")
        else:
            self._say(f"{len(chosen)} runs are more than one screen can tell apart: choose {MOST_RUNS} or fewer.")

    def action_new(self) -> None:
        """Make a run."""
        self.app.post_message(NewRunAsked(self._place))

    def action_again(self) -> None:
        """Make a run from the spec of another."""
        if self._shown:
            self.app.post_message(NewRunAsked(self._place, self._shown[self._cursor].folder))

    def action_filter(self) -> None:
        """Type a filter."""
        self._input.display = True
        self.set_focus(self._input)

    def action_sort(self, direction: int) -> None:
        """Sort by the next column."""
        keys = [column.key for column in columns() if column.title]
        key = keys[(keys.index(self._sorted_by[0]) + direction) % len(keys)]
        self._sort_by(key, is_reversed=key == "age")

    def action_reverse(self) -> None:
        """Sort the other way round."""
        self._sort_by(self._sorted_by[0], is_reversed=not self._sorted_by[1])

    def action_select(self) -> None:
        """Choose the run under the cursor, or not, and go on to the next."""
        if self._shown:
            self._selected ^= {self._shown[self._cursor].row.run}
            self.action_move(1)

    def action_clear(self) -> None:
        """No filter, and nothing chosen."""
        self._selected = frozenset()
        self._input.value = self._filter = self._said = ""
        self.on_input_submitted()
        self._draw()

    def action_stop(self) -> None:
        """Stop what is chosen and still runs."""
        runs = [run for run in self._chosen() if run.row.status not in ENDED]
        if not runs:
            self._say("Nothing to stop: what is chosen has ended.")
            return
        question = f"Stop {_called(runs)}?"
        self._ask(
            question, "Each writes a checkpoint and ends. `eos resume` goes on from there.", yes="stop", then=lambda: self._stop(runs)
        )

    def action_resume(self) -> None:
        """Go on with what is chosen and can go on."""
        runs = [run for run in self._chosen() if run.row.status in RESUMABLE]
        if not runs:
            self._say(f"Nothing to resume: that takes runs that are {', '.join(sorted(RESUMABLE))}.")
            return
        self._each(runs, lambda run: launch.restart(run.folder), "started again")

    def action_delete(self) -> None:
        """Move what is chosen and has ended to the trash."""
        runs = [run for run in self._chosen() if run.row.status in (*ENDED, Status.UNREADABLE)]
        if not runs:
            self._say("Nothing to delete: what is chosen still runs. Stop it first.")
            return
        consequence = f"They go to {self._place / 'trash'}, from where they can be moved back."
        self._ask(f"Delete {_called(runs)}?", consequence, yes="delete", then=lambda: self._delete(runs))

    def action_rename(self) -> None:
        """Ask for another name of the run under the cursor."""
        if not self._shown:
            return
        run = self._shown[self._cursor]
        if run.row.status not in ENDED:
            self._say(f"{run.row.run} is still running. Stop it first, or wait for its end.")
            return
        consequence = "Its folder is renamed; the stamp in its name stays. Its log keeps the old name."
        screen = AskScreen(f"Rename {run.row.run}", consequence=consequence, text=stem(run.row.run), problem=name_problem)
        self.app.push_screen(screen, lambda name: self._rename(run, name) if name else None)

    def action_export(self) -> None:
        """Ask in which form to write what is chosen."""
        runs = self._chosen()
        if runs:
            screen = ChooseScreen(f"Export {_called(runs)}", consequence=f"As new files in {Path.cwd()}.", choices=EXPORTS)
            self.app.push_screen(screen, lambda key: self._export(runs, FORMAT_KEYS[key]) if key else None)

    def action_sweeps(self) -> None:
        """Ask which sweep to open."""
        found = sorted(sweeps.all_sweeps(self._place), key=lambda sweep: sweep.sweep.stat().st_mtime, reverse=True)
        if not found:
            self._say(f"No sweeps in {self._place}. `eos sweep` makes one.")
            return
        choices = dict(zip(SWEEP_KEYS, found, strict=False))
        names = {key: one_line(sweep.name) for key, sweep in choices.items()}
        screen = ChooseScreen("Open a sweep", consequence=f"The newest of {len(found):,} in {self._place}.", choices=names)
        self.app.push_screen(screen, lambda key: self._open_sweep(choices[key]) if key else None)

    def action_copy(self) -> None:
        """Copy the command that does the run under the cursor again."""
        if not self._shown:
            return
        try:
            command = reproduction.command(self._shown[self._cursor].folder)
        except (OSError, EosError) as error:
            self._say(f"{self._shown[self._cursor].row.run}: {error}")
            return
        # By the terminal's own sequence (OSC 52), so also from another host; a terminal that does not take it shows the words at least.
        self.app.copy_to_clipboard(command)
        self._say(f"Copied: {command}")

    def action_help(self) -> None:
        """Explain keys and screen."""
        self.app.push_screen(HelpScreen(self, keys.bindings_of(type(self))))

    def _sort_by(self, key: str, *, is_reversed: bool) -> None:
        self._sorted_by = (key, is_reversed)
        self._memory.remember_home(sort=key, reverse=is_reversed)
        self._draw()

    @property
    def _cursor(self) -> int:
        return next((index for index, run in enumerate(self._shown) if run.row.run == self._at), 0)

    def _chosen(self) -> list[Listed]:
        """The runs that are chosen; without any the one under the cursor."""
        chosen = [run for run in self._shown if run.row.run in self._selected]
        return chosen or list(self._shown[self._cursor : self._cursor + 1])

    def _ask(self, question: str, consequence: str, *, yes: str, then: Callable[[], None]) -> None:
        screen = ConfirmScreen(question, consequence=consequence, yes=yes, no="leave it")
        self.app.push_screen(screen, lambda sure: then() if sure else None)

    def _stop(self, runs: Sequence[Listed]) -> None:
        self._each(runs, lambda run: run.folder.request("stop"), "asked to stop; each answers after its present chunk of steps")

    def _delete(self, runs: Sequence[Listed]) -> None:
        self._each(runs, lambda run: move_to_trash(run.folder), "moved to the trash")
        self._selected -= {run.row.run for run in runs}
        self.poll_now()

    def _rename(self, run: Listed, name: str) -> None:
        self._each([run], lambda run: run_folder.rename(run.folder, name), f"is called {name} now")
        if self._at == run.row.run:
            self._at = name + run.row.run[len(stem(run.row.run)) :]
        self.poll_now()

    def _open_sweep(self, sweep: SweepFolder) -> None:
        self.app.post_message(Opened(sweep))

    def _export(self, runs: Sequence[Listed], format: Format) -> None:
        """Write the runs, in a thread: a long log takes seconds."""

        def write() -> None:
            made: list[Path] = []
            problem = ""
            for run in runs:
                try:
                    made += export.export(run.folder, format)
                except (OSError, EosError) as error:
                    problem = f" {run.row.run}: {error}"
                    break
            places = f"{made[0]}" if len(made) == 1 else f"{len(made):,} files in {Path.cwd()}"
            self.post_message(Exported(f"Wrote {places}.{problem}" if made else problem.strip()))

        self._say(f"Exporting {_called(runs)} ...")
        threading.Thread(target=write, name="eos-export", daemon=True).start()

    def on_exported(self, message: "Exported") -> None:
        """Say what came of an export."""
        self._say(message.words)

    def _each(self, runs: Sequence[Listed], action: Callable[[Listed], object], done: str) -> None:
        for run in runs:
            try:
                action(run)
            except (OSError, EosError) as error:
                self._say(one_line(f"{run.row.run}: {error}"))
                return
        self._say(f"{_called(runs)} {done}.")

    def _say(self, words: str) -> None:
        self._said = words
        self._draw()

    def _want(self) -> None:
        """Look again soon: what came into sight has to be read."""
        self._wanted.set()
        if not self._poll_seconds:
            self.call_later(self.poll_now)

    def _follow(self) -> None:
        while not self._stopped.is_set():
            self.poll_now()
            self._wanted.wait(self._poll_seconds)
            self._wanted.clear()

    def _draw(self) -> None:
        problem = ""
        runs = list(self._all or ())
        try:
            wanted = filtering.parse(self._filter)
        except FilterError as error:
            problem = str(error)
        else:
            kept = [run for run in runs if wanted(run.candidate)]
            if not kept and runs:
                problem = filtering.unknown(self._filter, set().union(*(run.candidate.keys() for run in runs)))
            runs = kept
        key, is_reversed = self._sorted_by
        order = next(column.order for column in columns() if column.key == key)
        known = sorted((run for run in runs if not order(run)[0]), key=lambda run: order(run)[1], reverse=is_reversed)
        self._shown = [*known, *(run for run in runs if order(run)[0])]
        if self._at is None and self._shown:
            self._at = self._shown[0].row.run
        now = self._clock()
        self._table.show(self._shown, cursor=self._cursor, selected=self._selected, sorted_by=self._sorted_by, now=now)
        self._watcher.in_sight = frozenset(run.row.run for run in self._table.in_sight)
        if any(run.course is None for run in self._table.in_sight):
            self._want()
        words = self._words(problem)
        if words != str(self._head.content):
            self._head.update(words)

    def _words(self, problem: str) -> str:
        if self._all is None:
            return f"eos  looking into {self._place}"
        if not self._all and sweeps.all_sweeps(self._place):
            return f"eos  no runs in {self._place}, but sweeps. The key w opens one."
        if not self._all:
            return f"eos  no runs in {self._place}. `eos run` starts one, and so does the key n."
        live = sum(run.row.status not in ENDED and run.row.status not in (Status.WAITING, Status.UNREADABLE) for run in self._all)
        parts = [f"eos  {len(self._all):,} runs in {self._place}", f"{live:,} live"]
        if self._filter:
            parts.append(f"{len(self._shown):,} of them: {self._filter}")
        if self._selected:
            parts.append(f"{len(self._selected):,} chosen")
        return "\n".join(line for line in ("   ".join(parts), problem, self._said) if line)


def _called(runs: Sequence[Listed]) -> str:
    return one_line(runs[0].row.run) if len(runs) == 1 else f"{len(runs):,} runs"
