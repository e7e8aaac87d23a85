"""What users choose in the app: keys, commands of the palette, panels; and that the next app knows it."""

import re
from pathlib import Path

import pytest
from textual.command import CommandInput
from textual.widgets import OptionList

from eos_tui import arrangement, settings
from eos_tui.app import EosApp, once
from eos_tui.arrangement import Choice
from eos_tui.screens.commands import Palette
from eos_tui.screens.confirm import ConfirmScreen
from eos_tui.screens.help import HelpScreen
from eos_tui.screens.home import HomeScreen
from eos_tui.screens.panels import PanelsScreen
from eos_tui.settings import RunView
from eos_tui.widgets.panel import PanelView
from tests.eos_tui.fakes import NOW, PANELS, FakeRun
from tests.eos_tui.pilots import look, screen, settled


@pytest.fixture
def path(tmp_path):
    return tmp_path / "settings" / "config.toml"


def app_of(shown, path: Path, text: str | None = None) -> EosApp:
    """The app with these settings, or with those that are there."""
    if text is not None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    folder = shown.folder if isinstance(shown, FakeRun) else shown
    return EosApp(folder, poll_seconds=0, clock=lambda: NOW, loaded=settings.load(path))


def begun(run: FakeRun) -> FakeRun:
    """The run with a few records."""
    run.header()
    run.progress(range(0, 201, 50))
    return run


def titles(app: EosApp) -> list[str]:
    return [view.panel.title for view in app.screen.query(PanelView)]


async def palette(pilot, letters: str = "") -> list[str]:
    """The commands that the palette offers for these letters."""
    await pilot.press("colon", *letters)
    for _ in range(2):
        await pilot.app.workers.wait_for_complete()
        await pilot.pause()
    return [str(option.prompt) for option in pilot.app.screen.query_one(OptionList).options]


# Keys


async def test_an_action_is_on_the_key_that_the_user_gave_it_and_on_no_other(run, path):
    async with app_of(begun(run), path, '[keys]\nrun.stop = "S"\nconfirm.yes = "Y"').run_test(size=(120, 40)) as pilot:
        shown = await look(pilot)
        await pilot.press("s")
        before = isinstance(pilot.app.screen, ConfirmScreen)
        await pilot.press("S")
        after = isinstance(pilot.app.screen, ConfirmScreen)
        question = await settled(pilot)

    assert not before
    assert after
    assert " S stop " in shown
    assert "│  Y  stop the run" in question


async def test_footer_and_help_show_the_keys_as_they_are(run, path):
    text = '[keys]\nrun.pause = ""\nrun.help = "h,?"\nrun.stop = "ctrl+x"\napp.palette = "P"'
    async with app_of(begun(run), path, text).run_test(size=(120, 60)) as pilot:
        shown = await look(pilot)
        await pilot.press("space")
        await pilot.press("h")
        told = re.sub(r"[│╭╮╰╯─]", " ", await settled(pilot))
        is_help = isinstance(pilot.app.screen, HelpScreen)

    assert " h help" in shown
    assert "^x stop" in shown
    assert "pause" not in shown.splitlines()[-1]
    assert is_help
    assert not run.folder.control.exists()
    told = "\n".join(" ".join(line.split()) for line in told.splitlines())
    assert "Ctrl+x Stop the run, after a question." in told
    assert "Pause the run, or let it go on." in told
    assert "space Pause" not in told
    assert "h, ? This page." in told
    assert "P Everything that can be done here," in told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[display]\nthem = 3", "them is not a known key"),
        ("[views\n", "not TOML"),
        ('[keys]\nrun.sotp = "S"', "Did you mean 'run.stop'?"),
        ('[display]\ntheme = "nrod"', "Did you mean 'nord'?"),
    ],
)
async def test_settings_that_are_wrong_are_a_notice_over_a_run_that_is_shown_all_the_same(run, path, text, words):
    async with app_of(begun(run), path, text).run_test(size=(120, 40), notifications=True) as pilot:
        shown = await look(pilot)
        await pilot.press("s")
        asked = isinstance(pilot.app.screen, ConfirmScreen)
        notices = [notice.message for notice in pilot.app._notifications]

    assert len(notices) == 1
    assert words in notices[0]
    assert str(path)[:20] in shown
    assert "step 200 of 3,000" in shown
    assert asked


def test_the_printed_screen_has_no_notices(run, path):
    path.parent.mkdir()
    path.write_text("nonsense = 1")

    shown = once(begun(run).folder, width=120, height=40, loaded=settings.load(path))

    assert "nonsense" not in shown


