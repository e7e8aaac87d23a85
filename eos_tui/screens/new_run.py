"""A new run: a preset or an earlier run's spec as text to edit, what is wrong with it or follows from it, and its start.

Keys are letters while nothing is typed; Esc leaves the text. Judging and starting happen in threads: neither a large spec nor
a slow disk holds up what is typed.
"""

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Footer, Input, Static, TextArea

from eos_tui import drafts, keys, launch
from eos_tui.drafts import Verdict
from eos_tui.messages import Opened
from eos_tui.output import printable
from eos_tui.replacing import replacing
from eos_tui.screens.ask import AskScreen, name_problem
from eos_tui.screens.confirm import ConfirmScreen
from eos_tui.screens.help import HelpScreen
from eos_tui.widgets.frugal import FrugalScreen
from eos_tui.widgets.names import Names
from runners import spec_file
from runners.errors import EosError
from runners.run_folder import RunFolder, stem
from runners.spec_text import to_toml

JUDGE_SECONDS = 0.2
"""How long the text is let be typed before it is judged."""
FIRST = "digits-gd"
"""The preset that is shown first: the one that `eos run` alone runs."""


class Judged(Message):
    """A text was judged."""

    def __init__(self, text: str, name: str, verdict: Verdict) -> None:
        """Carry what was judged, and the verdict."""
        super().__init__()
        self.text = text
        self.name = name
        self.verdict = verdict


class Started(Message):
    """A runner holds its folder."""

    def __init__(self, text: str, folder: RunFolder) -> None:
        """Carry the text, and the run that it became."""
        super().__init__()
        self.text = text
        self.folder = folder


class NotStarted(Message):
    """A run could not be started."""

    def __init__(self, reason: str) -> None:
        """Carry why."""
        super().__init__()
        self.reason = reason


@dataclass(frozen=True)
class Draft:
    """A text that a run can be made of."""

    title: str
    """Of a preset its name, of a run that of its folder: no two are the same."""
    text: str
    kept: str
    """What of it is kept elsewhere: as a preset, in a file, in a run."""
    words: str = ""
    """What a filter looks through beside the title."""

    @property
    def is_edited(self) -> bool:
        """Whether something would be lost."""
        return self.text != self.kept


