"""Charts as exact text, and sparklines."""

import math
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eos_tui.charts import Mark, Overlaid, draw, draw_profiles, draw_runs, sparkline, text
from eos_tui.decimate import Trace
from eos_tui.strokes import RUN_TAGS, run_sample, run_stroke
from eos_tui.window import Clock, Window

ANY_NUMBER = st.one_of(st.none(), st.floats(), st.sampled_from([0.0, -1.0, 1e300, -1e300, 1e-300, 5e-324, 1.7e308, -1.7e308]))
LINES = st.lists(
    st.lists(ANY_NUMBER, max_size=30).map(lambda values: ("line", Trace.empty().extended(range(len(values)), values))), max_size=5
)


def trace(value, last: int, every: int = 1) -> Trace:
    steps = range(0, last + 1, every)
    return Trace.empty().extended(steps, [value(step) for step in steps])


def drawn(series, references=(), **options) -> str:
    return text(draw(series, references, **options))


def profile(peaks, low: float, high: float, count: int = 57):
    """Gaussians of width 0.25 with these heights, at so many places."""
    xs = [low + (high - low) * k / (count - 1) for k in range(count)]
    return xs, [sum(height * math.exp(-8 * (x - at) ** 2) for at, height in peaks.items()) for x in xs]


def profiled(profiles, references=(), **options) -> str:
    return text(draw_profiles(profiles, references, **options))


def picture(lines: str) -> str:
    """The lines without the margin that the test's indentation gives them."""
    return "\n".join(line[4:].rstrip() for line in lines.strip("\n").split("\n")).rstrip()


SHARPNESS = ("sharpness", trace(lambda step: 6 * step / 100, 80, 10))
THRESHOLD = ("2/lr", trace(lambda step: 6.667, 80, 10))


@pytest.mark.parametrize("width", [60, 66, 72, 76, 90])
def test_two_references_that_are_near_each_other_are_both_named_in_a_low_chart(width):
    low, left = trace(lambda step: 2.5 if step else 10, 60), trace(lambda step: 5, 20)
    bounds = [(name, trace(lambda step, value=value: value, 60)) for name, value in (("lower bound", 3.04), ("upper bound", 3.09))]

    chart = drawn([("Student t", low), ("Hill", left)], bounds, width=width, height=3, scale="log", x_max=60)

    assert "lower bound = 3.04" in chart
    assert "upper bound = 3.09" in chart


def test_a_curve_is_drawn_in_braille_under_its_dotted_threshold():
    chart = drawn([SHARPNESS], [THRESHOLD], width=50, height=9, x_max=100)

    assert chart == picture(
        """
    8 ┤                                   2/lr = 6.67
      │⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂
      │
    4 ┤                               ⢀⣀⡠⠤⠒⠒⠉
      │                       ⣀⣀⠤⠤⠒⠒⠊⠉⠁
      │               ⢀⣀⡠⠤⠔⠒⠉⠉
      │       ⣀⡠⠤⠔⠒⠒⠉⠉⠁
    0 ┤⣀⡠⠤⠔⠒⠊⠉
       0                     50       steps        100
    """
    )


def test_a_chart_can_do_without_unicode():
    chart = drawn([SHARPNESS], [THRESHOLD], width=50, height=9, x_max=100, ascii_only=True)

    assert chart == picture(
        """
    8 +                                   2/lr = 6.67
      |-----------------------------------------------
      |
    4 +                              .....'''
      |                     .....''''
      |               ..''''
      |       .....'''
    0 +..'''''
       0                     50       steps        100
    """
    )
    assert chart.isascii()


def test_an_exponential_decay_is_straight_on_a_log_scale():
    chart = drawn([("loss", trace(lambda step: 10 ** (-step / 30), 100))], width=40, height=8, x_max=100, scale="log")

    assert chart == picture(
        """
         1 ┤⠙⠒⠤⢄⡀
           │    ⠈⠉⠒⠦⢄⣀
           │         ⠈⠉⠒⠢⠤⣀⡀
      0.01 ┤               ⠉⠑⠲⠤⣀⡀
           │                    ⠉⠑⠒⠤⢄⣀
           │                         ⠈⠉⠒⠦⢄⣀
    0.0002 ┤                               ⠉
            0              50   steps    100
    """
    )


