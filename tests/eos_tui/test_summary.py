"""What a list says of a run without reading all of its log."""

from pathlib import Path

import msgspec
import pytest

from eos_tui import summary
from eos_tui.snapshot import Status
from runners.errors import LogError
from tests.eos_tui.fakes import FakeRun, live

NOW = 1_769_860_860.0
"""A minute after the fake runs' 2026-01-31T12:00:00Z."""


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path)


def test_a_row_has_the_last_numbers_of_each_kind(run: FakeRun) -> None:
    run.header()
    run.progress(range(101))
    run.end(101)

    row = summary.row(run.folder, now=NOW)

    assert msgspec.to_builtins(row) == {
        "run": run.folder.name,
        "path": str(run.folder.path.absolute()),
        "status": "finished",
        "step": 101,
        "steps": 3000,
        "loss": pytest.approx(0.367, abs=1e-3),
        "sharpness": pytest.approx(2.47),
        "ratio": pytest.approx(2.47 / 6.667),
        "noise_kernel": pytest.approx(1.1 * 105 / 380),
        "created": "2026-01-31T12:00:00Z",
        "age_seconds": 60.0,
    }


def test_the_k_of_a_simulated_least_squares_stands_in_its_row(run: FakeRun) -> None:
    run.header()
    run.step(5)
    run.tails(5, 0.5031)

    row = summary.row(run.folder, now=NOW)

    assert (row.noise_kernel, row.sharpness) == (0.5031, None)


def test_a_long_log_says_the_same_as_a_short_one(run: FakeRun) -> None:
    run.header()
    run.progress(range(3000))

    with live(run):
        seen = summary.look(run.folder, now=run.folder.log.stat().st_mtime)

    assert run.folder.log.stat().st_size > 2 * summary.TAIL_BYTES
    assert (seen.status, seen.step, seen.steps) == (Status.RUNNING, 2999, 3000)
    steps = {kind: record.step for kind, record in seen.last.items()}
    assert steps == {"header": 0, "step": 2999, "sharpness": 2990, "ntk": 2950, "metrics": 2900}


def test_a_torn_last_line_is_left_out(run: FakeRun) -> None:
    run.header()
    run.step(7)
    with run.folder.log.open("ab") as log:
        log.write(b'{"kind":"step","step":8,"ti')

    assert summary.row(run.folder, now=NOW).step == 7


def test_a_run_that_nobody_ever_started_is_waiting(run: FakeRun) -> None:
    assert summary.row(run.folder, now=run.folder.path.stat().st_mtime + 1e6).status == "waiting"


def test_a_run_that_has_not_begun_its_log_is_starting(run: FakeRun) -> None:
    run.folder.output.touch()

    row = summary.row(run.folder, now=run.folder.path.stat().st_mtime)

    assert (row.status, row.created, row.loss) == ("starting", None, None)


def test_a_run_that_failed_before_its_header_says_so(run: FakeRun) -> None:
    run.end(0, status="failed", reason="No module named 'jax'.")

    assert summary.row(run.folder, now=NOW).status == "failed"


def test_a_paused_run_is_told_apart_though_a_checkpoint_came_after(run: FakeRun) -> None:
    run.header()
    run.step(5)
    run.event(5, "paused")
    run.event(5, "checkpoint")

    with live(run):
        row = summary.row(run.folder, now=NOW)

    assert row.status == "paused"


def test_a_loss_that_is_not_finite_is_null(run: FakeRun) -> None:
    run.header()
    run.step(5, loss=None)

    assert summary.row(run.folder, now=NOW).loss is None


def test_a_log_that_is_none_makes_its_row_unreadable_and_no_error(run: FakeRun) -> None:
    run.folder.log.write_text("hello\nworld\n")

    assert summary.row(run.folder, now=NOW).status == "unreadable"
    with pytest.raises(LogError, match="not a record"):
        summary.look(run.folder, now=NOW)


def test_a_log_of_a_later_schema_is_named_so(run: FakeRun) -> None:
    run.header(schema=99)

    with pytest.raises(LogError, match="schema 99, this version reads up to 1"):
        summary.look(run.folder, now=NOW)


def test_record_kinds_of_a_later_version_are_passed_over(run: FakeRun) -> None:
    run.header()
    run.step(5)
    with run.folder.log.open("ab") as log:
        log.write(b'{"kind":"spectrum","step":5,"time":1.0}\n')

    assert summary.row(run.folder, now=NOW).step == 5
