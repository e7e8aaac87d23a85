"""A sweep as a grid: what its cells say, which is the best of a row, how long it will take, and what is drawn of it."""

import math
from datetime import UTC, datetime

import pytest

from eos_tui import charts, sweep_grid
from eos_tui.sweep_grid import Cell, GridRun, SweepGrid, SweepStand, laid_out
from eos_tui.widgets.sweep_table import curves, head_rows, table
from runners.sweeps import BegunRecord, EndedRecord, SittingRecord

NOW = 1_800_000_000.0
LRS = (0.1, 0.2, 0.4, 0.8)


def run(status: str = "finished", *, loss: float | None = None, share: float = 0.0, **values: object) -> GridRun:
    """A run by the last parts of its keys."""
    keys = {"width": "model.width", "lr": "optimizer.lr", "seed": "run.seed", "name": "optimizer.name", "batch": "optimizer.batch_size"}
    return GridRun(
        run="-".join(f"{key}{value}" for key, value in values.items()),
        values={keys[key]: value for key, value in values.items()},
        status=status,
        share=share,
        loss=math.inf if status == "diverged" else loss,
    )


def finished(best_of: dict[int, float]) -> list[GridRun]:
    """A run of each width and learning rate, its loss a parabola in logarithms with the vertex at the width's best."""
    return [run(width=width, lr=lr, loss=0.1 * math.exp(math.log(lr / best) ** 2)) for width, best in best_of.items() for lr in LRS]


def half_done() -> SweepGrid:
    """Two widths, of which the second is at work."""
    losses = {0.1: 0.4, 0.2: 0.2, 0.4: 0.1}
    rest = ["finished", "running", "waiting", "waiting"]
    return laid_out(
        [
            *(run(width=64, lr=lr, loss=loss) for lr, loss in losses.items()),
            run("diverged", width=64, lr=0.8),
            *(run(status, width=256, lr=lr, share=0.45, loss=0.3 if lr == 0.1 else None) for status, lr in zip(rest, LRS, strict=True)),
        ]
    )


# What stands where


def test_the_learning_rate_goes_across_and_all_else_but_the_seed_down_in_order_of_size() -> None:
    grid = laid_out([run(lr=lr, width=width, seed=seed) for lr in (0.4, 0.1) for width in (256, 64) for seed in (0, 1)])

    assert (grid.across, grid.titles) == ("optimizer.lr", ["0.1", "0.4"])
    assert [row.label for row in grid.rows] == ["width 64", "width 256"]
    assert [[len(cell.runs) for cell in row.cells] for row in grid.rows] == [[2, 2], [2, 2]]


@pytest.mark.parametrize(
    ("values", "across", "labels"),
    [
        ({"width": 64, "batch": 8}, "optimizer.batch_size", ["width 64"]),
        ({"width": 64, "seed": 0}, "model.width", [""]),
        ({"seed": 0}, "run.seed", [""]),
        ({}, "", [""]),
    ],
)
def test_without_a_learning_rate_the_key_that_goes_fastest_is_across(values: dict[str, object], across: str, labels: list[str]) -> None:
    grid = laid_out([run(**values)])

    assert (grid.across, [row.label for row in grid.rows]) == (across, labels)


def test_a_table_and_a_number_may_be_learning_rates_of_one_sweep() -> None:
    grid = laid_out([run(lr={"kind": "cosine"}, loss=0.1), run(lr=0.1, loss=0.2)])

    assert grid.titles == ["0.1", "{'kind': 'cosine'}"]
    assert grid.places == [0, 1]


@pytest.mark.parametrize(("columns", "places"), [((0.1, 1.0, 10.0), [-1, 0, 1]), ((0, 0.5), [0, 0.5]), (("adam", "sgd"), [0, 1])])
def test_columns_lie_by_their_logarithms_or_sizes_or_side_by_side(columns: tuple[object, ...], places: list[float]) -> None:
    assert laid_out([run(lr=column) for column in columns]).places == pytest.approx(places)


# Cells


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ([run("waiting")], "waiting"),
        ([run("starting")], "starting"),
        ([run("running", share=0.456)], "45 %"),
        ([run("paused", share=0.456)], "paused"),
        ([run("finished")], "done"),
        ([run("finished", loss=0.01234)], "0.0123"),
        ([run("diverged")], "diverged"),
        ([run("crashed")], "crashed"),
        ([run("running", share=0.5), run("waiting")], "25 %"),
        ([run("finished", loss=0.1), run("finished", loss=0.3)], "0.200"),
        ([run("finished", loss=0.1), run("running"), run("waiting")], "0.100 1/3"),
        ([run("finished", loss=0.1), run("diverged")], "diverged"),
        ([run("diverged"), run("waiting")], "diverged 1/2"),
        ([run("finished", loss=0.1), run("failed")], "failed 1/2"),
    ],
)
def test_a_cell_says_how_its_runs_stand(runs: list[GridRun], words: str) -> None:
    assert Cell(tuple(runs)).words == words


