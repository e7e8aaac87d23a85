"""The screen of a new run: what is typed, what is said of it, and what keys do."""

import json

import pytest
from textual.widgets import TextArea

from eos_tui import launch
from eos_tui.app import EosApp
from eos_tui.screens.confirm import ConfirmScreen
from eos_tui.screens.help import HelpScreen
from eos_tui.screens.home import HomeScreen
from eos_tui.screens.new_run import NewRunScreen
from eos_tui.screens.run import RunScreen
from runners import run_folder, spec_file
from runners.spec import Train
from tests.eos_tui.fakes import NOW, FakeRun
from tests.eos_tui.pilots import look, screen, settled
from tests.eos_tui.test_launch import FAKE, until

MINE = "digits-gd-20270115T070000Z-00cc"
"""A run, called as the preset is."""


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """One run that has ended, in the folder where runs are looked for; the working folder is beside it."""
    place = tmp_path / "runs"
    monkeypatch.setenv("EOS_RUNS", str(place))
    for name in ("NO_COLOR", "TEXTUAL_THEME", "EOS_DATA"):
        monkeypatch.delenv(name, raising=False)
    run = FakeRun(place, name=MINE)
    run.folder.spec.write_bytes(spec_file.to_json(spec_file.load("digits-gd", ["run.steps=77", "optimizer.lr=0.25"])))
    run.header()
    run.end(10)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield place
    for folder in run_folder.all_runs(place):
        if folder.is_held():
            launch.kill(folder)


@pytest.fixture
def fake(monkeypatch):
    """Runs are carried out by a runner that computes nothing, in one of its ways."""
    return lambda way: monkeypatch.setattr(launch, "RUNNER", (*FAKE, way))


class Opened:
    """The app with the screen of a new run on it."""

    def __init__(self, runs, *, size=(100, 30), key="n"):
        self.app = EosApp(runs, poll_seconds=0, clock=lambda: NOW)
        self._context = self.app.run_test(size=size)
        self._key = key

    async def __aenter__(self):
        self.pilot = await self._context.__aenter__()
        await look(self.pilot)
        await self.pilot.press(self._key)
        self.shown = await self.wait_for(lambda: not isinstance(self.app.screen, HomeScreen))
        return self

    async def __aexit__(self, *error):
        await self._context.__aexit__(*error)

    async def press(self, *keys):
        await self.pilot.press(*keys)
        return await settled(self.pilot)

    async def type(self, text):
        """Put a text before all there is, as if it had been typed."""
        editor = self.app.screen.query_one(TextArea)
        editor.move_cursor((0, 0))
        editor.insert(text)
        await self.pilot.pause()

    async def wait_for(self, condition):
        for _ in range(500):
            await self.pilot.pause(0.02)
            if condition():
                return await settled(self.pilot)
        raise AssertionError(screen(self.pilot))

    @property
    def text(self):
        return self.app.screen.query_one(TextArea).text


def made(runs):
    return [folder for folder in run_folder.all_runs(runs) if folder.name != MINE]


async def test_it_begins_with_the_preset_that_eos_run_runs(runs):
    async with Opened(runs) as opened:
        assert "> digits-gd" in opened.shown
        assert "can be started" in opened.shown
        assert "sharpness 2/lr = 6.67 at lr 0.3" in opened.shown
        assert "2,000 steps, each of all 1,500 examples" in opened.shown
        assert f"{runs}/digits-gd-..." in opened.shown


@pytest.mark.slow
async def test_arrows_choose_another_preset(runs):
    async with Opened(runs) as opened:
        below = await opened.press("down")
        above = await opened.press("k", "k")
        first = await opened.press(*["up"] * 12)

    assert "> digits-momentum" in below
    assert "(2+2b)/lr" in below
    assert "> digits-edge" in above
    assert "> chebyshev" in first


@pytest.mark.slow
async def test_a_filter_looks_through_names_and_claims(runs):
    async with Opened(runs) as opened:
        typed = await opened.press("slash", *"tum")
        kept = await opened.press("enter")
        nothing = await opened.press("slash", "z", "Z", "enter")
        cleared = await opened.press("slash", "escape")

    assert "> digits-momentum" in typed
    assert "chebyshev  " not in typed
    assert "filter: tum" in kept
    assert "no such preset" in nothing
    assert "cifar10-cnn  " in cleared


