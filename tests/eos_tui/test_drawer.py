"""The drawer's rows as text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from eos_tui.widgets.drawer import Drawer, rows, wrapped
from eos_tui.widgets.text_rows import row_length

DETAILS = [("run", "digits-gd"), ("data", "digits from scikit-learn: 1,500 to train"), ("", "standardization: none")]


def text(found) -> list[str]:
    return ["".join(part for part, _ in row).rstrip() for row in found]


def drawn(drawer: Drawer, width: int, height: int) -> list[str]:
    return ["".join(character for character, _ in row) for row in drawer.grid(width, height)]


def filled(count: int, *, at_end: bool = False) -> Drawer:
    drawer = Drawer(id="drawer")
    drawer.open("output", at_end=at_end)
    drawer.show([("", f"line {k}") for k in range(count)])
    return drawer


def test_titles_stand_beside_texts_that_are_broken_between_words():
    assert text(rows(DETAILS, 40)) == [
        "run   digits-gd",
        "data  digits from scikit-learn: 1,500 to",
        "      train",
        "      standardization: none",
    ]


def test_titles_stand_above_texts_where_it_is_narrow():
    assert text(rows(DETAILS, 20))[:4] == ["run", "digits-gd", "data", "digits from"]


def test_what_has_no_titles_begins_at_the_left():
    assert text(rows([("", "a"), ("", "  b")], 80)) == ["a", "  b"]


@given(st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=200), st.integers(2, 50))
def test_no_line_is_wider_than_asked_and_no_word_is_lost(words, width):
    lines = wrapped(words, width)

    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(words.split())


@pytest.mark.parametrize(("width", "height"), [(0, 0), (1, 1), (3, 2), (5, 4), (20, 3), (60, 4), (140, 50)])
def test_the_drawer_fits_any_size(width, height):
    grid = filled(30).grid(width, height)

    assert len(grid) <= height
    assert all(len(row) == width for row in grid)


def test_the_frame_says_what_it_is_and_which_rows_are_in_sight():
    assert drawn(filled(30), 24, 6) == [
        "╭─ output ─────────────╮",
        "│ line 0               │",
        "│ line 1               │",
        "│ line 2               │",
        "│ line 3               │",
        "╰─ 1-4 of 30 ──────────╯",
    ]


def test_the_end_stays_in_sight_as_it_grows():
    drawer = filled(30, at_end=True)

    drawer.show([("", f"line {k}") for k in range(40)])

    assert drawn(drawer, 24, 6)[-2:] == ["│ line 39              │", "╰─ 37-40 of 40 ────────╯"]


def test_wide_characters_fill_their_cells():
    assert row_length(rows([("", "中文 ab")], 6)[0]) <= 6
