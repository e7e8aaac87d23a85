"""Several runs beside each other: which panels they share, in what they differ, where they stand on one axis."""

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from eos_tui import comparison
from eos_tui.comparison import axis, differences, names, places, shared_panels, thresholds, turned, units
from eos_tui.snapshot import RunSnapshot
from eos_tui.view import View
from runners.records import Curve, Panel
from tests.eos_tui.fakes import DENSITY, LOSS, NTK, SHARPNESS, FakeRun, snapshot_of

PRECONDITIONED = structs.replace(
    SHARPNESS, title="preconditioned sharpness", series=(Curve(record="sharpness", field="preconditioned", label="sharpness"),)
)


def of_lr(runs: Path, lr, *, name: str, steps: int = 100, spec=None, panels=(LOSS, SHARPNESS)) -> RunSnapshot:
    """A run of 61 steps whose learning rate is a number, or a function of the step."""
    run = FakeRun(runs, name=name, steps=steps)
    rate = lr if callable(lr) else lambda _: lr
    run.header(spec={} if spec is None else spec, panels=panels)
    for step in range(61):
        run.step(step, lr=rate(step))
        run.sharpness(step, 5.0, threshold=2 / (rate(step) or 1.0))
    return snapshot_of(run)


@pytest.fixture
def runs(tmp_path):
    return {"a": of_lr(tmp_path, 0.5, name="a"), "b": of_lr(tmp_path, 0.25, name="b")}


def with_panels(snapshot: RunSnapshot, *panels: Panel) -> RunSnapshot:
    assert snapshot.header
    return replace(snapshot, header=structs.replace(snapshot.header, panels=panels))


def test_a_panel_that_one_run_has_alone_is_not_shared(runs):
    runs["b"] = with_panels(runs["b"], NTK, LOSS)

    assert [panel.title for panel in shared_panels(runs)] == ["loss"]


def test_panels_are_the_same_by_title_even_if_their_first_series_differ(runs):
    measured = structs.replace(LOSS, series=LOSS.series[::-1])
    runs["b"] = with_panels(runs["b"], measured)

    (loss,) = shared_panels(runs)

    assert {run: curve.field for run, curve in loss.curves(ratio=False).items()} == {"a": "loss", "b": "values.test_loss"}


def test_sharpness_stands_beside_a_preconditioned_one_for_their_ratios_are_the_same_kind(runs):
    runs["b"] = with_panels(runs["b"], PRECONDITIONED)

    (shared,) = shared_panels(runs)

    assert shared.title == "sharpness / preconditioned sharpness"
    assert {curve.field for curve in shared.curves(ratio=True).values()} == {"ratio"}
    assert shared.curves(ratio=False)["b"].field == "preconditioned"


def test_panels_over_another_axis_than_the_step_are_left_out(runs):
    assert shared_panels({run: with_panels(snapshot, DENSITY) for run, snapshot in runs.items()}) == ()


def test_a_run_without_a_header_shares_nothing_and_is_no_error(runs, tmp_path):
    runs["c"] = snapshot_of(FakeRun(tmp_path, name="c"))

    assert all(set(panel.panels) == {"a", "b"} for panel in shared_panels(runs))


def test_ratios_of_different_formulas_are_said_to_be_of_each_runs_threshold(runs):
    of_momentum = structs.replace(SHARPNESS, ratio=Curve(record="sharpness", field="ratio", label="of (2+2b)/lr"))
    one = shared_panels(runs)[1]
    other = shared_panels(runs | {"b": with_panels(runs["b"], LOSS, of_momentum)})[1]

    assert (one.ratio_label, other.ratio_label) == ("of 2/lr", "of its threshold")
    assert shared_panels(runs)[0].ratio_label == ""


def test_a_threshold_is_drawn_once_where_all_runs_have_the_same(runs, tmp_path):
    runs["b"] = of_lr(tmp_path, 0.5, name="again")

    found = thresholds(shared_panels(runs)[1], runs)

    assert found == ([("2/lr", 4.0)], True)


