"""How a run's ratios went, from a few places of its log."""

import pytest

from eos_tui import course
from eos_tui.course import PLACES, Course
from tests.eos_tui.fakes import FakeRun


@pytest.fixture
def run(tmp_path):
    return FakeRun(tmp_path)


def test_the_last_ratio_before_each_place_is_given(run):
    run.header()
    for step in range(800):
        run.sharpness(step, 6.667 * step / 800)

    ratios = course.read(run.folder.log).ratio

    assert ratios == pytest.approx([place / PLACES for place in range(1, PLACES + 1)], abs=0.02)


def test_k_is_found_in_the_records_of_a_simulated_least_squares(run):
    run.header()
    for step in range(400):
        run.tails(step, 0.5 if step < 200 else 0.75)

    assert course.read(run.folder.log).noise_kernel == (0.5,) * 4 + (0.75,) * 4


def test_where_nothing_was_measured_there_is_nothing(run):
    run.header()
    for step in range(400):
        run.step(step)
    run.sharpness(400, 5.0)
    for step in range(400, 800):
        run.step(step)

    found = course.read(run.folder.log)

    assert [ratio is not None for ratio in found.ratio].count(True) == 1
    assert found.noise_kernel == (None,) * PLACES


@pytest.mark.parametrize(
    "text", [b"", b"\n", b"no log", b'\n{"kind":"sharpness","ratio":"high"}\n', b'\n{"kind":"sharpness",\xff}\n{"torn']
)
def test_what_is_no_log_has_no_course(run, text):
    run.folder.log.write_bytes(text)

    assert set(course.read(run.folder.log).ratio) <= {None}


def test_a_log_that_is_not_there_has_no_course(run):
    assert course.read(run.folder.log) == Course()