def test_series_differ_by_their_dashes_and_a_legend_names_them():
    series = [("train", trace(lambda step: 1.0 + step / 100, 100)), ("test", trace(lambda step: 1.5 + step / 200, 100, 10))]

    chart = drawn(series, width=50, height=8, x_max=100)

    assert chart == picture(
        """
    2 ┤ ⠒⠒⠒ train  ⠒ ⠒ test  ⣀ ⣀ ⣀ ⣀ ⡠ ⠤ ⠤⣀⣒⣀⡲⠤⠶⠔⠒⠒⠚⠊⠉
      │⣀ ⡠ ⠤ ⠤ ⠒ ⠒ ⠒ ⠒ ⠊ ⠉ ⠉⣀⣀⣀⠤⠤⠤⠤⠒⠒⠒⠋⠉⠉⠉
      │       ⣀⣀⣀⡠⠤⠤⠤⠒⠒⠒⠊⠉⠉⠉
    1 ┤⠒⠒⠒⠊⠉⠉⠉
      │
      │
    0 ┤
       0                     50       steps        100
    """
    )


def test_a_series_of_few_points_is_seen_on_a_band_of_noise():
    series = [("noise", trace(lambda step: 3 + 2 * (-1) ** step, 1000)), ("mean", trace(lambda step: 3, 1000, 100))]

    grid = draw(series, width=24, height=6, x_max=1000)

    assert [role for _, role in grid[2][5:]].count("series-2") == 10
    assert text(grid) == picture(
        """
    5.0 ┤⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿
        │⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿
    2.5 ┤⠉⣿⠉⣿⠉⣿⠉⣿⠉⣿⠉⣿⠉⣿⠉⣿⠉⣿⠉
        │⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿⣿
      0 ┤  ⠒⠒ noise ⠒  mean
         0                1k
    """
    )


def test_a_threshold_follows_its_record_and_goes_on_to_the_right_edge():
    threshold = ("2/lr", trace(lambda step: 3.0 if step < 50 else 6.0, 70, 10))

    chart = drawn([("sharpness", trace(lambda step: 1.0, 70, 10))], [threshold], width=40, height=8, x_max=100)

    assert chart == picture(
        """
    6 ┤                  ⡇⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁
      │                  ⡇      2/lr = 6.00
    4 ┤                  ⡇
      │⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠂⠃
    2 ┤
      │⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠤
    0 ┤
       0                50     steps     100
    """
    )


def test_a_threshold_out_of_sight_is_named_at_the_edge():
    threshold = ("2/lr", trace(lambda step: 200.0, 100, 10))

    chart = drawn([("sharpness", trace(lambda step: 1.0, 100, 10))], [threshold], width=40, height=5, x_max=100)

    assert chart == picture(
        """
    1 ┤⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉ 2/lr = 200 ↑
      │
      │
    0 ┤
       0                50     steps     100
    """
    )


@pytest.mark.parametrize(("share", "is_drawn"), [(1 / 19, True), (1 / 21, False)])
def test_a_threshold_is_in_sight_up_to_twenty_times_the_data(share, is_drawn):
    threshold = ("2/lr", trace(lambda step: 10.0, 10))

    chart = drawn([("sharpness", trace(lambda step: 10.0 * share, 10))], [threshold], width=40, height=10)

    assert ("↑" not in chart) == is_drawn


def test_a_threshold_below_the_axis_points_down():
    threshold = ("edge", trace(lambda step: 1e-9, 10))

    chart = drawn([("loss", trace(lambda step: 1.0 + step, 10))], [threshold], width=50, height=8, scale="log")

    assert "edge = 1.00e-09 ↓" in chart.split("\n")[6]