@pytest.mark.slow
async def test_escape_takes_the_filter_away_before_it_leaves(runs):
    async with Opened(runs) as opened:
        await opened.press("slash", *"sgd", "enter")
        shown = await opened.press("escape")
        await opened.press("escape")
        assert isinstance(opened.app.screen, HomeScreen)

    assert "filter" not in shown.splitlines()[0]


@pytest.mark.slow
async def test_what_is_wrong_is_said_while_it_is_typed_and_what_follows_once_it_is_right(runs):
    async with Opened(runs) as opened:
        await opened.press("e")
        wrong = await opened.press("b", "a", "d")
        right = await opened.press(*["backspace"] * 3)

    assert "cannot be started" in wrong
    assert "line 1: not TOML" in wrong
    assert "cannot be started" not in right
    assert "2/lr" in right


@pytest.mark.slow
async def test_letters_are_text_while_it_is_typed(runs):
    async with Opened(runs) as opened:
        await opened.press("e", "q", "s", "question_mark")

        assert opened.text.startswith("qs?#")
        assert isinstance(opened.app.screen, NewRunScreen)


async def test_a_spec_that_is_wrong_cannot_be_started(runs, fake):
    fake("finish")
    async with Opened(runs) as opened:
        await opened.type("nonsense\n")
        shown = await opened.press("s")
        opened.app.screen.action_start()
        refused = await opened.wait_for(lambda: not opened.app.screen._starting)

    assert "cannot be started" in shown
    assert "not TOML" in refused
    assert made(runs) == []


@pytest.mark.slow
async def test_g_goes_to_the_line_of_the_problem(runs):
    async with Opened(runs) as opened:
        await opened.press("e")
        editor = opened.app.screen.query_one(TextArea)
        editor.move_cursor((editor.document.line_count - 1, 0))
        editor.insert("\n[nowhere]\n")
        editor.move_cursor((0, 0))
        await opened.press("escape")
        shown = await opened.press("g")

        place = next(index for index, line in enumerate(editor.text.splitlines()) if line == "[nowhere]")
        assert editor.cursor_location == (place, 0)
        assert editor.has_focus
        assert f"line {place + 1}: nowhere is not a known key" in shown


@pytest.mark.slow
async def test_u_and_shift_u_undo_and_redo(runs):
    async with Opened(runs) as opened:
        before = opened.text
        await opened.type("# mine\n")
        await opened.press("u")
        undone = opened.text
        await opened.press("U")

        assert undone == before
        assert opened.text == "# mine\n" + before


@pytest.mark.slow
async def test_pages_of_the_text_are_turned_without_typing(runs):
    async with Opened(runs, size=(80, 24)) as opened:
        down = await opened.press("pagedown")
        up = await opened.press("pageup")

    assert "# Claim:" in opened.shown
    assert "# Claim:" not in down
    assert "# Claim:" in up


async def test_what_was_typed_stays_while_other_presets_are_looked_at(runs):
    async with Opened(runs) as opened:
        await opened.type("# mine\n")
        other = await opened.press("down")
        back = await opened.press("up")

        assert opened.text.startswith("# mine\n")
    assert "•digits-gd" in other
    assert "# mine" in back


@pytest.mark.slow
@pytest.mark.parametrize("key", ["q", pytest.param("escape", marks=pytest.mark.slow)])
async def test_leaving_asks_where_something_typed_would_be_lost(runs, key):
    async with Opened(runs) as opened:
        await opened.type("# mine\n")
        asked = await opened.press(key)
        assert isinstance(opened.app.screen, ConfirmScreen)
        await opened.press("n")
        assert opened.text.startswith("# mine\n")
        await opened.press(key, "y")
        assert isinstance(opened.app.screen, HomeScreen)

    assert "digits-gd: changed, and neither written to a file nor started." in asked


@pytest.mark.slow
@pytest.mark.parametrize("key", ["q", "escape"])
async def test_leaving_asks_nothing_where_nothing_was_typed(runs, key):
    async with Opened(runs) as opened:
        await opened.press(key)

        assert isinstance(opened.app.screen, HomeScreen)


