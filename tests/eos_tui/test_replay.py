"""A run played again: what is shown when, what keys do, and what is recorded of it."""

import json
import math
import os
import sys

import pyte
import pytest
from typer.testing import CliRunner

from eos_tui.app import EosApp
from eos_tui.cli import app as cli
from eos_tui.recording import Recorder
from eos_tui.replay import Playhead, ReplayReader, replay
from eos_tui.screens.confirm import ConfirmScreen
from eos_tui.screens.help import HelpScreen
from eos_tui.snapshot import Status
from eos_tui.watcher import RunWatcher
from runners.errors import LogError
from tests.eos_tui.fakes import NOW, FakeRun, requests
from tests.eos_tui.pilots import look, screen, settled
from tests.eos_tui.test_viewer_terminal import Terminal

STEPS = 1000
SECONDS = STEPS / 100
"""Of run time, as a fake run has it."""


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def run(tmp_path, monkeypatch):
    """One that has ended long ago."""
    monkeypatch.setenv("EOS_RUNS", str(tmp_path))
    for name in ("NO_COLOR", "TEXTUAL_THEME", "COLUMNS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    run = FakeRun(tmp_path, steps=STEPS)
    run.header()
    run.progress(range(STEPS + 1))
    run.end(STEPS)
    return run


def app_of(run, clock, *, speed=1.0, at=None):
    return EosApp(replay(run.folder, speed=speed, at=at, clock=clock), poll_seconds=0, clock=lambda: NOW + 1e6)


def watched(run, clock, *, speed=1.0):
    """A watcher of the replay, which plays."""
    folder = replay(run.folder, speed=speed, clock=clock)
    folder.playhead.play()
    return RunWatcher(folder, clock=lambda: NOW + 1e6, reader=ReplayReader(folder.log, folder.playhead)), folder.playhead


def header(shown):
    return " ".join(shown.splitlines()[:2])


# What is due


def test_what_is_due_is_what_had_been_written_by_then(run, clock):
    watcher, _ = watched(run, clock, speed=20.0)
    steps = []
    for clock.now in (0.0, 0.1, 0.25, 0.4):
        steps.append(watcher.catch_up().step)

    assert steps == [0, 200, 500, 800]


def test_a_replay_shows_in_the_end_what_a_watcher_of_the_log_shows(run, clock):
    watcher, _ = watched(run, clock)
    for second in range(12):
        clock.now = second
        seen = watcher.catch_up()

    whole = RunWatcher(run.folder, clock=lambda: NOW).catch_up()
    assert seen.status is Status.FINISHED
    assert {key: found.means() for key, found in seen.traces.items()} == {key: found.means() for key, found in whole.traces.items()}
    assert seen.num_records == whole.num_records


def test_a_run_counts_as_running_in_its_replay_however_long_the_log_was_silent(run, clock):
    run.folder.log.write_bytes(b"".join(line for line in run.folder.log.read_bytes().splitlines(keepends=True) if b'"end"' not in line))
    run.event(STEPS + 100_000, "checkpoint")
    watcher, _ = watched(run, clock)

    clock.now = 900.0
    during = watcher.catch_up().status
    clock.now = 2000.0
    watcher.catch_up()

    assert during is Status.RUNNING
    assert watcher.catch_up().status is Status.CRASHED, "at the end it is what it is: nobody holds it, and it has no end"


def test_nothing_is_decoded_before_the_next_record_is_due(run, clock, monkeypatch):
    watcher, _ = watched(run, clock, speed=0.001)
    watcher.catch_up()
    monkeypatch.setattr("eos_tui.log_reader.LogReader.read", lambda *_, **__: pytest.fail("the log was read"))

    clock.now = 5.0

    assert watcher.poll() is None


def test_going_back_reads_anew_up_to_there_and_nothing_twice(run, clock):
    watcher, playhead = watched(run, clock)
    clock.now = 8.0
    watcher.catch_up()

    playhead.move(3.0)
    seen = watcher.catch_up()

    assert seen.step == 300
    assert seen.traces["step", "loss"].last_x == 300
    assert seen.num_records == 1 + 301 + 31 + 7 + 4


def test_a_replay_goes_on_over_a_stop_and_a_resume(tmp_path, clock):
    run = FakeRun(tmp_path, steps=300)
    run.header()
    run.progress(range(101))
    run.end(100, status="stopped")
    run.event(100, "resumed")
    run.progress(range(101, 301))
    run.end(300)
    watcher, playhead = watched(run, clock)

    clock.now = 2.0
    during = watcher.catch_up()
    clock.now = 4.0

    assert playhead.duration == 3.0
    assert (during.status, during.step) == (Status.RUNNING, 200)
    assert watcher.catch_up().status is Status.FINISHED


def test_lines_of_a_later_version_are_passed_over_in_their_place(run, clock):
    lines = run.folder.log.read_bytes().splitlines(keepends=True)
    run.folder.log.write_bytes(b"".join([*lines[:20], b'{"kind": "prophecy", "step": 3, "time": 0.03}\n', b"\n", *lines[20:]]))
    watcher, _ = watched(run, clock)

    for clock.now in (0.1, 0.5, 3.0):
        seen = watcher.catch_up()

    assert seen.step == 300
    assert seen.num_records == 1 + 301 + 31 + 7 + 4


def test_a_bad_line_is_an_error_once_it_is_due(run, clock):
    lines = run.folder.log.read_bytes().splitlines(keepends=True)
    run.folder.log.write_bytes(b"".join([*lines[:50], b"{nonsense}\n", *lines[50:]]))
    watcher, _ = watched(run, clock)
    clock.now = 0.3
    assert watcher.catch_up().step == 30

    clock.now = 9.0
    with pytest.raises(LogError, match="line 51: not a record"):
        watcher.catch_up()


def test_the_detail_of_a_part_holds_nothing_of_what_is_still_to_come(run, clock):
    watcher, _ = watched(run, clock)
    clock.now = 4.0
    watcher.catch_up()

    assert watcher.detail(0, 900)["step", "loss"].last_x == 400


# The playhead


def test_the_playhead_keeps_its_place_when_the_speed_changes_or_it_is_held(clock):
    playhead = Playhead(100.0, speed=2.0, clock=clock)
    clock.now = 5.0
    before = playhead.position
    playhead.play()
    clock.now = 10.0
    playhead.hurry(4.0)
    clock.now = 11.0
    playhead.hold()
    clock.now = 50.0

    assert before == 0.0
    assert playhead.speed == 8.0
    assert playhead.position == 10.0 + 8.0


@pytest.mark.parametrize(("to", "at"), [(-5.0, 0.0), (7.0, 7.0), (math.inf, 10.0)])
def test_the_playhead_stays_within_the_run(clock, to, at):
    playhead = Playhead(10.0, clock=clock)

    playhead.move(to)

    assert playhead.position == at


# The screen


@pytest.mark.slow
async def test_the_screen_shows_the_run_as_it_went_and_says_that_it_is_a_replay(run, clock):
    async with app_of(run, clock, speed=2.0).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        clock.now = 2.5
        during = await look(pilot)
        clock.now = 6.0
        after = await look(pilot)

    assert "running   replay x2 " in header(during)
    assert "step 500 of 1,000" in header(during)
    assert "finished   replay x2, at its end" in header(after)
    assert "All steps are done." in after


@pytest.mark.slow
async def test_keys_hold_hurry_and_move_the_replay(run, clock):
    async with app_of(run, clock).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        clock.now = 1.0

        async def after(*keys, seconds=0.0):
            await pilot.press(*keys)
            clock.now += seconds
            return header(await look(pilot))

        held = await after("space", seconds=5.0)
        going = await after("space", seconds=1.0)
        faster = await after("full_stop", "full_stop", seconds=0.5)
        slower = await after("comma", seconds=0.5)
        on = await after("n")
        back = await after("b", "b")
        again = await after("r", seconds=0.25)
        end = await after(*"nnnnnnnnnn")
        replayed = await after("space", seconds=0.05)

    assert "replay x1, held" in held
    assert "step 100 of" in held
    assert "replay x1 " in going
    assert "step 200 of" in going
    assert "replay x4 " in faster
    assert "step 400 of" in faster
    assert "replay x2 " in slower
    assert "step 500 of" in slower
    assert "step 600 of" in on
    assert "step 400 of" in back
    assert "step 50 of" in again
    assert "finished   replay x2, at its end" in end
    assert "step 10 of" in replayed


async def test_nothing_is_asked_of_a_run_that_is_replayed(run, clock):
    before = sorted(path.name for path in run.folder.path.iterdir())
    async with app_of(run, clock).run_test(size=(120, 40)) as pilot:
        await look(pilot)
        clock.now = 5.0
        await look(pilot)
        await pilot.press("s", "space", "space")
        asked = isinstance(pilot.app.screen, ConfirmScreen)
        pilot.app.screen.action_pause()
        pilot.app.screen._ask("stop")
        await pilot.pause()

    assert not asked
    assert requests(run) == []
    assert sorted(path.name for path in run.folder.path.iterdir()) == before


@pytest.mark.slow
async def test_the_help_explains_the_keys_of_the_replay_and_no_others(run, clock):
    async with app_of(run, clock).run_test(size=(120, 60)) as pilot:
        await look(pilot)
        await pilot.press("question_mark")
        await settled(pilot)
        assert isinstance(pilot.app.screen, HelpScreen)
        shown = screen(pilot)

    assert "Twice as fast." in shown
    assert "A tenth of the run back." in shown
    assert "writes a checkpoint" not in shown


@pytest.mark.slow
async def test_leaving_a_replay_says_nothing_of_a_run_that_goes_on(run, clock):
    app = app_of(run, clock)
    async with app.run_test(size=(120, 40)) as pilot:
        await look(pilot)
        await pilot.press("q")

    assert app.return_value is None


@pytest.mark.slow
async def test_a_replay_may_begin_at_a_step(run, clock):
    async with app_of(run, clock, at=250).run_test(size=(120, 40)) as pilot:
        shown = await look(pilot)

    assert "step 250 of 1,000" in header(shown)


# Files


def frames(path):
    first, *events = [json.loads(line) for line in path.read_text().splitlines()]
    return first, events


def played(first, events):
    """What is on the terminal after the recording."""
    terminal = pyte.Screen(first["width"], first["height"])
    terminal.set_mode(pyte.modes.LNM)
    stream = pyte.Stream(terminal)
    for _, _, data in events:
        stream.feed(data)
    return "\n".join(terminal.display)


def test_a_recording_without_a_terminal_is_one_of_asciinema_and_takes_as_long_as_the_replay(run, tmp_path):
    path = tmp_path / "run.cast"

    result = CliRunner().invoke(cli, ["replay", run.folder.name, "--record", str(path), "--speed", "4", "--size", "100x30"])

    assert result.exit_code == 0, result.output
    assert result.stdout == f"{path}\n"
    first, events = frames(path)
    times = [time for time, _, _ in events]
    assert (first["version"], first["width"], first["height"]) == (2, 100, 30)
    assert {kind for _, kind, _ in events} == {"o"}
    assert times == sorted(times)
    assert SECONDS / 4 <= times[-1] <= SECONDS / 4 + 3.0
    assert "finished" in played(first, events)
    assert "step 1,000 of 1,000" in played(first, events)


def test_a_terminal_that_changes_its_size_is_recorded(tmp_path, clock):
    path = tmp_path / "a.cast"
    with path.open("w") as file:
        recorder = Recorder(file, title="a", clock=clock)
        recorder.write("one", size=(80, 24))
        clock.now = 1.5
        recorder.write("two", size=(100, 30))

    first, events = frames(path)
    assert (first["width"], first["height"]) == (80, 24)
    assert events == [[0.0, "o", "one"], [1.5, "r", "100x30"], [1.5, "o", "two"]]


@pytest.mark.parametrize(("at", "words"), [([], "finished"), (["--at", "400"], "running")])
def test_the_screen_at_a_step_or_at_the_end_becomes_a_picture(run, tmp_path, at, words):
    path = tmp_path / "run.svg"

    result = CliRunner().invoke(cli, ["replay", run.folder.name, "--svg", str(path), *at])

    assert result.exit_code == 0, result.output
    picture = path.read_text()
    assert picture.startswith("<svg")
    assert words in picture
    assert f"step&#160;{at[1] if at else '1,000'}&#160;of&#160;1,000" in picture
    assert "replay" not in picture


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--speed", "0"], "expected a number > 0"),
        (["--size", "wide"], "expected columns and rows"),
        ([], "needs a terminal"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(run, arguments, said):
    result = CliRunner().invoke(cli, ["replay", run.folder.name, *arguments])

    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


@pytest.mark.slow
def test_a_replay_in_a_terminal_plays_to_the_end_and_is_recorded(run, tmp_path):
    path = tmp_path / "session.cast"
    command = [sys.executable, "-m", "eos_tui", "replay", run.folder.name, "--speed", "20", "--record", str(path)]
    terminal = Terminal(run.folder.path, command=command)
    terminal.read_until("running   replay x20")
    terminal.read_until("finished   replay x20")

    os.write(terminal.master, b"q")
    terminal.end()

    assert terminal.process.returncode == 0
    first, events = frames(path)
    assert (first["version"], first["width"], first["height"]) == (2, 100, 30)
    assert [time for time, _, _ in events] == sorted(time for time, _, _ in events)
    sent = "".join(data for _, _, data in events)
    assert sent.encode() in terminal.written.replace(b"\r\n", b"\n")
    assert requests(run) == []