def test_a_threshold_that_is_not_known_any_more_ends_with_its_record():
    threshold = ("2/lr", trace(lambda step: 2.0 if step < 50 else None, 100, 10))

    chart = drawn([("sharpness", trace(lambda step: 1.0, 100, 10))], [threshold], width=24, height=3, x_max=100)

    assert "2/lr" not in chart


def test_the_lines_below_a_label_are_hidden_only_where_there_is_no_other_place():
    threshold = ("2/lr", trace(lambda step: 5.0, 100, 10))
    everywhere = ("sharpness", trace(lambda step: 0.0 if step % 2 else 9.9, 100))

    chart = drawn([everywhere], [threshold], width=40, height=10, x_max=100)

    assert "2/lr = 5.00" in chart


def test_a_gap_stays_a_gap():
    chart = drawn([("loss", trace(lambda step: None if 40 <= step <= 60 else 1.0, 100, 10))], width=30, height=3, x_max=100)

    assert chart == picture(
        """
    1 ┤⠉⠉⠉⠉⠉⠉⠉⠉⠁         ⠈⠉⠉⠉⠉⠉⠉⠉⠉
      │
    0 ┤
    """
    )


def test_a_single_spike_among_a_thousand_points_is_drawn():
    chart = drawn([("loss", trace(lambda step: 9.0 if step == 500 else 1.0, 1000))], width=24, height=4, x_max=1000)

    assert chart == picture(
        """
    10 ┤          ⡆
       │         ⢠⡇
     0 ┤⠤⠤⠤⠤⠤⠤⠤⠤⠤⠼⠧⠤⠤⠤⠤⠤⠤⠤⠤⠤
        0        500      1k
    """
    )


def test_a_log_scale_says_how_many_values_it_cannot_show():
    chart = drawn([("loss", trace(lambda step: step - 3.0, 10))], width=40, height=6, x_max=10, scale="log")

    assert chart == picture(
        """
    10 ┤ 4 values <= 0 not drawn          ⣀⣀
       │                          ⣀⣀⠤⠔⠒⠊⠉⠉
       │                    ⣀⠤⠔⠒⠊⠉
       │                ⢀⠤⠒⠉
     1 ┤              ⡠⠒⠁
        0                 5     steps     10
    """
    )


def test_one_point_is_a_dot():
    chart = drawn([("loss", trace(lambda step: 2.0, 0))], width=24, height=4, x_max=100)

    assert chart.split("\n")[0] == "2 ┤⠁"


@pytest.mark.parametrize(
    ("value", "scale", "words"),
    [
        (None, "linear", "no finite value yet"),
        (math.nan, "log", "no finite value yet"),
        (-1.0, "log", "no value above 0: nothing to draw on a log scale"),
    ],
)
def test_a_chart_without_a_value_to_draw_says_why(value, scale, words):
    chart = drawn([("loss", trace(lambda step: value, 5))], width=60, height=5, scale=scale)

    assert chart.strip() == words


def test_an_empty_chart_says_that_there_is_no_data_yet():
    chart = drawn([("loss", Trace.empty())], width=24, height=3)

    assert chart == "\n      no data yet\n"