# The palette


@pytest.mark.slow
async def test_the_palette_has_what_can_be_done_now_with_its_key(run, path):
    async with app_of(begun(run), path, '[keys]\nrun.smooth = ""').run_test(size=(80, 24)) as pilot:
        await look(pilot)
        living = await palette(pilot)
        await pilot.press("escape")
        run.end(1900)
        await look(pilot)
        ended = await palette(pilot)

    assert "s           Stop the run, after a question" in living
    assert "            A moving average over faint series; again for a longer one, then none" in living
    assert any(line.startswith("Ctrl+c, Ctrl+q") for line in living)
    assert any("Theme nord" in line for line in living)
    assert not any("Stop the run" in line for line in ended)
    assert len(ended) == len(living) - 2


@pytest.mark.slow
async def test_letters_find_a_command_and_enter_does_it(run, path):
    async with app_of(begun(run), path).run_test(size=(80, 24)) as pilot:
        await look(pilot)
        found = await palette(pilot, "stop")
        await pilot.press("enter")
        await pilot.pause()
        await settled(pilot)
        is_question = isinstance(pilot.app.screen, ConfirmScreen)

    assert found[0].endswith("Stop the run, after a question")
    assert is_question


async def test_the_palette_of_the_list_has_the_actions_of_the_list(run, path):
    begun(run)
    async with app_of(run.folder.path.parent, path).run_test(size=(80, 24)) as pilot:
        await look(pilot)
        found = await palette(pilot)
        await pilot.press("escape")
        is_list = isinstance(pilot.app.screen, HomeScreen)

    assert any("Sort by the next column" in line for line in found)
    assert not any("Pause" in line for line in found)
    assert is_list


async def test_the_palette_is_ascii_where_that_is_asked_and_nothing_in_it_moves_by_itself(run, path):
    app = app_of(begun(run), path, "[display]\nascii = true")
    async with app.run_test(size=(80, 24)) as pilot:
        await look(pilot)
        await palette(pilot)
        shown = screen(pilot)
        blinks = app.screen.query_one(CommandInput).cursor_blink
        is_palette = isinstance(app.screen, Palette)

    assert is_palette
    assert not blinks
    assert "".join(shown.splitlines()[:-1]).isascii()


@pytest.mark.slow
async def test_a_theme_is_chosen_by_name_and_remembered(run, path):
    app = app_of(begun(run), path)
    async with app.run_test(size=(80, 24)) as pilot:
        await look(pilot)
        await palette(pilot, "nord")
        await pilot.press("enter")
        await pilot.pause()
        chosen = app.theme
    next_app = app_of(run, path)

    assert chosen == "nord"
    assert next_app.theme == "nord"


# Panels


@pytest.mark.slow
async def test_panels_are_hidden_and_ordered_by_keys_and_remembered(run, path):
    async with app_of(begun(run), path).run_test(size=(80, 24)) as pilot:
        await look(pilot)
        await pilot.press("v")
        offered = await settled(pilot)
        await pilot.press("space", "j", "J")
        await pilot.press("enter")
        await settled(pilot)
        chosen = titles(pilot.app)
    async with app_of(run, path).run_test(size=(80, 24)) as pilot:
        await look(pilot)
        again = titles(pilot.app)

    assert "> [x] loss" in offered
    assert chosen == again == ["NTK trace", "sharpness"]


def test_the_printed_screen_has_the_panels_that_were_chosen(run, path):
    path.parent.mkdir()
    path.write_text('[views.run]\nhidden = ["loss"]\norder = ["NTK trace"]')

    printed = once(begun(run).folder, width=80, height=24, loaded=settings.load(path))

    assert printed.index("╭ NTK trace") < printed.index("╭ sharpness")
    assert "╭ loss" not in printed


@pytest.mark.slow
@pytest.mark.parametrize("key", ["escape", "q"])
async def test_leaving_the_list_of_panels_leaves_them_as_they_were(run, path, key):
    async with app_of(begun(run), path).run_test(size=(80, 24)) as pilot:
        await look(pilot)
        await pilot.press("v", "space", "J", key)
        await settled(pilot)
        after = titles(pilot.app)

    assert after == ["loss", "sharpness", "NTK trace"]
    assert not path.exists()


