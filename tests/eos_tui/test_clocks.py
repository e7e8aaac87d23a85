"""The axes of a run: time, examples and lr x steps as its log tells them."""

import pytest

from eos_tui.clocks import clock, units
from eos_tui.snapshot import empty, fold
from eos_tui.watcher import RunWatcher
from runners.records import StepRecord
from tests.eos_tui.fakes import FakeRun


def snapshot(tmp_path, records):
    return fold(empty(tmp_path), records)


def steps(count, *, seconds=lambda step: 0.5 * step, lr=lambda step: 0.1, **fields):
    return [StepRecord(step=k, time=seconds(k), loss=1.0, lr=lr(k), **fields) for k in range(count)]


def test_time_is_that_of_the_records(tmp_path):
    run = snapshot(tmp_path, steps(40, seconds=lambda step: step**2))

    found = clock(run, "time")

    assert found is not None
    assert [found.place(step) for step in (0, 7, 39)] == [0, 49, 39**2]


def test_of_many_records_some_tell_the_time_and_the_last_one_always_does(tmp_path):
    run = snapshot(tmp_path, steps(10_001))

    found = clock(run, "time")

    assert found is not None
    assert len(run.times) < 200
    assert [found.place(step) for step in (0, 1234, 10_000)] == pytest.approx([0, 617, 5000], abs=1e-6)


def test_lr_is_added_up_over_the_steps_before(tmp_path):
    run = snapshot(tmp_path, steps(10, lr=lambda step: 0.3 if step < 4 else 0.1))

    found = clock(run, "lr x steps")

    assert found is not None
    assert [found.place(step) for step in (0, 4, 5, 10)] == pytest.approx([0, 1.2, 1.3, 1.8])


def test_examples_are_counted_by_the_batch_size_of_each_step(tmp_path):
    run = snapshot(tmp_path, [*steps(3, batch_size=4), *(record for record in steps(6, batch_size=8) if record.step >= 3)])

    found = clock(run, "examples")

    assert found is not None
    assert [found.place(step) for step in (0, 3, 6)] == [0, 12, 36]


def test_without_steps_in_the_log_there_is_no_other_axis(tmp_path):
    assert units(snapshot(tmp_path, [])) == ["steps"]


def test_the_batch_size_of_a_run_in_which_it_stays_is_the_headers(tmp_path):
    fake = FakeRun(tmp_path)
    fake.header(batch_size=16)
    fake.progress(range(3))
    run = RunWatcher(fake.folder).catch_up()

    found = clock(run, "examples")

    assert found is not None
    assert found.place(10) == 160
    assert units(run) == ["steps", "time", "examples", "lr x steps"]
