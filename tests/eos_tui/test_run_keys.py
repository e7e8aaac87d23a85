"""Keys of the run screen that change what is looked at: details, output, cursor, zoom, axis; and the mouse."""

import re

import pytest
from msgspec.structs import replace
from textual.events import MouseMove, MouseScrollDown, MouseScrollUp

from eos_tui.app import EosApp
from eos_tui.widgets.body import MIN_PANEL_ROWS
from eos_tui.widgets.chart import Chart
from eos_tui.widgets.drawer import Drawer
from runners.records import StepRecord
from tests.eos_tui.fakes import DENSITY, LOSS, NOW, filled
from tests.eos_tui.pilots import app_of, look, settled


@pytest.mark.slow
async def test_details_stand_beside_the_panels_on_a_wide_screen(run):
    async with app_of(filled(run)).run_test(size=(160, 50)) as pilot:
        before = await look(pilot)
        await pilot.press("i")
        shown = await look(pilot)
        await pilot.press("i")
        after = await settled(pilot)

    assert "details of digits-gd" in shown
    assert "26,122 parameters, float32" in shown
    assert "╭ loss (log) ─" in shown
    assert after == before


@pytest.mark.slow
async def test_details_take_the_panels_place_on_a_narrow_screen_and_scroll(run):
    async with app_of(filled(run)).run_test(size=(80, 20)) as pilot:
        before = await look(pilot)
        await pilot.press("i")
        first = await look(pilot)
        await pilot.press("end")
        last = await settled(pilot)
        await pilot.press("escape")
        after = await settled(pilot)

    assert "╭ loss" not in first
    assert "─ 1-" in first
    assert "running" in first
    assert "eos run " in last
    assert after == before


@pytest.mark.slow
async def test_the_output_is_shown_as_it_grows(run):
    run.folder.output.write_text("".join(f"line {k}\n" for k in range(100)))
    async with app_of(filled(run)).run_test(size=(100, 30)) as pilot:
        await look(pilot)
        await pilot.press("t")
        first = await look(pilot)
        with run.folder.output.open("a") as output:
            output.write("\x1b[1mand more\x1b[0m\n")
        second = await look(pilot)
        await pilot.press("i")
        third = await look(pilot)

    assert "end of output.txt" in first
    assert "line 99 " in first
    assert "and more " in second
    assert "details of" in third


@pytest.mark.slow
async def test_an_open_drawer_that_has_not_changed_sends_nothing(run):
    async with app_of(filled(run)).run_test(size=(160, 50)) as pilot:
        await look(pilot)
        await pilot.press("i")
        await look(pilot)
        frames: list[object] = []
        pilot.app._display = lambda *frame: frames.append(frame)
        await look(pilot)

    assert frames == []


@pytest.mark.slow
async def test_the_focus_goes_to_the_drawer_and_back(run):
    async with app_of(filled(run)).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        await pilot.press("tab", "tab")
        before = pilot.app.focused
        await pilot.press("t")
        during = pilot.app.focused
        await pilot.press("t")
        after = pilot.app.focused

    assert isinstance(during, Drawer)
    assert after is before


@pytest.mark.slow
async def test_a_panel_with_the_focus_is_seen_whole_where_not_all_fit(run):
    run.header(panels=tuple(replace(LOSS, title=f"panel {number}") for number in range(6)))
    run.progress(range(51))
    async with app_of(run).run_test(size=(80, 24)) as pilot:
        await look(pilot)
        body = pilot.app.screen.query_one("#body").region
        seen = []
        for _ in range(6):
            await pilot.press("tab")
            await settled(pilot)
            seen.append(pilot.app.focused.region)

    assert all(body.contains_region(region) for region in seen)
    assert all(region.height >= MIN_PANEL_ROWS for region in seen)


async def test_arrows_scroll_by_a_row_of_panels(run):
    run.header(panels=tuple(replace(LOSS, title=f"panel {number}") for number in range(6)))
    run.progress(range(51))
    async with app_of(run).run_test(size=(80, 24)) as pilot:
        before = await look(pilot)
        await pilot.press("down")
        below = await settled(pilot)
        await pilot.press("up")
        above = await settled(pilot)

    assert "panel 0" in before
    assert below.splitlines()[3].startswith("╭ panel 1")
    assert above == before


@pytest.mark.parametrize("size", [(59, 15), (60, 14)])
async def test_a_terminal_that_is_too_small_says_what_charts_need(run, size):
    async with app_of(filled(run)).run_test(size=size) as pilot:
        shown = await look(pilot)

    assert "Charts need 60x15 cells." in shown
    assert "loss " in shown
    assert "╭" not in shown


@pytest.mark.slow
@pytest.mark.parametrize("size", [(60, 15), (20, 5), (1, 1)])
async def test_no_key_fails_on_the_smallest_screens(run, size):
    run.folder.output.write_text("printed\n" * 50)
    async with app_of(filled(run)).run_test(size=size) as pilot:
        await look(pilot)
        await pilot.press("i", "down", "t", "up")
        await look(pilot)
        await pilot.press("t", "left", "plus", "tab", "enter", "m", "x", "down", "question_mark", "escape", "escape")
        await pilot.resize_terminal(120, 40)
        shown = await look(pilot)

    assert "1,860 of 3,000" in shown


def chart_of(pilot, number):
    return list(pilot.app.screen.query(Chart))[number]


