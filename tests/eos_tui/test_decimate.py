"""Traces: bounded memory, and nothing lost that a chart would show."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eos_tui.decimate import BUCKETS, Column, Trace

NUMBERS = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True, width=32))
POINTS = st.lists(st.tuples(st.integers(0, 5000), NUMBERS), max_size=200).map(lambda points: sorted(points, key=lambda point: point[0]))


def trace_of(points: list[tuple[float, float | None]]) -> Trace:
    return Trace.empty().extended([x for x, _ in points], [value for _, value in points])


def long_trace(count: int, value=float) -> Trace:
    return Trace.empty().extended(range(count), [value(x) for x in range(count)])


def test_an_empty_trace_has_no_last_point_and_no_bounds():
    trace = Trace.empty()

    assert (len(trace), trace.last, trace.first_x, trace.last_x, trace.bounds, trace.smallest_positive) == (0, None, None, None, None, None)
    assert trace.columns(0, 10, 3) == [None, None, None]


def test_extending_leaves_the_trace_itself_unchanged():
    before = trace_of([(0, 1.0), (10, 2.0)])

    after = before.extended([20], [3.0])

    assert (len(before), before.last) == (2, (10, 2.0))
    assert (len(after), after.last, after.first_x) == (3, (20, 3.0), 0)


def test_a_column_has_extremes_first_and_last_of_its_points():
    trace = trace_of([(0, 3.0), (1, 9.0), (2, -1.0), (3, 4.0), (9, 7.0)])

    columns = trace.columns(0, 10, 2)

    assert columns == [Column(-1.0, 9.0, 3.0, 4.0, False), Column(7.0, 7.0, 7.0, 7.0, False)]


def test_the_right_edge_belongs_to_the_last_column():
    trace = trace_of([(0, 1.0), (10, 2.0)])

    columns = trace.columns(0, 10, 4)

    assert columns[3] == Column(2.0, 2.0, 2.0, 2.0, False)


def test_points_outside_the_range_are_left_out():
    trace = trace_of([(0, 1.0), (5, 2.0), (20, 3.0)])

    columns = trace.columns(4, 10, 1)

    assert columns == [Column(2.0, 2.0, 2.0, 2.0, False)]


@pytest.mark.parametrize("missing", [None, math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_a_gap(missing):
    trace = trace_of([(0, 1.0), (1, missing), (2, 3.0)])

    columns = trace.columns(0, 3, 3)

    assert columns == [Column(1.0, 1.0, 1.0, 1.0, False), None, Column(3.0, 3.0, 3.0, 3.0, True)]


def test_a_gap_that_ends_a_batch_is_remembered_in_the_next():
    trace = trace_of([(0, 1.0), (1, None)]).extended([2], [3.0])

    columns = trace.columns(0, 3, 3)

    assert columns[2] == Column(3.0, 3.0, 3.0, 3.0, True)


def test_the_last_point_may_be_a_gap():
    trace = trace_of([(0, 1.0), (1, math.nan)])

    assert trace.last == (1, None)
    assert trace.last_x == 1


@pytest.mark.parametrize("spike_at", [0, 1, 77_777, 99_999])
def test_a_spike_survives_however_long_the_series_is(spike_at):
    trace = long_trace(100_000, lambda x: 1e6 if x == spike_at else math.sin(x))

    columns = trace.columns(0, 100_000, 100)

    tallest = max(range(100), key=lambda k: columns[k].maximum)
    assert (tallest, columns[tallest].maximum) == (spike_at // 1000, 1e6)


def test_a_gap_survives_however_long_the_series_is():
    trace = long_trace(100_000, lambda x: None if x == 77_777 else 1.0)

    gaps = [k for k, column in enumerate(trace.columns(0, 100_000, 100)) if column is not None and column.gap]

    assert gaps == [77]


def test_memory_stays_bounded_and_half_of_the_resolution_is_always_there():
    trace = Trace.empty()

    for begin in range(0, 50_000, 500):
        trace = trace.extended(range(begin, begin + 500), [float(x) for x in range(begin, begin + 500)])

        assert sum(column is not None for column in trace.columns(0, begin + 500, 10_000)) <= BUCKETS + 1

    assert sum(column is not None for column in trace.columns(0, 50_000, 10_000)) > BUCKETS // 4
    assert len(trace) == 50_000


def test_one_batch_and_many_small_ones_give_the_same_extremes():
    noise = random.Random(0)
    values = [noise.gauss(0, 1) for _ in range(5000)]
    whole = Trace.empty().extended(range(5000), values)

    pieces = Trace.empty()
    for x, value in enumerate(values):
        pieces = pieces.extended([x], [value])

    assert pieces.bounds == whole.bounds == (min(values), max(values))
    assert pieces.columns(0, 5000, 20) == whole.columns(0, 5000, 20)


def test_steps_that_go_back_count_as_standing_still():
    trace = trace_of([(0, 1.0), (10, 2.0)]).extended([5, 12], [3.0, 4.0])

    columns = trace.columns(0, 15, 3)

    assert columns == [Column(1.0, 1.0, 1.0, 1.0, False), None, Column(2.0, 4.0, 2.0, 4.0, False)]


def test_xs_that_are_tiny_keep_their_resolution():
    xs = [k * 1e-9 for k in range(5000)]
    trace = Trace.empty().extended(xs, [float(k) for k in range(5000)])

    columns = trace.columns(0.0, 5e-6, 50)

    assert all(column is not None and column.maximum - column.minimum < 110 for column in columns)


def test_values_a_log_scale_cannot_show_are_counted():
    trace = trace_of([(0, -1.0), (1, 0.0), (2, 0.5), (3, 2.0)])

    assert (trace.not_positive, trace.smallest_positive) == (2, 0.5)


def test_as_many_values_as_xs_are_asked_for():
    with pytest.raises(ValueError, match=r"2 xs for 1 values: expected as many of each\."):
        Trace.empty().extended([1, 2], [1.0])


@given(POINTS, st.integers(1, 40))
def test_columns_hold_the_extremes_that_a_naive_sorting_finds(points, count):
    trace = trace_of(points)

    columns = trace.columns(0, 5000, count)

    for k, column in enumerate(columns):
        edges = [5000 * (j / count) for j in (k, k + 1)]
        inside = [v for x, v in points if edges[0] <= x < edges[1] or (k + 1 == count and x == 5000)]
        finite = [v for v in inside if v is not None and math.isfinite(v)]
        expected = (min(finite), max(finite), finite[0], finite[-1]) if finite else None
        assert (None if column is None else column[:4]) == expected


def test_a_moving_average_is_that_of_its_formula_whatever_the_buckets():
    xs = list(range(0, 300, 3))
    values = [math.sin(x / 20) + (-1) ** x for x in xs]

    smoothed = Trace.empty().extended(xs, values).smoothed(30.0)

    weights = [math.exp(-(xs[-1] - x) / 30.0) for x in xs]
    expected = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    assert smoothed.last == (297, pytest.approx(expected))


def test_a_moving_average_on_a_log_scale_is_one_of_logarithms():
    smoothed = Trace.empty().extended([0, 1], [1.0, 100.0]).smoothed(1e9, log=True)

    assert smoothed.last == (1, pytest.approx(10.0))


def test_a_moving_average_of_many_points_is_that_of_all_of_them():
    smoothed = Trace.empty().extended(range(100_000), [k % 2 for k in range(100_000)]).smoothed(20_000.0)

    assert smoothed.last is not None
    assert smoothed.last[1] == pytest.approx(0.5, abs=1e-3)


def test_what_points_lie_between_is_known_for_each_range_of_x():
    trace = Trace.empty().extended(range(10), [5.0, -1.0, 2.0, 8.0, 0.0, 3.0, 3.0, 9.0, -4.0, 1.0])

    assert trace.within(1, 4) == (-1.0, 8.0, 2.0)
    assert trace.within(8, 8) == (-4.0, -4.0, None)
    assert trace.within(20, 30) is None


def test_the_value_at_a_place_is_the_last_one_up_to_it():
    trace = Trace.empty().extended([10, 20], [1.0, 2.0])

    assert [trace.at(x) for x in (5, 10, 19.5, 300)] == [None, (10, 1.0), (10, 1.0), (20, 2.0)]
