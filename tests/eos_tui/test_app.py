"""The application on fake runs: what is on the screen, and what keys do."""

import asyncio
import os
import re
import subprocess
import sys
from types import NoneType

import msgspec
import pytest
from textual.message import Message

from eos_tui.app import EosApp, once
from eos_tui.follower import Follower
from eos_tui.messages import ReadingFailed, RunAdvanced
from eos_tui.screens.confirm import ConfirmScreen
from eos_tui.screens.help import HelpScreen
from eos_tui.widgets.chart import Chart
from eos_tui.widgets.panel import PanelView
from runners.errors import LogError
from runners.records import Curve, Panel
from tests.eos_tui.fakes import DENSITY, LOSS, NAME, NOW, PANELS, FakeRun, filled, requests
from tests.eos_tui.pilots import GOLDEN, app_of, filtered, look, settled, watch_until_it_ends


def test_the_screen_is_printed_once_as_it_is_shown(run):
    assert once(filled(run).folder, width=120, height=40) + "\n" == (GOLDEN / "run-screen-120x40.txt").read_text()


def test_a_log_that_cannot_be_read_is_said_instead_of_the_screen(run):
    filled(run)
    with run.folder.log.open("ab") as log:
        log.write(b"{nonsense}\n")

    with pytest.raises(LogError, match="not a record"):
        once(run.folder, width=80, height=24)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_screen_of_a_run_looks_as_agreed(run, size):
    """The golden files hold what a person has looked at; write them anew with EOS_WRITE_GOLDEN=1 after looking again."""
    golden = GOLDEN / f"run-screen-{size[0]}x{size[1]}.txt"
    async with app_of(filled(run)).run_test(size=size) as pilot:
        shown = await look(pilot)

    if os.environ.get("EOS_WRITE_GOLDEN"):
        golden.write_text(shown + "\n")
    assert shown + "\n" == golden.read_text()


async def test_a_folder_without_a_log_says_that_the_run_is_starting(run):
    async with app_of(run).run_test(size=(100, 24)) as pilot:
        shown = await look(pilot)

    assert "starting" in shown
    assert "once the model is compiled" in shown


async def test_what_is_appended_to_the_log_appears(run):
    run.header()
    async with app_of(run).run_test(size=(120, 40)) as pilot:
        before = await look(pilot)
        run.step(750)
        run.sharpness(750, 6.7)
        after = await look(pilot)

    assert "step 0 of 3,000" in before
    assert "step 750 of 3,000" in after
    assert "sharpness at its edge: 1.00 of 2/lr" in after


async def test_nothing_is_sent_to_the_terminal_when_nothing_changed(run):
    async with app_of(filled(run)).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        frames: list[object] = []
        pilot.app._display = lambda *frame: frames.append(frame)
        await look(pilot)
        idle = len(frames)
        run.step(1900)
        await look(pilot)

    assert idle == 0
    assert frames


async def test_only_the_part_of_the_header_that_changed_is_drawn_again(run):
    run.header()
    run.step(100)
    async with app_of(run).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        header = pilot.app.screen.query_one("#header")
        regions: list[object] = []
        header.refresh = lambda *given, **_: regions.extend(given)
        run.step(101)
        await look(pilot)

    assert regions
    assert sum(region.area for region in regions) < 20


async def test_a_density_shows_the_last_measurement_and_the_first_behind(run):
    run.header(panels=(DENSITY,))
    run.sharpness(0, 2.0)
    run.density(0)
    async with app_of(run).run_test(size=(80, 24)) as pilot:
        first = await look(pilot)
        run.density(50, density=(0.0, *(1.0,) * 99))
        run.density(2000)
        last = await look(pilot)
        await pilot.press("l")
        linear = await settled(pilot)

    assert "Hessian spectral density (log)" in first
    assert "step 0, smoothing width 0.250" in first
    assert "2/lr = 6.67" in first
    assert "eigenvalue" in first
    assert "step 2,000, smoothing width 0.250" in last
    assert "⠒⠒⠒ step 2,000  ⠒ ⠒ step 0 " in last
    assert "step 50" not in last
    assert "(log)" not in linear