def test_thresholds_that_differ_or_move_are_none_for_all(runs, tmp_path):
    moving = {name: of_lr(tmp_path, lambda step: 0.5 if step < 20 else 0.4, name=name) for name in ("c", "d")}

    assert thresholds(shared_panels(runs)[1], runs) == ([], False)
    assert thresholds(shared_panels(moving)[1], moving) == ([], False)


def test_where_nothing_is_held_against_anything_all_thresholds_are_shared(runs):
    assert thresholds(shared_panels(runs)[0], runs) == ([], True)


def test_only_keys_that_differ_are_told_with_their_tables():
    specs = {
        "a": {"optimizer": {"name": "sgd", "lr": 0.5}, "data": {"num_train": None}, "run": {"steps": 100}},
        "b": {"optimizer": {"name": "adam", "lr": 0.5, "beta1": 0.9}, "run": {"steps": 100}},
        "c": None,
    }

    found = differences(specs)

    assert [(one.key, dict(one.values)) for one in found] == [
        ("optimizer.name", {"a": "sgd", "b": "adam"}),
        ("optimizer.beta1", {"a": None, "b": 0.9}),
    ]


@pytest.mark.parametrize(
    ("value", "words"), [(None, "-"), (True, "true"), (0.5, "0.5"), ("a\x1b[31mb", "ab"), ([1, "x"], '[1, "x"]'), ({"b": 1}, '{"b": 1}')]
)
def test_values_of_a_spec_are_written_as_text(value, words):
    assert comparison.value_words(value) == words


def test_runs_are_named_by_what_tells_them_apart(tmp_path):
    stamp = "20260131T120000Z-0a1"
    specs = {"x": {"optimizer": {"lr": 0.5}}, "y": {"optimizer": {"lr": 0.25}}, "z": {"optimizer": {"lr": 0.125}}}
    same = {run: of_lr(tmp_path, 0.5, name=f"gd-{stamp}{k}", spec=spec) for k, (run, spec) in enumerate(specs.items())}
    mixed = {**same, "z": of_lr(tmp_path, 0.5, name=f"half-{stamp}9", spec=specs["z"])}

    assert list(names(same).values()) == ["lr = 0.5", "lr = 0.25", "lr = 0.125"]
    assert list(names(mixed).values()) == ["gd lr = 0.5", "gd lr = 0.25", "half lr = 0.125"]
    assert list(names({"x": same["x"], "z": mixed["z"]}).values()) == ["gd", "half"]


def test_a_name_is_text():
    run = RunSnapshot(name="a\x1b]0;title\x07\nb", folder=Path("a"))

    assert names({"a": run}) == {"a": "a b"}


def test_a_run_keeps_its_place_whatever_runs_come_and_go():
    first = places(["a", "b", "c"], {})
    without = places(["a", "c"], first)
    back = places(["d", "a", "c", "b"], without)

    assert first == {"a": 0, "b": 1, "c": 2}
    assert without == {"a": 0, "c": 2}
    assert (back["a"], back["c"]) == (0, 2)
    assert sorted(back.values()) == [0, 1, 2, 3]
    assert back["d"] == 1


def test_on_the_axis_of_steps_all_runs_have_the_same_window(runs, tmp_path):
    runs["c"] = of_lr(tmp_path, 0.1, name="c", steps=400)

    found = axis(runs, "steps")

    assert (found.extents.end, found.extents.most) == (60, 100)
    assert {(window.low, window.high) for window in found.windows(View()).values()} == {(0, 100)}
    assert found.window(View()).axis() == ((0, 100), "steps")


