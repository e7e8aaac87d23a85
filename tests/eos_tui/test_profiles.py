"""Which part of a curve over its own axis is drawn."""

import math

import pytest

from eos_tui.profiles import clipped, ends, floor


def test_the_floor_lies_so_many_decades_below_the_largest_finite_value():
    assert floor([0.0, 2.5, None, math.inf, -7.0], 6) == pytest.approx(1e-6)
    assert floor([0.03], 2) == pytest.approx(1e-4)


@pytest.mark.parametrize(("values", "decades"), [([2.5], 0), ([], 6), ([0.0, -1.0, None], 6)])
def test_there_is_no_floor_without_decades_or_a_value_above_zero(values, decades):
    assert floor(values, decades) == 0.0


def test_a_curve_ends_on_the_floor_and_is_a_gap_below_it():
    found = clipped(([0, 1, 2, 3, 4, 5, 6], [1.0, 0.01, 0.001, 0.001, 0.02, 0.5, None]), floor=0.1)

    columns = found.columns(-0.5, 6.5, 7)
    assert [column and column.last for column in columns] == [1.0, 0.1, None, None, 0.1, 0.5, None]
    assert [column.gap for column in columns if column] == [False, False, True, False]


def test_without_a_floor_what_is_not_above_zero_is_a_gap():
    found = clipped(([0, 1, 2], [1.0, 0.0, 2.0]), floor=0.0)

    assert [column and column.last for column in found.columns(-0.5, 2.5, 3)] == [1.0, None, 2.0]


def test_points_without_a_finite_place_are_left_out():
    assert clipped(([None, math.nan, math.inf, 1.0], [1.0, 2.0, 3.0, 4.0]), floor=0.0).bounds == (4.0, 4.0)


@pytest.mark.parametrize(
    ("marks", "expected"), [([], (0.0, 10.0)), ([5.0], (0.0, 10.0)), ([20.0], (0.0, 20.6)), ([-10.0], (-10.6, 10.0)), ([41.0], (0.0, 10.0))]
)
def test_the_axis_covers_the_points_and_the_marks_in_sight(marks, expected):
    assert ends(0.0, 10.0, marks) == pytest.approx(expected)


@pytest.mark.parametrize("place", [0.0, 3.0, -1e300, 1e-300])
def test_the_axis_of_a_single_place_has_a_length(place):
    low, high = ends(place, place, [])

    assert low < place < high