@pytest.mark.slow
async def test_ctrl_c_asks_too_and_leaves_at_once_when_it_is_pressed_again(runs):
    async with Opened(runs) as opened:
        await opened.type("# mine\n")
        await opened.press("ctrl+c")
        assert isinstance(opened.app.screen, ConfirmScreen)
        assert opened.app._exit is False
        await opened.pilot.press("ctrl+c")
        await opened.pilot.pause()
        assert opened.app._exit is True


@pytest.mark.slow
async def test_a_signal_ends_the_app_without_a_question(runs):
    async with Opened(runs) as opened:
        await opened.type("# mine\n")
        opened.app.leave_soon()
        await opened.pilot.pause()
        assert opened.app._exit is True


@pytest.mark.slow
async def test_w_writes_the_text_to_a_file_that_eos_run_takes(runs, tmp_path):
    async with Opened(runs) as opened:
        await opened.type("# mine\n")
        shown = await opened.press("w", "enter")
        await opened.press("q")
        assert isinstance(opened.app.screen, HomeScreen), "what is written is not lost"

    written = tmp_path / "work" / "digits-gd.toml"
    assert "Written. `eos run digits-gd.toml` runs it." in shown
    assert written.read_text().startswith("# mine\n")
    assert spec_file.read(str(written)) == spec_file.read("digits-gd")


@pytest.mark.slow
async def test_a_file_that_is_there_is_written_over_after_a_question_alone(runs, tmp_path):
    there = tmp_path / "work" / "digits-gd.toml"
    there.write_text("precious")
    async with Opened(runs) as opened:
        await opened.press("w", "enter")
        assert isinstance(opened.app.screen, ConfirmScreen)
        await opened.press("n")
        kept = there.read_text()
        await opened.press("w", "enter", "y")

    assert kept == "precious"
    assert there.read_text().startswith("# Claim:")


@pytest.mark.slow
async def test_a_file_that_cannot_be_written_is_said(runs, tmp_path):
    (tmp_path / "work" / "file").write_text("")
    async with Opened(runs, size=(160, 30)) as opened:
        shown = await opened.press("w", "ctrl+u", *"file", "slash", "x", "enter")

    assert "cannot be written" in shown


@pytest.mark.slow
async def test_n_names_the_run(runs):
    async with Opened(runs) as opened:
        named = await opened.press("n", "ctrl+u", "a", "minus", "b", "enter")
        wrong = await opened.press("n", "slash", "enter")
        unchanged = await opened.press("escape")

    assert f"{runs}/a-b-..." in named
    assert "is not a name for a run" in wrong
    assert f"{runs}/a-b-..." in unchanged


@pytest.mark.slow
async def test_s_starts_the_run_and_shows_it_and_q_comes_back_to_the_text(runs, fake):
    fake("wait")
    async with Opened(runs) as opened:
        await opened.type("# mine\n")
        await opened.pilot.press("n", "ctrl+u", *"try", "enter", "s")
        await opened.wait_for(lambda: isinstance(opened.app.screen, RunScreen))
        [folder] = made(runs)
        shown = await look(opened.pilot)
        assert opened.app.screen.snapshot.name == folder.name
        back = await opened.press("q")
        await opened.press("q")
        assert isinstance(opened.app.screen, HomeScreen), "what was started is not lost"

    assert folder.name.startswith("try-")
    assert spec_file.from_json(folder.spec.read_bytes()) == spec_file.read("digits-gd")
    assert "eos  try  running" in shown
    assert "# mine" in back
    assert f"Started {folder.name}." in back
    assert folder.is_held()


@pytest.mark.slow
async def test_a_runner_that_dies_at_once_is_said_and_the_text_stays(runs, fake):
    fake("die")
    async with Opened(runs, size=(160, 40)) as opened:
        await opened.press("s")
        shown = await opened.wait_for(lambda: not opened.app.screen._starting)

        assert isinstance(opened.app.screen, NewRunScreen)
    assert "the runner died" in shown


@pytest.mark.slow
async def test_a_run_is_started_once_however_often_the_key_is_pressed(runs, fake):
    fake("wait")
    async with Opened(runs) as opened:
        await opened.pilot.press("s", "s", "s")
        await opened.wait_for(lambda: isinstance(opened.app.screen, RunScreen))

    assert len(made(runs)) == 1