async def test_a_density_is_sent_once(run):
    run.header(panels=(DENSITY,))
    run.sharpness(0, 2.0)
    run.density(0)
    async with app_of(run).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        chart = pilot.app.screen.query_one(Chart)
        regions: list[object] = []
        chart.refresh = lambda *given, **_: regions.extend(given)
        run.sharpness(10, 3.0)
        run.step(10)
        await look(pilot)

    assert regions == []


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 7])
async def test_the_panels_are_those_of_the_header_however_many(run, count):
    run.header(panels=tuple(msgspec.structs.replace(LOSS, title=f"panel {number}") for number in range(count)))
    run.progress(range(51))
    async with app_of(run).run_test(size=(120, 60)) as pilot:
        shown = await look(pilot)
        views = list(pilot.app.screen.query(PanelView))

    assert [view.panel.title for view in views] == [f"panel {number}" for number in range(count)]
    assert all(f"panel {number}" in shown for number in range(count))


async def test_two_panels_stand_side_by_side_on_a_wide_screen_and_the_odd_one_takes_the_row(run):
    async with app_of(filled(run)).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        loss, sharpness, ntk = (view.region for view in pilot.app.screen.query(PanelView))

    assert loss.y == sharpness.y
    assert loss.width == sharpness.width
    assert ntk.y == loss.bottom
    assert ntk.width == loss.width + sharpness.width


async def test_panels_are_stacked_on_a_narrow_screen(run):
    async with app_of(filled(run)).run_test(size=(80, 24)) as pilot:
        await look(pilot)
        regions = [view.region for view in pilot.app.screen.query(PanelView)]

    assert [region.width for region in regions] == [80, 80, 80]
    assert regions[0].bottom == regions[1].y


async def test_more_panels_than_fit_are_scrolled(run):
    run.header(panels=tuple(msgspec.structs.replace(LOSS, title=f"panel {number}") for number in range(7)))
    run.progress(range(51))
    async with app_of(run).run_test(size=(80, 24)) as pilot:
        top = await look(pilot)
        await pilot.press("end")
        bottom = await settled(pilot)

    assert "panel 0" in top
    assert "panel 6" not in top
    assert "panel 6" in bottom


async def test_a_resumed_run_with_other_panels_gets_them(run):
    filled(run)
    async with app_of(run).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        run.folder.log.write_bytes(b"")
        run.header(panels=PANELS[:1])
        await look(pilot)
        views = list(pilot.app.screen.query(PanelView))

    assert [view.panel.title for view in views] == ["loss"]


async def test_a_small_terminal_gets_a_line_for_each_panel_in_place_of_charts(run):
    async with app_of(filled(run)).run_test(size=(20, 5)) as pilot:
        shown = await look(pilot)

    assert shown.splitlines()[:4] == [" running   62 %", " train loss 0.0100", " sharpness 6.70 =…", " NTK trace 240 = 0…"]


@pytest.mark.slow
async def test_resizing_to_almost_nothing_and_back_leaves_the_screen_as_it_was(run):
    async with app_of(filled(run)).run_test(size=(120, 40)) as pilot:
        before = await look(pilot)
        for size in ((20, 5), (1, 1), (300, 100), (59, 15), (60, 14), (120, 40)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        after = await settled(pilot)

    assert after == before


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (20, 5), (60, 15), (80, 24), (200, 60)])
async def test_numbers_that_are_not_finite_or_not_positive_do_not_crash_it(run, size):
    run.header()
    for step, value in enumerate((0.0, -1.0, None, 1e-300, 1e300, 5e-324)):
        run.step(step, loss=value)
        run.sharpness(step, value, threshold=1e-300)
        run.ntk(step, value)
    async with app_of(run).run_test(size=size) as pilot:
        await look(pilot)
        await pilot.press("l")
        shown = await look(pilot)
        is_running = pilot.app.is_running

    assert is_running
    assert len(shown.split("\n")) == size[1]


async def test_a_panel_of_a_field_that_no_record_has_does_not_crash_it(run):
    run.header(panels=(Panel(title="mystery", series=(Curve(record="nothing", field="of.it", label="x"),)),))
    run.step(1)
    async with app_of(run).run_test(size=(80, 24)) as pilot:
        shown = await look(pilot)

    assert "mystery" in shown


