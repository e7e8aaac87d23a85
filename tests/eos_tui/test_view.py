"""Which part of a run the panels show, as keys change it."""

from dataclasses import replace
from pathlib import Path

import pytest

from eos_tui.snapshot import empty
from eos_tui.view import Extents, View, extents
from eos_tui.window import Window

RUN = Extents(end=1100, most=2000)


def at(step: int) -> Extents:
    return replace(RUN, end=step)


def moved(view: View, columns: float, *, width: int = 100, within: Extents = RUN) -> View:
    low, high = view.span or (0, within.most)
    return view.with_cursor(within, Window(low, high), columns=columns, width=width)


def test_at_first_all_steps_are_shown():
    run = replace(empty(Path("run")), step=1100, steps=2000)

    assert extents(run) == RUN
    assert (View().window(run).low, View().window(run).high) == (0, 2000)


def test_a_zoom_is_around_the_runs_end_while_the_view_follows_it():
    view = View().zoomed(RUN, 2)

    assert view.span == (550, 1550)


def test_a_zoom_is_around_the_cursor_where_there_is_one():
    view = View(cursor=300).zoomed(RUN, 2).zoomed(RUN, 2)

    assert view.span is not None
    assert view.span[1] - view.span[0] == 500
    assert view.span[0] <= 300 <= view.span[1]


def test_zooming_out_again_shows_all():
    assert View().zoomed(RUN, 4).zoomed(RUN, 1 / 8).span is None


@pytest.mark.parametrize("factor", [1e3, 1e9])
def test_a_window_does_not_become_narrower_than_a_few_steps(factor):
    span = View().zoomed(RUN, factor).span

    assert span is not None
    assert span[1] - span[0] == 8


def test_a_pan_to_the_left_stays_where_it_is_and_one_back_to_the_end_follows_again():
    zoomed = View().zoomed(RUN, 4)
    left = zoomed.panned(RUN, -1)
    right = left.panned(RUN, 1)

    assert (zoomed.follows, left.follows, right.follows) == (True, False, True)
    assert left.followed(at(1900)).span == left.span


def test_a_pan_ends_at_the_runs_ends():
    view = View().zoomed(RUN, 4)

    assert view.panned(RUN, -9).span == (0, 500)
    assert view.panned(RUN, 9).span == (1500, 2000)


def test_a_view_that_follows_moves_once_the_run_is_out_of_sight_with_room_ahead():
    view = View(span=(900.0, 1000.0))

    assert view.followed(at(1000)).span == (900, 1000)
    assert view.followed(at(1001)).span == (921, 1021)


def test_the_cursor_begins_at_the_last_step_and_moves_by_columns():
    first = moved(View(), -1)
    second = moved(first, -1)

    assert (first.cursor, second.cursor) == (1100, 1080)


def test_the_cursor_moves_at_least_a_step_and_stays_on_the_run():
    assert moved(View(cursor=5, span=(0, 8)), 1, width=500).cursor == 6
    assert moved(View(cursor=1100), 10).cursor == 1100
    assert moved(View(cursor=0), -10).cursor == 0


def test_a_cursor_on_an_axis_of_no_whole_numbers_moves_by_columns_alone():
    places = Extents(end=1.0, most=2.0, fewest=0.01, is_whole=False)

    assert moved(View(cursor=0.5), 1, within=places).cursor == pytest.approx(0.52)
    assert moved(View(cursor=0.995), 1, within=places).cursor == 1.0


def test_a_cursor_that_leaves_the_window_takes_it_along():
    view = moved(View(span=(400.0, 500.0), cursor=500), 10)

    assert view.span is not None
    assert view.cursor is not None
    assert view.span[0] <= view.cursor <= view.span[1]
