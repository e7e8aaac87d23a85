"""What follows from a run's records, and from the time that passes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from eos_tui.log_reader import LogReader
from eos_tui.snapshot import MAX_EVENTS, RunSnapshot, Status, empty, fold, profiles, trace, value, with_status
from eos_tui.watcher import RunWatcher
from runners.records import AnyRecord, Curve, EndRecord, EventRecord, LayersRecord, MetricsRecord, SharpnessRecord, StepRecord
from tests.eos_tui.fakes import DENSITY, FakeRun

GOLDEN = Path(__file__).parents[1] / "golden" / "log-schema-1.jsonl"
RECORDS = LogReader(GOLDEN).read().records
HEADER = RECORDS[0]
FOLDER = Path("runs/digits")


def step(number: int, time: float | None = None, **fields: Any) -> StepRecord:
    return StepRecord(step=number, time=number / 10 if time is None else time, **{"loss": 1 / (number + 1), "lr": 0.1, **fields})


def event(name: str, number: int = 0) -> EventRecord:
    return EventRecord(step=number, time=number / 10, event=name, message=name)


def end(status: Any = "finished", **fields: Any) -> EndRecord:
    given = {"step": 40, "time": 4.0, "reason": "", "steps": 40, "wall_seconds": 4.0, "measure_seconds": 1.0, **fields}
    return EndRecord(status=status, **given)


def folded(*records: AnyRecord) -> RunSnapshot:
    return fold(empty(FOLDER), records)


def points(snapshot: RunSnapshot, record: str, field: str) -> list[tuple[int, float]]:
    found = trace(snapshot, Curve(record=record, field=field, label=""))
    columns = found.columns(-0.5, 99.5, 100)
    return [(x, column.last) for x, column in enumerate(columns) if column]


def test_an_empty_snapshot_is_named_after_its_folder() -> None:
    snapshot = empty(FOLDER)

    assert (snapshot.name, snapshot.status, snapshot.num_records) == ("digits", Status.STARTING, 0)


def test_a_finished_log_folds_into_what_it_says() -> None:
    snapshot = with_status(folded(*RECORDS), held=False, modified=0.0, now=1e9)

    assert snapshot.header == HEADER
    assert (snapshot.status, snapshot.step, snapshot.steps, snapshot.num_records) == (Status.FINISHED, 40, 40, len(RECORDS))
    assert snapshot.time == RECORDS[-1].time
    assert snapshot.end is RECORDS[-1]
    assert [item.event for item in snapshot.events].count("checkpoint") == 2
    assert set(snapshot.last) == {"header", "step", "sharpness", "ntk", "metrics", "event", "end"}


def test_profiles_are_those_of_the_last_record_and_of_the_first(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    run.header(panels=(DENSITY,))
    none = profiles(RunWatcher(run.folder).catch_up(), DENSITY)
    run.density(0, at=(0.0, 1.0), density=(1.0, None))
    only = profiles(RunWatcher(run.folder).catch_up(), DENSITY)
    run.density(50)
    run.density(1000, at=(0.0, 2.0), density=(3.0, 4.0))
    both = profiles(RunWatcher(run.folder).catch_up(), DENSITY)

    run.density(1001, at=(0.0, 1.0, 2.0), density=(1.0,))
    uneven = profiles(RunWatcher(run.folder).catch_up(), DENSITY)

    assert none == []
    assert uneven == only == [("step 0", ((0.0, 1.0), (1.0, None)))]
    assert both == [("step 1,000", ((0.0, 2.0), (3.0, 4.0))), *only]


@pytest.mark.parametrize("size", [1, 7, 30])
def test_records_fold_to_the_same_snapshot_in_any_portions(size: int) -> None:
    at_once = folded(*RECORDS)

    snapshot = empty(FOLDER)
    for begin in range(0, len(RECORDS), size):
        snapshot = fold(snapshot, RECORDS[begin : begin + size])

    for name in ("header", "step", "steps", "time", "last", "events", "end", "num_records", "paused", "steps_per_second"):
        assert getattr(snapshot, name) == getattr(at_once, name)
    assert snapshot.measured_seconds == pytest.approx(at_once.measured_seconds)
    assert snapshot.traces.keys() == at_once.traces.keys()
    for kind, field in at_once.traces:
        assert points(snapshot, kind, field) == points(at_once, kind, field)


def test_folding_leaves_the_snapshot_before_as_it_was() -> None:
    before = folded(step(0))

    after = fold(before, [step(1)])

    assert points(before, "step", "loss") == [(0, 1.0)]
    assert points(after, "step", "loss") == [(0, 1.0), (1, 0.5)]
    assert (before.step, after.step) == (0, 1)


def test_every_number_of_a_series_has_a_trace() -> None:
    traces = folded(*RECORDS).traces

    assert {("step", name) for name in ("loss", "lr", "grad_norm", "accuracy")} <= traces.keys()
    assert {("ntk", name) for name in ("trace", "sem", "threshold", "noise_kernel", "seconds", "num_probes")} <= traces.keys()
    assert ("metrics", "values.test_loss") in traces
    assert not {("sharpness", name) for name in ("values", "converged", "method", "step", "time")} & traces.keys()
    assert {kind for kind, _ in traces} == {"step", "sharpness", "ntk", "metrics"}


def test_the_eigenvalues_of_a_list_have_a_trace_each(tmp_path: Path) -> None:
    run = FakeRun(tmp_path)
    run.header()
    run.sharpness(0, 3.0, values=(3.0, 2.0), errors=(0.1, 0.2))
    run.sharpness(10, 4.0)
    run.sharpness(20, 5.0, values=(5.0, None, 1.0))

    snapshot = RunWatcher(run.folder).catch_up()

    assert points(snapshot, "sharpness", "values.0") == [(0, 3.0), (20, 5.0)]
    assert points(snapshot, "sharpness", "values.1") == [(0, 2.0)]
    assert points(snapshot, "sharpness", "values.2") == [(20, 1.0)]
    assert not {key for key in snapshot.traces if key[1].startswith("errors")}


def test_numbers_by_name_have_a_trace_each() -> None:
    layers = [
        LayersRecord(
            step=at,
            time=at / 10,
            values={"a": at, "b": None},
            errors={"a": 0.1},
            num_hvps=9,
            converged=True,
            num_examples=5,
            method="",
            seconds=0.5,
        )
        for at in (0, 4)
    ]

    snapshot = folded(HEADER, *layers)

    assert points(snapshot, "layers", "values.a") == [(0, 0), (4, 4)]
    assert ("layers", "values.b") in snapshot.traces
    assert ("layers", "errors.a") in snapshot.traces


def test_the_time_that_measuring_took_is_told_by_kind() -> None:
    snapshot = folded(*RECORDS)

    kinds = ("sharpness", "ntk")
    assert snapshot.measured_seconds == pytest.approx(
        {kind: sum(getattr(record, "seconds", 0.0) for record in RECORDS if record.__struct_config__.tag == kind) for kind in kinds}
    )
    assert all(snapshot.measured_seconds.values())


def test_what_was_not_measured_has_no_point_and_what_is_not_finite_is_a_gap() -> None:
    snapshot = folded(step(0, grad_norm=1.0), step(1), step(2, grad_norm=None), step(3), step(4, grad_norm=5.0))

    norm = trace(snapshot, Curve(record="step", field="grad_norm", label=""))

    assert len(norm) == 3
    assert [column is not None for column in norm.columns(-0.5, 4.5, 5)] == [True, False, False, False, True]


def test_metrics_have_a_trace_each() -> None:
    snapshot = folded(
        MetricsRecord(step=0, time=0.0, values={"test_loss": 1.0}),
        MetricsRecord(step=1, time=0.1, values={"measured_loss": 2.0}),
        MetricsRecord(step=2, time=0.2, values={"test_loss": 0.5, "measured_loss": None}),
    )

    assert points(snapshot, "metrics", "values.test_loss") == [(0, 1.0), (2, 0.5)]
    assert points(snapshot, "metrics", "values.measured_loss") == [(1, 2.0)]


def test_the_value_of_a_curve_is_its_last_number() -> None:
    snapshot = folded(step(0, accuracy=0.5), step(1), step(2, loss=None))

    assert value(snapshot, Curve(record="step", field="accuracy", label="")) == 0.5
    assert value(snapshot, Curve(record="step", field="loss", label="")) is None
    assert value(snapshot, Curve(record="sharpness", field="value", label="")) is None


def test_only_the_last_events_are_kept() -> None:
    events = [event("warning", number) for number in range(MAX_EVENTS + 5)]

    snapshot = folded(*events)

    assert snapshot.events == tuple(events[5:])


def test_the_speed_is_that_of_the_last_half_minute() -> None:
    slow = [step(number, time=float(number)) for number in range(100)]
    fast = [step(100 + number, time=100 + number / 50) for number in range(3000)]

    snapshot = folded(HEADER, *slow, *fast)

    assert snapshot.steps_per_second == pytest.approx(50, rel=0.02)


@pytest.mark.parametrize("portion", [1, 10, 1000])
def test_the_speed_reaches_back_half_a_minute_however_the_log_is_read(portion: int) -> None:
    records: Sequence[AnyRecord] = [HEADER, *(step(number, time=number / 20 + 10 * (number // 400)) for number in range(2000))]

    snapshot = empty(FOLDER)
    for begin in range(0, len(records), portion):
        snapshot = fold(snapshot, records[begin : begin + portion])

    assert snapshot.steps_per_second == pytest.approx(400 / 30, rel=0.05)
    assert snapshot.ticks[-1].time - snapshot.ticks[0].time > 30


def test_a_speed_needs_time_and_steps() -> None:
    assert folded(HEADER).steps_per_second is None
    assert folded(step(0, time=0.0), step(1, time=0.0)).steps_per_second is None
    assert folded(step(3, time=0.0), event("warning", 3)).steps_per_second is None


def test_the_time_left_is_what_the_speed_makes_of_the_steps_left() -> None:
    snapshot = folded(HEADER, step(0, time=0.0), step(10, time=2.0))

    assert snapshot.seconds_left == pytest.approx(30 / 5)
    assert fold(snapshot, [end()]).seconds_left is None


def test_the_measuring_share_is_the_time_in_measurements_over_all_time() -> None:
    sharpness = next(record for record in RECORDS if isinstance(record, SharpnessRecord))

    running = folded(HEADER, sharpness, step(1, time=0.1))
    ended = fold(running, [end()])

    assert running.measuring_share == pytest.approx(sharpness.seconds / 0.1)
    assert ended.measuring_share == pytest.approx(0.25)


def status(*records: AnyRecord, held: bool | None = True, silent: float | None = 0.0) -> Status:
    modified = None if silent is None else 1000.0 - silent
    return with_status(folded(*records), held=held, modified=modified, now=1000.0).status


def test_a_run_without_a_header_is_starting_until_it_counts_as_crashed() -> None:
    assert status(held=True, silent=999) is Status.STARTING
    assert status(held=None, silent=999) is Status.STARTING
    assert status(held=False, silent=59) is Status.STARTING
    assert status(held=False, silent=61) is Status.CRASHED
    assert status(held=False, silent=None) is Status.STARTING


def test_a_run_whose_log_grows_is_running() -> None:
    assert status(HEADER, step(0), held=True) is Status.RUNNING
    assert status(HEADER, step(0), held=None) is Status.RUNNING


@pytest.mark.parametrize("ending", ["finished", "stopped", "diverged", "failed"])
def test_an_end_decides_whatever_else_holds(ending: str) -> None:
    for held in (True, False, None):
        assert status(HEADER, event("paused"), end(ending), held=held, silent=9999) == ending


def test_a_run_that_nobody_holds_and_that_has_no_end_has_crashed() -> None:
    assert status(HEADER, step(0), held=False) is Status.CRASHED
    assert status(HEADER, event("paused"), held=False) is Status.CRASHED


def test_a_paused_run_is_paused_for_as_long_as_it_takes() -> None:
    assert status(HEADER, event("paused"), silent=9999) is Status.PAUSED
    assert status(HEADER, event("paused"), held=None, silent=9999) is Status.PAUSED
    assert status(HEADER, event("paused"), event("checkpoint")) is Status.PAUSED
    assert status(HEADER, event("paused"), event("unpaused")) is Status.RUNNING
    assert status(HEADER, event("paused"), event("resumed")) is Status.RUNNING


def test_a_silent_run_is_stalled() -> None:
    assert status(HEADER, step(0), step(1), silent=59) is Status.RUNNING
    assert status(HEADER, step(0), step(1), silent=61) is Status.STALLED
    assert status(HEADER, step(0), step(1), held=None, silent=119) is Status.RUNNING
    assert status(HEADER, step(0), step(1), held=None, silent=121) is Status.STALLED


def test_a_slow_run_may_be_silent_for_ten_of_its_gaps() -> None:
    slow = [HEADER, *(step(number, time=20.0 * number) for number in range(100))]

    assert status(*slow, silent=199) is Status.RUNNING
    assert status(*slow, silent=201) is Status.STALLED
    assert status(*slow, held=None, silent=199) is Status.RUNNING


def test_a_long_gap_is_forgotten_in_time() -> None:
    records = [HEADER, step(1, time=500.0), *(step(2 + number, time=500 + number / 10) for number in range(2000))]

    assert status(*records, silent=61) is Status.STALLED


def test_a_run_that_was_taken_up_again_has_not_ended() -> None:
    snapshot = folded(HEADER, step(0), end("stopped"), event("resumed", 40), step(41))

    assert snapshot.end is None
    assert with_status(snapshot, held=True, modified=0.0, now=1.0).status is Status.RUNNING
    assert fold(snapshot, [end("stopped")]).end == end("stopped")


def test_a_resume_that_fails_before_it_knows_its_step_leaves_the_run_where_it_was() -> None:
    snapshot = folded(HEADER, step(0), step(9), end("failed", step=0, time=0.0, steps=0, wall_seconds=0.0, measure_seconds=0.0))

    assert (snapshot.step, snapshot.time, snapshot.measuring_share) == (9, 0.9, None)
    assert with_status(snapshot, held=False, modified=0.0, now=1e9).status is Status.FAILED


def test_an_unchanged_status_leaves_the_snapshot_alone() -> None:
    snapshot = with_status(folded(HEADER), held=True, modified=0.0, now=0.0)

    assert with_status(snapshot, held=True, modified=0.0, now=30.0) is snapshot
