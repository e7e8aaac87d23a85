"""What a log, a run's name or its output says is text: it cannot act on the terminal, nor break the screen."""

import os
import re

import pyte
import pytest
from rich.cells import cell_len
from typer.testing import CliRunner

from eos_tui.app import EosApp
from eos_tui.cli import app as commands
from eos_tui.output import fitting, one_line, printable
from eos_tui.screens.confirm import ConfirmScreen
from tests.eos_tui.hostile import EVIL, MARK, clock, hostile
from tests.eos_tui.pilots import settled
from tests.eos_tui.test_viewer_terminal import Terminal

UNFIT = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
SIZES = [(101, 30), *(pytest.param(size, marks=pytest.mark.slow) for size in [(200, 60), (80, 24), (61, 20), (31, 9)])]


@pytest.fixture(autouse=True)
def plain_surroundings(monkeypatch):
    for name in ("NO_COLOR", "TEXTUAL_THEME"):
        monkeypatch.delenv(name, raising=False)


async def holds(pilot, size):
    """Every row is as wide as the screen, and nothing in it is more than a character."""
    await pilot.pause()
    await pilot.pause()
    rows = [strip.text for strip in pilot.app.screen._compositor.render_strips()]
    assert [cell_len(row) for row in rows] == [size[0]] * size[1]
    assert not [row for row in rows if UNFIT.search(row)]
    return "\n".join(rows)


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES)
async def test_a_hostile_run_is_shown_as_text(tmp_path, size):
    run = hostile(tmp_path, status="failed")
    app = EosApp(run.folder, poll_seconds=0, clock=clock)
    async with app.run_test(size=size) as pilot:
        app.poll_now()
        await settled(pilot)
        shown = await holds(pilot, size)
        if size[0] >= 80:
            assert "[bold" in shown
        await pilot.press("left", "tab", "enter")
        await holds(pilot, size)
        await pilot.press("l", "m", "x", "escape", "question_mark")
        await holds(pilot, size)
        app.pop_screen()
        app.screen.show_error(EVIL)
        await holds(pilot, size)
        app.push_screen(ConfirmScreen(EVIL, consequence=EVIL, yes="yes", no="no"))
        await holds(pilot, size)


@pytest.mark.parametrize("size", SIZES)
async def test_a_hostile_run_is_listed_as_text(tmp_path, size):
    hostile(tmp_path, status="failed")
    app = EosApp(tmp_path, poll_seconds=0, clock=clock)
    async with app.run_test(size=size) as pilot:
        app.poll_now()
        await settled(pilot)
        shown = await holds(pilot, size)
        assert "[bo" in shown
        assert "\n" not in shown.splitlines()[2]
        await pilot.press("d")
        assert isinstance(app.screen, ConfirmScreen)
        assert "[bold]" in await holds(pilot, size)
        await pilot.press("n", "space", "s")
        await holds(pilot, size)
        await pilot.press("slash", *"zz[b]")
        await holds(pilot, size)


def test_no_escape_of_a_hostile_run_reaches_the_terminal(tmp_path, monkeypatch):
    monkeypatch.setenv("EOS_RUNS", str(tmp_path))
    run = hostile(tmp_path, status="failed")
    terminal = Terminal(run.folder.path)
    titles = []
    monkeypatch.setattr(pyte.Screen, "set_title", lambda _, title: titles.append(title))
    terminal.read_until("[bold")
    os.write(terminal.master, b"q")
    terminal.end()

    written = terminal.written.decode()
    assert MARK not in written
    # Which shape a mouse pointer has is Textual's own; this emulator takes it for a title.
    assert set(titles) <= {";default"}
    assert not re.search("\x1b](?!22;)", written)
    assert not re.search("[\x08\x7f-\x9f\u202e\u2066]", written)
    assert "\x1b[2J" not in written
    assert "\x1bc" not in written


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["list", "--json"], ["show", "RUN"], ["show", "RUN", "--json"], ["watch", "RUN", "--plain"], ["watch", "RUN", "--once"]],
)
def test_commands_print_a_hostile_run_as_text(tmp_path, arguments):
    run = hostile(tmp_path, status="failed")
    words = [str(run.folder.path) if word == "RUN" else word for word in arguments]

    result = CliRunner().invoke(commands, [*words, "--runs-dir", str(tmp_path)])

    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert not UNFIT.search(result.stdout)
    assert not UNFIT.search(result.stderr)


def test_an_error_about_a_hostile_log_is_text(tmp_path):
    run = hostile(tmp_path)
    with run.folder.log.open("ab") as log:
        log.write(EVIL.replace("\n", "").encode() + b"\n")

    result = CliRunner().invoke(commands, ["show", str(run.folder.path)])

    assert result.exit_code == 3
    assert not UNFIT.search(result.stderr)


def test_a_printable_text_has_lines_of_characters_with_a_width_of_their_own():
    found = printable(EVIL)

    assert MARK not in found
    assert not UNFIT.search(found)
    assert all(cell_len(character) for line in found.split("\n") for character in line)
    assert "漢字 é" in one_line(EVIL)


def test_an_escape_without_an_end_costs_no_more_than_its_length():
    assert set(printable("\x1b]" * 200_000)) == {"]"}


@pytest.mark.parametrize("text", ["a\x1b[31mb", "漢\x9b字", "\u202e", EVIL.replace("\n", " ")])
def test_fitting_keeps_the_width_of_a_text(text):
    for ascii_only in (False, True):
        found = fitting(text, ascii_only=ascii_only)

        assert cell_len(found) == cell_len(text)
        assert not UNFIT.search(found)
        assert found.isascii() or not ascii_only