async def test_a_click_sets_the_cursor_and_the_focus_and_a_drag_moves_the_cursor(run):
    async with app_of(filled(run)).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        chart = chart_of(pilot, 2)
        await pilot.mouse_down(chart, offset=(40, 3))
        first = await settled(pilot)
        focused = pilot.app.focused
        await pilot._post_mouse_events([MouseMove], chart, offset=(60, 3), button=1)
        second = await settled(pilot)
        await pilot.mouse_up(chart, offset=(60, 3))

    steps = [int(re.search(r"at step ([\d,]+)", shown)[1].replace(",", "")) for shown in (first, second)]
    # The area inside the axes has 113 columns for 3,000 steps, from column 6 on.
    assert steps == [round((40 - 6 + 0.5) / 113 * 3000), round((60 - 6 + 0.5) / 113 * 3000)]
    assert focused.panel.title == "NTK trace"


async def test_the_wheel_zooms_around_the_mouse_and_back(run):
    async with app_of(filled(run)).run_test(size=(120, 40)) as pilot:
        whole = await look(pilot)
        chart = chart_of(pilot, 2)
        await pilot._post_mouse_events([MouseScrollUp], chart, offset=(40, 3))
        part = await settled(pilot)
        span = pilot.app.screen._view.span
        await pilot._post_mouse_events([MouseScrollDown], chart, offset=(40, 3))
        again = await settled(pilot)

    pointed = (40 - 6 + 0.5) / 113 * 3000
    assert part != whole
    assert span == pytest.approx((pointed / 2, pointed / 2 + 1500))
    assert again == whole


async def test_a_click_on_a_density_sets_no_cursor(run):
    run.header(panels=(DENSITY,))
    run.step(100)
    run.density(100)
    async with app_of(run).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        await pilot.mouse_down(chart_of(pilot, 0), offset=(60, 3))
        await pilot.mouse_up(chart_of(pilot, 0), offset=(60, 3))
        await settled(pilot)
        cursor = pilot.app.screen._view.cursor

    assert cursor is None


async def test_a_click_on_the_numbers_at_the_left_is_none_in_the_chart(run):
    async with app_of(filled(run)).run_test(size=(120, 40)) as pilot:
        before = await look(pilot)
        await pilot.mouse_down(chart_of(pilot, 2), offset=(2, 3))
        await pilot.mouse_up(chart_of(pilot, 2), offset=(2, 3))
        after = await settled(pilot)

    assert "at step" not in before
    assert "at step" not in after


async def test_the_cursor_reads_all_panels_at_a_step(run):
    async with app_of(filled(run)).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        await pilot.press("left", "less_than_sign", "less_than_sign")
        read = await settled(pilot)
        await pilot.press("escape")
        again = await settled(pilot)

    steps = set(re.findall(r"at step ([\d,]+)", read))
    assert len(steps) == 1
    assert 0 < int(steps.pop().replace(",", "")) < 1860
    assert read.count("at step") == 3
    assert "at step" not in again


async def test_keys_zoom_pan_and_show_all_again(run):
    async with app_of(filled(run)).run_test(size=(120, 40)) as pilot:
        whole = await look(pilot)
        await pilot.press("plus", "plus", "left_square_bracket")
        part = await settled(pilot)
        await pilot.press("0")
        again = await settled(pilot)

    assert part != whole
    assert again == whole


@pytest.mark.slow
async def test_a_panel_alone_takes_the_screen_and_gives_it_back(run):
    async with app_of(filled(run)).run_test(size=(120, 40)) as pilot:
        before = await look(pilot)
        await pilot.press("tab", "tab", "enter")
        alone = await settled(pilot)
        await pilot.press("escape")
        pilot.app.set_focus(None)
        after = await settled(pilot)

    assert "sharpness" in alone
    assert "NTK trace ─" not in alone
    assert after == before


async def test_the_axis_and_the_average_are_chosen_by_keys(run):
    async with app_of(filled(run)).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        await pilot.press("x")
        timed = await settled(pilot)
        await pilot.press("x", "x", "x", "m")
        smooth = await settled(pilot)

    assert "seconds" in timed
    assert "seconds" not in smooth


@pytest.mark.slow
async def test_zooming_into_a_long_run_reads_its_points_anew(run):
    run.header(steps=20_000)
    run.write(*(StepRecord(step=k, time=k / 100, loss=1.0 + k % 2, lr=0.3) for k in range(20_000)))
    app = EosApp(run.folder, poll_seconds=0.02, clock=lambda: NOW)
    async with app.run_test(size=(120, 40)) as pilot:
        while app.snapshot is None or app.snapshot.step < 19_999:
            await pilot.pause()
        await pilot.press(*["plus"] * 10, "left_square_bracket")
        while (detail := app.screen._detail) is None or detail.high - detail.low > 2048:
            await pilot.pause()
        found = detail.traces[("step", "loss")]

    assert len(found) < 2048
    assert not found.is_coarse(found.first_x, found.last_x)


async def test_a_part_of_a_long_run_that_is_still_growing_shows_its_newest_points(run):
    run.header(steps=40_000)
    run.write(*(StepRecord(step=k, time=k / 100, loss=1.0, lr=0.3) for k in range(20_500)))
    async with app_of(run).run_test(size=(120, 40)) as pilot:
        while pilot.app.snapshot is None or pilot.app.snapshot.step < 20_499:
            await look(pilot)
        await pilot.press("plus", "plus", "plus")
        before = await settled(pilot)
        run.write(*(StepRecord(step=k, time=k / 100, loss=1.0, lr=0.3) for k in range(20_500, 21_500)))
        after = await look(pilot)
        asked = pilot.app.screen._detail_asked

    assert asked is None
    assert after != before