def test_a_growing_run_only_changes_cells_at_its_head():
    before = draw([("loss", trace(lambda step: 1.0 + step / 2000, 620))], width=60, height=12, x_max=1000)

    after = draw([("loss", trace(lambda step: 1.0 + step / 2000, 630))], width=60, height=12, x_max=1000)

    changed = [x for old, new in zip(before, after, strict=True) for x, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
    assert 0 < len(changed) <= 2
    assert min(changed) > 30


def test_a_value_at_the_end_of_floating_point_is_drawn_at_the_end_of_the_axis():
    largest, threshold = trace(lambda _: 1.797e308, 3), trace(lambda _: -6e299, 3)

    grid = draw([("loss", largest)], [("2/lr", threshold)], width=40, height=6)

    assert "".join(character for character, _ in grid[0]).strip()


@settings(max_examples=150, deadline=None)
@given(
    LINES,
    LINES,
    st.integers(-1, 70),
    st.integers(-1, 20),
    st.sampled_from(["linear", "log"]),
    st.one_of(st.none(), st.integers(0, 100)),
    st.booleans(),
)
def test_whatever_the_numbers_and_the_size_the_chart_has_its_shape(series, references, width, height, scale, x_max, ascii_only):
    grid = draw(series, references, width=width, height=height, scale=scale, x_max=x_max, ascii_only=ascii_only)

    assert len(grid) == max(height, 0)
    assert all(len(row) == max(width, 0) for row in grid)
    assert all(len(character) == 1 for row in grid for character, _ in row)


DENSITY = ("step 400", profile({0.0: 1.0, 3.0: 1e-3, 5.0: 1e-4}, -1.0, 6.0))
EARLIER = ("step 0", profile({0.0: 1.0, 1.5: 1e-3}, -1.0, 2.5))
EDGE = ("2/lr", trace(lambda _: 6.667, 10))


def test_a_density_is_drawn_over_its_own_axis_with_an_upright_threshold_and_the_first_one_behind():
    chart = profiled([DENSITY, EARLIER], [EDGE], width=60, height=10, scale="log", decades=5, caption="eigenvalue")

    assert chart == picture(
        """
          1 ┤    ⡠⠊⠉⠑⢄                 ⠒⠒⠒ step 400  ⠒ ⠒ step 0
            │  ⢀⠎     ⢱⡀                          2/lr = 6.67 ⢐
            │  ⡎       ⢇                                      ⢐
       0.01 ┤ ⡸⠁       ⠈⢆                                     ⢐
            │⢠⠃         ⠘⡄                                    ⢐
            │⡜           ⢣ ⣠ ⠒ ⡀    ⢀⡠⠒⠒⣄                     ⢐
            │⠁           ⠘⡄    ⠸   ⢠⠃    ⠑⡄                   ⢐
            │             ⢱      ⡄⢠⠃      ⢱      ⡠⠎⠉⠉⠦⡀       ⢐
    0.00001 ┤              ⢣     ⣠⠃        ⢣⡀  ⢀⠴⠁    ⠱⢄      ⢐
                   0                               5  eigenvalue
    """
    )


def test_a_density_can_do_without_unicode():
    chart = profiled([DENSITY], [EDGE], width=50, height=8, scale="log", decades=5, caption="eigenvalue", ascii_only=True)

    assert chart == picture(
        """
          1 +   .''..                   2/lr = 6.67 |
            | .'    '.                              |
       0.01 + :      '.                             |
            |:        :                             |
            |:         :       .''':                |
            |           :     .'    '.    ..:.      |
    0.00001 +           :    :       :. ..'   :.    |
                  0        eigenvalue       5
    """
    )


def test_a_density_on_a_linear_scale_stands_on_zero():
    chart = profiled([("step 0", profile({0.0: 2.0}, -1.0, 1.0))], width=40, height=6)

    assert chart == picture(
        """
    2 ┤               ⢀⠤⠊⠉⠑⠤⡀
      │             ⢀⠴⠁     ⠈⠦⡀
    1 ┤            ⣠⠃         ⠘⣄
      │          ⣠⠊             ⠑⣄
    0 ┤⣀⣀⣀⣀⣀⣀⠤⠤⠒⠉                 ⠉⠒⠤⠤⣀⣀⣀⣀⣀⣀
       -1                0                 1
    """
    )


def test_a_density_of_three_rows_still_has_numbers_below():
    rows = profiled([DENSITY], width=60, height=3, scale="log", decades=5, caption="eigenvalue").split("\n")

    assert rows[2].split() == ["0", "eigenvalue", "5"]


def test_what_lies_below_the_decades_of_a_log_axis_is_a_gap_and_not_a_line_along_its_end():
    apart = ("step 0", profile({0.0: 1.0, 8.0: 1.0}, -1.0, 9.0))

    grid = draw_profiles([apart], width=40, height=8, scale="log", decades=3)

    bottom = "".join(character for character, _ in grid[6])
    assert bottom.startswith("0.0001 ┤ ")
    assert bottom[18:30].strip() == ""
    assert bottom[8:18].strip()


@pytest.mark.parametrize(("value", "words"), [(40.0, "2/lr = 40.0 →"), (-40.0, "← 2/lr = -40.0")])
def test_an_upright_threshold_out_of_sight_is_named_at_the_edge(value, words):
    chart = profiled([DENSITY], [("2/lr", trace(lambda _: value, 3))], width=60, height=8, scale="log", decades=5)

    assert words in chart
    assert "⡂" not in chart
    assert "⢐" not in chart


@pytest.mark.parametrize(("value", "is_drawn"), [(6.0 + 20.9, True), (6.0 + 21.1, False)])
def test_an_upright_threshold_is_in_sight_up_to_three_ranges_away(value, is_drawn):
    chart = profiled([DENSITY], [("2/lr", trace(lambda _: value, 3))], width=60, height=8)

    assert ("→" not in chart) == is_drawn


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (([], []), "no data yet"),
        (([None, math.nan], [1.0, 2.0]), "no data yet"),
        (([0.0, 1.0], [None, math.inf]), "no finite value yet"),
        (([0.0, 1.0], [0.0, -1.0]), "no value above 0: nothing to draw on a log scale"),
    ],
)
def test_a_density_without_a_value_to_draw_says_why(points, words):
    assert profiled([("step 0", points)], width=60, height=5, scale="log", decades=5).strip() == words


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.tuples(ANY_NUMBER, ANY_NUMBER), max_size=30), max_size=5),
    LINES,
    st.integers(-1, 70),
    st.integers(-1, 20),
    st.sampled_from(["linear", "log"]),
    st.integers(0, 400),
    st.booleans(),
)
@example([[(5e-324, 0.0)]], [], 20, 5, "linear", 0, False)
@example([[(0.0, 0.0), (5e-324, 1.0)]], [], 20, 5, "linear", 0, False)
def test_whatever_the_densities_and_the_size_the_chart_has_its_shape(points, references, width, height, scale, decades, ascii_only):
    profiles = [("step 0", ([x for x, _ in pairs], [y for _, y in pairs])) for pairs in points]

    grid = draw_profiles(
        profiles, references, width=width, height=height, scale=scale, decades=decades, caption="eigenvalue", ascii_only=ascii_only
    )

    assert len(grid) == max(height, 0)
    assert all(len(row) == max(width, 0) for row in grid)
    assert all(len(character) == 1 for row in grid for character, _ in row)


