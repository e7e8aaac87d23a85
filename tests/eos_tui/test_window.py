"""Which steps a chart shows, and where they lie on other axes."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eos_tui.window import Clock, Window

HALTING = Clock("time", [0, 10, 20, 40], [0.0, 100.0, 100.0, 120.0])
"""Ten steps in 100 s, ten in none, twenty in 20 s."""


@pytest.mark.parametrize(("step", "place"), [(0, 0), (5, 50), (10, 100), (15, 100), (30, 110), (40, 120), (80, 240), (-4, -12)])
def test_a_clock_runs_straight_between_what_is_known_and_at_the_pace_of_the_whole_beyond(step, place):
    assert HALTING.place(step) == pytest.approx(place)


@pytest.mark.parametrize(("place", "step"), [(0, 0), (50, 5), (100, 20), (110, 30), (120, 40), (240, 80)])
def test_a_place_where_a_clock_stood_still_is_that_of_the_last_step_there(place, step):
    assert HALTING.step(place) == pytest.approx(step)


def test_a_clock_that_ran_backwards_stood_still():
    assert Clock("time", [0, 1, 2], [0.0, 5.0, 3.0]).place(2) == 5.0


def test_the_columns_of_another_axis_are_equally_wide_on_it():
    edges = Window(0, 40, HALTING).edges(12)

    assert [round(HALTING.place(edge)) for edge in edges] == list(range(0, 121, 10))


def test_several_runs_share_an_axis_on_which_each_has_steps_of_its_own():
    shared = Window(0, HALTING.step(60.0), HALTING, (0.0, 60.0))
    beyond = Window(0, 3.0, Clock("time", [0, 1], [0.0, 10.0]), (0.0, 60.0))

    assert shared.axis() == beyond.axis() == ((0.0, 60.0), "seconds")
    assert beyond.share(3.0) == 0.5
    assert beyond.step(0.5) == 3.0


@given(
    gaps=st.lists(st.tuples(st.integers(1, 50), st.floats(0, 1e6)), min_size=1, max_size=20),
    ends=st.tuples(st.floats(0, 500), st.floats(1e-3, 500)),
    count=st.integers(1, 60),
)
def test_edges_never_decrease_and_end_at_the_windows_ends(gaps, ends, count):
    steps = list(itertools.accumulate((step for step, _ in gaps), initial=0))
    places = list(itertools.accumulate((place for _, place in gaps), initial=0.0))
    window = Window(ends[0], ends[0] + ends[1], Clock("time", steps, places))

    edges = window.edges(count)

    assert len(edges) == count + 1
    assert list(edges) == sorted(edges)
    assert (edges[0], edges[-1]) == (window.low, window.high)


@pytest.mark.parametrize(("seconds", "axis"), [(60.0, ((0, 60), "seconds")), (600.0, ((0, 10), "minutes")), (36_000.0, ((0, 10), "hours"))])
def test_an_axis_of_time_counts_in_units_of_its_length(seconds, axis):
    assert Window(0, 100, Clock("time", [0, 100], [0.0, seconds])).axis() == axis


def test_share_and_step_are_each_others_inverse():
    window = Window(5, 40, HALTING)

    assert [window.step(window.share(step)) for step in (5, 7, 25, 40)] == pytest.approx([5, 7, 25, 40])
