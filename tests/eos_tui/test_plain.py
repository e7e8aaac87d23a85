"""What a run looks like where nothing can be drawn."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eos_tui.log_reader import LogReader
from eos_tui.plain import PlainLog, follow
from runners.records import Curve, EndRecord, Panel
from tests.eos_tui.fakes import DENSITY, LOSS, FakeRun


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path)


def lines_of(run: FakeRun) -> list[str]:
    return list(PlainLog().lines(LogReader(run.folder.log).read().records))


def test_a_measurement_is_one_line_with_the_loss_of_its_step(run: FakeRun) -> None:
    run.header()
    run.sharpness(120, 2.5333, ratio=0.38)
    run.step(120, loss=0.0412)
    run.step(121, loss=0.0411)

    lines = lines_of(run)

    assert lines == ["step 120   train loss 0.04120  sharpness 2.533 ±0.001 = 0.380 of 2/lr"]


def test_a_density_takes_more_than_a_line_which_says_that_it_was_measured(run: FakeRun) -> None:
    run.header(panels=(LOSS, DENSITY))
    run.density(120)
    run.step(120, loss=0.0412)
    run.step(121)

    assert lines_of(run) == ["step 120   train loss 0.04120  Hessian spectral density measured  smoothing width 0.2500"]


def test_a_list_of_eigenvalues_takes_more_than_a_line(run: FakeRun) -> None:
    series = tuple(Curve(record="sharpness", field=f"values.{k}", label=f"{k}") for k in range(2))
    run.header(panels=(LOSS, Panel(title="top 2 eigenvalues", series=series)))
    run.sharpness(120, 2.5, values=(2.5, 2.0))
    run.step(120, loss=0.0412)
    run.step(121)

    assert lines_of(run) == ["step 120   train loss 0.04120"]


def test_steps_without_a_measurement_make_no_line(run: FakeRun) -> None:
    run.header()
    for step in range(20):
        run.step(step)

    assert lines_of(run) == []


def test_a_run_that_measures_nothing_shows_its_progress_every_ten_seconds(run: FakeRun) -> None:
    run.header()
    for step in range(0, 2600, 100):
        run.step(step, loss=0.5)

    lines = lines_of(run)

    assert lines == ["step 1000  train loss 0.5000", "step 2000  train loss 0.5000"]


def test_what_is_measured_rarely_has_its_column_and_the_others_keep_theirs(run: FakeRun) -> None:
    run.header()
    run.progress(range(12))
    run.metrics(12, test_loss=0.4)
    run.step(13)

    lines = lines_of(run)

    assert lines == [
        "step 0     train loss 0.5000  sharpness 2.000 ±0.001 = 0.300 of 2/lr  "
        "NTK trace 90.00 ±2 = 0.237 of its threshold  test loss 0.5000  K 0.2605",
        "step 10    train loss 0.4854  sharpness 2.048 ±0.001 = 0.307 of 2/lr",
        f"{'step 12':113}  test loss 0.4000",
    ]


def test_of_a_panel_with_several_series_each_number_says_which_it_is_and_stands_there_once(run: FakeRun) -> None:
    upper, lower = (Curve(record="ntk", field=f"tail_index_{name}", label=name) for name in ("upper", "lower"))
    run.header(panels=(Panel(title="tail index bounds", series=(upper, lower), notes=(lower,)),))
    run.ntk(10, 3443.0, tail_index_upper=9.2, tail_index_lower=4.6)
    run.step(11)

    assert lines_of(run) == ["step 10    upper tail index bounds 9.200  lower tail index bounds 4.600"]


def test_numbers_that_are_not_finite_are_named_so(run: FakeRun) -> None:
    run.header()
    run.sharpness(10, None)
    run.step(10, loss=None)
    run.step(11)

    assert lines_of(run) == ["step 10    train loss not finite  sharpness not finite ±0.001 = not finite of 2/lr"]


def test_a_large_error_is_written_out(run: FakeRun) -> None:
    run.header()
    run.ntk(10, 3443.0, sem=148.7)
    run.step(11)

    assert [line.partition(" =")[0].split() for line in lines_of(run)] == [["step", "10", "NTK", "trace", "3443", "±149"]]


def test_metrics_that_no_panel_shows_stand_at_the_end(run: FakeRun) -> None:
    run.header(panels=(Panel(title="loss", series=(Curve(record="step", field="loss", label="train"),)),))
    run.metrics(10, test_accuracy=0.9375)
    run.step(10, loss=0.25)
    run.step(11)

    assert lines_of(run) == ["step 10    loss 0.2500  test_accuracy 0.9375"]


def test_an_event_is_shown_at_once_in_its_own_words(run: FakeRun) -> None:
    run.header()
    run.event(500, "checkpoint", "Checkpoint at step 500.")

    assert lines_of(run) == ["step 500   checkpoint: Checkpoint at step 500."]


def test_a_message_from_outside_cannot_move_the_cursor(run: FakeRun) -> None:
    run.header()
    run.event(1, "warning", "\x1b[2J\x1b]0;title\x07red \x1b[31malert")

    assert lines_of(run) == ["step 1     warning: red alert"]


def test_the_last_measurement_comes_before_the_end(run: FakeRun) -> None:
    run.header()
    run.sharpness(3000, 6.7, ratio=1.005)
    run.end(3000)

    assert lines_of(run) == [
        "step 3000  sharpness 6.700 ±0.001 = 1.00 of 2/lr",
        "step 3000  finished after 30 s, 20% of it measuring: All steps are done.",
    ]


def test_a_run_that_was_cut_and_resumed_gives_only_its_new_lines(run: FakeRun) -> None:
    run.header()
    run.progress(range(25))
    run.end(25, status="stopped", reason="Asked to stop.")
    log = PlainLog()
    given = list(log.lines(LogReader(run.folder.log).read().records))
    whole = run.folder.log.read_bytes()
    run.folder.log.write_bytes(whole[: whole.index(b'{"kind":"sharpness","step":20')])
    run.event(15, "resumed", "Resumed from the checkpoint at step 15.")
    run.progress(range(20, 22))

    log.restart()
    again = list(log.lines(LogReader(run.folder.log).read().records))

    assert [line.split("  ")[0] for line in given] == ["step 0", "step 10", "step 20", "step 25"]
    assert [line[:7] for line in again] == ["step 15", "step 20"]


def answers(*values: bool | None) -> Callable[[], bool | None]:
    waiting: Iterator[bool | None] = iter(values)
    return lambda: next(waiting)


def test_following_ends_when_the_log_has_ended_and_the_runner_is_gone(run: FakeRun) -> None:
    written: list[str] = []
    run.header()
    run.end(3)

    end = follow(run.folder, write=written.append, lives=answers(True, True, False), log=PlainLog(), sleep=lambda _: None)

    assert isinstance(end, EndRecord)
    assert written == ["step 3     finished after 0.03 s, 20% of it measuring: All steps are done."]


def test_following_a_runner_that_died_gives_no_end(run: FakeRun) -> None:
    run.header()
    run.step(1)

    end = follow(run.folder, write=lambda _: None, lives=answers(True, False), log=PlainLog(), sleep=lambda _: None)

    assert end is None


def test_following_takes_the_words_that_a_dying_runner_wrote_last(run: FakeRun) -> None:
    run.header()

    def writes_its_end(_seconds: float) -> None:
        run.end(7)

    end = follow(run.folder, write=lambda _: None, lives=answers(True, True, False), log=PlainLog(), sleep=writes_its_end)

    assert end is not None
    assert end.steps == 7


def test_following_a_run_of_another_host_ends_with_its_log(run: FakeRun) -> None:
    run.header()
    run.end(3)

    end = follow(run.folder, write=lambda _: None, lives=answers(None), log=PlainLog(), sleep=lambda _: None)

    assert end is not None
