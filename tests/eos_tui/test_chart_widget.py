"""Chart and panel as widgets: what they show, what they send again, and that no size is too small."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from rich.segment import Segment
from rich.style import Style
from textual.app import App
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from eos_tui.charts import draw
from eos_tui.decimate import Trace
from eos_tui.snapshot import RunSnapshot, empty
from eos_tui.watcher import RunWatcher
from eos_tui.widgets.cells import changes, runs
from eos_tui.widgets.chart import Chart
from eos_tui.widgets.frugal import FrugalScreen, NarrowUpdate
from eos_tui.widgets.panel import PanelView, Source, title_parts, title_row
from runners.records import Curve, EventRecord, Panel
from tests.eos_tui.fakes import DENSITY, FakeRun

VALUE = Curve(record="sharpness", field="value", label="sharpness")
THRESHOLD = Curve(record="sharpness", field="threshold", label="2/lr")
ERROR = Curve(record="sharpness", field="error", label="error")
RATIO = Curve(record="sharpness", field="ratio", label="of 2/lr")
NOTE = Curve(record="ntk", field="noise_kernel", label="K")
PANEL = Panel(title="sharpness", series=(VALUE,), references=(THRESHOLD,), error=ERROR, ratio=RATIO, notes=(NOTE,))


class Showing(App[None]):
    """An app of one widget."""

    def __init__(self, widget: Widget) -> None:
        super().__init__()
        self.widget = widget

    def get_default_screen(self) -> FrugalScreen[None]:
        return FrugalScreen()

    def on_mount(self) -> None:
        self.screen.mount(self.widget)


def line(count: int, slope: float = 0.01) -> Trace:
    return Trace.empty().extended(range(count), [1.0 + slope * step for step in range(count)])


def snapshot(count: int) -> RunSnapshot:
    def constant(value: float | None) -> Trace:
        return Trace.empty().extended(range(count), [value] * count)

    traces = {
        ("sharpness", "value"): constant(2.534),
        ("sharpness", "threshold"): constant(6.667),
        ("sharpness", "error"): constant(0.00123),
        ("sharpness", "ratio"): constant(0.38),
        ("ntk", "noise_kernel"): constant(0.71),
    }
    return replace(empty(Path("run")), traces=traces, steps=100)


def shown(widget: Widget) -> list[str]:
    """The widget's rows as text."""
    return [widget.render_line(y).text.rstrip() for y in range(widget.size.height)]


def screen_text(app: App[None]) -> list[str]:
    strips = app.screen._compositor.render_strips()
    return [strip.text.rstrip() for strip in strips]


async def test_the_chart_shows_what_the_pure_function_draws():
    chart = Chart()
    async with Showing(chart).run_test(size=(60, 12)):
        chart.show([("loss", line(50))], x_max=100)

        expected = draw([("loss", line(50))], width=60, height=12, x_max=100)
        assert shown(chart) == ["".join(character for character, _ in row).rstrip() for row in expected]


async def test_only_the_cells_that_changed_are_repainted(monkeypatch):
    chart = Chart()
    async with Showing(chart).run_test(size=(60, 12)):
        chart.show([("loss", line(80))], x_max=100)
        repainted: list[Region] = []
        monkeypatch.setattr(chart, "refresh", lambda *regions: repainted.extend(regions))

        chart.show([("loss", line(81))], x_max=100)

        assert len(repainted) == 1
        assert repainted[0].area <= 2


async def test_what_looks_the_same_is_not_repainted(monkeypatch):
    chart = Chart()
    async with Showing(chart).run_test(size=(60, 12)):
        chart.show([("loss", line(50))], x_max=100)
        monkeypatch.setattr(chart, "refresh", pytest.fail)

        chart.show([("loss", line(50))], x_max=100)


@pytest.mark.parametrize("numbers", [(), (0.0, 0.0, 0.0), (None, None, None), (1e-3, None, 5.0), (1e300, 1e-300, 0.0)])
async def test_a_density_of_any_numbers_fits_any_size(tmp_path, numbers):
    run = FakeRun(tmp_path)
    run.header(panels=(DENSITY,))
    run.sharpness(0, None, threshold=1e308)
    run.density(0, at=tuple(range(len(numbers))), density=numbers)
    state = RunWatcher(run.folder).catch_up()
    view = PanelView(DENSITY)
    async with Showing(view).run_test(size=(80, 24)) as pilot:
        view.show(state)
        for size in [(1, 1), (3, 1), (20, 5), (200, 60)]:
            view.toggle_scale()
            await pilot.resize_terminal(*size)
            await pilot.pause()

            assert max(map(len, screen_text(pilot.app))) <= size[0]


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 1), (20, 5), (200, 60)])
async def test_no_size_is_too_small(size):
    view = PanelView(PANEL)
    async with Showing(view).run_test(size=(80, 24)) as pilot:
        view.show(snapshot(50))

        await pilot.resize_terminal(*size)
        await pilot.pause()
        view.show(snapshot(60))
        await pilot.pause()

        assert max(map(len, screen_text(pilot.app))) <= size[0]