@pytest.mark.parametrize("opening", [["N"], pytest.param(["enter", "N"], marks=pytest.mark.slow)], ids=["in the list", "in its screen"])
async def test_a_run_can_be_made_from_the_spec_of_another(runs, fake, opening):
    fake("finish")
    async with Opened(runs, key=opening[0], size=(120, 40)) as opened:
        for key in opening[1:]:
            await opened.press(key)
        shown = screen(opened.pilot)
        await opened.type("# mine\n")
        assert [draft.title for draft in opened.app.screen._drafts if draft.is_edited] == [MINE]
        await opened.press("s")
        await opened.wait_for(lambda: made(runs) or not opened.app.screen._starting)
        until(lambda: len(run_folder.all_runs(runs)) == 2)

    assert "> digits-gd-2027" in shown
    assert f"# The spec of {MINE}." in shown
    assert "2/lr = 8.00 at lr 0.25" in shown
    [new] = [folder for folder in run_folder.all_runs(runs) if folder.name != MINE]
    assert new.name.startswith("digits-gd-20")
    assert json.loads(new.spec.read_bytes())["run"]["steps"] == 77


@pytest.mark.slow
async def test_the_spec_of_a_run_that_cannot_be_read_is_said(runs):
    (runs / MINE / "spec.json").write_text("{nonsense")

    async with Opened(runs, key="N", size=(160, 30)) as opened:
        assert "cannot be read" in opened.shown


@pytest.mark.slow
async def test_files_that_are_missing_are_said_and_nothing_is_started(runs):
    async with Opened(runs, size=(120, 40)) as opened:
        shown = await opened.press("slash", *"-cnn", "enter")

    assert "cannot be started" in shown
    assert "EOS_DATA" in shown


async def test_the_help_explains_every_key(runs):
    async with Opened(runs, size=(120, 60)) as opened:
        shown = await opened.press("question_mark")
        assert isinstance(opened.app.screen, HelpScreen)

    for binding in NewRunScreen.BINDINGS:
        assert binding.tooltip.split(";")[0][:40] in shown


async def test_everything_has_room_on_a_small_terminal(runs):
    async with Opened(runs, size=(80, 24)) as opened:
        typing = await opened.press("e")

    rows = opened.shown.splitlines()
    assert "> digits-gd" in opened.shown
    assert "stored in" in opened.shown
    assert "? help" in rows[-1]
    assert "> digits-gd" not in typing, "the text has all the columns while it is typed"
    assert "esc done" in typing.splitlines()[-1]


@pytest.mark.slow
async def test_a_terminal_without_unicode_gets_ascii(runs):
    from eos_tui.display import Display

    app = EosApp(runs, poll_seconds=0, clock=lambda: NOW, display=Display(ascii=True))
    async with app.run_test(size=(100, 30)) as pilot:
        await look(pilot)
        await pilot.press("n", "e", "x", "escape")
        shown = await settled(pilot)

    assert ">*digits-gd" in shown
    assert shown.isascii()


@pytest.mark.slow
async def test_what_is_typed_is_judged_in_a_thread_once_it_pauses(runs, monkeypatch):
    app = EosApp(runs, poll_seconds=0.05, clock=lambda: NOW)
    judged = []
    monkeypatch.setattr("eos_tui.drafts.spec_file.from_toml", lambda text: judged.append(text) or Train())
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause(0.2)
        await pilot.press("n")
        while "can be started" not in screen(pilot):
            await pilot.pause(0.02)
        before = len(judged)
        for letter in "abcdefgh":
            app.screen.query_one(TextArea).insert(letter)
        while not judged[-1].startswith("abcdefgh"):
            await pilot.pause(0.02)

    assert len(judged) <= before + 2, "not once a letter"


@pytest.mark.slow
async def test_a_run_that_is_started_here_computes(runs):
    async with Opened(runs, size=(120, 40)) as opened:
        await opened.press("slash", *"y-ngd", "enter", "s")
        await opened.wait_for(lambda: isinstance(opened.app.screen, RunScreen))
        [folder] = made(runs)
        until(lambda: folder.is_held() is False, seconds=120)
        shown = await look(opened.pilot)

    assert "finished" in shown
    assert "step 9 of 9" in shown
