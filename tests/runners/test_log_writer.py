import json

import pytest

from runners import log_writer
from runners.log_writer import LogWriter
from runners.records import EventRecord, MetricsRecord, SharpnessRecord, StepRecord


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log.jsonl"


def lines(path):
    return [json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON")) for line in path.read_text().splitlines()]


def step(number, loss=1.0):
    return StepRecord(step=number, time=0.5, loss=loss, lr=0.1)


def test_a_record_is_one_line_with_its_kind_step_and_time(path):
    LogWriter(path).write(step(3, loss=0.25))

    assert lines(path) == [{"kind": "step", "step": 3, "time": 0.5, "loss": 0.25, "lr": 0.1}]


def test_numbers_survive_to_the_last_bit(path):
    LogWriter(path).write(step(0, loss=0.1 + 0.2))

    assert lines(path)[0]["loss"] == 0.1 + 0.2


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "nan"), (float("inf"), "inf"), (float("-inf"), "-inf")])
def test_a_number_that_is_not_finite_is_null_and_an_event_says_which_and_what(path, value, word):
    LogWriter(path).write(step(7, loss=value))

    record, event = lines(path)
    assert record["loss"] is None
    assert event["kind"] == "event"
    assert event["event"] == "not_finite"
    assert f"loss is {word}" in event["message"]


def test_numbers_inside_lists_and_tables_are_watched_too(path):
    log = LogWriter(path)
    log.write(MetricsRecord(step=1, time=0.0, values={"a": float("nan"), "b": 1.0}))
    log.write(
        SharpnessRecord(
            step=1,
            time=0.0,
            value=1.0,
            values=(1.0, float("inf")),
            residual=0.0,
            error=0.0,
            num_hvps=3,
            converged=True,
            num_examples=5,
            method="m",
            seconds=0.1,
        )
    )

    messages = [line["message"] for line in lines(path) if line["kind"] == "event"]
    assert "values.a is nan" in messages[0]
    assert "values[1] is inf" in messages[1]


def test_a_reopened_log_goes_on_at_its_end(path):
    for number in range(3):
        log = LogWriter(path)
        log.write(step(number))
        log.close()

    assert [line["step"] for line in lines(path)] == [0, 1, 2]


@pytest.mark.parametrize("torn", [b'{"kind":"step","st', b"\0" * 200_000])
def test_a_torn_line_makes_way_for_what_is_appended(path, torn):
    LogWriter(path).write(step(0))
    with path.open("ab") as log:
        log.write(torn)

    LogWriter(path).write(step(1))

    assert [line["step"] for line in lines(path)] == [0, 1]


def test_of_a_log_that_is_all_torn_nothing_stays(path):
    path.write_bytes(b'{"kind":"header","sch')

    LogWriter(path).write(step(0))

    assert [line["step"] for line in lines(path)] == [0]


def test_the_length_is_that_of_the_whole_lines(path):
    log = LogWriter(path)
    log.write(step(0))

    assert log.sync() == path.stat().st_size


def test_cutting_keeps_the_lines_before(path):
    log = LogWriter(path)
    log.write(step(0))
    length = log.sync()
    log.write(EventRecord(step=1, time=0.0, event="x", message="y"))

    log_writer.cut(path, length)

    assert [line["kind"] for line in lines(path)] == ["step"]


@pytest.mark.parametrize("length", [5, 10_000])
def test_a_cut_that_would_tear_a_line_or_lengthen_the_log_is_refused(path, length):
    LogWriter(path).write(step(0))
    before = path.read_bytes()

    with pytest.raises(ValueError, match="no line ends at byte"):
        log_writer.cut(path, length)

    assert path.read_bytes() == before