async def test_a_resize_draws_the_chart_anew():
    chart = Chart()
    async with Showing(chart).run_test(size=(60, 12)) as pilot:
        chart.show([("loss", line(80))], x_max=100)

        await pilot.resize_terminal(40, 8)
        await pilot.pause()

        assert shown(chart)[-1].endswith("100")
        assert len(shown(chart)) == 8


async def test_a_chart_without_room_is_shown_once_there_is_room():
    chart = Chart()
    chart.styles.display = "none"
    async with Showing(chart).run_test(size=(40, 8)) as pilot:
        chart.show([("loss", line(80))], x_max=100)

        chart.styles.display = "block"
        await pilot.pause()

        assert shown(chart)[-1].endswith("100")


async def test_styles_follow_the_theme():
    chart = Chart()
    async with Showing(chart).run_test(size=(40, 8)) as pilot:
        chart.show([("loss", line(50))], x_max=100)
        before = {segment.style for segment in chart.render_line(0)}

        pilot.app.theme = "textual-light"
        await pilot.pause()

        assert before.isdisjoint({segment.style for segment in chart.render_line(0)})


def test_changes_are_one_region_a_row():
    before = [[("a", ""), ("b", ""), ("c", ""), ("d", "")], [("e", "")] * 4]
    after = [[("a", ""), ("x", ""), ("c", ""), ("d", "axis")], [("e", "")] * 4]

    assert list(changes(before, after)) == [Region(1, 0, 3, 1)]


def test_blanks_join_the_run_beside_them():
    row = [(" ", ""), ("8", "axis"), (" ", ""), ("x", "series-1"), (" ", ""), ("y", "series-1"), (" ", "")]

    assert list(runs(row)) == [(" 8 ", "axis"), ("x y ", "series-1")]
    assert list(runs([(" ", ""), (" ", "")])) == [("  ", "")]
    assert list(runs([])) == []


async def test_a_panel_frames_its_chart_and_says_where_the_number_stands():
    view = PanelView(PANEL)
    async with Showing(view).run_test(size=(72, 7)) as pilot:
        view.show(snapshot(80))
        await pilot.pause()

        rows = screen_text(pilot.app)

    assert rows == [
        "╭ sharpness ─────────── 2.53 ± 0.001 = 0.380 of 2/lr, K 0.710 ▄▄▄▄▄▄▄▄ ╮",
        "│8 ┤⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄⠄│",
        "│  │                                                       2/lr = 6.67 │",
        "│  │⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤              │",
        "│0 ┤                                                                   │",
        "│   0           20           40            60           80  steps   100│",
        "╰──────────────────────────────────────────────────────────────────────╯",
    ]


async def test_events_are_letters_on_the_lower_edge_but_for_those_that_tell_of_the_measurement_alone():
    events = {20: "checkpoint", 40: "overtaken", 60: "warning", 80: "unpaused"}
    told = tuple(EventRecord(step=step, time=0.0, event=event, message="") for step, event in events.items())
    view = PanelView(PANEL)
    async with Showing(view).run_test(size=(72, 7)) as pilot:
        view.show(replace(snapshot(100), events=told))
        await pilot.pause()

        *_, edge = screen_text(pilot.app)

    assert edge.replace("─", "") == "╰c!╯"


async def test_a_panel_can_do_without_unicode():
    view = PanelView(PANEL, ascii_only=True)
    async with Showing(view).run_test(size=(72, 7)) as pilot:
        view.show(snapshot(80))
        await pilot.pause()

        assert "\n".join(screen_text(pilot.app)).isascii()


async def test_a_panel_costs_nothing_when_no_number_came(monkeypatch):
    view = PanelView(PANEL)
    state = snapshot(80)
    async with Showing(view).run_test(size=(72, 7)):
        view.show(state)
        monkeypatch.setattr(Chart, "show", pytest.fail)

        view.show(replace(state, num_records=7))


async def test_the_scale_can_be_switched_and_switched_back():
    view = PanelView(PANEL)
    async with Showing(view).run_test(size=(72, 7)) as pilot:
        view.show(snapshot(80))

        view.toggle_scale()
        await pilot.pause()

        assert view.scale == "log"
        assert screen_text(pilot.app)[0].startswith("╭ sharpness (log) ─")
        assert screen_text(pilot.app)[1].startswith("│10 ┤")

        view.toggle_scale()
        await pilot.pause()

        assert screen_text(pilot.app)[0].startswith("╭ sharpness ─")