def test_a_sparkline_rises_with_its_values():
    assert sparkline([0.0, 0.25, 0.5, 0.75, 1.0], 8, low=0.0, high=1.0) == "▁▃▅▇█"
    assert sparkline([0.0, 0.25, 0.5, 0.75, 1.0], 8, low=0.0, high=1.0, ascii_only=True) == ".-+#@"


def test_a_sparkline_keeps_the_largest_of_the_values_that_share_a_cell():
    assert sparkline([0.0, 1.0, 0.0, 0.0], 2, low=0.0, high=1.0) == "█▁"


def test_a_sparkline_survives_missing_and_infinite_values():
    assert sparkline([None, math.nan, math.inf, -math.inf, 5.0], 8, low=0.0, high=1.0) == "  █▁█"
    assert sparkline([1.0, 1.0], 8, low=1.0, high=1.0) == "▅▅"
    assert sparkline([], 8, low=0.0, high=1.0) == sparkline([1.0], 0, low=0.0, high=1.0) == ""


LONG = ("sharpness", trace(lambda step: 6 * step / 1000, 1000, 10))


def test_a_window_shows_its_steps_alone_over_an_axis_of_their_own():
    chart = drawn([LONG], [("2/lr", trace(lambda step: 2.5, 1000, 10))], width=50, height=8, window=Window(300, 500))

    assert chart == picture(
        """
    3 ┤                               ⢀⣀⣀⣀⣀⡠⠤⠤⠤⠤⠒⠒⠒⠒⠊⠉
      │⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⣁⣁⡡⠥⠥⠥⠥⠕⠓⠓⠓⠓⠉⠉⠉⠉⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁
    2 ┤⣀⠤⠤⠤⠤⠤⠒⠒⠒⠒⠊⠉⠉⠉⠉                    2/lr = 2.50
      │
    1 ┤
      │
    0 ┤
       300       350         400         450       500
    """
    )