@pytest.mark.slow
async def test_the_last_panel_cannot_be_hidden_and_all_come_back_with_a_key(run, path):
    async with app_of(begun(run), path).run_test(size=(80, 24)) as pilot:
        await look(pilot)
        await pilot.press("v", "space", "down", "space", "down", "x", "enter")
        await settled(pilot)
        one = titles(pilot.app)
        await pilot.press("v", "a", "enter")
        await settled(pilot)
        every = titles(pilot.app)

    assert one == ["NTK trace"]
    assert every == ["loss", "sharpness", "NTK trace"]


@pytest.mark.slow
@pytest.mark.parametrize(("down", "up"), [("shift+down", "shift+up"), ("d", "u"), ("J", "K")])
async def test_arrows_with_shift_and_plain_letters_move_a_panel_alike(run, path, down, up):
    async with app_of(begun(run), path).run_test(size=(80, 24)) as pilot:
        await look(pilot)
        await pilot.press("v", down, up, down)
        shown = await settled(pilot)

    assert re.findall(r"\[x\] (\w+)", shown) == ["sharpness", "loss", "NTK"]


@pytest.mark.slow
async def test_the_list_of_panels_has_a_help_of_its_own(run, path):
    async with app_of(begun(run), path).run_test(size=(80, 24)) as pilot:
        await look(pilot)
        await pilot.press("v", "question_mark")
        shown = await settled(pilot)
        await pilot.press("q")
        is_back = isinstance(pilot.app.screen, PanelsScreen)

    assert "Show or hide the panel. One always stays." in shown
    assert is_back


async def test_hidden_panels_are_not_among_the_lines_of_a_small_terminal(run, path):
    text = '[views.run]\nhidden = ["sharpness"]\norder = ["NTK trace"]'
    async with app_of(begun(run), path, text).run_test(size=(40, 8)) as pilot:
        shown = await look(pilot)

    assert shown.index("NTK trace") < shown.index("loss")
    assert "sharpness 2" not in shown


@pytest.mark.parametrize(
    ("view", "shown"),
    [
        (RunView(), ["loss", "sharpness", "NTK trace"]),
        (RunView(order=("NTK trace", "gone", "loss")), ["NTK trace", "loss", "sharpness"]),
        (RunView(hidden=("sharpness", "gone")), ["loss", "NTK trace"]),
        (RunView(hidden=("sharpness", "loss", "NTK trace"), order=("NTK trace",)), ["NTK trace"]),
    ],
)
def test_a_view_says_which_panels_in_which_order_and_never_none(view, shown):
    assert [panel.title for panel in arrangement.arranged(PANELS, view)] == shown


def test_a_choice_leaves_what_is_remembered_of_other_runs_panels():
    view = RunView(order=("other", "sharpness", "loss"), hidden=("other", "loss"))

    hidden, order = arrangement.remembered(
        view, [Choice("loss", is_shown=True), Choice("new", is_shown=False), Choice("sharpness", is_shown=True)]
    )

    assert hidden == ("other", "new")
    assert order == ("other", "loss", "new", "sharpness")


# What else is remembered


@pytest.mark.slow
async def test_scale_axis_and_average_of_the_panels_are_there_again_in_the_next_app(run, path):
    async with app_of(begun(run), path).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        await pilot.press("tab", "l", "x", "m")
        chosen = await settled(pilot)
    async with app_of(run, path).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        await pilot.press("tab")
        again = await settled(pilot)

    assert again == chosen
    remembered = settings.read(path).settings.views.run
    assert remembered == RunView(scales={"loss": "linear"}, unit="time", smoothing=0.01)


@pytest.mark.slow
async def test_sort_order_and_filter_of_the_list_are_there_again_in_the_next_app(run, path):
    begun(run)
    place = run.folder.path.parent
    async with app_of(place, path).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        await pilot.press("o", "o", "O")
        await pilot.press("slash", *"digits", "enter")
        await settled(pilot)
    async with app_of(place, path).run_test(size=(120, 40)) as pilot:
        shown = await look(pilot)
        await pilot.press("escape")
        await settled(pilot)

    assert "name ↓" in shown
    assert "of them: digits" in shown
    assert settings.read(path).settings.views.home.filter == ""
    assert settings.read(path).settings.views.home.reverse


async def test_a_remembered_column_that_there_is_not_counts_as_none(run, path):
    app = app_of(begun(run).folder.path.parent, path, '[views.home]\nsort = "colour"')
    async with app.run_test(size=(120, 40)) as pilot:
        shown = await look(pilot)

    assert "age ↓" in shown