async def test_a_panel_waits_for_data():
    view = PanelView(PANEL)
    async with Showing(view).run_test(size=(40, 5)) as pilot:
        view.show(empty(Path("run")))
        await pilot.pause()

        rows = screen_text(pilot.app)

    assert rows[0] == "╭ sharpness ───────────────────────────╮"
    assert "no data yet" in rows[2]


@pytest.mark.parametrize(
    ("width", "left", "right"),
    [
        (72, "╭ sharpness ─", "─ 2.53 ± 0.001 = 0.380 of 2/lr, K 0.710 ▄▄▄▄▄▄▄▄ ╮"),
        (60, "╭ sharpness ─", "─ 2.53 ± 0.001 = 0.380 of 2/lr ▄▄▄▄▄▄▄▄ ╮"),
        (50, "╭ sharpness ─", "─ 2.53 ± 0.001 = 0.380 of 2/lr ╮"),
        (40, "╭ sharpness ─", "─ 2.53 = 0.380 of 2/lr ╮"),
        (24, "╭ sharpness ─", "─ 2.53 ╮"),
        (14, "╭ sharpness ─", "╮"),
        (8, "╭ shar ", "╮"),
        (4, "╭──", "╮"),
        (1, "─", ""),
    ],
)
def test_a_narrow_title_drops_notes_then_sparkline_then_error_then_ratio(width, left, right):
    parts = title_parts(PANEL, Source(snapshot(80)), scale="linear")

    row = "".join(text for text, _ in title_row(parts, width))

    assert row == left + "─" * (width - len(left) - len(right)) + right


def test_the_title_of_several_series_says_whose_number_it_shows():
    panel = Panel(title="loss", unit="nats", series=(VALUE, THRESHOLD))

    parts = title_parts(panel, Source(snapshot(80)), scale="log")

    assert "".join(text for text, _ in title_row(parts, 50)) == "╭ loss (log) ─────────────── sharpness 2.53 nats ╮"


def test_a_title_says_what_its_numbers_are_as_long_as_there_is_room():
    panel = msgspec.structs.replace(PANEL, remark="gamma^2 x raw")
    parts = title_parts(panel, Source(snapshot(80)), scale="linear")

    wide, narrow = ("".join(text for text, _ in title_row(parts, width)) for width in (90, 50))

    assert wide.startswith("╭ sharpness, gamma^2 x raw ─")
    assert narrow.startswith("╭ sharpness ─")


def test_where_a_long_remark_goes_the_notes_that_fit_stay():
    panel = msgspec.structs.replace(PANEL, remark="of the raw parameters, not those trained")
    parts = title_parts(panel, Source(snapshot(80)), scale="linear")

    row = "".join(text for text, _ in title_row(parts, 80))

    assert row.startswith("╭ sharpness ─")
    assert row.endswith("─ 2.53 ± 0.001 = 0.380 of 2/lr, K 0.710 ▄▄▄▄▄▄▄▄ ╮")


def test_the_title_says_that_a_number_is_not_finite():
    state = replace(empty(Path("run")), traces={("sharpness", "value"): Trace.empty().extended([0], [None])})

    assert title_parts(PANEL, Source(state), scale="linear")["value"] == ("not finite", "value")


def test_a_narrow_update_sends_changed_cells_only():
    strip = Strip([Segment("abcdef")])

    update = NarrowUpdate([{0: strip, 6: strip}], [(0, 2, 4), (0, 5, 7)], [[6, 12]])

    assert update.render_segments(Console()) == "\x1b[1;3Hcd\x1b[1;6Hf\x1b[1;7Ha"


@pytest.mark.parametrize(
    ("style", "sent"),
    [
        ("default on default", "ab"),
        ("dim default on default", "\x1b[2mab"),
        ("bold bright_blue on default", "\x1b[1;94mab"),
        ("color(39) on default", "\x1b[38;5;39;49mab"),
    ],
)
def test_colours_that_are_the_terminals_own_anyway_are_not_sent(style, sent):
    update = NarrowUpdate([{0: Strip([Segment("ab", Style.parse(style))])}], [(0, 0, 2)], [[2]])

    written = update.render_segments(Console(color_system="256", force_terminal=True))

    assert written.removeprefix("\x1b[1;1H").removesuffix("\x1b[0m") == sent


async def test_a_frugal_screen_narrows_its_updates():
    chart = Chart()
    async with Showing(chart).run_test(size=(60, 12)) as pilot:
        compositor = pilot.app.screen._compositor
        compositor._dirty_regions.add(Region(3, 2, 1, 1))

        update = compositor.render_partial_update()

        assert isinstance(update, NarrowUpdate)
        assert len(update.render_segments(Console())) < 20
