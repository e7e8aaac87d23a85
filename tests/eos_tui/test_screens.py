"""What the run screen's rows of text say, as pure functions of a snapshot."""

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs

from eos_tui.snapshot import Status
from eos_tui.widgets.event_line import edge_rows, event_rows, panel_rows
from eos_tui.widgets.run_header import header_rows
from eos_tui.widgets.text_rows import Row, fitted, row_length
from eos_tui.widgets.words import duration, ending, farewell
from runners.records import Edge
from tests.eos_tui.fakes import DENSITY, NAME, NTK, PANELS, SHARPNESS, FakeRun, snapshot_of


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    return FakeRun(tmp_path)


def text(row: Row) -> str:
    return "".join(part for part, _ in row)


def styles(row: Row) -> dict[str, str]:
    return {part: style for part, style in row if style}


def test_the_header_says_how_the_run_stands_in_one_row_on_a_wide_screen(run):
    run.header()
    run.progress(range(1861))

    (row,) = header_rows(snapshot_of(run), 160, 1)

    assert text(row) == (
        f"eos  {NAME}  running   step 1,860 of 3,000   ━━━━━━━━━━━━━━╸─────────   62 %   100 steps/s   11 s left   measuring 30 %"
    )


def test_the_header_takes_two_rows_where_it_has_them(run):
    run.header()
    run.progress(range(1861))

    first, second = header_rows(snapshot_of(run), 78, 2)

    assert text(first) == f"eos  {NAME}  running   measuring 30 %"
    assert text(second) == "step 1,860 of 3,000   ━━━━━━━━━━━━━━─────────   62 %   100 steps/s   11 s left"