def test_the_best_of_a_row_has_the_lowest_mean_and_one_diverged_seed_is_enough_not_to_be_it() -> None:
    runs = [run(lr=lr, seed=seed, loss=lr) for lr in LRS for seed in (0, 1)]
    runs[1] = run("diverged", lr=0.1, seed=1)

    assert laid_out(runs).rows[0].best == 1


def test_there_is_no_best_before_two_have_a_loss_nor_where_all_diverged() -> None:
    assert laid_out([run(lr=0.1, loss=0.2), run("running", lr=0.2)]).rows[0].best is None
    assert laid_out([run("diverged", lr=lr) for lr in LRS]).rows[0].best is None


def test_a_cell_is_told_in_a_line() -> None:
    seeds = [run(width=64, lr=0.1, seed=0, loss=0.1), run(width=64, lr=0.1, seed=1, loss=0.3), run("running", width=64, lr=0.1, seed=2)]
    grid = laid_out([*seeds, run(width=64, lr=0.2, loss=0.5)])

    assert sweep_grid.cell_words(grid, 0, 0) == (
        "width 64, lr 0.1: 2 finished, 1 running, 0 % of the steps, loss 0.200 ± 0.1, the lowest of its row"
    )
    assert sweep_grid.cell_words(grid, 0, 1) == "width 64, lr 0.2: finished, loss 0.500"


def test_what_a_sweeps_file_says_is_text() -> None:
    grid = laid_out([run(name="a\x1b[2Jb\n", lr=0.1)])

    assert [row.label for row in grid.rows] == ["ab"]


# The sweep


@pytest.mark.parametrize(
    ("statuses", "held", "state"),
    [
        (["finished", "diverged"], "nowhere", "complete"),
        (["finished", "waiting"], "here", "running"),
        (["finished", "waiting"], "nowhere", "stopped"),
        (["finished", "running"], "elsewhere", "running"),
        (["finished", "failed"], "elsewhere", "stopped"),
    ],
)
def test_the_sweeps_state_follows_from_its_runs_and_its_scheduler(statuses: list[str], held: object, state: str) -> None:
    runs = tuple(run(status) for status in statuses)
    assert SweepStand(name="a", runs=runs, is_held={"here": True, "nowhere": False}.get(str(held))).state == state


def test_runs_are_counted_by_how_they_stand() -> None:
    statuses = ["running", "starting", "waiting", "finished", "diverged", "crashed", "unreadable", "stopped"]
    stand = SweepStand(name="a", runs=tuple(run(status) for status in statuses))

    assert stand.counts == {"running": 2, "waiting": 1, "done": 1, "diverged": 1, "stopped": 1, "failed": 2}


def at(seconds: float) -> str:
    return datetime.fromtimestamp(NOW + seconds, UTC).isoformat()


def test_the_time_left_is_that_of_each_rows_own_runs_shared_out_over_the_jobs() -> None:
    runs = [
        *(run("finished", width=width, lr=0.1, loss=1.0) for width in (64, 256)),
        *(run("waiting", width=width, lr=0.2) for width in (64, 256)),
    ]
    records = [
        SittingRecord(time=at(0), schema=1, host="here", pid=1, jobs=2, num_runs=4, num_done=0),
        *(BegunRecord(time=at(0), run=done.run, how="started", job=done.run) for done in runs[:2]),
        EndedRecord(time=at(10), run=runs[0].run, status="finished", step=1, reason=""),
        EndedRecord(time=at(30), run=runs[1].run, status="finished", step=1, reason=""),
    ]

    # 10 s and 30 s at once: the longer one is what there is to wait for.
    assert sweep_grid.seconds_left(records, runs, now=NOW + 30) == pytest.approx(30)
    one_job = [SittingRecord(time=at(0), schema=1, host="here", pid=1, jobs=1, num_runs=4, num_done=0), *records[1:]]
    assert sweep_grid.seconds_left(one_job, runs, now=NOW + 30) == pytest.approx(40)


def test_before_a_run_is_done_the_time_left_is_that_of_the_one_that_goes_on() -> None:
    runs = [run("running", lr=0.1, share=0.25), run("waiting", lr=0.2)]
    records = [BegunRecord(time=at(0), run=runs[0].run, how="started", job="1")]

    assert sweep_grid.seconds_left(records, runs, now=NOW + 10) == pytest.approx(30 + 40)
    assert sweep_grid.seconds_left([], runs, now=NOW + 10) is None


