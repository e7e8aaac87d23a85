"""The numbers of the axes."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eos_tui.ticks import tick_label, x_end, x_labels, y_axis


@settings(max_examples=300, deadline=None)
@given(st.floats(-1e308, 1e308), st.floats(-1e308, 1e308), st.integers(2, 40), st.booleans())
def test_a_linear_axis_covers_its_values_with_short_labels_that_do_not_overlap(a, b, rows, from_zero):
    low, high = sorted((a, b))

    axis = y_axis(low, high, scale="linear", rows=rows, from_zero=from_zero)

    slack = 1e-6 * (axis.high - axis.low)
    assert axis.low <= max(low, -1e300) + slack
    assert axis.high >= min(high, 1e300) - slack
    assert_labels_are_apart(axis, rows)


@settings(max_examples=300, deadline=None)
@given(st.floats(1e-320, 1e308), st.floats(1e-320, 1e308), st.integers(2, 40))
def test_a_log_axis_covers_its_values_with_short_labels_that_do_not_overlap(a, b, rows):
    low, high = sorted((a, b))

    axis = y_axis(low, high, scale="log", rows=rows)

    assert axis.low <= max(low, 1e-300) * 1.000001
    assert axis.high >= min(high, 1e300) * 0.999999
    assert_labels_are_apart(axis, rows)


def assert_labels_are_apart(axis, rows):
    place = axis.placer(4 * rows)
    places = [place(value) // 4 for value, _ in axis.labels]
    assert (places[0], places[-1]) == (rows - 1, 0)
    assert all(upper - lower >= min(2, rows - 1) for upper, lower in pairwise(places))
    assert all(len(label) <= 7 for _, label in axis.labels)


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.0, 6.9, ["8", "6", "4", "2", "0"]),
        (0.3, 0.31, ["0.310", "0.305", "0.300"]),
        (5.0, 5.0, ["5.0", "2.5", "0"]),
        (0.0, 0.0, ["1.0", "0.5", "0"]),
        (-3.0, -2.0, ["-2.0", "-2.5", "-3.0"]),
        (0.0, 123456.0, ["160k", "120k", "80k", "40k", "0"]),
        (-1e300, 1e300, ["1e300", "5e299", "0", "-5e299", "-1e300"]),
    ],
)
def test_a_linear_axis_ends_at_round_numbers(low, high, labels):
    axis = y_axis(low, high, scale="linear", rows=9)

    assert [label for _, label in axis.labels] == labels


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.04, 0.6, ["1", "0.2", "0.1", "0.02"]),
        (1.0, 1.0, ["2", "1", "0.5"]),
        (2e-6, 3.0, ["5", "0.01", "0.0001", "2e-6"]),
        (1e-300, 1e300, ["1e300", "1", "1e-300"]),
    ],
)
def test_a_log_axis_shows_decades(low, high, labels):
    axis = y_axis(low, high, scale="log", rows=9)

    assert [label for _, label in axis.labels] == labels


@pytest.mark.parametrize(
    ("last", "asked", "end"),
    [
        (0, 3000, 23.4375),
        (700, 3000, 750),
        (751, 3000, 1500),
        (1501, 3000, 3000),
        (3000, 3000, 3000),
        (3001, 3000, 6000),
        (5, None, 16),
        (17, None, 32),
        (1, 1, 1),
    ],
)
def test_the_x_axis_doubles_up_to_the_steps_asked_for(last, asked, end):
    assert x_end(last, asked) == end


def test_the_x_axis_has_short_round_numbers():
    assert x_labels((0, 3000), 44, least=1.0, caption="steps") == "0            1k             2k   steps    3k"
    assert x_labels((0, 1_000_000), 30, least=1.0) == "0            500k           1M"
    assert x_labels((0, 312.5), 40, least=1.0, caption="steps") == "0          100          200  steps   300"
    assert x_labels((0, 140), 40, least=1.0, caption="steps") == "0            50            100     steps"
    assert x_labels((0, 8), 3, least=1.0) == "0  "
    assert x_labels((-1.3, 7.2), 50, caption="eigenvalue") == "       0                             5  eigenvalue"
    assert x_labels((-0.013, 0.021), 40) == " -0.01         0         0.01       0.02"


def test_an_axis_that_is_shorter_than_doubles_tell_apart_has_its_beginning():
    assert x_labels((0, 5e-324), 20).strip() == "0"


@pytest.mark.parametrize(
    ("value", "step", "label"),
    [(0.0, 1.0, "0"), (1.5, 0.5, "1.5"), (12_500.0, 2_500.0, "12.5k"), (2e-6, 2e-6, "2e-6"), (-1.234e-200, 1e-203, "-1e-200")],
)
def test_a_tick_label_has_as_many_decimals_as_the_step(value, step, label):
    assert tick_label(value, step) == label