def test_over_lr_x_steps_each_run_maps_the_axis_to_its_own_steps(runs):
    """At a constant lr the place is lr times the step."""
    found = axis(runs, "lr x steps")
    windows = found.windows(View(span=(5.0, 10.0)))

    assert found.extents.end == pytest.approx(30.0)
    assert found.extents.most == pytest.approx(50.0)
    assert (windows["a"].low, windows["a"].high) == pytest.approx((10.0, 20.0))
    assert (windows["b"].low, windows["b"].high) == pytest.approx((20.0, 40.0))
    assert {window.ends for window in windows.values()} == {(5.0, 10.0)}
    assert windows["b"].share(30.0) == pytest.approx(0.5)
    assert found.step("b", 7.5) == pytest.approx(30.0)
    assert found.window(View(span=(5.0, 10.0))).axis() == ((5.0, 10.0), "lr x steps")


def test_a_schedule_is_added_up_where_it_changes(tmp_path):
    """20 steps of 0.5 go as far as 40 of 0.25; the 30 steps of 0.1 behind them 3 further."""
    runs = {"a": of_lr(tmp_path, lambda step: 0.5 if step < 20 else 0.1, name="a"), "b": of_lr(tmp_path, 0.25, name="b")}

    found = axis(runs, "lr x steps")

    assert found.step("a", 10.0) == pytest.approx(20.0)
    assert found.step("a", 13.0) == pytest.approx(50.0)
    assert found.step("b", 13.0) == pytest.approx(52.0)


def test_a_warm_up_from_zero_loses_no_step_at_the_beginning(tmp_path):
    runs = {"a": of_lr(tmp_path, lambda step: 0.0 if step < 5 else 0.5, name="a", panels=(LOSS,)), "b": of_lr(tmp_path, 0.5, name="b")}

    assert axis(runs, "lr x steps").windows(View())["a"].low == 0.0


def of_zero_lr(tmp_path):
    run = FakeRun(tmp_path, name="still")
    run.header()
    run.step(0, lr=0.0)
    return snapshot_of(run)


def test_a_run_that_has_not_moved_yet_has_a_window_all_the_same(tmp_path, runs):
    window = axis({"a": of_zero_lr(tmp_path), "b": runs["b"]}, "lr x steps").windows(View())["a"]

    assert window.high > window.low
    assert list(window.edges(4)) == sorted(window.edges(4))


@pytest.mark.parametrize("unit", ["steps", "lr x steps"])
def test_without_runs_there_is_an_axis_as_well(unit, tmp_path):
    for runs in ({}, {"a": snapshot_of(FakeRun(tmp_path, name="a"))}, {"a": of_zero_lr(tmp_path)}):
        found = axis(runs, unit)
        view = View(unit=unit).zoomed(found.extents, 2.0)
        assert found.window(view).high > found.window(view).low


def test_an_axis_is_offered_that_all_runs_with_records_know(runs, tmp_path):
    without_lr = FakeRun(tmp_path, name="c")
    without_lr.header()
    for step in range(3):
        without_lr.metrics(step, test_loss=1.0)

    assert units(runs | {"empty": snapshot_of(FakeRun(tmp_path, name="empty"))}) == ["steps", "time", "examples", "lr x steps"]
    assert "lr x steps" not in units(runs | {"c": snapshot_of(without_lr)})
    assert units({}) == ["steps"]


def test_the_view_turns_to_another_axis_around_the_same_steps_of_the_first_run(runs):
    before, after = axis(runs, "steps"), axis(runs, "lr x steps")
    view = turned(View(span=(10.0, 20.0), cursor=14), before, after)
    back = turned(view, after, before)

    assert view.unit == "lr x steps"
    assert view.span == pytest.approx((5.0, 10.0))
    assert view.cursor == pytest.approx(7.0)
    assert (back.unit, back.span, back.cursor) == ("steps", (10, 20), 14)


def test_the_end_of_an_axis_does_not_move_with_each_estimate_of_it(tmp_path):
    """Where a run will end on lr x steps is guessed from its pace until now, which a schedule changes at every step."""
    run = FakeRun(tmp_path, name="a", steps=1000)
    run.header()
    ends = set()
    for step in range(60):
        run.step(step, lr=0.5 - 0.0001 * step)
        if step > 40:
            ends.add(axis({"a": snapshot_of(run)}, "lr x steps").extents.most)

    assert len(ends) <= 2