async def test_q_leaves_and_says_how_to_come_back(run):
    app = app_of(filled(run))
    async with app.run_test(size=(120, 40)) as pilot:
        await look(pilot)
        await pilot.press("q")

    assert (
        app.return_value
        == f"{NAME} goes on (running, step 1,860 of 3,000). Come back with `eos watch {NAME}`, stop it with `eos stop {NAME}`."
    )
    assert requests(run) == []


@pytest.mark.slow
@pytest.mark.parametrize("keys", [["ctrl+c"], ["ctrl+q"], ["s", "ctrl+c"], ["question_mark", "ctrl+c"]])
async def test_ctrl_c_leaves_from_anywhere_and_asks_nothing_of_the_run(run, keys):
    app = app_of(filled(run))
    async with app.run_test(size=(120, 40)) as pilot:
        await look(pilot)
        await pilot.press(*keys)

    assert "goes on" in (app.return_value or "")
    assert requests(run) == []


@pytest.mark.parametrize(("key", "asked"), [("y", ["stop"]), ("n", []), ("escape", []), ("q", [])])
async def test_s_stops_the_run_only_after_a_yes(run, key, asked):
    async with app_of(filled(run)).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        await pilot.press("s")
        question = isinstance(pilot.app.screen, ConfirmScreen)
        await pilot.press(key)
        await pilot.pause()
        closed = not isinstance(pilot.app.screen, ConfirmScreen)

    assert question
    assert closed
    assert requests(run) == asked


async def test_a_request_is_acknowledged_until_the_run_answers(run):
    async with app_of(filled(run)).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        await pilot.press("space")
        asked = await settled(pilot)
        run.event(1870, "paused", "Paused on request.")
        answered = await look(pilot)

    assert requests(run) == ["pause"]
    assert "Asked to pause" in asked
    assert "Asked to pause" not in answered
    assert "Paused; space lets it go on." in answered


async def test_space_lets_a_paused_run_go_on(run):
    filled(run).event(1870, "paused", "Paused on request.")
    async with app_of(run).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        await pilot.press("space")

    assert requests(run) == ["unpause"]


async def test_a_request_that_cannot_be_written_is_said_on_the_screen(run):
    run.folder.control.mkdir()
    async with app_of(filled(run)).run_test(size=(160, 40)) as pilot:
        await look(pilot)
        await pilot.press("space")
        shown = await settled(pilot)

    assert "the request cannot be written" in shown


async def test_l_switches_every_panel_between_log_and_linear(run):
    async with app_of(filled(run)).run_test(size=(120, 40)) as pilot:
        before = await look(pilot)
        await pilot.press("l")
        switched = await settled(pilot)
        await pilot.press("l")
        back = await settled(pilot)

    assert switched != before
    assert back == before


@pytest.mark.slow
async def test_the_help_lists_every_key_of_the_screen(run):
    async with app_of(filled(run)).run_test(size=(100, 40)) as pilot:
        await look(pilot)
        tooltips = [binding.tooltip for binding in pilot.app.screen.BINDINGS]
        await pilot.press("question_mark")
        shown = " ".join(re.sub(r"[│╭╮╰╯─]", " ", await settled(pilot)).split())
        is_help = isinstance(pilot.app.screen, HelpScreen)
        await pilot.press("escape")
        closed = not isinstance(pilot.app.screen, HelpScreen)

    assert is_help
    assert closed
    assert all(tooltip.split(".")[0][:30] in shown for tooltip in tooltips)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("finished", "The reason. Keep the numbers"),
        ("stopped", f"The reason. `eos resume {NAME}` goes on from here."),
        ("diverged", "The reason."),
        ("failed", "The reason."),
    ],
)
async def test_the_screen_stays_and_says_how_the_run_ended(run, status, words):
    filled(run).end(1900, status=status, reason="The reason.")
    async with app_of(run).run_test(size=(120, 40)) as pilot:
        shown = await look(pilot)
        await pilot.press("s", "space")
        shown_after = await look(pilot)

    assert status in shown
    assert words in shown
    assert "s stop" not in shown
    assert shown_after == shown
    assert requests(run) == []


async def test_the_end_of_what_a_failed_run_printed_can_be_read_on_the_screen(run):
    run.header()
    run.folder.output.write_text("Traceback (most recent call last):\n  \x1b[31mline\x1b[0m\nValueError: bad [/shape]\n")
    run.end(0, status="failed", reason="ValueError: bad")
    async with app_of(run).run_test(size=(100, 30)) as pilot:
        shown = await look(pilot)

    assert "ValueError: bad [/shape]" in shown
    assert "  line\n" in shown