class NewRunScreen(FrugalScreen[None]):
    """A run in the making."""

    AUTO_FOCUS = ""
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - as Textual declares it
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "start", "start", id="new.start", tooltip="Start the run, and show it; q comes back here."),
        Binding("e,enter", "edit", "edit", id="new.edit", key_display="e", tooltip="Edit the text; Esc leaves it. Enter does the same."),
        Binding("g", "problem", "go to problem", id="new.problem", tooltip="Edit the line that the problem is in."),
        Binding("n", "name", "name", id="new.name", tooltip="How the run's name begins."),
        Binding("w", "write", "write", id="new.write", tooltip="Write the text to a file, from which `eos run FILE` runs it."),
        Binding("slash", "filter", "filter", id="new.filter", key_display="/", tooltip="Presets whose name or claim has these words."),
        Binding("u", "undo", show=False, id="new.undo", tooltip="Undo the last change of the text."),
        Binding("U", "redo", show=False, id="new.redo", tooltip="Make it again."),
        Binding("up,k", "move(-1)", show=False, id="new.up", tooltip="The preset above; what was typed in this one stays."),
        Binding("down,j", "move(1)", show=False, id="new.down", tooltip="The preset below."),
        Binding("pageup", "scroll(-1)", show=False, id="new.page_up", tooltip="The text, a page up."),
        Binding("pagedown", "scroll(1)", show=False, id="new.page_down", tooltip="The text, a page down."),
        Binding("escape", "escape", "done", id="new.escape", tooltip="Leave the text; else no filter; else as q."),
        Binding("q", "back", "back", id="new.back", tooltip="Leave, after a question where something typed would be lost."),
        Binding("question_mark", "help", "help", id="new.help", key_display="?", tooltip="This page."),
    ]

    def __init__(self, runs: Path, *, source: RunFolder | None, judge_seconds: float = JUDGE_SECONDS, ascii_only: bool = False) -> None:
        """Show the presets, and the source before them.

        Args:
            runs: The folder that the run goes to.
            source: A run whose spec to begin with.
            judge_seconds: How long the text is let be typed before it is judged; 0 judges at once, in the app's own thread.
            ascii_only: For terminals without Unicode.
        """
        super().__init__()
        self._runs = runs
        self._judge_seconds = judge_seconds
        self._drafts = [*([_of_run(source)] if source else []), *map(_of_preset, spec_file.presets())]
        self._at = self._drafts[0].title if source else FIRST
        self._filter = ""
        self._name = ""
        """As it was typed; else the draft's."""
        self._verdict: Verdict | None = None
        self._said = ""
        """What the last key led to, until the next one."""
        self._starting = False
        self._enabled: list[bool | None] = []
        """What the keys at the bottom of the screen were last drawn for."""
        self._asked = ("", "")
        self._wanted = threading.Event()
        self._stopped = threading.Event()
        self._names = Names(id="drafts", ascii_only=ascii_only)
        self._editor = TextArea(id="draft", show_line_numbers=True, compact=True, highlight_cursor_line=False)
        self._editor.cursor_blink = False
        self._head = Static(id="draft-head", markup=False)
        self._below = Static(id="verdict", markup=False)
        self._input = Input(placeholder="words of a preset's name or claim", id="filter", compact=True)

    def compose(self) -> ComposeResult:
        """From the top down."""
        yield self._head
        with Horizontal():
            yield self._names
            yield self._editor
        yield self._below
        yield self._input
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Show the first text, and begin to judge."""
        self._input.display = False
        if self._judge_seconds:
            threading.Thread(target=self._judge_on, name="eos-judge", daemon=True).start()
        self._editor.load_text(self._draft.text)
        self._judge_soon()

    def on_unmount(self) -> None:
        """Let the thread go."""
        self._stopped.set()
        self._wanted.set()

    @property
    def is_edited(self) -> bool:
        """Whether something was typed that is kept nowhere."""
        return any(draft.is_edited for draft in self._drafts)

    @property
    def verdict(self) -> Verdict | None:
        """What was last said of a draft."""
        return self._verdict

    def leave(self, then: Callable[[], None]) -> None:
        """Do it, after a question where something typed would be lost."""
        edited = [draft.title for draft in self._drafts if draft.is_edited]
        if not edited:
            then()
            return
        consequence = f"{', '.join(edited)}: changed, and neither written to a file nor started. The key w writes."
        question = ConfirmScreen("Leave what you typed?", consequence=consequence, yes="leave, it is lost", no="stay")
        self.app.push_screen(question, lambda sure: then() if sure else None)

    def on_descendant_focus(self) -> None:
        """Give the text room while it is typed."""
        self.set_class(self._editor.has_focus, "-typing")
        self.refresh_bindings()

    def on_descendant_blur(self) -> None:
        """Show the presets again."""
        self.on_descendant_focus()

    def on_text_area_changed(self) -> None:
        """Keep what is typed, and judge it."""
        self._change(text=self._editor.text)
        self._judge_soon()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while the user types."""
        self._filter = event.value
        if self._shown and self._draft not in self._shown:
            self._choose(self._shown[0])
        self._draw()

    def on_input_submitted(self) -> None:
        """Keep the filter, and go back to the presets."""
        self._input.display = False
        self.set_focus(None)

    def on_judged(self, message: Judged) -> None:
        """Show what was found, unless more was typed since."""
        if (message.text, message.name) == (self._draft.text, self._run_name):
            self._verdict = message.verdict
            self._draw()

    def on_started(self, message: Started) -> None:
        """Show the run, over this."""
        self._starting = False
        self._drafts = [replace(draft, kept=message.text) if draft.text == message.text else draft for draft in self._drafts]
        self._say(f"Started {message.folder.name}.")
        self.app.post_message(Opened(message.folder))

    def on_not_started(self, message: NotStarted) -> None:
        """Say why."""
        self._starting = False
        self._say(message.reason)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:  # noqa: ARG002 - Textual's signature
        """Keys are the text's while it is typed, but for Esc; only what can run is started."""
        if self._editor.has_focus or self._input.has_focus:
            return action == "escape"
        if action == "start":
            return self._verdict is not None and self._verdict.spec is not None and not self._starting
        return action != "problem" or bool(self._verdict and self._verdict.problem)

    def action_move(self, rows: int) -> None:
        """Choose another preset."""
        if shown := self._shown:
            index = shown.index(self._draft) if self._draft in shown else 0
            self._choose(shown[min(max(index + rows, 0), len(shown) - 1)])

    def action_scroll(self, pages: int) -> None:
        """Look at other lines of the text."""
        self._editor.scroll_relative(y=pages * self._editor.size.height, animate=False)

    def action_edit(self) -> None:
        """Type."""
        self._editor.focus()

    def action_problem(self) -> None:
        """Type where the problem is."""
        if self._verdict and self._verdict.line:
            self._editor.move_cursor((self._verdict.line - 1, 0), center=True)
        self._editor.focus()

    def action_undo(self) -> None:
        """Take back the last change."""
        self._editor.undo()

    def action_redo(self) -> None:
        """Make it again."""
        self._editor.redo()

    def action_filter(self) -> None:
        """Type a filter."""
        self._input.display = True
        self._input.focus()

    def action_name(self) -> None:
        """Ask how the run's name is to begin."""
        consequence = "Of the run's folder; a time stamp follows."
        self._ask("The run's name", consequence, text=self._run_name, problem=name_problem, then=self._call)

    def action_write(self) -> None:
        """Ask for a file to write the text to."""
        consequence = f"In {Path.cwd()}; `eos run FILE` runs it."
        self._ask("Write the text to a file", consequence, text=f"{self._run_name}.toml", problem=_file_problem, then=self._write)

    def action_escape(self) -> None:
        """Stop typing, of a filter with nothing left; show all presets; leave."""
        if self._editor.has_focus or self._input.has_focus:
            if self._input.has_focus:
                self._input.value = ""
            self.on_input_submitted()
        elif self._filter:
            self._input.value = ""
        else:
            self.action_back()

    def action_back(self) -> None:
        """Leave."""
        self.leave(self._pop)

    def action_start(self) -> None:
        """Start the run."""
        self._starting = True
        self._say("Starting ...")
        threading.Thread(target=self._start, args=(self._draft.text, self._run_name), name="eos-start", daemon=True).start()

    def action_help(self) -> None:
        """Explain keys and screen."""
        self.app.push_screen(HelpScreen(self, keys.bindings_of(type(self))))

    @property
    def _draft(self) -> Draft:
        return next(draft for draft in self._drafts if draft.title == self._at)

    @property
    def _run_name(self) -> str:
        return self._name or launch.name_of(f"{stem(self._draft.title)}.toml")

    @property
    def _shown(self) -> Sequence[Draft]:
        """The drafts that the filter leaves."""
        words = self._filter.lower().split()
        return [draft for draft in self._drafts if all(word in f"{draft.title} {draft.words}".lower() for word in words)]

    def _pop(self) -> None:
        self.app.pop_screen()

    def _choose(self, draft: Draft) -> None:
        """Show another draft; what was typed in this one stays."""
        if draft.title != self._at:
            self._at = draft.title
            self._verdict = None
            self._editor.load_text(draft.text)
            self._judge_soon()

    def _change(self, **fields: str) -> None:
        """Change the present draft."""
        self._drafts = [replace(draft, **fields) if draft.title == self._at else draft for draft in self._drafts]

    def _ask(self, question: str, consequence: str, *, text: str, problem: Callable[[str], str], then: Callable[[str], None]) -> None:
        screen = AskScreen(question, consequence=consequence, text=text, problem=problem)
        self.app.push_screen(screen, lambda answer: then(answer) if answer is not None else None)

    def _call(self, name: str) -> None:
        self._name = name
        self._judge_soon()

    def _judge_soon(self) -> None:
        self._said = ""
        self._asked = (self._draft.text, self._run_name)
        if self._judge_seconds:
            self._wanted.set()
        else:
            self.on_judged(self._judged())
        self._draw()

    def _judge_on(self) -> None:
        """Judge what was typed last, until the screen is gone."""
        while self._wanted.wait() and not self._stopped.wait(self._judge_seconds):
            self._wanted.clear()
            self.post_message(self._judged())

    def _judged(self) -> Judged:
        text, name = self._asked
        return Judged(text, name, drafts.judge(text, name=name, runs=self._runs))

    def _start(self, text: str, name: str) -> None:
        """Start the run as `eos run` does; in a thread, since a runner takes seconds to hold its folder."""
        try:
            verdict = drafts.judge(text, name=name, runs=self._runs)
            if verdict.spec is None:
                self.post_message(NotStarted(verdict.problem))
                return
            launched = launch.start(verdict.spec, name=name, runs=self._runs)
            launch.wait_started(launched)
        except (EosError, OSError) as error:
            self.post_message(NotStarted(str(error)))
        else:
            self.post_message(Started(text, launched.folder))

    def _write(self, name: str, *, sure: bool = False) -> None:
        path = Path(name).expanduser()
        if path.exists() and not sure:
            question = ConfirmScreen(f"Write over {path}?", consequence="It is there already.", yes="write over it", no="leave it")
            self.app.push_screen(question, lambda sure: self._write(name, sure=True) if sure else None)
            return
        text = self._draft.text
        try:
            with replacing(path) as place:
                place.write_text(text, encoding="utf-8")
        except EosError as error:
            self._say(str(error))
            return
        self._change(kept=text)
        self._say(f"Written. `eos run {path}` runs it.")

    def _say(self, words: str) -> None:
        self._said = words
        self._draw()

    def _draw(self) -> None:
        shown = self._shown
        edited = frozenset(draft.title for draft in self._drafts if draft.is_edited)
        self._names.show([draft.title for draft in shown], cursor=shown.index(self._draft) if self._draft in shown else 0, marked=edited)
        verdict = self._verdict or Verdict()
        state = "" if self._verdict is None else "cannot be started" if verdict.problem else "can be started"
        parts = [
            f"eos  new run {self._run_name}",
            state,
            f"filter: {self._filter}" if self._filter else "",
            "" if shown else "no such preset",
        ]
        _update(self._head, Text("   ".join(part for part in parts if part)))
        place = f"line {verdict.line}: " if verdict.line else ""
        problem = printable(self._said or (place + verdict.problem if verdict.problem else ""))
        width = max((len(title) for title, _ in verdict.facts), default=0)
        facts = printable("\n".join(f"{title:<{width}}  {words}" for title, words in verdict.facts))
        _update(self._below, Text("\n").join([*([Text(problem, "bold yellow")] if problem else []), Text(facts)]))
        enabled = [self.check_action(action, ()) for action in ("start", "problem")]
        if enabled != self._enabled:
            self._enabled = enabled
            self.refresh_bindings()


def _file_problem(name: str) -> str:
    return "" if name.strip() and not Path(name).expanduser().is_dir() else "Name a file to write."


def _update(widget: Static, text: Text) -> None:
    """Show the text; nothing is sent where it is there already."""
    if text != widget.content:
        widget.update(text)


def _of_preset(preset: spec_file.Preset) -> Draft:
    text = preset.path.read_text(encoding="utf-8")
    return Draft(title=preset.name, text=text, kept=text, words=f"{preset.claim} {preset.expect}")


def _of_run(folder: RunFolder) -> Draft:
    """The spec of a run; of one that cannot be read why, as a comment."""
    try:
        document = json.loads(folder.spec.read_bytes())
        text = f"# The spec of {folder.name}.\n{to_toml(document)}"
    except (OSError, ValueError, AttributeError) as error:
        text = f"# The spec of {folder.name} cannot be read: {error}\n"
    return Draft(title=folder.name, text=text, kept=text)