def test_a_threshold_that_was_set_before_the_window_goes_through_it():
    threshold = ("2/lr", trace(lambda step: 2.0 if step < 100 else 3.0, 100, 100))

    chart = draw([LONG], [threshold], width=40, height=6, window=Window(400, 600))

    assert all(any(row[x][1] in ("reference", "series-1") for row in chart) for x in range(4, 40))
    assert "2/lr = 3.00" in text(chart)


def test_a_window_without_points_says_so():
    assert "nothing in these steps" in drawn([LONG], width=50, height=8, window=Window(2000, 2100))


def test_another_axis_moves_the_same_steps_apart():
    clock = Clock("time", [0, 500, 1000], [0.0, 10.0, 100.0])

    chart = drawn([LONG], width=60, height=8, window=Window(0, 1000, clock))

    assert "seconds" in chart
    assert chart.splitlines()[-1].split() == ["0", "50", "seconds", "100"]


def test_the_cursor_is_an_upright_line_over_all_rows_and_none_out_of_the_window():
    def cursors(step):
        return [
            row.index(cell)
            for row in draw([LONG], width=40, height=8, window=Window(0, 1000), cursor=step)
            for cell in row
            if cell[1] == "cursor"
        ]

    assert len(cursors(500)) == 7
    assert len(set(cursors(500))) <= 2
    assert cursors(1200) == []