def test_runs_that_train_as_one_program_share_out_its_time() -> None:
    runs = [*(run("finished", lr=lr, loss=1.0) for lr in LRS[:2]), *(run("waiting", lr=lr) for lr in LRS[2:])]
    records = [
        *(BegunRecord(time=at(0), run=done.run, how="started", job="7") for done in runs[:2]),
        *(EndedRecord(time=at(20), run=done.run, status="finished", step=1, reason="") for done in runs[:2]),
    ]

    assert sweep_grid.seconds_left(records, runs, now=NOW + 20) == pytest.approx(20)


def test_the_verdict_comes_with_the_last_run() -> None:
    runs = finished({64: 0.2, 256: 0.2})

    assert sweep_grid.verdicts([run("running", width=64, lr=0.1), *runs[1:]]) == ()
    assert sweep_grid.verdicts(runs) == ("The best learning rate stays: it moves by 0 steps of x2; up to 1 counts as staying.",)


def test_each_group_of_nets_has_its_verdict_and_what_has_none_says_why() -> None:
    named = [
        GridRun(run=f"{name}-{each.run}", values={**each.values, "optimizer.name": name}, status="finished", loss=each.loss)
        for name, best in (("adam", 0.2), ("sgd", 0.4))
        for each in finished({64: 0.2, 256: best})
    ]
    too_few = [run(width=width, lr=lr, loss=0.1) for width in (64, 256) for lr in LRS[:2]]

    assert [said.partition(":")[0] for said in sweep_grid.verdicts(named)] == ["name adam", "name sgd"]
    assert "cannot be said. width 64: runs at 2 learning rates have ended" in sweep_grid.verdicts(too_few)[0]


def test_a_sweep_of_one_size_has_no_verdict() -> None:
    assert sweep_grid.verdicts([run(lr=lr, loss=0.1) for lr in LRS]) == ()


# What is drawn


def test_the_table_has_the_learning_rates_above_and_marks_the_cursor_and_each_rows_best() -> None:
    assert charts.text(table(half_done(), (1, 1), width=70, height=4)).splitlines() == [
        "lr                0.1       0.2       0.4       0.8",
        "1 ⠒⠒⠒ width 64    0.400     0.200    *0.100     diverged",
        "2 ⠒ ⠒ width 256   0.300   > 45 %      waiting   waiting",
    ]


def test_a_table_that_does_not_fit_follows_the_cursor_and_says_what_it_shows() -> None:
    grid = laid_out([run("waiting", width=width, lr=lr) for width in (1, 2, 3, 4) for lr in LRS])

    assert charts.text(table(grid, (2, 3), width=48, height=3, ascii_only=True)).splitlines() == [
        "rows 2-3/4 lr 3-4/4   0.4       0.8",
        "2 ++  width 2         waiting   waiting",
        "3 x   width 3         waiting > waiting",
    ]


def test_the_curves_name_the_best_of_each_row_and_leave_a_gap_where_one_diverged() -> None:
    assert charts.text(curves(half_done(), 0, width=48, height=10, ascii_only=True)).splitlines() == [
        "0.5 +",
        "    | 1..",
        "    | 2  ''.",
        "    |       ''.",
        "    |          ''..",
        "0.2 +              1'..",
        "    |                  ''..",
        "    |                      ''.. 0.4",
        "0.1 +                          ''*",
        "     0.1          0.2           0.4          0.8",
    ]


@pytest.mark.parametrize("size", [(0, 0), (1, 1), (5, 2), (24, 3)])
def test_no_size_is_too_small_and_nothing_is_too_little(size: tuple[int, int]) -> None:
    for grid in (laid_out([]), laid_out([run("waiting")]), laid_out([run(lr=0.1, loss=0.0)]), half_done()):
        for draw in (lambda grid=grid, **cells: table(grid, (0, 0), **cells), lambda grid=grid, **cells: curves(grid, 0, **cells)):
            drawn = draw(width=size[0], height=size[1])
            assert [len(row) for row in drawn] == [size[0]] * size[1]


def test_the_head_takes_a_second_row_and_leaves_out_the_stamp_where_there_is_no_room() -> None:
    runs = tuple(run(status) for status in ("running", "waiting", "waiting"))
    stand = SweepStand(name="digits-gd-20270115T075000Z-00aa", runs=runs, is_held=True, seconds_left=130.0)

    wide, narrow = ["".join(text for text, _ in row) for row in head_rows(stand, 120, 2)], head_rows(stand, 50, 2)
    assert wide == ["eos  digits-gd-20270115T075000Z-00aa  running   3 runs: 1 running, 2 waiting   about 2 min 10 s left"]
    assert ["".join(text for text, _ in row) for row in narrow] == [
        "eos  digits-gd  running   about 2 min 10 s left",
        "3 runs: 1 running, 2 waiting",
    ]
