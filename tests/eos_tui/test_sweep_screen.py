"""The screen of a sweep: what it says while the sweep goes on, and what its keys do."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from textual.pilot import Pilot

from eos_tui import sweeping
from eos_tui.app import EosApp, once
from eos_tui.screens.compare import CompareScreen
from eos_tui.screens.home import HomeScreen
from eos_tui.screens.run import RunScreen
from eos_tui.screens.sweep import SweepScreen
from eos_tui.sweep_watcher import SweepWatcher
from runners import expansion, grid, sweeps
from runners.errors import RunFolderError
from runners.sweeps import BegunRecord, SittingRecord, SweepFolder
from tests.eos_tui.fakes import NOW, FakeRun, live
from tests.eos_tui.pilots import look, settled

NAME = "digits-gd-20270115T075000Z-00aa"
LOSSES = {64: {0.1: 0.4, 0.2: 0.2, 0.4: 0.1}, 256: {0.1: 0.3}}
"""By width and learning rate, of the runs that have finished; with 0.8 the narrow net diverged, and the wide one is at 0.2."""


def made(runs: Path, axes: Sequence[str], *, seeds: int | None = None) -> SweepFolder:
    """A sweep of which no run has begun, named as it always is."""
    found = expansion.axes({}, [grid.parse_axis(axis) for axis in axes], seeds=seeds)
    planned = expansion.expand({}, found, label="base.toml")
    folder = sweeps.create(runs, "digits-gd", planned, source="base.toml", document={}, grid={}, jobs=1)
    return SweepFolder(folder.path.rename(runs / NAME))


def ended(folder: SweepFolder, run: str, *, loss: float = 0.1, status: str = "finished") -> None:
    fake = FakeRun(folder.path, name=run, steps=10)
    fake.header(steps=10)
    for step in range(11):
        fake.step(step, loss=loss)
    fake.end(10, status=status)


def half_done(folder: SweepFolder) -> FakeRun:
    """Runs that have ended, and one that takes its steps; the others wait."""
    for width, losses in LOSSES.items():
        for lr, loss in losses.items():
            ended(folder, f"width{width}-lr{lr}", loss=loss)
    ended(folder, "width64-lr0.8", status="diverged")
    going = FakeRun(folder.path, name="width256-lr0.2", steps=1000)
    going.header()
    going.progress(range(456))
    return going


@pytest.fixture
def sweep(surroundings: Path) -> Iterator[SweepFolder]:
    """A sweep that is half done, with its scheduler at work."""
    folder = made(surroundings, ["model.width=64,256", "optimizer.lr=0.1:0.8:x2"])
    with ExitStack() as stack:
        stack.enter_context(folder.held())
        stack.enter_context(live(half_done(folder)))
        time = "2027-01-15T07:50:00+00:00"
        folder.write(SittingRecord(time=time, schema=1, host="here", pid=1, jobs=1, num_runs=8, num_done=0))
        folder.write(BegunRecord(time=time, run="width256-lr0.2", how="started", job="1"))
        yield folder


def app_of(folder: SweepFolder, **options: bool) -> EosApp:
    return EosApp(folder, poll_seconds=0, clock=lambda: NOW, **options)  # type: ignore[arg-type]


def rows(shown: str) -> list[str]:
    """The table."""
    lines = shown.splitlines()
    begin = next(index for index, line in enumerate(lines) if line.startswith(" lr "))
    return [" ".join(line.split()[4:]) for line in lines[begin + 1 : begin + 3]]


# What it says


async def test_the_screen_says_how_each_run_stands_and_how_long_it_will_take(sweep: SweepFolder) -> None:
    async with app_of(sweep).run_test(size=(110, 30)) as pilot:
        shown = await look(pilot)

    # The run that goes on began 600 s ago and is at step 455 of 1,000; two wait behind it.
    assert [line.strip() for line in shown.splitlines()[:2]] == [
        f"eos  {NAME}  running   about 55 min 56 s left",
        "8 runs: 1 running, 2 waiting, 4 done, 1 diverged",
    ]
    assert rows(shown) == ["> 0.400 0.200 *0.100 diverged", "256 0.300 45 % waiting waiting"]
    assert "width 64, lr 0.1: finished, loss 0.400" in shown
    assert "loss at the end over lr (log)" in shown


async def test_what_the_runs_write_appears_and_nothing_is_sent_where_they_write_nothing(sweep: SweepFolder) -> None:
    async with app_of(sweep).run_test(size=(110, 30)) as pilot:
        await look(pilot)
        sent: list[object] = []
        pilot.app._display = lambda *frame: sent.append(frame)  # type: ignore[method-assign]
        await look(pilot)
        assert sent == []

        ended(sweep, "width256-lr0.4", loss=0.05)
        assert rows(await look(pilot))[1] == "256 0.300 45 % *0.0500 waiting"


def test_the_screen_is_printed_once_with_all_losses_and_the_verdict(tmp_path: Path) -> None:
    folder = made(tmp_path, ["model.width=64,256", "optimizer.lr=0.1:0.8:x2"])
    for width in (64, 256):
        for lr, loss in {0.1: 0.4, 0.2: 0.2, 0.4: 0.1, 0.8: 0.3}.items():
            ended(folder, f"width{width}-lr{lr}", loss=loss)

    shown = once(folder, width=100, height=24)

    assert "complete   8 runs: 8 done" in shown
    assert "The best learning rate stays: it moves by 0 steps of x2; up to 1 counts as staying." in shown
    assert shown.count("*0.100") == 2


@pytest.mark.parametrize("size", [(60, 15), *(pytest.param(size, marks=pytest.mark.slow) for size in ((40, 8), (8, 3), (250, 70)))])
async def test_it_works_on_any_terminal(sweep: SweepFolder, size: tuple[int, int]) -> None:
    async with app_of(sweep).run_test(size=size) as pilot:
        shown = await look(pilot)
        await pilot.resize_terminal(110, 30)
        back = await settled(pilot)

    assert max(map(len, shown.splitlines())) <= size[0]
    assert ("loss at the end" in shown) == (size[1] >= 15)
    assert rows(back)[0] == "> 0.400 0.200 *0.100 diverged"


async def test_a_sweep_that_nobody_works_at_says_how_to_go_on_and_cannot_be_stopped(tmp_path: Path) -> None:
    folder = made(tmp_path, ["optimizer.lr=0.1,0.2"])
    async with app_of(folder).run_test(size=(110, 24)) as pilot:
        shown = await look(pilot)
        await pilot.press("s")
        after = await settled(pilot)

    assert "No scheduler works at it. `eos sweep --continue" in shown
    assert "stop" not in shown.splitlines()[-1]
    assert after == shown


async def test_a_sweep_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    folder = made(tmp_path, ["optimizer.lr=0.1,0.2"])
    folder.sweep.write_text("{}")
    async with app_of(folder).run_test(size=(110, 24)) as pilot:
        shown = await look(pilot)

    assert "expected what a sweep was asked to do" in " ".join(shown.split())


# Its keys


async def shown_by(pilot: Pilot[str], *pressed: str) -> str:
    await pilot.press(*pressed)
    await settled(pilot)
    return await look(pilot)


async def test_the_run_under_the_cursor_is_opened_and_escape_comes_back(sweep: SweepFolder) -> None:
    async with app_of(sweep).run_test(size=(110, 30)) as pilot:
        await look(pilot)
        at = await shown_by(pilot, "down", "right")
        assert "width 256, lr 0.2: running, 45 % of the steps" in at
        opened = await shown_by(pilot, "enter")
        assert isinstance(pilot.app.screen, RunScreen)
        back = await shown_by(pilot, "escape")
        assert isinstance(pilot.app.screen, SweepScreen)

    assert "width256-lr0.2" in opened
    assert back == at


@pytest.mark.slow
async def test_the_runs_of_a_row_or_a_column_that_have_begun_are_compared(sweep: SweepFolder) -> None:
    async with app_of(sweep).run_test(size=(110, 30)) as pilot:
        await look(pilot)
        row = await shown_by(pilot, "c")
        assert isinstance(pilot.app.screen, CompareScreen)
        column = await shown_by(pilot, "escape", "C")
        assert isinstance(pilot.app.screen, CompareScreen)
        refused = await shown_by(pilot, "q", "end", "C")

    assert "4 runs" in row
    assert "2 runs" in column
    assert "Nothing to compare: fewer than two runs of this column have begun." in refused


@pytest.mark.slow
async def test_the_runs_are_shown_as_a_list(sweep: SweepFolder) -> None:
    async with app_of(sweep).run_test(size=(110, 30)) as pilot:
        await look(pilot)
        shown = await shown_by(pilot, "l")
        assert isinstance(pilot.app.screen, HomeScreen)

    assert "8 runs in" in shown


async def test_the_sweep_is_stopped_after_a_yes(sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped: list[str] = []
    monkeypatch.setattr(sweeping, "stop", lambda folder: stopped.append(folder.name))
    async with app_of(sweep).run_test(size=(110, 30)) as pilot:
        await look(pilot)
        question = await shown_by(pilot, "s")
        await shown_by(pilot, "n")
        assert stopped == []
        answer = await shown_by(pilot, "s", "y")

    assert f"Stop {NAME}?" in question
    assert stopped == [NAME]
    assert "Asked to stop" in answer


@pytest.mark.slow
async def test_what_cannot_be_stopped_from_here_is_said(sweep: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: SweepFolder) -> None:
        raise RunFolderError("The last was on elsewhere.")

    monkeypatch.setattr(sweeping, "stop", refuse)
    async with app_of(sweep).run_test(size=(110, 30)) as pilot:
        await look(pilot)
        answer = await shown_by(pilot, "s", "y")

    assert "The last was on elsewhere." in answer


@pytest.mark.slow
async def test_read_only_nothing_is_stopped(sweep: SweepFolder) -> None:
    async with app_of(sweep, read_only=True).run_test(size=(110, 30)) as pilot:
        before = await look(pilot)
        await pilot.press("s")

        assert await settled(pilot) == before
        assert isinstance(pilot.app.screen, SweepScreen)


async def test_leaving_says_how_to_come_back(sweep: SweepFolder) -> None:
    app = app_of(sweep)
    async with app.run_test(size=(110, 30)) as pilot:
        await look(pilot)
        await pilot.press("q")

    assert (
        app.return_value == f"{NAME}: 5 of 8 runs are done. It goes on. Come back with `eos watch {NAME}`, stop it with `eos stop {NAME}`."
    )


@pytest.mark.slow
async def test_a_sweep_is_opened_from_the_list_of_runs(sweep: SweepFolder, tmp_path: Path) -> None:
    async with EosApp(tmp_path, poll_seconds=0, clock=lambda: NOW).run_test(size=(110, 30)) as pilot:
        empty = await look(pilot)
        await pilot.press("w")
        offered = await settled(pilot)
        await pilot.press("1")
        await settled(pilot)
        opened = await look(pilot)

    assert "no runs in" in empty
    assert "The key w opens one." in " ".join(empty.split())
    assert f"1    {NAME}" in offered
    assert "8 runs: 1 running" in opened


# Its watcher


def test_logs_of_runs_that_are_done_are_read_some_at_a_time_and_once(sweep: SweepFolder) -> None:
    watcher = SweepWatcher(sweep, clock=lambda: NOW)

    first = watcher.poll(max_seconds=-1)
    assert first is not None
    assert watcher.is_behind
    assert [run.loss for run in first.runs if run.status == "finished"] == [None] * 4
    second = watcher.poll()
    assert second is not None
    assert [run.loss for run in second.runs if run.status == "finished"] == pytest.approx([0.4, 0.2, 0.1, 0.3])
    assert watcher.poll() is None


def test_the_last_runs_are_given_before_what_all_say_together(tmp_path: Path) -> None:
    folder = made(tmp_path, ["model.width=64,256", "optimizer.lr=0.1,0.2,0.4"])
    for run in folder.runs():
        ended(folder, run.name, loss=0.1 if "lr0.2" in run.name else 0.2)
    watcher = SweepWatcher(folder, clock=lambda: NOW)

    first, is_behind, second = watcher.poll(), watcher.is_behind, watcher.poll()

    assert first is not None
    assert second is not None
    assert (first.verdicts, is_behind) == ((), True)
    assert [said.partition(":")[0] for said in second.verdicts] == ["The best learning rate stays"]
    assert watcher.poll() is None
    assert not watcher.is_behind


def test_a_run_that_is_gone_or_has_no_loss_is_shown_without(tmp_path: Path) -> None:
    folder = made(tmp_path, ["optimizer.lr=0.1,0.2"])
    gone, silent = folder.runs()
    (gone.spec).unlink()
    gone.path.rmdir()
    fake = FakeRun(folder.path, name=silent.name)
    fake.header()
    fake.end(0)

    stand = SweepWatcher(folder, clock=lambda: NOW).poll()

    assert stand is not None
    assert [(run.status, run.loss) for run in stand.runs] == [("unreadable", None), ("finished", None)]