def test_marks_stand_in_a_row_below_the_chart_at_their_steps():
    marks = [Mark(250, "c", "mark"), Mark(750, "!", "mark"), Mark(1300, "x", "mark")]

    *chart, row = draw([LONG], width=40, height=8, window=Window(0, 1000), marks=marks)

    assert chart == draw([LONG], width=40, height=8, window=Window(0, 1000))
    assert [(x, cell) for x, cell in enumerate(row) if cell != (" ", "")] == [
        (3 + 37 * 250 // 1000, ("c", "mark")),
        (3 + 37 * 750 // 1000, ("!", "mark")),
    ]


def test_an_error_is_a_faint_band_around_its_series():
    errors = trace(lambda step: 1.0, 1000, 10)
    grid = draw([LONG], width=40, height=12, bands=[errors])
    plain = draw([LONG], width=40, height=12)

    assert any(role == "band" for row in grid for _, role in row)
    assert [[cell for cell in row if cell[1] == "series-1"] for row in grid] == [
        [cell for cell in row if cell[1] == "series-1"] for row in plain
    ]


def test_smoothing_keeps_the_raw_series_faintly_behind_its_average():
    noisy = ("loss", trace(lambda step: 5.0 + (-1) ** (step // 10), 1000, 10))
    grid = draw([noisy], width=40, height=12, smoothing=0.1)

    faint = {y for y, row in enumerate(grid) for _, role in row[20:] if role == "faint"}
    average = {y for y, row in enumerate(grid) for _, role in row[20:] if role == "series-1"}
    assert len(average) <= 2 < len(faint)


@given(
    series=LINES,
    window=st.tuples(st.floats(-5, 40), st.floats(0.01, 60)),
    cursor=st.one_of(st.none(), st.floats(-10, 100)),
    smoothing=st.floats(0, 1),
    size=st.tuples(st.integers(0, 40), st.integers(0, 12)),
    scale=st.sampled_from(["linear", "log"]),
    ascii_only=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_whatever_the_window_the_chart_has_its_shape(series, window, cursor, smoothing, size, scale, ascii_only):
    grid = draw(
        series,
        series[:1],
        width=size[0],
        height=size[1],
        scale=scale,
        window=Window(window[0], window[0] + window[1]),
        cursor=cursor,
        marks=[Mark(3, "c", "mark")],
        bands=[found for _, found in series],
        smoothing=smoothing,
        ascii_only=ascii_only,
    )

    assert [len(row) for row in grid] == [size[0]] * (size[1] + 1)


def level(place: int, *, last: int = 100) -> Overlaid:
    """A run that stays at 8 less its place."""
    return Overlaid(RUN_TAGS[place], trace(lambda step: 8.0 - place, last), Window(0.0, 100.0), run_stroke(place))


def overlaid(lines, levels=(), *, window: Window | None = None, **options) -> str:
    return text(draw_runs(lines, levels, window=window or Window(0.0, 100.0), **options))


def test_eight_runs_differ_by_their_dashes_and_each_has_its_tag_at_its_end():
    chart = overlaid([level(k, last=100 - 8 * k) for k in range(8)], width=60, height=18)

    assert chart == picture(
        """
    8 ┤⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉⠉1
      │
    7 ┤⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠉ ⠁2
      │
    6 ┤⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ ⠂⠐ 3
      │
    5 ┤⠒⠒⠒ ⠒⠒⠒ ⠒⠒⠒ ⠒⠒⠒ ⠒⠒⠒ ⠒⠒⠒ ⠒⠒⠒ ⠒⠒⠒ ⠒⠒⠒ ⠒⠒⠒ ⠒⠒⠒ 4
      │
    4 ┤⠒⠒⠒ ⠂ ⠒⠒⠒ ⠂ ⠒⠒⠒ ⠂ ⠒⠒⠒ ⠂ ⠒⠒⠒ ⠂ ⠒⠒⠒ ⠂ ⠒⠒⠒5
      │
    3 ┤⠤   ⠤   ⠤   ⠤   ⠤   ⠤   ⠤   ⠤   ⠤  6
      │
    2 ┤⠄  ⠄  ⠄  ⠄  ⠄  ⠄  ⠄  ⠄  ⠄  ⠄  7
      │
    1 ┤⣀⣀ ⡀ ⡀⣀⣀ ⡀ ⡀⣀⣀ ⡀ ⡀⣀⣀ ⡀ ⡀⣀⡀8
      │
    0 ┤
       0         20         40          60         80        100
    """
    )


def test_eight_runs_differ_in_ascii_as_well():
    chart = overlaid([level(k) for k in range(8)], width=40, height=18, ascii_only=True)

    rows = [row.split("+", 1)[1] for row in chart.split("\n")[:15:2]]
    assert chart.isascii()
    assert [set(row) - {" ", RUN_TAGS[k]} for k, row in enumerate(rows)] == [{glyph} for glyph in "'+xo*#%@"]


def test_no_two_runs_have_the_same_dashes_and_the_same_colour():
    strokes = [run_stroke(place) for place in range(len(RUN_TAGS))]

    assert len({(stroke.role, stroke.dash) for stroke in strokes}) == len(strokes)
    assert len({stroke.dash for stroke in strokes[:8]}) == len({stroke.role for stroke in strokes[:8]}) == 8
    assert len({run_sample(place, 6) for place in range(8)}) == len({run_sample(place, 6, ascii_only=True) for place in range(8)}) == 8


def test_runs_of_different_learning_rates_lie_on_each_other_over_lr_x_steps():
    def of_lr(lr: float, place: int, last: int) -> Overlaid:
        clock = Clock("lr x steps", [0.0, 100.0], [0.0, 100.0 * lr])
        window = Window(0.0, clock.step(50.0), clock, (0.0, 50.0))
        return Overlaid(RUN_TAGS[place], trace(lambda step: lr * step, last), window, run_stroke(place))

    shared = Window(0.0, 50.0, Clock("lr x steps", (0.0, 1.0), (0.0, 1.0)))
    chart = overlaid([of_lr(0.5, 0, 80), of_lr(0.25, 1, 120)], [("edge", 30.0)], window=shared, cursor=15.0, width=60, height=9)

    assert chart == picture(
        """
    40 ┤                ⢐                      ⢀⣀⠤⠤⠒⠉1
       │                ⢐                 ⣀⡠⠔⠒⠊⠁    edge = 30.0
       │⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⢑⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⣁⡡⠤⠓⠊⠉2⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁⠁
    20 ┤                ⢐     ⣀⣀⠤⠔⠚⠉⠁
       │                ⢐⣀⠤⠔⠒⠉⠁
       │          ⢀⣀⡤⠔⠒⠊⢙
       │     ⢀⡠⠤⠒⠉⠉     ⢐
     0 ┤⣠⠤⠒⠊⠉⠁          ⢐
        0                    20     lr x steps     40
    """
    )


def test_tags_of_runs_that_end_together_stand_apart():
    chart = overlaid(
        [Overlaid(RUN_TAGS[k], trace(lambda step: 1.0, 90), Window(0.0, 100.0), run_stroke(k)) for k in range(8)], width=50, height=5
    )

    row = next(row for row in chart.split("\n") if "1" in row and "8" in row)
    assert {*"12345678"} <= set(row.split("┤")[-1])
    assert not any(left in RUN_TAGS and right in RUN_TAGS for left, right in pairwise(row.split("┤")[-1]))


def test_an_average_stands_over_the_faint_lines_of_the_runs():
    grid = draw_runs([level(0), level(1)], window=Window(0.0, 100.0), width=40, height=8, smoothing=0.1)

    assert {role for row in grid for _, role in row} >= {"series-1", "series-2"}


def test_of_runs_without_anything_to_draw_it_is_said():
    empty = Overlaid("1", Trace.empty(), Window(0.0, 100.0), run_stroke(0))
    late = Overlaid("2", trace(lambda step: 1.0, 50), Window(60.0, 90.0), run_stroke(1))

    assert "no data yet" in overlaid([], width=40, height=5)
    assert "no data yet" in overlaid([empty], width=40, height=5)
    assert "nothing in sight here" in overlaid([empty, late], width=40, height=5)


@given(
    values=LINES, width=st.integers(0, 70), height=st.integers(0, 12), scale=st.sampled_from(["linear", "log"]), ascii_only=st.booleans()
)
@settings(deadline=None, max_examples=60)
def test_runs_of_any_numbers_fit_any_size(values, width, height, scale, ascii_only):
    lines = [Overlaid(RUN_TAGS[k], found, Window(0.0, 16.0), run_stroke(k)) for k, (_, found) in enumerate(values)]

    grid = draw_runs(lines, [("edge", 1.0)], window=Window(0.0, 16.0), width=width, height=height, scale=scale, ascii_only=ascii_only)

    assert [len(row) for row in grid] == [width] * height


def test_of_more_than_four_lines_the_first_stands_out_and_the_others_are_told_apart_by_their_order():
    lines = [
        (name, trace(lambda step, k=k: (6 - k) * step / 100, 80, 10)) for k, name in enumerate(("largest", "2nd", "3rd", "4th", "5th"))
    ]

    chart = draw(lines, [THRESHOLD], width=50, height=12, x_max=100)

    roles = [{role for _, role in row if role} for row in chart[3:]]
    assert "⠒⠒⠒ largest  ⠒⠒⠒ 2nd to 5th" in text(chart)
    assert {role for row in chart for _, role in row if role.startswith("series")} == {"series-1"}
    assert roles[0] == {"axis"}
    assert {"series-1", "faint"} <= roles[4]


def test_four_lines_or_fewer_keep_their_strokes():
    lines = [(name, trace(lambda step, k=k: (6 - k) * step / 100, 80, 10)) for k, name in enumerate("abcd")]

    chart = draw(lines, width=50, height=12, x_max=100)

    assert {role for row in chart for _, role in row if role.startswith(("series", "faint"))} == {f"series-{k}" for k in range(1, 5)}
