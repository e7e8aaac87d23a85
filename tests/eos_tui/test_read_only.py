"""A read-only app: what it refuses, and that it refuses what nobody has thought about."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from textual.app import App
from textual.binding import Binding
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input

from eos_tui import read_only
from eos_tui.app import EosApp
from eos_tui.screens.compare import CompareScreen
from eos_tui.screens.help import HelpScreen
from eos_tui.screens.home import HomeScreen
from eos_tui.screens.run import RunScreen
from eos_tui.screens.sweep import SweepScreen
from tests.eos_tui.fakes import NOW, FakeRun, filled, live, requests
from tests.eos_tui.pilots import look, screen, settled

CLASSES = {kind.__name__: kind for kind in (App, Screen, Widget, Input, EosApp, HomeScreen, CompareScreen, RunScreen, SweepScreen)}
WRITING = {
    HomeScreen: {"stop", "resume", "rename", "export", "delete", "new", "again"},
    CompareScreen: set(),
    RunScreen: {"stop", "pause", "panels", "again"},
    SweepScreen: {"stop"},
}


class NewScreen(Screen[None]):
    """A screen of tomorrow."""

    done = False

    def action_unheard(self) -> None:
        self.done = True


class OtherHome(HomeScreen):
    """Does something else under a known name."""

    done = False

    def action_open(self) -> None:
        self.done = True


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRun]:
    monkeypatch.setenv("EOS_RUNS", str(tmp_path))
    with live(filled(FakeRun(tmp_path))) as alive:
        yield alive


def app_of(shown: object, *, is_read_only: bool = True) -> EosApp:
    return EosApp(shown, poll_seconds=0, clock=lambda: NOW, read_only=is_read_only)


def names(kind: type[Widget]) -> set[str]:
    """The actions of a screen's keys."""
    return {binding.action.partition("(")[0] for binding in kind.BINDINGS if isinstance(binding, Binding)}


@pytest.mark.parametrize("key", ["s", "space"])
async def test_keys_that_would_touch_the_run_do_nothing(run: FakeRun, key: str) -> None:
    app = app_of(run.folder)
    async with app.run_test(size=(100, 30)) as pilot:
        before = await look(pilot)

        await pilot.press(key)

        assert await settled(pilot) == before
        assert "stop" not in before.splitlines()[-1]
        assert isinstance(app.screen, RunScreen)
    assert requests(run) == []


@pytest.mark.slow
@pytest.mark.parametrize("key", ["s", "r", "R", "e", "d"])
async def test_keys_that_would_touch_runs_of_the_list_do_nothing(tmp_path: Path, key: str) -> None:
    run = filled(FakeRun(tmp_path))
    run.end(1860, status="stopped")
    app = app_of(tmp_path)
    async with app.run_test(size=(100, 30)) as pilot:
        before = await look(pilot)

        await pilot.press(key)

        assert await settled(pilot) == before
        assert isinstance(app.screen, HomeScreen)
    assert sorted(path.name for path in tmp_path.iterdir()) == [run.folder.name]
    assert requests(run) == []


@pytest.mark.slow
async def test_keys_that_only_look_do_what_they_do_elsewhere(run: FakeRun) -> None:
    app = app_of(run.folder.path.parent)
    async with app.run_test(size=(100, 30)) as pilot:
        await look(pilot)

        await pilot.press("slash", *"digits", "backspace", "enter", "enter")
        assert "1,860" in await look(pilot)
        await pilot.press("left")
        assert "1,8" in await settled(pilot)
        await pilot.press("q")

        assert isinstance(app.screen, HomeScreen)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [HomeScreen, RunScreen])
async def test_the_help_tells_of_the_keys_that_are_left(run: FakeRun, kind: type[Screen[None]]) -> None:
    app = app_of(run.folder if kind is RunScreen else run.folder.path.parent)
    async with app.run_test(size=(100, 60)) as pilot:
        await look(pilot)
        await pilot.press("question_mark")
        shown = await settled(pilot)

    told = {binding.tooltip.split(".")[0].split(",")[0]: binding.action for binding in kind.BINDINGS}
    refused = {words for words, action in told.items() if action in WRITING[kind]}
    assert refused
    assert {words for words in told if words in " ".join(shown.split())} & refused == set()
    assert "Leave" in shown


async def test_an_action_that_nobody_has_declared_is_refused(tmp_path: Path) -> None:
    app = app_of(tmp_path)
    async with app.run_test() as pilot:
        new, other = NewScreen(), OtherHome(tmp_path, poll_seconds=0, clock=lambda: NOW)
        for shown, action in ((new, "screen.unheard"), (other, "screen.open")):
            await app.push_screen(shown)
            await pilot.pause()

            assert await app.run_action(action) is False
            assert not shown.done


@pytest.mark.parametrize("action", ["suspend_process", "command_palette", "screenshot", "simulate_key('s')", "push_screen('x')"])
async def test_what_textual_itself_could_do_outside_the_app_is_refused(tmp_path: Path, action: str) -> None:
    app = app_of(tmp_path)
    async with app.run_test():
        assert await app.run_action(action) is False


async def test_no_address_is_opened_and_no_file_is_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_of(tmp_path / "runs")
    async with app.run_test():
        monkeypatch.setattr(app._driver, "open_url", lambda *_: pytest.fail("it was opened"))
        source = tmp_path / "a.txt"
        source.write_text("a")

        app.open_url("http://localhost/")

        assert app.deliver_text(source, save_directory=tmp_path, save_filename="b.txt") is None
        assert app.deliver_binary(source, save_directory=tmp_path, save_filename="b.txt") is None
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_every_action_that_is_declared_harmless_is_one_of_its_class() -> None:
    missing = [
        (name, action)
        for name, actions in read_only.HARMLESS.items()
        for action in actions
        if not {f"action_{action}", f"_action_{action}"} & set(vars(CLASSES[name]))
    ]

    assert missing == []


@pytest.mark.parametrize("kind", WRITING)
def test_every_key_either_writes_or_is_declared_harmless(kind: type[Screen[None]]) -> None:
    undeclared = {name for name in names(kind) if "." not in name} - read_only.HARMLESS[kind.__name__]

    assert undeclared == WRITING[kind], "a key that only looks belongs into read_only.HARMLESS, or a page in a browser lacks it"


async def test_an_app_that_is_not_read_only_asks_before_it_stops(run: FakeRun) -> None:
    app = app_of(run.folder, is_read_only=False)
    async with app.run_test(size=(100, 30)) as pilot:
        await look(pilot)
        await pilot.press("s")

        assert "Stop" in screen(pilot)
        assert not isinstance(app.screen, HelpScreen)
