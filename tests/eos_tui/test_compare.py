"""The screen that compares runs: what it shows, and what its keys do."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from math import exp
from pathlib import Path

import pytest
from textual.pilot import Pilot

from eos_tui.app import EosApp, once
from eos_tui.screens.compare import CompareScreen
from eos_tui.screens.help import HelpScreen
from eos_tui.screens.home import HomeScreen
from eos_tui.strokes import RUN_TAGS
from eos_tui.widgets.overlay import NO_DIFFERENCE, Named, OverlayView, Table, legend, legend_rows, table_rows, table_width
from eos_tui.widgets.text_rows import row_length
from runners.records import StepRecord
from tests.eos_tui.fakes import LOSS, NOW, NTK, SHARPNESS, FakeRun, live
from tests.eos_tui.pilots import GOLDEN, filtered, look, screen, settled, watch_until_it_ends

STAMP = "20270115T075000Z-00a"
RATES = (0.5, 0.25, 0.125)


def made(runs: Path, name: str, *, lr: float, until: int = 600, steps: int = 1000, end: str | None = None, **spec) -> FakeRun:
    """A run that sharpens to its own 2/lr, with `lr` times the step deciding where it stands."""
    run = FakeRun(runs, name=f"{name}-{STAMP}{len(list(runs.iterdir()))}", steps=steps)
    optimizer = {"name": "sgd", "lr": lr, **spec}
    run.header(spec={"optimizer": optimizer, "run": {"steps": steps, "seed": 0}}, panels=(LOSS, SHARPNESS))
    for step in range(until + 1):
        run.step(step, loss=0.01 + exp(-step * lr / 40), lr=lr)
        if step % 20 == 0:
            run.sharpness(step, min(1.0, 0.2 + step * lr / 100) * 2 / lr, threshold=2 / lr)
    if end:
        run.end(until, status=end)
    return run


@pytest.fixture
def runs(surroundings: Path) -> Iterator[list[FakeRun]]:
    """Two that live and one that has ended, with different learning rates."""
    found = [made(surroundings, f"gd-{lr}", lr=lr, until=200 + 200 * k, end="finished" if k == 0 else None) for k, lr in enumerate(RATES)]
    with ExitStack() as stack:
        for run in found[1:]:
            stack.enter_context(live(run))
        yield found


def app_of(runs: list[FakeRun]) -> EosApp:
    return EosApp([run.folder for run in runs], poll_seconds=0, clock=lambda: NOW)


def values(shown: str) -> dict[str, str]:
    """By tag what the legend says of a run."""
    return dict(
        re.findall(r"^ ([1-9]) .{7,}(?:finished|running|starting|crashed|unreadable|gone|left out) +(\S+)", shown, flags=re.MULTILINE)
    )


async def shown_after(pilot: Pilot[str], *keys: str) -> str:
    await pilot.press(*keys)
    return await settled(pilot)


# What it shows


async def test_the_screen_looks_as_agreed(runs):
    """The golden file holds what a person has looked at; write it anew with EOS_WRITE_GOLDEN=1 after looking again."""
    golden = GOLDEN / "compare-screen-120x40.txt"
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        shown = await look(pilot)

    if os.environ.get("EOS_WRITE_GOLDEN"):
        golden.write_text(shown + "\n")
    assert shown + "\n" == golden.read_text()


def test_the_screen_is_printed_once_as_it_is_shown(runs):
    assert once([run.folder for run in runs], width=120, height=40) + "\n" == (GOLDEN / "compare-screen-120x40.txt").read_text()


async def test_each_run_has_its_tag_name_status_and_last_value_in_the_legend(runs):
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        shown = await look(pilot)

    rows = [line for line in shown.splitlines() if re.match(r" [123] ", line)]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    assert ["gd-0.5" in rows[0], "gd-0.25" in rows[1], "gd-0.125" in rows[2]] == [True] * 3
    assert ["finished" in row for row in rows] == [True, False, False]
    assert values(shown) == {"1": "0.0921", "2": "0.0921", "3": "0.163"}
    assert "3 runs   2 live   over steps" in shown


async def test_thresholds_that_differ_show_ratios_and_the_edge_at_one(runs):
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        shown = await look(pilot)

    assert re.search(r"sharpness ─+ of 2/lr ╮", shown)
    assert "edge = 1.00" in shown


async def test_a_threshold_that_all_share_is_drawn_with_the_numbers(runs, tmp_path):
    same = [made(tmp_path, name, lr=0.5, end="finished") for name in ("one", "two")]
    async with app_of(same).run_test(size=(120, 40)) as pilot:
        shown = await look(pilot)

    assert "2/lr = 4.00" in shown
    assert "edge" not in shown
    assert NO_DIFFERENCE in shown


async def test_the_table_has_the_keys_that_differ_alone(runs, tmp_path):
    runs.append(made(tmp_path, "adam", lr=0.001, end="finished", name_="", beta1=0.9))
    async with app_of(runs).run_test(size=(120, 44)) as pilot:
        shown = await look(pilot)

    table = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.startswith((" optimizer.", " run."))}
    assert table["optimizer.lr"] == ["0.5", "0.25", "0.125", "0.001"]
    assert table["optimizer.beta1"] == ["-", "-", "-", "0.9"]
    assert "run.steps" not in table
    assert "optimizer.name" not in table


@pytest.mark.slow
async def test_panels_that_no_two_runs_share_are_said_to_be_none(tmp_path):
    first, second = FakeRun(tmp_path, name="a"), FakeRun(tmp_path, name="b")
    first.header(panels=(LOSS,))
    second.header(panels=(NTK,))
    async with app_of([first, second]).run_test(size=(100, 30)) as pilot:
        shown = await look(pilot)

    assert "No panel is in two of these runs" in shown


@pytest.mark.parametrize(
    "size", [(80, 24), pytest.param((60, 15), marks=pytest.mark.slow), pytest.param((200, 60), marks=pytest.mark.slow)]
)
async def test_it_fits_other_terminals(runs, size):
    async with app_of(runs).run_test(size=size) as pilot:
        shown = await look(pilot)
        regions = [view.region for view in pilot.app.screen.query(OverlayView)]

    assert len(shown.split("\n")) == size[1]
    assert values(shown).keys() == {"1", "2", "3"}
    assert (regions[0].y == regions[1].y) == (size[0] >= 100)


@pytest.mark.parametrize("size", [(20, 5), *(pytest.param(size, marks=pytest.mark.slow) for size in ((1, 1), (59, 30), (300, 8)))])
async def test_where_no_chart_fits_the_legend_stays(runs, size):
    async with app_of(runs).run_test(size=size) as pilot:
        shown = await look(pilot)
        await pilot.resize_terminal(120, 40)
        large = await settled(pilot)

    assert len(shown.split("\n")) == size[1]
    assert "╭" not in shown
    assert large + "\n" == (GOLDEN / "compare-screen-120x40.txt").read_text()


@pytest.mark.slow
async def test_the_table_stands_beside_the_panels_where_all_of_it_has_room(runs):
    async with app_of(runs).run_test(size=(160, 30)) as pilot:
        shown = await look(pilot)

    assert re.search(r"╮ spec +1 +2 +3$", shown, flags=re.MULTILINE)


async def test_colour_is_never_the_only_sign(runs, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        shown = await look(pilot)
        styles = [segment.style for strip in filtered(pilot) for segment in strip if segment.style]

    assert shown + "\n" == (GOLDEN / "compare-screen-120x40.txt").read_text()
    assert all(colour is None or colour.is_default for style in styles for colour in (style.color, style.bgcolor))


@pytest.mark.slow
async def test_eight_runs_have_eight_lines_and_tags(tmp_path):
    eight = [made(tmp_path, f"gd-{k}", lr=0.5 / 2**k, end="finished") for k in range(8)]
    async with app_of(eight).run_test(size=(120, 40)) as pilot:
        shown = await look(pilot)

    charts = "\n".join(line for line in shown.splitlines() if line.startswith("│"))
    assert "8 runs" in shown
    assert all(tag in charts for tag in RUN_TAGS[:8])


# Runs that are no good


async def test_an_unreadable_log_is_said_and_the_others_are_drawn(runs):
    with runs[1].folder.log.open("ab") as log:
        log.write(b"{nonsense}\n")
    async with app_of(runs).run_test(size=(160, 40)) as pilot:
        shown = await look(pilot)
        again = await look(pilot)

    assert "not a record" in " ".join(again.split())
    assert values(again).keys() == {"1", "2", "3"}
    assert "unreadable" in again.splitlines()[3]
    assert shown.count("╭") == 2


@pytest.mark.slow
async def test_a_log_that_is_none_from_its_first_line_on_has_no_values(runs, tmp_path):
    bad = FakeRun(tmp_path, name="bad")
    bad.folder.log.write_bytes(b"{nonsense}\n")
    async with app_of([*runs, bad]).run_test(size=(160, 40)) as pilot:
        shown = await look(pilot)

    assert values(shown)["4"] == "-"
    assert re.search(r"^ 4 .*bad +unreadable", shown, flags=re.MULTILINE)


@pytest.mark.slow
async def test_a_run_without_a_log_is_starting_and_joins_once_it_has_one(runs, tmp_path):
    late = FakeRun(tmp_path, name=f"late-{STAMP}9")
    with live(late):
        async with app_of([*runs, late]).run_test(size=(120, 40)) as pilot:
            before = await look(pilot)
            made_later(late)
            after = await look(pilot)

    assert "starting" in before
    assert values(before)["4"] == "-"
    assert values(after)["4"] == "0.500"


def made_later(run: FakeRun) -> None:
    run.header(spec={"optimizer": {"lr": 0.5}}, panels=(LOSS, SHARPNESS))
    run.step(0, loss=0.5)


async def test_a_run_that_is_deleted_stays_as_it_was_read_and_is_said_to_be_gone(runs):
    async with app_of(runs).run_test(size=(140, 40)) as pilot:
        before = await look(pilot)
        shutil.rmtree(runs[1].folder.path)
        after = await look(pilot)
        runs[2].step(700, loss=0.25, lr=0.125)
        later = await look(pilot)

    assert "gone" in after.splitlines()[3]
    assert "the run's folder is gone; what was read of it stays" in " ".join(after.split())
    assert values(after)["2"] == values(before)["2"]
    assert values(later)["3"] == "0.250"


@pytest.mark.slow
async def test_names_and_messages_are_text_and_no_markup(tmp_path):
    first, second = (FakeRun(tmp_path, name=f"[bold red]{name}\x1b]0;title\x07") for name in "ab")
    for run in (first, second):
        run.header(spec={"data": {"name": f"[red]{run.folder.name}\x1b[2J"}}, panels=(LOSS,))
    async with app_of([first, second]).run_test(size=(120, 40)) as pilot:
        shown = await look(pilot)

    assert "[bold red]a" in shown
    assert "\x1b" not in shown


# What keys do


@pytest.mark.slow
async def test_the_axis_turns_to_lr_x_steps_where_the_runs_lie_on_each_other(runs):
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        steps = await look(pilot)
        turned = await shown_after(pilot, "x", "x", "x")
        again = await shown_after(pilot, "x")
        read = await shown_after(pilot, "x", "x", "x", "left", *["less_than_sign"] * 6)

    assert "over lr x steps" in turned
    assert "lr x steps" in turned.splitlines()[-8] or turned.count("lr x steps") == 3
    assert again == steps
    found = values(read)
    assert len(set(found.values())) == 1
    assert found["1"] != "-"


@pytest.mark.slow
async def test_the_cursor_reads_all_runs_at_a_place_and_those_that_ended_before_have_no_value(runs):
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        last = await look(pilot)
        read = await shown_after(pilot, "left", "less_than_sign", "less_than_sign", "right")
        none = await shown_after(pilot, "escape")

    at = int(re.search(r"read at ([\d,]+)", read)[1].replace(",", ""))
    assert 200 < at < 600
    assert values(read)["1"] == "-"
    assert values(read)["3"] == f"{0.01 + exp(-at * 0.125 / 40):.3f}"
    assert none == last


@pytest.mark.slow
async def test_the_values_are_those_of_the_panel_with_the_focus(runs):
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        pilot.app.screen.query(OverlayView).last().focus()
        ratio = await settled(pilot)
        value = await shown_after(pilot, "r")

    assert "ratio" in ratio.splitlines()[1]
    assert values(ratio) == {"1": "1.00", "2": "1.00", "3": "0.950"}
    assert "sharpness" in value.splitlines()[1]
    assert values(value)["1"] == "4.00"


@pytest.mark.slow
async def test_r_switches_between_ratios_and_numbers(runs):
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        before = await look(pilot)
        numbers = await shown_after(pilot, "r")
        again = await shown_after(pilot, "r")

    assert "edge = 1.00" in before
    assert "edge = 1.00" not in numbers
    assert "thresholds differ" in numbers
    assert again == before


@pytest.mark.slow
async def test_l_switches_the_scale_of_the_panel_with_the_focus_else_of_all(runs):
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        before = await look(pilot)
        all_switched = await shown_after(pilot, "l")
        await pilot.press("l")
        pilot.app.screen.query(OverlayView).first().focus()
        one = await shown_after(pilot, "l")

    assert [text.count("(log)") for text in (before, all_switched, one)] == [1, 1, 0]
    assert "loss ─" in all_switched


@pytest.mark.slow
async def test_keys_zoom_pan_and_show_all_again(runs):
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        whole = await look(pilot)
        part = await shown_after(pilot, "plus", "plus")
        earlier = await shown_after(pilot, "left_square_bracket")
        back = await shown_after(pilot, "right_square_bracket")
        wider = await shown_after(pilot, "minus", "minus")
        await pilot.press("plus")
        again = await shown_after(pilot, "0")

    assert len({whole, part, earlier}) == 3
    assert back == part
    assert wider == again == whole


@pytest.mark.slow
async def test_a_part_follows_the_furthest_run_until_f(runs):
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        await pilot.press(*["plus"] * 4)
        runs[2].step(900, lr=0.125)
        await look(pilot)
        followed = pilot.app.screen._view.span
        await pilot.press("f")
        runs[2].step(999, lr=0.125)
        await look(pilot)
        stayed = pilot.app.screen._view.span

    assert followed[0] < 900 < followed[1]
    assert stayed == followed


@pytest.mark.slow
async def test_m_averages_and_after_the_longest_does_not(runs):
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        before = await look(pilot)
        average = await shown_after(pilot, "m")
        again = await shown_after(pilot, "m", "m", "m")

    assert average != before
    assert again == before


@pytest.mark.slow
async def test_a_run_is_left_out_and_taken_in_again_with_the_same_line(runs):
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        before = await look(pilot)
        without = await shown_after(pilot, "2")
        again = await shown_after(pilot, "2")
        nothing = await shown_after(pilot, "9")

    assert "1 left out" in without
    assert "left out" in without.splitlines()[3]
    assert without.splitlines()[4] == before.splitlines()[4]
    assert next(line.split() for line in without.splitlines() if "optimizer.lr" in line) == ["optimizer.lr", "0.5", "0.125"]
    assert again == nothing == before


@pytest.mark.slow
async def test_leaving_out_all_runs_leaves_a_screen(runs):
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        shown = await shown_after(pilot, "1", "2", "3", "x", "left", "plus", "r", "l", "enter")

    assert "3 left out" in shown
    assert "no data yet" in shown


@pytest.mark.slow
async def test_d_hides_the_table_and_on_a_small_screen_puts_it_in_the_panels_place(runs):
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        large = await look(pilot)
        hidden = await shown_after(pilot, "d")
    async with app_of(runs).run_test(size=(80, 24)) as pilot:
        small = await look(pilot)
        table = await shown_after(pilot, "d")
        panels = await shown_after(pilot, "d")

    assert ["optimizer.lr" in text for text in (large, hidden, small, table, panels)] == [True, False, False, True, False]
    assert ["╭" in text for text in (large, hidden, small, table, panels)] == [True, True, True, False, True]


@pytest.mark.slow
async def test_a_panel_alone_takes_the_screen_and_gives_it_back(runs):
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        before = await look(pilot)
        pilot.app.screen.query(OverlayView).last().focus()
        alone = await shown_after(pilot, "enter")
        await pilot.press("escape")
        pilot.app.set_focus(None)
        after = await settled(pilot)

    assert alone.count("╭") == 1
    assert "sharpness" in alone
    assert after == before


@pytest.mark.slow
async def test_tab_goes_through_the_panels(runs):
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        seen = []
        for _ in range(5):
            await pilot.press("tab")
            seen.append(getattr(pilot.app.focused, "panel", None))

    assert [panel.title for panel in seen if panel][:2] == ["loss", "sharpness"]


@pytest.mark.slow
async def test_the_help_lists_every_key_of_the_screen(runs):
    async with app_of(runs).run_test(size=(110, 60)) as pilot:
        await look(pilot)
        await pilot.press("question_mark")
        shown = " ".join(re.sub(r"[│╭╮╰╯─]", " ", await settled(pilot)).split())
        is_help = isinstance(pilot.app.screen, HelpScreen)
        await pilot.press("q")
        closed = isinstance(pilot.app.screen, CompareScreen)

    assert is_help
    assert closed
    assert all(binding.tooltip.split(".")[0][:30] in shown for binding in CompareScreen.BINDINGS)
    assert shown.count("Leave out the run") == 1
    assert "Each line is one run" in shown


def test_every_key_has_a_name_of_its_own_by_which_it_can_be_given_another():
    names = [binding.id for binding in CompareScreen.BINDINGS]

    assert len(set(names)) == len(names)
    assert all(name and name.startswith("compare.") for name in names)


@pytest.mark.parametrize("key", ["q", pytest.param("ctrl+c", marks=pytest.mark.slow)])
async def test_leaving_asks_nothing_of_the_runs(runs, key):
    app = app_of(runs)
    async with app.run_test(size=(120, 40)) as pilot:
        await look(pilot)
        await pilot.press(key)

    assert not app.is_running
    assert not any(run.folder.control.exists() for run in runs)


# How it follows


async def test_nothing_is_sent_when_nothing_changed(runs):
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        frames: list[object] = []
        pilot.app._display = lambda *frame: frames.append(frame)
        await look(pilot)
        idle = len(frames)
        runs[2].step(650, lr=0.125)
        await look(pilot)

    assert idle == 0
    assert frames


async def test_a_burst_of_changes_is_painted_once(runs):
    async with app_of(runs).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        painted: list[object] = []
        pilot.app.screen._draw = lambda: painted.append(None)
        for run in runs:
            run.step(700)
        await look(pilot)

    assert len(painted) == 1


async def test_the_follower_threads_deliver_and_go_on_after_each_painting(runs, monkeypatch):
    monkeypatch.setattr("eos_tui.screens.compare.GATHER_SECONDS", 0.01)
    app = EosApp([run.folder for run in runs], poll_seconds=0.02, clock=lambda: NOW)
    async with app.run_test(size=(120, 40)) as pilot:
        while len(values(screen(pilot))) < 3 or "-" in values(screen(pilot)).values():
            await pilot.pause()
        runs[1].step(990, loss=0.77, lr=0.25)
        while values(screen(pilot))["2"] != "0.770":
            await pilot.pause()


@pytest.mark.slow
async def test_an_error_of_our_own_while_reading_ends_the_viewer(runs):
    app = EosApp([run.folder for run in runs], poll_seconds=0.02, clock=lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError, match="division by zero"):
        await watch_until_it_ends(app)


@pytest.mark.slow
async def test_zooming_into_long_runs_reads_each_anew(tmp_path, monkeypatch):
    monkeypatch.setattr("eos_tui.screens.compare.GATHER_SECONDS", 0.01)
    long = [FakeRun(tmp_path, name=name, steps=20_000) for name in ("a", "b")]
    for run in long:
        run.header(panels=(LOSS,))
        run.write(*(StepRecord(step=k, time=k / 100, loss=1.0 + k % 2, lr=0.3) for k in range(20_000)))
    app = EosApp([run.folder for run in long], poll_seconds=0.02, clock=lambda: NOW)
    async with app.run_test(size=(120, 40)) as pilot:
        compare = pilot.app.screen
        assert isinstance(compare, CompareScreen)
        while len(compare._compared()) < 2 or any(found.step < 19_999 for found in compare._compared().values()):
            await pilot.pause()
        await pilot.press(*["plus"] * 10, "left_square_bracket")
        while any((run.detail is None or run.detail.high - run.detail.low > 2048) for run in compare._runs.values()):
            await pilot.pause()
        found = [run.detail.traces[("step", "loss")] for run in compare._runs.values()]

    assert all(len(trace) < 2048 and not trace.is_coarse(trace.first_x, trace.last_x) for trace in found)


# From the list


@pytest.mark.slow
async def test_c_compares_the_runs_that_are_chosen_and_q_comes_back(runs, tmp_path):
    async with EosApp(tmp_path, poll_seconds=0, clock=lambda: NOW).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        await pilot.press("space", "space", "c")
        await pilot.pause()
        opened = isinstance(pilot.app.screen, CompareScreen)
        shown = await look(pilot)
        await pilot.press("q")
        await pilot.pause()
        back = isinstance(pilot.app.screen, HomeScreen)

    assert opened
    assert "2 runs" in shown
    assert back


@pytest.mark.slow
async def test_one_run_alone_is_not_compared(runs, tmp_path):
    async with EosApp(tmp_path, poll_seconds=0, clock=lambda: NOW).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        shown = await shown_after(pilot, "c")
        stayed = isinstance(pilot.app.screen, HomeScreen)

    assert "choose two runs or more" in " ".join(shown.split())
    assert stayed


# Legend and table as text


def written(grid) -> list[str]:
    return ["".join(character for character, _ in row) for row in grid]


def test_the_legend_takes_as_few_columns_as_leave_it_an_eighth_of_the_rows():
    assert [legend_rows(8, width=width, height=40) for width in (30, 78, 118, 198)] == [9, 5, 5, 5]
    assert [legend_rows(8, width=width, height=24) for width in (78, 118, 198)] == [5, 4, 4]
    assert legend_rows(2, width=118, height=40) == 3


@pytest.mark.parametrize("width", [1, 5, 20, 40, 80, 200])
@pytest.mark.parametrize("height", [1, 3, 9])
def test_the_legend_fits_any_size(width, height):
    named = [Named(k, f"a-long-name-損失-{k}", "running", "1.23e-05", is_left_out=k == 1) for k in range(8)]

    assert [len(row) for row in legend(named, width=width, height=height, title="sharpness")] == [width] * height


def test_a_table_gives_columns_what_they_want_and_cuts_the_longest_first():
    table = Table("12", [("optimizer.lr", ["0.5", "0.25"]), ("data.name", ["a-very-long-name-of-a-file", "digits"])])

    wide = ["".join(text for text, _ in row).rstrip() for row in table_rows(table, 60, 3)]
    narrow = ["".join(text for text, _ in row).rstrip() for row in table_rows(table, 40, 3)]

    assert table_width(table) == 48
    assert wide[1:] == ["optimizer.lr  0.5                         0.25", "data.name     a-very-long-name-of-a-file  digits"]
    assert narrow[2] == "data.name     a-very-long-name-…  digits"
    assert all(row_length(row) <= 40 for row in table_rows(table, 40, 3))