async def test_a_run_whose_process_is_gone_has_crashed_and_can_be_resumed(tmp_path, monkeypatch):
    monkeypatch.setenv("EOS_RUNS", str(tmp_path))
    run = filled(FakeRun(tmp_path))
    async with app_of(run).run_test(size=(120, 40)) as pilot:
        shown = await look(pilot)

    assert "crashed" in shown
    assert f"`eos resume {NAME}` goes on from the last checkpoint" in " ".join(shown.split())


async def test_a_bad_log_is_a_message_and_what_was_read_stays(run):
    filled(run)
    async with app_of(run).run_test(size=(160, 40)) as pilot:
        await look(pilot)
        with run.folder.log.open("ab") as log:
            log.write(b"{nonsense}\n")
        shown = await look(pilot)
        shown_again = await look(pilot)

    assert "log.jsonl: line " in shown
    assert "not a record" in shown
    assert shown.splitlines()[0].split()[2] == "unreadable"
    assert "step 1,860 of 3,000" in shown
    assert shown_again == shown


async def test_an_error_of_our_own_while_reading_ends_the_viewer_instead_of_freezing_it(run, monkeypatch):
    app = EosApp(run.folder, poll_seconds=0.05, clock=lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError, match="division by zero"):
        await watch_until_it_ends(app)


async def test_a_bad_line_does_not_keep_the_follower_busy(run):
    delivered: list[Message] = []
    follower = Follower(run.folder, delivered.append, clock=lambda: NOW)
    filled(run)
    with run.folder.log.open("ab") as log:
        log.write(b"{nonsense}\n" * 3)

    found = [follower.look() for _ in range(4)]

    assert [type(message) for message in found] == [RunAdvanced, ReadingFailed, NoneType, NoneType]
    assert not follower.is_behind


async def test_the_follower_thread_delivers_and_ends_with_the_app(run):
    app = EosApp(filled(run).folder, poll_seconds=0.05, clock=lambda: NOW)
    async with app.run_test(size=(120, 40)) as pilot:
        while app.snapshot is None:
            await pilot.pause()
        shown = await settled(pilot)

    assert "step 1,860 of 3,000" in shown


async def test_leaving_while_the_first_snapshot_is_on_its_way_is_no_error(run):
    filled(run)
    for turns in range(5):
        app = app_of(run)
        async with app.run_test(size=(120, 40)):
            app.poll_now()
            for _ in range(turns):
                await asyncio.sleep(0)


async def test_colour_is_never_the_only_sign(run, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    filled(run).sharpness(1900, 9.0)
    async with app_of(run).run_test(size=(120, 40)) as pilot:
        shown = await look(pilot)
        styles = [segment.style for strip in filtered(pilot) for segment in strip if segment.style]

    assert "running" in shown
    assert "sharpness past its edge: 1.35 of 2/lr" in shown
    assert all(colour is None or colour.is_default for style in styles for colour in (style.color, style.bgcolor))


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["textual-dark", "textual-light", "ansi-light", "nord"])
async def test_another_theme_can_be_chosen(run, monkeypatch, theme):
    monkeypatch.setenv("TEXTUAL_THEME", theme)
    async with app_of(filled(run)).run_test(size=(120, 40)) as pilot:
        shown = await look(pilot)
        chosen = pilot.app.theme

    assert chosen == theme
    assert "running" in shown


async def test_a_theme_that_does_not_exist_is_passed_over(run, monkeypatch):
    monkeypatch.setenv("TEXTUAL_THEME", "nonsense")
    async with app_of(run).run_test(size=(80, 24)) as pilot:
        chosen = pilot.app.theme

    assert chosen == "ansi-dark"


def test_importing_the_viewer_loads_nothing_heavy():
    heavy = "{'jax', 'numpy', 'flax', 'optax', 'orbax', 'sklearn', 'pandas', 'matplotlib', 'typer'}"
    code = f"import sys; import eos_tui.app; found = {heavy} & set(sys.modules); sys.exit(str(found) if found else 0)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.stderr == ""
    assert done.returncode == 0
