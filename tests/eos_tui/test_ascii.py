"""With --ascii nothing else is sent, on any screen; and the command line's options reach the app."""

import pytest
from typer.testing import CliRunner

from eos_tui import app as app_module
from eos_tui.app import EosApp, once
from eos_tui.cli import app as commands
from eos_tui.cli import attending
from eos_tui.display import Display
from tests.eos_tui.fakes import NOW, FakeRun, filled, live
from tests.eos_tui.hostile import clock, hostile
from tests.eos_tui.pilots import settled

ASCII = Display(ascii=True)


async def is_ascii(pilot):
    await pilot.pause()
    await pilot.pause()
    rows = [strip.text for strip in pilot.app.screen._compositor.render_strips()]
    assert "\n".join(rows).isascii(), "\n".join(rows)
    return "\n".join(rows)


@pytest.mark.parametrize("size", [(100, 30), *(pytest.param(size, marks=pytest.mark.slow) for size in [(200, 60), (80, 24), (59, 14)])])
async def test_every_screen_can_do_without_unicode(tmp_path, size):
    hostile(tmp_path)
    with live(filled(FakeRun(tmp_path))):
        app = EosApp(tmp_path, poll_seconds=0, clock=lambda: NOW, display=ASCII)
        async with app.run_test(size=size) as pilot:
            app.poll_now()
            await settled(pilot)
            assert "digits" in await is_ascii(pilot)
            for keys in (["space"], ["o"], ["s"], ["n"], ["question_mark"], ["escape"], ["slash", "x"], ["escape"], ["down"], ["enter"]):
                await pilot.press(*keys)
                await is_ascii(pilot)
            app.poll_now()
            await settled(pilot)
            for keys in (["left"], ["tab"], ["enter"], ["enter"], ["plus"], ["m"], ["x"], ["s"], ["n"], ["question_mark"]):
                await pilot.press(*keys)
                await is_ascii(pilot)
            app.notify("漢字 …")
            await is_ascii(pilot)


async def test_keys_without_an_ascii_sign_are_named_in_the_footer(tmp_path):
    app = EosApp(filled(FakeRun(tmp_path)).folder, poll_seconds=0, clock=clock, display=ASCII)
    async with app.run_test(size=(120, 40)) as pilot:
        app.poll_now()
        await settled(pilot)
        last = (await is_ascii(pilot)).splitlines()[-1]

    assert "left read" in last
    assert "enter panel" in last


def test_the_printed_screen_can_do_without_unicode(tmp_path):
    assert once(filled(FakeRun(tmp_path)).folder, width=100, height=30, display=ASCII).isascii()


def test_the_options_of_drawing_reach_the_app(tmp_path, monkeypatch):
    filled(FakeRun(tmp_path))
    drawn = []
    monkeypatch.setattr(attending, "is_terminal", lambda: True)
    monkeypatch.setattr(app_module, "watch", lambda _, options: drawn.append(options))
    where = ["--runs-dir", str(tmp_path)]

    for words in (
        ["watch"],
        ["watch", "digits", "--ascii"],
        ["watch", "--low-bandwidth"],
        ["watch", "--no-low-bandwidth", "--theme", "nord"],
    ):
        CliRunner().invoke(commands, [*words, *where], catch_exceptions=False)

    assert drawn == [{}, {"ascii": True}, {"low_bandwidth": True}, {"low_bandwidth": False, "theme": "nord"}]


def test_a_theme_that_there_is_not_is_said_with_the_nearest(tmp_path):
    result = CliRunner().invoke(commands, ["watch", "--theme", "nrod", "--runs-dir", str(tmp_path)])

    assert result.exit_code == 2
    assert "Did you mean 'nord'?" in result.stderr


def test_an_option_of_drawing_before_a_command_is_refused():
    result = CliRunner().invoke(commands, ["--ascii", "list"])

    assert result.exit_code == 2
    assert "eos watch --ascii" in result.stderr