@pytest.mark.parametrize("width", [0, 1, 5, 10, 17, 18, 30, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("height", [1, 2])
def test_the_header_fits_any_width(run, width, height):
    run.header()
    run.progress(range(101))

    rows = header_rows(snapshot_of(run), width, height)

    assert len(rows) == height
    assert all(row_length(fitted(row, width)) <= width for row in rows)
    assert all(row_length(row) <= width for row in rows if width >= 60)


def test_what_matters_most_stays_in_the_narrowest_header(run):
    run.header()
    run.progress(range(1861))

    (row,) = header_rows(snapshot_of(run), 20, 1)

    assert text(row) == "running   62 %"


def test_the_header_of_a_run_without_records_says_starting(run):
    (row,) = header_rows(snapshot_of(run), 100, 1)

    assert text(row) == f"eos  {NAME}  starting"


def test_every_status_has_a_word_in_the_header_beside_its_colour(run):
    snapshot = snapshot_of(run)

    for status in Status:
        (row,) = header_rows(replace(snapshot, status=status), 100, 1)
        assert status.value in styles(row)


def test_a_run_that_is_done_has_a_full_bar_and_one_that_is_nearly_done_has_not(run):
    run.header(steps=1000)
    run.step(999)
    nearly = text(header_rows(snapshot_of(run), 80, 2)[1])
    run.step(1000)
    done = text(header_rows(snapshot_of(run), 80, 2)[1])

    assert "99 %" in nearly
    assert "─" in nearly or "╸" in nearly
    assert "100 %" in done
    assert "─" not in done


def test_a_run_longer_than_asked_does_not_burst_the_bar(run):
    run.header(steps=100)
    run.step(250)

    assert row_length(header_rows(snapshot_of(run), 80, 2)[1]) <= 80


def test_the_nearest_edge_comes_first_and_says_in_words_where_it_stands(run):
    run.header()
    run.sharpness(100, 2.5)
    run.ntk(100, 361.0)

    (row,) = edge_rows(snapshot_of(run), 120, 1)

    assert text(row) == "NTK trace at its edge: 0.950 of its threshold, K 1.04 · sharpness below its edge: 0.375 of 2/lr"


def test_past_the_edge_is_said_and_marked(run):
    run.header()
    run.sharpness(100, 8.0)

    (row,) = edge_rows(snapshot_of(run), 80, 1)

    assert styles(row) == {"sharpness past its edge: 1.20 of 2/lr": "bold red"}


def test_the_edges_are_said_shorter_where_there_is_less_room(run):
    run.header()
    run.sharpness(100, 6.7)
    run.ntk(100, 240.0)

    (row,) = edge_rows(snapshot_of(run), 78, 1)

    assert text(row) == "sharpness 1.00 of 2/lr, at edge · NTK trace 0.632 of its threshold, K 0.695"


def with_edges(run, *, panels=PANELS):
    """A header whose sharpness and NTK panels tell of an edge each."""
    k = Edge(name="stochastic", ratio=NTK.notes[0], moved_by="lr or batch size")
    known = {"sharpness": Edge(name="deterministic", ratio=SHARPNESS.ratio, moved_by="lr"), "NTK trace": k}
    run.header(panels=tuple(structs.replace(panel, edge=known.get(panel.title)) for panel in panels))


@pytest.mark.parametrize(
    ("ratio", "trace", "expected"),
    [
        (1.02, 100.0, "binding edge: deterministic at 1.02 (moved by lr)"),
        (0.9, 100.0, "binding edge: deterministic at 0.900 (moved by lr)"),
        (0.4, 361.0, "binding edge: stochastic at 1.04 (moved by lr or batch size)"),
        (0.2, 120.0, "binding edge: none, nearest stochastic at 0.347 (moved by lr or batch size)"),
        (0.7, 120.0, "binding edge: none, nearest deterministic at 0.700 (moved by lr)"),
    ],
)
def test_the_binding_edge_is_the_nearest_one_and_said_first_with_what_moves_it(run, ratio, trace, expected):
    with_edges(run)
    run.sharpness(100, ratio * 6.667)
    run.ntk(100, trace)

    (row,) = edge_rows(snapshot_of(run), 200, 1)
    assert text(row).startswith(f"{expected} · ")
    assert "of 2/lr" in text(row)


def test_where_there_is_little_room_how_far_the_edge_is_goes_before_what_moves_it(run):
    with_edges(run)
    run.sharpness(100, 0.2 * 6.667)
    run.ntk(100, 120.0)

    roomy, narrow = (text(edge_rows(snapshot_of(run), width, 1)[0]) for width in (110, 78))

    assert roomy == "nearest edge: stochastic at 0.347 · NTK trace 0.316 of its threshold, K 0.347 · sharpness 0.200 of 2/lr"
    assert narrow == "nearest edge: stochastic at 0.347 · NTK trace 0.316 · sharpness 0.200"


def test_a_single_edge_that_is_far_binds_nothing_and_an_unknown_one_is_not_spoken_of(run):
    with_edges(run, panels=(SHARPNESS,))
    assert edge_rows(snapshot_of(run), 80, 1) == [[]]
    run.sharpness(100, 2.5)

    (row,) = edge_rows(snapshot_of(run), 80, 1)
    assert text(row) == "binding edge: none · sharpness below its edge: 0.375 of 2/lr"


def test_a_single_edge_that_no_panel_has_a_threshold_for_is_said_however_far_it_is(run):
    with_edges(run, panels=(structs.replace(NTK, ratio=None),))
    run.ntk(100, 120.0)

    wide, narrow = (text(edge_rows(snapshot_of(run), width, 1)[0]) for width in (80, 40))
    assert wide == "binding edge: none, nearest stochastic at 0.347 (moved by lr or batch size)"
    assert narrow == "nearest edge: stochastic at 0.347"


def test_nothing_is_said_of_edges_that_no_record_has(run):
    run.header()
    run.sharpness(100, None)

    assert edge_rows(snapshot_of(run), 80, 1) == [[]]


def test_a_panel_in_one_line_tells_what_was_not_measured_from_what_is_not_finite(run):
    run.header()
    run.step(10, loss=None)
    run.sharpness(10, 2.5)

    rows = [text(row) for row in panel_rows(snapshot_of(run), 80, 3)]

    assert rows == ["train loss not finite", "sharpness 2.50 = 0.375 of 2/lr", "NTK trace not measured yet", "Charts need 60x15 cells."]


def test_a_density_in_one_line_says_which_step_it_belongs_to(run):
    run.header(panels=(DENSITY,))
    before, _ = panel_rows(snapshot_of(run), 80, 1)
    run.density(2000)
    after, _ = panel_rows(snapshot_of(run), 80, 1)

    assert [text(row) for row in (before, after)] == [
        "Hessian spectral density not measured yet",
        "Hessian spectral density of step 2,000, smoothing width 0.250",
    ]


def test_the_event_line_shows_the_newest_first_and_only_the_last_of_several_checkpoints(run):
    run.header()
    run.event(10, "warning", "The loss is not\nfinite.")
    run.event(1000, "checkpoint", "Checkpoint at step 1000.")
    run.event(2000, "checkpoint", "Checkpoint at step 2000.")
    run.event(2100, "paused", "Paused on request.")

    (row,) = event_rows(snapshot_of(run), 80, 1)

    assert text(row) == "2,100 Paused on request. · 2,000 checkpoint · 10 The loss is not finite."


def test_of_the_eigenvalues_that_overtook_between_other_events_the_newest_is_told(run):
    run.header()
    for step in range(100, 500, 100):
        run.event(step, "overtaken", "Another eigenvalue overtook.")
        run.event(step, "checkpoint")

    (row,) = event_rows(snapshot_of(run), 80, 1)

    assert text(row) == "400 checkpoint · 400 Another eigenvalue overtook."


def test_control_sequences_in_an_event_never_reach_the_terminal(run):
    run.header()
    run.event(10, "warning", "red \x1b[31malert\x07\x9b2J")

    (row,) = event_rows(snapshot_of(run), 80, 1)

    assert text(row) == "10 red alert2J"


def test_a_row_that_is_too_long_ends_in_an_ellipsis():
    row = [("sharpness ", ""), ("at its edge", "bold")]

    assert fitted(row, 21) == row
    assert fitted(row, 15) == [("sharpness ", ""), ("at i…", "bold")]
    assert text(fitted(row, 1)) == "…"
    assert fitted(row, 0) == []


def test_a_wide_character_is_not_cut_in_half():
    assert text(fitted([("損失函数", "")], 6)) == "損失…"


def test_durations_have_the_one_or_two_units_that_matter():
    assert [duration(seconds) for seconds in (0.4, 59.6, 200, 3600, 7500, 100_000)] == [
        "0 s",
        "1 min",
        "3 min 20 s",
        "1 h",
        "2 h 5 min",
        "1 d 3 h",
    ]


def test_a_run_that_goes_on_needs_no_words(run):
    run.header()
    run.step(0)

    assert ending(snapshot_of(run), run="r") == ""


def test_a_run_of_which_only_the_header_is_there_is_compiling(run):
    run.header()

    assert "once the model is compiled" in ending(snapshot_of(run), run="r")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (Status.STARTING, "once the model is compiled"),
        (Status.PAUSED, "space lets it go on"),
        (Status.STALLED, "Nothing new for a while"),
        (Status.CRASHED, "`eos resume r` goes on from the last checkpoint"),
    ],
)
def test_each_other_status_says_what_it_means(run, status, words):
    assert words in ending(replace(snapshot_of(run), status=status), run="r")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("finished", "The end. Keep the numbers with `eos export r`"),
        ("stopped", "The end. `eos resume r` goes on from here."),
        ("diverged", "The end."),
        ("failed", "The end."),
    ],
)
def test_an_end_gives_its_reason_and_what_to_do(run, status, words):
    run.header()
    run.end(100, status=status, reason="The end.")

    assert ending(snapshot_of(run), run="r").startswith(words)


def test_the_farewell_of_a_run_that_goes_on_says_how_to_come_back_and_how_to_stop_it(run):
    run.header()
    run.step(1200)

    assert farewell(snapshot_of(run), run="r") == (
        f"{NAME} goes on (running, step 1,200 of 3,000). Come back with `eos watch r`, stop it with `eos stop r`."
    )


def test_the_farewell_of_a_run_that_has_ended_says_how(run):
    run.header()
    run.end(3000)

    assert farewell(snapshot_of(run), run="r").startswith(f"{NAME}: finished at step 3,000. All steps are done.")
